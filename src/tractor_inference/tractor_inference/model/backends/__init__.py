"""Ways to run an actor: on the CPU, in the NPU's simulator, on the NPU, or not at all."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from tractor_core.contract import Contract
from tractor_core.errors import ModelError, ParameterError

from .base import Backend
from .fake import FakeBackend
from .onnx import OnnxBackend
from .rknn import CORE_MASKS, RknnBackend, rockchip_board
from .rknn_sim import RknnSimBackend

__all__ = ["CORE_MASKS", "KINDS", "Backend", "open_backend"]

log = logging.getLogger(__name__)

_CONVERT_HINT = "convert the .onnx first with `ros2 run tractor_calibration convert MODEL.onnx`"
# kind: (class, suffix of its models, what to do with another suffix)
_MODEL_BACKENDS: dict[str, tuple[type[OnnxBackend | RknnBackend | RknnSimBackend], str, str]] = {
    "onnx": (OnnxBackend, ".onnx", "choose backend rknn or rknn_sim for an .rknn"),
    "rknn_sim": (RknnSimBackend, ".rknn", f"{_CONVERT_HINT}, or choose backend onnx"),
    "rknn": (RknnBackend, ".rknn", f"{_CONVERT_HINT}, or choose backend onnx"),
}
KINDS = ("auto", *_MODEL_BACKENDS, "fake")


def _choose(model: Path) -> tuple[str, str]:
    """Return the backend for a model's suffix on this machine, and why that one."""
    if model.suffix not in (".onnx", ".rknn"):
        raise ModelError(f"{model}: expected an .onnx or .rknn file, found suffix {model.suffix!r}")
    if not model.is_file():
        raise ModelError(
            f"{model}: expected an .onnx or .rknn file, found none; name another "
            "(model:=FILE for the launch file, -p sac_actor:model:=FILE for the node), or convert "
            "an actor first"
        )
    if model.suffix == ".onnx":
        return "onnx", "an .onnx runs on the CPU"
    if importlib.util.find_spec("rknnlite") is not None:
        return "rknn", "rknnlite is installed, an .rknn runs on the NPU"
    board = rockchip_board()
    if board:
        # Never the simulator here: the rover would drive, late, and nobody would look for the NPU.
        raise ModelError(
            f"{model}: backend auto runs an .rknn on the NPU of this board ({board}), but rknnlite "
            "is not installed here; pip install rknn-toolkit-lite2"
        )
    if importlib.util.find_spec("rknn") is None:
        raise ModelError(
            f"{model}: an .rknn runs on an NPU, which this machine lacks, or in the simulator of "
            "rknn-toolkit2, which is not installed here; make setup installs it (Python 3.10-3.12 "
            "on x86-64), or drive with the .onnx file: model:=FILE.onnx"
        )
    return "rknn_sim", "no NPU here, the simulator of rknn-toolkit2 stands in for it"


def open_backend(kind: str, model: Path, contract: Contract, core_mask: str = "auto") -> Backend:
    """Open a model.

    Args:
        kind: one of KINDS; `auto` picks by suffix and machine, and logs what it picked and why.
        model: .onnx or .rknn file, or a link to one; `fake` does not read it.
        contract: what the model must follow.
        core_mask: the cores of the NPU, one of CORE_MASKS; only `rknn` has such.

    Raises:
        ParameterError: no such backend, or no such cores.
        ModelError: the model cannot be opened; no other backend is tried.
        ContractError: the model was made for another contract.
    """
    if kind not in KINDS:
        raise ParameterError(f"backend: expected one of {', '.join(KINDS)}, found {kind!r}")
    if core_mask not in CORE_MASKS:
        raise ParameterError(
            f"core_mask: expected one of {', '.join(CORE_MASKS)}, found {core_mask!r}"
        )
    if kind == "fake":
        log.warning("backend fake: no model drives, %s is not read", model)
        return FakeBackend(contract)
    if kind == "auto":
        kind, why = _choose(model)
        log.info("backend auto: chose %s for %s: %s", kind, model, why)
        try:
            opened = open_backend(kind, model, contract, core_mask)
        except ModelError as error:
            if kind != "rknn_sim":
                raise
            raise ModelError(
                f"{error}; backend auto chose rknn_sim ({why}): convert the ONNX on this machine, "
                "with samples that stay where they are, or drive with it: model:=FILE.onnx"
            ) from error
        opened.chosen_because = why
        return opened
    backend, suffix, remedy = _MODEL_BACKENDS[kind]
    if model.suffix != suffix:
        raise ModelError(
            f"{model}: expected a {suffix} file for backend {kind}, found suffix "
            f"{model.suffix!r}; {remedy}"
        )
    if backend is RknnBackend:
        return RknnBackend(model, contract, core_mask)
    return backend(model, contract)
