"""rknn-toolkit2 in a process of its own: it may abort, hang or print, and the converter survives.

`run` writes a job into a folder, starts `toolkit_worker` in a child with the folder's name, and
reads the files that it leaves there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core import npz, outside
from tractor_core.child import keep_niceness, resident_bytes, same_modules
from tractor_core.contract import ACTION_SIZE, Contract, normalize
from tractor_core.errors import ModelError
from tractor_core.samples import Sample
from tractor_inference.model import limited, rknn_toolkit
from tractor_inference.model.manifest import BuildRecord
from tractor_inference.model.rknn_toolkit import LayerError

from . import toolkit_worker
from .toolkit_worker import FRAMES, GRIDS, JOB, RESULT

# A converter that is killed takes its toolkit with it.
_START = f"""{limited.TIED_TO_STARTER}
import runpy
runpy.run_module("{toolkit_worker.__name__}", run_name="__main__")
"""
CHILD = (sys.executable, "-c", _START)
_POLL_S = 0.05
# With less free on a disk, what the toolkit could not do is laid on that.
LEAST_ROOM_BYTES = 4_000_000
# Thousands of frames have some kilobytes of actions.
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class ToolkitDied(ModelError):
    """The toolkit's process was ended by a signal, for instance SIGABRT."""


class ToolkitTooSlow(ModelError):
    """The toolkit did not finish within the limit and was killed."""


class ToolkitTooLarge(ModelError):
    """The toolkit took more memory than the limit and was killed."""


class NoRoomError(ModelError):
    """A file could not be written, by the toolkit or for it."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the toolkit's process may take: time in s, resident memory in MB (10^6 bytes).

    `time_parameter` names the parameter that sets the time.
    """

    seconds: float
    time_parameter: str
    megabytes: float


