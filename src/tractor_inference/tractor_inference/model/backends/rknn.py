"""The actor on the board's NPU, through rknn-toolkit-lite2.

Written against the Python sources of rknn-toolkit-lite2 2.5.0; opening and its failures are tested
with the real aarch64 binding under emulation. Only a board can confirm:

- that init_runtime returns 0 with the board's librknnrt, and what get_sdk_version then says;
- that 4-D inputs are read as NHWC and types taken from the arrays when inference is told neither,
  that outputs are float32, and that actions agree with the simulator's;
- latency, and what a full garbage collection costs there;
- that a target or version mismatch makes init_runtime return -1.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import Contract
from tractor_core.errors import ModelError

from .. import manifest
from ..manifest import Manifest
from ..rknn_toolkit import nhwc
from ..vendor import stdout_to_stderr, vendor_call, vendor_release
from .base import Backend

log = logging.getLogger(__name__)

DISTRIBUTION = "rknn-toolkit-lite2"
DEVICE_TREE = Path("/proc/device-tree/compatible")
# What init_runtime looks for, by the messages of the binding.
NEEDED_FILES = {
    DEVICE_TREE: "this is no Rockchip board, or a container without its device tree",
    Path("/dev/dri/renderD129"): "the kernel has no NPU driver, or the container lacks the device",
    Path("/usr/lib/librknnrt.so"): "install the vendor's librknnrt",
}
# The parameter's words for RKNNLite.NPU_CORE_*; auto lets the driver pick an idle core.
CORE_MASKS = ("auto", "0", "1", "2", "0_1", "0_1_2")
# inference() leaves about 42 kB in reference cycles a call (users' reports); at 30 Hz this bounds
# the garbage to some 11 MB.
COLLECT_EVERY_FRAMES = 256


class RknnBackend(Backend):
    """Runs an .rknn on the NPU; it never falls back to the CPU."""

    name = "rknn"

    def __init__(self, model: Path, contract: Contract, core_mask: str = "auto") -> None:
        """Open a model.

        Args:
            model: .rknn with its manifest; read once, the checked bytes are the ones loaded.
            contract: what the model must follow.
            core_mask: one of CORE_MASKS; only RK3588 and RK3576 have cores to choose from.

        Raises:
            ModelError: rknnlite, the runtime library or the NPU is missing or refuses the model.
            ContractError: made for another contract.
        """
        super().__init__(contract)
        model, record, data = manifest.load(model, contract)
        self._follow(record)
        try:
            from rknnlite.api import RKNNLite
        except ImportError as error:
            raise ModelError(
                f"{DISTRIBUTION} is not installed here ({error}); on the board: pip install "
                f"{DISTRIBUTION}, on a PC choose backend rknn_sim"
            ) from error
        self._uncollected = 0
        with stdout_to_stderr():
            self._lite = vendor_call(f"{DISTRIBUTION} RKNNLite", RKNNLite)
            try:
                self._load(model, data, record)
                self._start(model, record, core_mask)
            except BaseException:
                self._release()
                raise

    def _load(self, model: Path, data: bytes, record: Manifest) -> None:
        with tempfile.TemporaryDirectory(prefix="rknn_") as folder:
            copy = Path(folder, "model.rknn")
            copy.write_bytes(data)
            code = vendor_call(f"{model}: load_rknn", self._lite.load_rknn, str(copy))
            if code != 0:
                raise ModelError(f"{model}: load_rknn: expected 0, found {code}")
            try:
                platforms = self._lite.list_support_target_platform(str(copy))
                supported = [str(name).lower() for name in platforms["support_target_platform"]]
            except Exception as error:  # TypeError and struct.error on damaged files
                raise ModelError(f"{model}: not a readable .rknn file ({error!r})") from error
        if record.model.target not in supported:
            raise ModelError(
                f"{model}: expected a model for {record.model.target} as its manifest says, "
                f"found one for {', '.join(supported)}; convert the ONNX actor again"
            )
        # The vendor names chips together that run the same file, such as RK3566 and RK3568.
        chips = [name.partition(",")[2] for name in _device_tree()]
        if chips and not any(chip.startswith(tuple(supported)) for chip in chips):
            raise ModelError(
                f"{model}: expected a model for this machine, {_machine()}, found one for "
                f"{', '.join(supported)}; convert the ONNX actor with this machine's target"
            )

    def _start(self, model: Path, record: Manifest, core_mask: str) -> None:
        lite = self._lite
        mask = f"NPU_CORE_{core_mask.upper()}"
        code = vendor_call(
            f"{model}: init_runtime", lite.init_runtime, core_mask=getattr(lite, mask)
        )
        # What it says is for the message only: it must not hide the code.
        try:
            runtime = " ".join((lite.get_sdk_version() or "of unknown version").split())
        except Exception as error:  # a vendor library may raise anything
            runtime = f"of unknown version ({' '.join(str(error).split())})"
        versions = (
            f"{DISTRIBUTION} {_installed_version()}, librknnrt {runtime}, model built by "
            f"rknn-toolkit2 {record.toolkit.version} for {record.model.target}"
        )
        if code == 0:
            log.info("%s: %s", model, versions)
            return
        missing = [f"{path}: {why}" for path, why in NEEDED_FILES.items() if not path.exists()]
        if missing:
            remedy = "missing here: " + "; ".join(missing)
        else:
            remedy = (
                "'Invalid RKNN model version' above means a librknnrt older than the toolkit: "
                f"install librknnrt {record.toolkit.version} or later"
            )
            if core_mask != "auto":
                remedy += "; a machine without these cores needs npu_core_mask auto"
        raise ModelError(
            f"{model}: init_runtime with {mask}: expected 0, found {code}. {versions}; this "
            f"machine is {_machine()}; {remedy}. On a PC choose backend rknn_sim"
        )

    def _run(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        name = f"backend {self.name}: inference"
        outputs = vendor_call(name, self._lite.inference, inputs=[nhwc(bev), proprio])
        self._uncollected += 1
        if not outputs:
            raise ModelError(f"{name}: expected one output, found {outputs}; see stderr")
        return np.asarray(outputs[0], np.float32)

    def tidy(self) -> None:
        """Collect the binding's garbage when enough frames have left some."""
        if self._uncollected >= COLLECT_EVERY_FRAMES:
            self._uncollected = 0
            gc.collect()

    def _release(self) -> None:
        vendor_release(DISTRIBUTION, self._lite)


def _installed_version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _device_tree() -> list[str]:
    """Return this machine's names, for instance radxa,rock-5b and rockchip,rk3588, or none."""
    try:
        names = DEVICE_TREE.read_bytes().decode(errors="replace")
    except OSError:
        return []
    return [name for name in names.split("\0") if name]


def rockchip_board() -> str:
    """Return the names of this machine where it is a Rockchip board, else an empty string."""
    names = _device_tree()
    return ", ".join(names) if any("rockchip," in name for name in names) else ""


def _machine() -> str:
    return ", ".join(_device_tree()) or f"an unknown {os.uname().machine}"
