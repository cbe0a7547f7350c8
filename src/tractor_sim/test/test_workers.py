"""What ends a command that works in processes is a sentence and an exit code."""

import errno
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from tractor_core.errors import ModelError
from tractor_sim.workers import ENDS, ended_by


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ModelError("expected a model"), 1, "expected a model"),
        (BrokenProcessPool("died"), 1, "memory runs out; try --processes 1"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "made.npz"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_ends_it_is_said(capsys, error, code, said):
    assert isinstance(error, ENDS)
    assert ended_by(error, Path("made.npz")) == code
    assert said in capsys.readouterr().err
