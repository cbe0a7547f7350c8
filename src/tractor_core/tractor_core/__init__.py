"""What every part of the suite shares: contract, sensors, observation, samples. No ROS.

    from tractor_core import list_samples, load_contract, read_sample

    contract = load_contract("config/sac_rover.yaml")
    samples = [read_sample(file, contract) for file in list_samples("calibration_data")]

The names below are those that users import; `examples/` shows how.
"""

from __future__ import annotations

import importlib
from typing import Any

# Imported when they are asked for: a command that answers --help needs none of them.
_EXPORTS = {
    "Arrival": "observation.Arrival",
    "BevBuilder": "bev.builder.BevBuilder",
    "BevParameters": "bev.parameters.BevParameters",
    "BuilderParameters": "bev.parameters.BuilderParameters",
    "Contract": "contract.Contract",
    "ContractError": "errors.ContractError",
    "DepthImage": "sensors.DepthImage",
    "Intrinsics": "sensors.Intrinsics",
    "ModelError": "errors.ModelError",
    "Observation": "observation.Observation",
    "Observer": "observation.Observer",
    "OdometrySample": "motion.OdometrySample",
    "ParameterError": "errors.ParameterError",
    "Robot": "robot.Robot",
    "Sample": "samples.Sample",
    "SampleError": "errors.SampleError",
    "Scan": "sensors.Scan",
    "SensorError": "errors.SensorError",
    "TractorError": "errors.TractorError",
    "denormalize": "contract.denormalize",
    "list_samples": "samples.list_files",
    "load_contract": "contract.load",
    "load_robot": "robot.load",
    "normalize": "contract.normalize",
    "read_sample": "samples.read",
    "write_sample": "samples.write",
}
__all__ = tuple(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _EXPORTS[name].rpartition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
