"""What the toolkit's process does: it builds, exports and simulates the job in its folder.

Names inside the folder are relative, because the toolkit refuses paths with a space.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tractor_core import outside, parameters
from tractor_core.contract import Contract
from tractor_core.errors import ModelError, TractorError
from tractor_core.system_error import explain
from tractor_inference.model import rknn_toolkit
from tractor_inference.model.manifest import BuildRecord
from tractor_inference.model.rknn_toolkit import LayerError

# The job, what the child answers, and the validation frames: grids (n, 2, N, N), and the rest.
JOB, RESULT, GRIDS, FRAMES = "job.json", "result.json", "grids.npy", "frames.npz"
# Enough to see that a simulator answers the same frame otherwise.
REPEATED_FRAMES = 32


def _build(contract: Contract, target: str, name: str, options: BuildRecord) -> dict[str, Any]:
    """Build, export and simulate one model in the current folder."""
    started_s = time.perf_counter()
    dataset = Path(name, "dataset.txt") if options.algorithm else None
    rknn = rknn_toolkit.build(
        Path(f"{name}.onnx"), contract, target=target, dataset=dataset, options=options
    )
    try:
        rknn_toolkit.export(rknn, Path(f"{name}.rknn"))
        seconds = time.perf_counter() - started_s
        rknn_toolkit.start_simulator(rknn)
        bevs = np.load(GRIDS, mmap_mode="r")
        with np.load(FRAMES) as frames:
            proprios, reference = frames["proprio"], frames["reference"]
        answers, times_s = [], []
        for i in (*range(len(bevs)), *range(min(REPEATED_FRAMES, len(bevs)))):
            before_s = time.perf_counter()
            answers.append(rknn_toolkit.simulate(rknn, bevs[i][None], proprios[i][None])[0])
            times_s.append(time.perf_counter() - before_s)
        actions, repeated = np.split(np.array(answers, np.float32), [len(bevs)])
        layers: list[LayerError] = []
        no_layers = ""
        if options.algorithm:
            worst = np.argmax(np.abs(actions - reference).max(axis=1))
            frame = bevs[worst][None], proprios[worst][None]
            try:
                layers = rknn_toolkit.layer_errors(rknn, *frame, Path(name))
            except ModelError as error:  # the model is validated with or without it
                no_layers = str(error)
    finally:
        rknn_toolkit.release(rknn)
    np.savez(f"{name}.npz", actions=actions, repeated=repeated)
    return {
        "seconds": seconds,
        "infer_ms": float(np.median(times_s)) * 1e3,
        "layers": [dataclasses.astuple(layer) for layer in layers],
        "no_layers": no_layers,
    }


def main() -> int:
    """Do the job in the folder named on the command line."""
    os.chdir(sys.argv[1])
    job = outside.json_value(outside.read_text(JOB))
    try:
        contract = parameters.from_values(Contract, job["observation"])
        result: dict[str, Any] = {
            "builds": {
                name: _build(contract, job["target"], name, BuildRecord(**options))
                for name, options in job["builds"].items()
            },
            "toolkit": rknn_toolkit.toolkit_version(),
            "python": platform.python_version(),
        }
    except TractorError as error:
        result = {"error": str(error)}
    except OSError as error:
        result = {"error": explain(error, sys.argv[1]), "files": True}
    Path(RESULT).write_text(json.dumps(result))
    return int("error" in result)


if __name__ == "__main__":
    sys.exit(main())
