"""One model, one backend, one choice of cores, measured in a process of its own."""

from __future__ import annotations

import dataclasses
import gc
import multiprocessing
import os
import platform
import re
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_calibration.conversion import validation
from tractor_calibration.parameters import ConvertParameters
from tractor_calibration.samples.material import synthetic_frames
from tractor_core import child, parameters, reference_observations
from tractor_core.cli import uninterrupted
from tractor_core.contract import ACTION_OUTPUT, BEV_INPUT, PROPRIO_INPUT, Contract, normalize
from tractor_core.errors import ModelError, SampleError, TractorError
from tractor_core.packed import PackedSamples
from tractor_core.reference_observations import Origin
from tractor_inference.model import file as model_file
from tractor_inference.model import manifest
from tractor_inference.model.backends import CORE_MASKS, open_backend
from tractor_inference.model.backends.rknn import rockchip_board
from tractor_inference.model.onnx import model as onnx_model
from tractor_inference.model.onnx import session as onnx_session
from tractor_sim.workers import begin_worker

WARM_UP = 10
# Opening, and hundreds of frames in the slow simulator; longer is a driver that hangs.
LIMIT_A_ROUND_S = 600.0
# Other chips have one core.
CORES = {"rk3588": CORE_MASKS, "rk3576": ("auto", "0", "1", "0_1")}
# Of rockchip's rknpu driver, the first for root only: "NPU load:  Core0: 12%, Core1:  0%, ...".
NPU_LOADS = (Path("/sys/kernel/debug/rknpu/load"), Path("/proc/rknpu/load"))
SIMULATED = "rknn_sim"


@dataclasses.dataclass(frozen=True)
class Job:
    """What to measure."""

    model: Path
    params_file: Path
    backend: str
    core_mask: str
    rounds: int


def jobs(model: Path, params_file: Path, rounds: int) -> list[Job]:
    """Return the ways in which this machine can run a model.

    Raises:
        ModelError: it is no .onnx or .rknn file.
        ParameterError: the parameter file is wrong.
    """
    Origin.load(params_file)
    if model.suffix not in (".onnx", ".rknn") or not model.is_file():
        raise ModelError(f"{model}: expected an .onnx or .rknn file, found none")
    if model.suffix == ".onnx":
        ways = [("onnx", "auto")]
    elif rockchip_board():
        try:
            masks = CORES.get(manifest.read(model).model.target, ("auto",))
        except ModelError:  # the row will say it
            masks = ("auto",)
        ways = [("rknn", mask) for mask in masks]
    else:
        ways = [(SIMULATED, "auto")]
    return [Job(model, params_file, backend, mask, rounds) for backend, mask in ways]


def in_a_process(job: Job) -> dict[str, Any]:
    """Measure in a fresh process, which may die or hang; returns a row, see `measure`."""
    # Not fork: the memory of this process would count.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context, begin_worker)
    try:
        with uninterrupted():
            work: Future[dict[str, Any]] = pool.submit(measure, job)
        return work.result(job.rounds * LIMIT_A_ROUND_S)
    except TooLate:
        problem = f"not measured within {job.rounds * LIMIT_A_ROUND_S:g} s"
    except BrokenProcessPool:
        problem = "its process died; run it again, and look at dmesg when it happens twice"
    except Exception as error:  # a vendor library may raise anything; the other rows stay
        problem = f"{type(error).__name__}: {error}"
    finally:
        if not work.done():
            for process in multiprocessing.active_children():
                process.kill()
        pool.shutdown()
    return _row(job) | {"problem": problem}


def _row(job: Job) -> dict[str, Any]:
    return {
        "model": str(job.model), "backend": job.backend, "cores": job.core_mask, "problem": "",
        "megabytes": model_file.real_path(job.model).stat().st_size / 1e6,
    }  # fmt: skip


