"""What users import from the core is there, and costs nothing until it is used."""

import subprocess
import sys

import pytest

import tractor_core


@pytest.mark.parametrize("name", tractor_core.__all__)
def test_every_export_is_there_and_documented(name):
    assert getattr(tractor_core, name).__doc__


def test_the_core_imports_nothing_heavy_by_itself():
    program = "import sys, tractor_core; print(sorted({'numpy', 'yaml', 'numba'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_what_is_no_export_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = tractor_core.Nothing
