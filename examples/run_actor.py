"""Ask an actor about samples.

.venv/bin/python examples/run_actor.py models/sac_actor_reference.onnx calibration_data
"""

import sys
from pathlib import Path

from tractor_core import Observation, list_samples, load_contract, load_robot, read_sample
from tractor_inference.model.backends import open_backend
from tractor_inference.model.policy import Policy

contract, robot = (load("config/sac_rover.yaml") for load in (load_contract, load_robot))
# "auto" picks by suffix and machine: onnxruntime, the NPU, or its simulator.
policy = Policy(contract, robot, open_backend("auto", Path(sys.argv[1]), contract))
for file in list_samples(sys.argv[2]):
    sample = read_sample(file, contract)
    decision = policy.step(Observation(sample.bev, sample.proprio, sample.stamp_ns or 0))
    linear, angular = decision.velocity
    print(f"{file.name}: action {decision.action}, {linear:.3f} m/s, {angular:.3f} rad/s")
policy.backend.close()
