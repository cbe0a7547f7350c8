"""Scripts of users that import what moved to tractor_core go on."""

import importlib

import pytest

import tractor_inference
from tractor_core.bev.builder import BevBuilder
from tractor_core.bev.fusion import Fusion
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.sensors import DepthImage, Scan


@pytest.mark.parametrize("name", tractor_inference._MOVED)
def test_an_old_name_is_found_and_says_where_it_went(name):
    with pytest.warns(DeprecationWarning, match=f"tractor_inference.{name} is now tractor_core"):
        old = importlib.import_module(f"tractor_inference.{name}")
        importlib.reload(old)
    assert old.__doc__ is None and old.__name__ == f"tractor_inference.{name}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_names_are_the_same_objects():
    bev, fusion = (importlib.import_module(f"tractor_inference.{n}") for n in ("bev", "fusion"))
    assert (bev.Scan, bev.DepthImage, bev.BevBuilder) == (Scan, DepthImage, BevBuilder)
    assert (fusion.Fusion, fusion.BuilderParameters) == (Fusion, BuilderParameters)


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tractor_inference.never")
