"""How points become cells: the limits that users set."""

from __future__ import annotations

import dataclasses

from ..parameters import param

KERNELS = ("numba", "opencv")


@dataclasses.dataclass(frozen=True)
class BevParameters:
    """How points become cells; see the bev_builder section of config/sac_rover.yaml."""

    depth_min_m: float = param(
        "Nearest depth that is used, m.", 0.20, minimum=0.0, maximum=100.0, live=True, driving=False
    )
    depth_max_m: float = param(
        "Farthest depth that is used, m.", 4.0, minimum=0.0, maximum=100.0, live=True, driving=False
    )
    obstacle_min_height_m: float = param(
        "Lowest point that is an obstacle, m above the floor.",
        0.04, minimum=-10.0, maximum=10.0, live=True, driving=False,
    )  # fmt: skip
    obstacle_max_height_m: float = param(
        "Highest point that is an obstacle, m above the floor.",
        0.30, minimum=-10.0, maximum=10.0, live=True, driving=False,
    )  # fmt: skip
    min_points: int = param(
        "Pixels that must agree before a depth cell is occupied.",
        2, minimum=1, maximum=1000, live=True, driving=False,
    )  # fmt: skip
    close_gaps: bool = param(
        "Mark a free depth cell whose left and right, or upper and lower, neighbours are occupied.",
        False, live=True, driving=False,
    )  # fmt: skip
    scan_decay_s: float = param(
        "Time in which a scan older than the depth frame fades to 1/e, s; 0 never fades.",
        0.0, minimum=0.0, maximum=60.0, live=True, driving=False,
    )  # fmt: skip

    def problems(self) -> list[str]:
        """Return what is wrong between fields, one sentence each."""
        found = []
        for low, high in (
            ("depth_min_m", "depth_max_m"),
            ("obstacle_min_height_m", "obstacle_max_height_m"),
        ):
            if getattr(self, low) >= getattr(self, high):
                found.append(
                    f"{low}: expected less than {high} = {getattr(self, high)}, "
                    f"found {getattr(self, low)}"
                )
        return found


@dataclasses.dataclass(frozen=True)
class BuilderParameters(BevParameters):
    """The bev_builder section of config/sac_rover.yaml."""

    autostart: bool = param("Configure and activate at start.", True)
    kernel: str = param("What rasterizes the grid; both mark the same cells.", KERNELS[0],
                        choices=KERNELS)  # fmt: skip
    max_input_age_s: float = param(
        "Age at which scan or depth is stale, s.", 0.30, minimum=0.05, maximum=5.0
    )
    frozen_input_s: float = param(
        "What stays the same to the bit is as old as when it was new, and after so long refused "
        "by name, s; 0 for sensors without noise.", 1.0, minimum=0.0, maximum=60.0,
    )  # fmt: skip
    min_valid_depth_fraction: float = param(
        "Depth images of which fewer pixels hold a depth of at least depth_min_m are rejected.",
        0.10, minimum=0.0, maximum=1.0, live=True, driving=False,
    )  # fmt: skip
