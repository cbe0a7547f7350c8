"""What the commands are asked: their sections of the shared parameter file, and a conversion."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path

from tractor_core.parameters import param

if typing.TYPE_CHECKING:  # it brings numpy, which a command's help does not need
    from tractor_core.contract import Contract
    from tractor_core.reference_observations import Origin

NODE = "convert"
# Platforms that rknn-toolkit2 2.5.0 builds w8a8 for.
TARGETS = ("rk3588", "rk3576", "rk3566", "rk3568", "rk3562")


@dataclasses.dataclass(frozen=True)
class ConvertParameters:
    """What the converter takes from the shared parameter file."""

    target: str = param("Platform to build for.", "rk3588", choices=TARGETS)
    calibration_frames: int = param(
        "Samples that calibrate in the first attempt, at most; chosen by coverage.",
        100,
        minimum=1,
        maximum=2000,
    )
    min_samples: int = param(
        "Usable samples that INT8 needs at least.", 10, minimum=8, maximum=2000
    )
    held_out_frames: int = param("Samples that validate, at most.", 200, minimum=8, maximum=5000)
    held_out_share: float = param(
        "Share of the samples that may be held out for validation.", 0.25, minimum=0.0, maximum=0.9
    )
    held_out_separation_s: float = param(
        "Least time between a calibration and a held-out sample, s.", 0.5, minimum=0.0, maximum=60.0
    )
    fp16_max_mae: float = param(
        "Mean absolute error of an action that FP16 may have.", 0.001, minimum=0.0, maximum=2.0
    )
    pass_max_mae: float = param(
        "Mean absolute error with which an INT8 action passes.", 0.015, minimum=0.0, maximum=2.0
    )
    pass_max_p99: float = param(
        "99th percentile of its error with which it passes.", 0.05, minimum=0.0, maximum=2.0
    )
    pass_max_error: float = param(
        "Largest error with which it passes.", 0.15, minimum=0.0, maximum=2.0
    )
    pass_min_within_0_05: float = param(
        "Share within 0.05 with which it passes.", 0.99, minimum=0.0, maximum=1.0
    )
    pass_min_sqnr_db: float = param(
        "SQNR with which it passes, dB.", 28.0, minimum=-200.0, maximum=200.0
    )
    pass_min_r2: float = param(
        "Coefficient of determination with which it passes.", 0.995, minimum=0.0, maximum=1.0
    )
    pass_min_sign_agreement: float = param(
        "Share of equal signs with which it passes.", 0.995, minimum=0.0, maximum=1.0
    )
    fail_max_mae: float = param(
        "Mean absolute error above which it fails.", 0.03, minimum=0.0, maximum=2.0
    )
    fail_min_within_0_05: float = param(
        "Share within 0.05 below which it fails.", 0.97, minimum=0.0, maximum=1.0
    )
    fail_min_sqnr_db: float = param(
        "SQNR below which it fails, dB.", 22.0, minimum=-200.0, maximum=200.0
    )
    reference_observations: str = param(
        "Varied frames beside the samples, an .npz file; empty: the suite's own.", ""
    )
    probe_tolerance: float = param(
        "How far a backend's action may be from the simulator's on a reference vector.", 0.05,
        minimum=0.001, maximum=0.2,  # what a manifest may say, see manifest.MAX_TOLERANCE
    )  # fmt: skip
    mmse_time_limit_s: float = param(
        "Time that the attempt with mmse may take, s.", 120.0, minimum=1.0, maximum=86400.0
    )
    toolkit_time_limit_s: float = param(
        "Time after which the toolkit's process is killed, s.", 600.0, minimum=1.0, maximum=86400.0
    )
    toolkit_memory_limit_mb: float = param(
        "Resident memory beyond which the toolkit's process is killed, MB.", 3000.0,
        minimum=100.0, maximum=1e6,
    )  # fmt: skip

    def problems(self) -> list[str]:
        """Return gates that contradict each other: what passes must not fail."""
        pairs = [
            (self.pass_max_mae, self.fail_max_mae, "pass_max_mae", "at most fail_max_mae"),
            (-self.pass_min_within_0_05, -self.fail_min_within_0_05, "pass_min_within_0_05",
             "at least fail_min_within_0_05"),
            (-self.pass_min_sqnr_db, -self.fail_min_sqnr_db, "pass_min_sqnr_db",
             "at least fail_min_sqnr_db"),
        ]  # fmt: skip
        return [
            f"{name}: expected {wanted}, {abs(failing):g}, found {abs(passing):g}"
            for passing, failing, name, wanted in pairs
            if passing > failing
        ]


@dataclasses.dataclass(frozen=True)
class HarvestParameters:
    """Which topics of a recording are what, the section `/**/harvest`.

    The first name that is there counts; a relative one is found in any one namespace.
    """

    scan_topics: tuple[str, ...] = param("LaserScan.", ("scan",))
    depth_topics: tuple[str, ...] = param(
        "Depth Image.", ("depth", "camera/camera/depth/image_rect_raw")
    )
    camera_info_topics: tuple[str, ...] = param(
        "CameraInfo of the depth image.", ("camera_info", "camera/camera/depth/camera_info")
    )
    odom_topics: tuple[str, ...] = param("Odometry.", ("odom",))
    command_topics: tuple[str, ...] = param(
        "Twist or TwistStamped that drove the rover.", ("cmd_vel", "cmd_vel_raw")
    )
    clock_topics: tuple[str, ...] = param("Clock of a simulation.", ("clock",))


@dataclasses.dataclass(frozen=True)
class Request:
    """What to convert: `output` is the .rknn file, `calibration_dir` the folder of samples.

    With `accept_warnings` an INT8 model between pass and fail is promoted, with `allow_fp16` an
    FP16 model when no INT8 model is. `origin` and `parameters` are those of `params_file`.
    With `drive` the model and its ONNX drive through so many simulated worlds as a last gate.
    """

    onnx: Path
    output: Path
    quantize: bool
    calibration_dir: Path | None
    params_file: Path
    origin: Origin
    parameters: ConvertParameters
    accept_warnings: bool = False
    allow_fp16: bool = False
    drive: int = 0

    @property
    def contract(self) -> Contract:
        """What a model sees and answers."""
        return self.origin.contract