@dataclasses.dataclass(frozen=True)
class Job:
    """What to build: an inspected ONNX, for a target, and the frames to validate it on.

    `builds` by name; those with an algorithm are quantised with the calibration samples.
    `reference` (n, 2) are the ONNX's actions on the frames; they say which frame is the worst.
    """

    onnx: bytes
    target: str
    contract: Contract
    frames: Sequence[Sample] = ()
    reference: NDArray[np.float32] = dataclasses.field(
        default_factory=lambda: np.zeros((0, ACTION_SIZE), np.float32)
    )
    calibration: Sequence[Sample] = ()
    builds: Mapping[str, BuildRecord] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Build:
    """One built model: its file and (n, 2) float32 actions.

    `repeated` are the actions on the first frames, run a second time.
    `layers` says what quantisation costs on the worst frame; empty for FP16, and where the toolkit
    made no table, for the reason in `no_layers`.
    `infer_ms` is the median time of one frame in the simulator, which says nothing about the NPU.
    """

    file: Path
    options: BuildRecord
    seconds: float
    infer_ms: float
    actions: NDArray[np.float32]
    repeated: NDArray[np.float32]
    layers: tuple[LayerError, ...]
    no_layers: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Builds by name, and the versions that made them."""

    builds: dict[str, Build]
    toolkit_version: str
    python_version: str


def run(
    job: Job, folder: Path, log: Path, limits: Limits, command: Sequence[str] = CHILD
) -> Outcome:
    """Build and simulate in a child process.

    Args:
        job: what to build.
        folder: an empty working folder; the built models stay in it. All that the child and the
            toolkit write lies there, so that whoever removes it removes what a kill leaves.
        log: a file that is not there yet; gets what they printed when they fail.
        limits: the child is killed beyond them.
        command: starts the child; the folder and this process's pid are appended.

    Raises:
        ToolkitDied, ToolkitTooSlow, ToolkitTooLarge: how the child ended; they name the log.
        ModelError: the toolkit refused a step or left files out; names the log.
    """
    _write_job(job, folder)
    printed, temporary = folder / "printed", folder / "temporary"
    temporary.mkdir()
    environment = os.environ | same_modules() | {"TMPDIR": str(temporary)}
    try:
        with printed.open("wb") as output:
            child = subprocess.Popen(
                [*command, str(folder), str(os.getpid())],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True,
            )  # fmt: skip
            keep_niceness(child.pid)
            try:
                code = _wait(child, limits, log)
            finally:
                if child.returncode is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        return _read_outcome(job, folder, code, log)
    except ModelError as error:
        # Where its disk is full, what fits is there.
        with contextlib.suppress(OSError), printed.open("rb") as source, log.open("xb") as kept:
            shutil.copyfileobj(source, kept)
        # The toolkit says anything where a disk is full, and its process may have died of it.
        for place in (folder, Path(tempfile.gettempdir())):
            free = shutil.disk_usage(place).free
            if free < max(LEAST_ROOM_BYTES, 2 * len(job.onnx)):
                raise NoRoomError(
                    f"{folder.parent.parent if place == folder else place}: expected room for the "
                    f"files of rknn-toolkit2, found {free / 1e6:.1f} MB free; free space there, or "
                    f"choose another folder{'' if place == folder else ' by TMPDIR'} ({error})"
                ) from error
        raise


def _wait(child: subprocess.Popen[bytes], limits: Limits, log: Path) -> int:
    """Return the exit code of a child that keeps to its limits."""
    end_s = time.monotonic() + limits.seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(_POLL_S)
        megabytes = resident_bytes(child.pid) / 1e6
        if megabytes > limits.megabytes:
            raise ToolkitTooLarge(
                f"rknn-toolkit2 took {megabytes:.0f} MB, more than the {limits.megabytes:g} MB of "
                "toolkit_memory_limit_mb: lower calibration_frames, or raise the limit where "
                f"there is memory; see {log}"
            )
        if time.monotonic() > end_s:
            raise ToolkitTooSlow(
                f"rknn-toolkit2 did not finish within {limits.seconds:g} s: raise "
                f"{limits.time_parameter} if the machine is slow, else look at {log}"
            )


def _write_job(job: Job, folder: Path) -> None:
    with (folder / GRIDS).open("wb") as grids:
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
            "fortran_order": False,
            "shape": (len(job.frames), *job.contract.bev_shape),
        }
        np.lib.format.write_array_header_1_0(grids, header)
        # One at a time: 200 of them are 26 MB.
        for frame in job.frames:
            grids.write(frame.bev.tobytes())
    # By way of memory: an archive that meets a full disk fails once more when it is dropped.
    frames = io.BytesIO()
    np.savez(
        frames,
        proprio=np.stack([normalize(job.contract, frame.proprio) for frame in job.frames]),
        reference=job.reference,
    )
    (folder / FRAMES).write_bytes(frames.getbuffer())
    for name, build in job.builds.items():
        (folder / f"{name}.onnx").write_bytes(job.onnx)
        if build.algorithm:
            rknn_toolkit.write_dataset(job.calibration, job.contract, folder / name)
    text = json.dumps(
        {
            "target": job.target,
            "observation": job.contract.canonical(),
            "builds": {name: dataclasses.asdict(build) for name, build in job.builds.items()},
        }
    )
    (folder / JOB).write_text(text)


def _read_outcome(job: Job, folder: Path, code: int, log: Path) -> Outcome:
    """Turn what the child left into an outcome, or say how it ended."""
    if code < 0:
        name = signal.strsignal(-code) or f"signal {-code}"
        with contextlib.suppress(ValueError):  # real-time signals have no name
            name = signal.Signals(-code).name
        remedy = {
            "SIGABRT": "an Inf in a sample or weight does that; check both",
            "SIGKILL": "the machine may be out of memory; close programs or use fewer samples",
        }.get(name, "run it again, and keep the log if it happens twice")
        raise ToolkitDied(f"rknn-toolkit2 died with {name}: {remedy}; see {log}")
    try:
        result = outside.json_value(outside.read_text(folder / RESULT))
        if not isinstance(result, dict):
            raise TypeError(f"expected an object, found {type(result).__name__}")
        if "error" in result:
            kind = NoRoomError if result.get("files") else ModelError
            raise kind(f"{result['error']}; see {log}")
        if code != 0:
            raise ValueError("a result and an exit code that contradict each other")
        builds = {
            name: Build(
                folder / f"{name}.rknn",
                options,
                _number(result["builds"][name]["seconds"]),
                _number(result["builds"][name]["infer_ms"]),
                *_read_actions(folder / f"{name}.npz"),
                tuple(
                    LayerError(str(layer), _number(cosine), _number(distance))
                    for layer, cosine, distance in result["builds"][name]["layers"]
                ),
                str(result["builds"][name]["no_layers"]),
            )
            for name, options in job.builds.items()
        }
        return Outcome(builds, str(result["toolkit"]), str(result["python"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"rknn-toolkit2 ended with code {code} and without a complete result; see {log}"
        ) from error


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"expected a number, found {value!r:.80}")
    return float(value)


def _read_actions(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    names = ("actions", "repeated")
    data = outside.read_bytes(file, MAX_ANSWER_BYTES)
    answers = npz.read_arrays(data, names, MAX_ANSWER_BYTES, MAX_ANSWER_BYTES)
    for name in names:
        if (found := answers[name]).dtype != np.float32 or found.shape[1:] != (ACTION_SIZE,):
            raise ValueError(f"{name}: expected (n, {ACTION_SIZE}) float32, found {found.shape}")
    return answers["actions"], answers["repeated"]
