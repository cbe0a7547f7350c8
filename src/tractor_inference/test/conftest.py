"""Fixtures of this package: a real INT8 model, and a board without a board."""

import sys
from pathlib import Path

import actor_factory
import pytest

from tractor_core.contract import Contract


@pytest.fixture(scope="session")
def int8_model(
    tmp_path_factory: pytest.TempPathFactory, actor_onnx: Path, contract: Contract
) -> Path:
    """An .rknn built by the toolkit, with its manifest, ONNX and samples; tests copy the folder."""
    pytest.importorskip("rknn.api", reason="rknn-toolkit2 is not installed")
    return actor_factory.build_int8(tmp_path_factory.mktemp("a model"), actor_onnx, contract)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch):
    """Make `rknnlite` importable: onnxruntime behind the interface of the real binding."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "fake_board"))
    from rknnlite.api import board

    yield board
    for name in ("rknnlite", "rknnlite.api"):
        del sys.modules[name]


@pytest.fixture
def board_model(tmp_path: Path, actor_onnx: Path, contract: Contract) -> Path:
    """A model for the board of the fixture `board`."""
    model = tmp_path / "actor.rknn"
    model.write_bytes(actor_onnx.read_bytes())
    actor_factory.write_manifest(model, actor_onnx, contract, [])
    return model
