"""Ways to run an actor: on the CPU, in the NPU's simulator, on the NPU, or not at all."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from ..contract import Contract
from ..errors import ModelError, ParameterError
from .base import Backend
from .fake import FakeBackend
from .onnx import OnnxBackend
from .rknn import CORE_MASKS, RknnBackend
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


def _choose(model: Path) -> str:
    """Return the backend for a model's suffix on this machine."""
    if model.suffix not in (".onnx", ".rknn"):
        raise ModelError(f"{model}: expected an .onnx or .rknn file, found suffix {model.suffix!r}")
    if not model.is_file():
        raise ModelError(
            f"{model}: expected an .onnx or .rknn file, found none; name another "
            "(model:=FILE for the launch file, -p sac_actor:model:=FILE for the node), or convert "
            "an actor first"
        )
    if model.suffix == ".onnx":
        return "onnx"
    if importlib.util.find_spec("rknnlite") is None:
        raise ModelError(
            f"{model}: backend auto runs an .rknn on the NPU, but rknnlite is not installed here; "
            "choose backend rknn_sim to run it in the simulator, or onnx with the .onnx file"
        )
    return "rknn"


def open_backend(kind: str, model: Path, contract: Contract, core_mask: str = "auto") -> Backend:
    """Open a model.

    Args:
        kind: one of KINDS; `auto` picks by suffix and machine, and logs what it picked.
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
        kind = _choose(model)
        log.info("backend auto: chose %s for %s", kind, model)
    backend, suffix, remedy = _MODEL_BACKENDS[kind]
    if model.suffix != suffix:
        raise ModelError(
            f"{model}: expected a {suffix} file for backend {kind}, found suffix "
            f"{model.suffix!r}; {remedy}"
        )
    if backend is RknnBackend:
        return RknnBackend(model, contract, core_mask)
    return backend(model, contract)
