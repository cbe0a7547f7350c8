"""What the shared parameter file says to the actor; readable without ROS."""

from __future__ import annotations

import dataclasses

from tractor_core.parameters import param

from .model.exploration import ExplorationParameters
from .model.opener import ModelParameters
from .recording.recorder import RecorderParameters


@dataclasses.dataclass(frozen=True)
class ActorParameters(ModelParameters, RecorderParameters, ExplorationParameters):
    """The sac_actor section of config/sac_rover.yaml."""

    autostart: bool = param("Configure and activate at start.", True)
    enable_stamped_cmd_vel: bool = param("TwistStamped instead of Twist.", False)
    max_input_age_s: float = param(
        "Age at which an input is stale and the rover stops, s.", 0.30, minimum=0.05, maximum=5.0
    )
    watchdog_period_s: float = param("Period of the watchdog, s.", 0.05, minimum=0.01, maximum=1.0)
    inference_exit_s: float = param(
        "An inference that takes longer ends the process, s.", 2.0, minimum=0.5, maximum=60.0
    )
