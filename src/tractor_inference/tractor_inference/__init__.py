"""Policy, models, backends and nodes that drive the rover."""

from tractor_core import old_names

_IN_CORE = (
    "contract", "drift", "errors", "files", "frames", "kinematics", "npz", "outside",
    "parameters", "paths", "proprio", "robot", "samples", "system_error", "text",
)  # fmt: skip
# Until version 0.2.
MOVED: dict[str, tuple[str, ...]] = {name: (f"tractor_core.{name}",) for name in _IN_CORE} | {
    "backends": ("tractor_inference.model.backends",),
    "backends.base": ("tractor_inference.model.backends.base",),
    "bev": (
        "tractor_core.bev.builder", "tractor_core.bev.geometry", "tractor_core.bev.parameters",
        "tractor_core.motion", "tractor_core.sensors",
    ),
    "bev_builder_node": ("tractor_inference.nodes.bev_builder_node",),
    "cmd_guard_node": ("tractor_inference.nodes.cmd_guard_node",),
    "command": ("tractor_core.cli",),
    "coverage": ("tractor_core.diversity",),
    "doctor": ("tractor_bringup.doctor",),
    "drive_node": ("tractor_inference.nodes.drive_node",),
    "freshness": ("tractor_core.input_monitor",),
    "fusion": ("tractor_core.bev.fusion", "tractor_core.bev.parameters"),
    "messages": ("tractor_core.messages", "tractor_core.camera_info"),
    "manifest": ("tractor_inference.model.manifest",),
    "odometry": ("tractor_core.motion",),
    "policy": ("tractor_inference.model.policy",),
    "sac_actor_node": ("tractor_inference.nodes.sac_actor_node",),
    "scan": ("tractor_core.sensors",),
}  # fmt: skip
RENAMED = {
    "bev.HELD": "UNCOMPENSATED",
    "coverage.CoverageSet": "DiverseSet",
    "frames.mounting": "extrinsics",
    "odometry.HELD": "UNCOMPENSATED",
}
old_names.keep(__name__, MOVED, RENAMED)
