"""What the shared parameter file says to the actor; readable without ROS."""

from __future__ import annotations

import dataclasses

from tractor_core.parameters import param

from .backends import CORE_MASKS, KINDS
from .sampler import SamplerParameters


@dataclasses.dataclass(frozen=True)
class ActorParameters(SamplerParameters):
    """The sac_actor section of config/sac_rover.yaml."""

    autostart: bool = param("Configure and activate at start.", True)
    model: str = param("The actor, an .onnx or .rknn file.", "models/remote_trained.rknn")
    backend: str = param("What runs the model; auto goes by file and machine.", "auto",
                         choices=KINDS)  # fmt: skip
    npu_core_mask: str = param("The NPU cores that backend rknn runs on.", "auto",
                               choices=CORE_MASKS)  # fmt: skip
    watch_model: bool = param("Take a new model as soon as the path leads to one.", False)
    inference_budget_s: float = param(
        "A new model that keeps taking longer for its answers is rolled back, s.", 0.033,
        minimum=0.001, maximum=1.0,
    )  # fmt: skip
    enable_stamped_cmd_vel: bool = param("TwistStamped instead of Twist.", False)
    max_input_age_s: float = param(
        "Age at which an input is stale and the rover stops, s.", 0.30, minimum=0.05, maximum=5.0
    )
    watchdog_period_s: float = param("Period of the watchdog, s.", 0.05, minimum=0.01, maximum=1.0)
    inference_exit_s: float = param(
        "An inference that takes longer ends the process, s.", 2.0, minimum=0.5, maximum=60.0
    )
