"""rknn-toolkit2 in a process of its own: it may abort, hang or print, and the converter survives.

`run` writes a job into a folder and starts `python -m tractor_calibration.toolkit_child FOLDER`;
the child builds, exports and simulates there and answers with files. Names inside the folder are
relative, because the toolkit refuses paths with a space.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_inference import parameters, rknn_toolkit
from tractor_inference.contract import Contract, normalize
from tractor_inference.errors import ModelError, TractorError
from tractor_inference.samples import Sample

CHILD = (sys.executable, "-m", "tractor_calibration.toolkit_child")
_JOB, _RESULT, _ONNX, _FRAMES, _DATASET = (
    "job.json", "result.json", "model.onnx", "frames.npz", "dataset",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
    """What to build: an inspected ONNX, for a target, and the frames to prove it on.

    An FP16 model is always built; an INT8 model too when there are calibration samples.
    """

    onnx: bytes
    target: str
    contract: Contract
    frames: Sequence[Sample]
    calibration: Sequence[Sample] = ()


@dataclasses.dataclass(frozen=True)
class Build:
    """One built model: its file and (2, n, 2) float32 actions, the frames run twice."""

    file: Path
    seconds: float
    actions: NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Builds by precision (fp16, int8), and the versions that made them."""

    builds: dict[str, Build]
    toolkit_version: str
    python_version: str


def run(
    job: Job, folder: Path, log: Path, time_limit_s: float, command: Sequence[str] = CHILD
) -> Outcome:
    """Build and simulate in a child process.

    Args:
        job: what to build.
        folder: an empty working folder; the built models stay in it.
        log: gets all that the child and the toolkit print.
        time_limit_s: the child is killed after this time.
        command: starts the child; the folder is appended.

    Raises:
        ModelError: the child failed, aborted, hung or left files out; names the log.
    """
    _write_job(job, folder)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with log.open("wb") as output:
        child = subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            code = child.wait(time_limit_s)
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"rknn-toolkit2 did not finish within {time_limit_s:g} s; raise "
                f"toolkit_time_limit_s if the machine is slow, else see {log}"
            ) from error
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    return _read_outcome(folder, code, log)


def _write_job(job: Job, folder: Path) -> None:
    (folder / _ONNX).write_bytes(job.onnx)
    np.savez(
        folder / _FRAMES,
        bev=np.stack([frame.bev for frame in job.frames]),
        proprio=np.stack([normalize(job.contract, frame.proprio) for frame in job.frames]),
    )
    if job.calibration:
        rknn_toolkit.write_dataset(job.calibration, job.contract, folder / _DATASET)
    text = json.dumps({"target": job.target, "observation": job.contract.canonical()})
    (folder / _JOB).write_text(text)


def _read_outcome(folder: Path, code: int, log: Path) -> Outcome:
    """Turn what the child left into an outcome, or say how it ended."""
    if code < 0:
        name = signal.Signals(-code).name
        remedy = {
            "SIGABRT": "an Inf in a sample or weight does that; check both",
            "SIGKILL": "the machine may be out of memory; close programs or use fewer samples",
        }.get(name, "run it again, and keep the log if it happens twice")
        raise ModelError(f"rknn-toolkit2 died with {name}: {remedy}; see {log}")
    try:
        result = json.loads((folder / _RESULT).read_text())
        if "error" in result:
            raise ModelError(f"{result['error']}; see {log}")
        builds = {
            precision: Build(
                folder / build["file"], build["seconds"], np.load(folder / build["actions"])
            )
            for precision, build in result["builds"].items()
        }
        return Outcome(builds, result["toolkit"], result["python"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"rknn-toolkit2 ended with code {code} and without a complete result; see {log}"
        ) from error


def _build(contract: Contract, target: str, precision: str) -> dict[str, Any]:
    """Build, export and simulate one precision in the current folder."""
    started = time.perf_counter()
    dataset = Path(_DATASET, "dataset.txt") if precision == "int8" else None
    rknn = rknn_toolkit.build(Path(_ONNX), contract, target=target, dataset=dataset)
    try:
        rknn_toolkit.export(rknn, Path(f"{precision}.rknn"))
        seconds = time.perf_counter() - started
        rknn_toolkit.start_simulator(rknn)
        with np.load(_FRAMES) as frames:
            pairs = list(zip(frames["bev"], frames["proprio"]))
        actions = [
            [rknn_toolkit.simulate(rknn, bev[None], proprio[None])[0] for bev, proprio in pairs]
            for _ in range(2)
        ]
    finally:
        rknn_toolkit.release(rknn)
    np.save(f"{precision}.npy", np.array(actions, dtype=np.float32))
    return {"file": f"{precision}.rknn", "actions": f"{precision}.npy", "seconds": seconds}


def main() -> int:
    """Do the job in the folder named on the command line."""
    os.chdir(sys.argv[1])
    job = json.loads(Path(_JOB).read_text())
    precisions = ["fp16", "int8"] if Path(_DATASET).is_dir() else ["fp16"]
    try:
        contract = parameters.from_values(Contract, job["observation"])
        result: dict[str, Any] = {
            "builds": {p: _build(contract, job["target"], p) for p in precisions},
            "toolkit": rknn_toolkit.toolkit_version(),
            "python": platform.python_version(),
        }
    except TractorError as error:
        result = {"error": str(error)}
    Path(_RESULT).write_text(json.dumps(result))
    return int("error" in result)


if __name__ == "__main__":
    sys.exit(main())
