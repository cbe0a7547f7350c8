"""Drive another runtime behind the suite's interface.

.venv/bin/python examples/custom_backend.py
"""

import numpy as np

from tractor_core import Observation, denormalize, load_contract, load_robot
from tractor_inference.model.backends import Backend
from tractor_inference.model.policy import Policy


class Cautious(Backend):
    """Drives ahead at a speed that falls with the distance to the nearest point."""

    name = "cautious"

    def _run(self, bev: np.ndarray, proprio: np.ndarray) -> np.ndarray:
        raw = denormalize(self.contract, proprio[0])
        distance_m = raw[self.contract.proprio_names.index("lidar_min")]
        return np.full((1, 2), np.clip(distance_m / 4.0, 0.0, 1.0), np.float32)


contract, robot = (load("config/sac_rover.yaml") for load in (load_contract, load_robot))
policy = Policy(contract, robot, Cautious(contract))
empty = np.zeros(contract.bev_shape, np.float32)
for distance_m in (4.0, 2.0, 0.4):
    proprio = np.array([distance_m, 0, 0, 0, 0, 0], np.float32)
    print(f"{distance_m} m: {policy.step(Observation(empty, proprio, 0)).velocity}")