def measure(job: Job) -> dict[str, Any]:
    """Open and ask a model; return its figures as plain JSON types.

    `load_s` is the time to open it, `p50_ms` and `p99_ms` that of an answer, `memory_mb` the
    resident memory that both have added. Of the difference to the ONNX there are `mae`, `max` and
    `within_0_05`, null where the ONNX is not there. `problem` says why there are no figures.
    """
    row = _row(job)
    # What the vendor's libraries print is not the command's answer.
    os.dup2(2, 1)
    try:
        origin = Origin.load(job.params_file)
        contract = origin.contract
        frames, source = _frames(job.params_file, origin)
        inputs = [(x.bev[None], normalize(contract, x.proprio)[None]) for x in frames]
        reference, why = _reference(job, contract, inputs)
        gc.collect()
        before_mb = _resident_mb()
        started_s = time.perf_counter()
        backend = open_backend(job.backend, job.model, contract, job.core_mask)
        row["load_s"] = time.perf_counter() - started_s
        for bev, proprio in inputs[:WARM_UP]:
            backend.infer(bev, proprio)
        times_s, actions, load = [], [], ""
        for turn in range(job.rounds):
            for i, (bev, proprio) in enumerate(inputs):
                started_s = time.perf_counter()
                action = backend.infer(bev, proprio)
                times_s.append(time.perf_counter() - started_s)
                if turn == 0:
                    actions.append(action[0])
                if i == len(inputs) // 2:
                    load = npu_load() or load
        row["memory_mb"] = _resident_mb() - before_mb
        backend.close()
    except TractorError as error:
        return row | {"problem": str(error)}
    p50_s, p99_s = np.percentile(times_s, [50, 99])
    row |= {
        "frames": len(inputs), "source": source, "p50_ms": p50_s * 1e3, "p99_ms": p99_s * 1e3,
        "npu_load": load, "no_reference": why, "mae": None, "max": None, "within_0_05": None,
    }  # fmt: skip
    if reference is not None:
        agreed = validation.agreement(reference, np.array(actions))
        row |= {"mae": agreed.mae, "max": agreed.max, "within_0_05": agreed.within_0_05}
    return row


def _frames(params_file: Path, origin: Origin) -> tuple[PackedSamples, str]:
    """Return the reference observations of the parameter file; without such, synthetic frames."""
    section = parameters.read_file(params_file, "convert")
    named = parameters.from_values(ConvertParameters, section).reference_observations
    try:
        _, found = reference_observations.find(named, origin)
    except SampleError as error:
        frames = PackedSamples(synthetic_frames(origin.contract))
        return frames, f"synthetic frames, without reference observations: {error}"
    # Of the other half a model may be calibrated.
    return found.samples.pick(found.validating), "reference observations that validate"


def _reference(
    job: Job, contract: Contract, inputs: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> tuple[NDArray[np.float32] | None, str]:
    """Return the actions of the ONNX that a model was built from, (n, 2), or None and why not."""
    if job.model.suffix == ".onnx":
        return None, "it is the ONNX"
    try:
        model, record, _ = manifest.load(job.model, contract)
        onnx = model.parent / record.onnx.file
        if not onnx.is_file():
            return None, f"its ONNX is not at {onnx}"
        # On a board nothing else notices that another lies there by now.
        data = onnx_model.inspect(onnx, contract, sha256=record.onnx.sha256).data
    except TractorError as error:
        return None, str(error)
    session = onnx_session.open_session(data)
    names = (BEV_INPUT, PROPRIO_INPUT)
    answers = [
        onnx_session.run_session(session, [ACTION_OUTPUT], dict(zip(names, one)))[0]
        for one in inputs
    ]
    return np.concatenate(answers), ""


def _resident_mb() -> float:
    """Return the memory of this process, and of the toolkit's simulator where that is a child."""
    pid = os.getpid()
    return sum(map(child.resident_bytes, (pid, *child.children(pid)))) / 1e6


def npu_load() -> str:
    """Return what the driver says of the NPU's cores, empty where that cannot be read."""
    for path in NPU_LOADS:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        return " ".join(re.findall(r"\d+%", text[:1000]))
    return ""


def describe(params_file: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows and machine as plain JSON types."""
    return {
        "params": str(params_file),
        "machine": rockchip_board() or f"{platform.machine()}, no Rockchip board",
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "rows": rows,
    }
