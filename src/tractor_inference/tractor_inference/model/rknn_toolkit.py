"""Calls of rknn-toolkit2 with every outcome checked, for the converter and the simulator backend.

Facts about the toolkit (2.5.0, measured): calibration arrays must be NCHW, inference reads 4-D
inputs as NHWC; mean and std of a 2-D input are silently ignored, so inputs arrive normalised;
`load_onnx(inputs=...)` fixes the order of the inputs whatever their order in the file; names in a
dataset list are relative to the list. It aborts the process on one Inf in one sample, so samples
are checked before they come here.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tractor_core.contract import ACTION_OUTPUT, Contract, normalize
from tractor_core.errors import ModelError
from tractor_core.samples import Sample

from .manifest import BuildRecord
from .vendor import stdout_to_stderr, vendor_call, vendor_release

log = logging.getLogger(__name__)

DISTRIBUTION = "rknn-toolkit2"
_INSTALL_HINT = (
    f"{DISTRIBUTION} is not installed here; it runs on a PC or the board with Python 3.10-3.12, "
    "in the .venv that make sets up"
)

QUANTIZED = BuildRecord("normal")
# A layer of less cosine similarity than this stays in FP16 in a hybrid build.
HYBRID_COSINE = 0.99999
# The toolkit splits a sum over more inputs than this, into equal parts of a multiple of the second
# figure where that goes, and quantises each part's sum with a range of its own. Measured with
# hybrid_quantization_step1 of 2.5.0, which writes its graph and ranges.
_SUMMED_AT_ONCE = {
    "rk3588": (3072, 16),
    "rk3576": (6144, 16),
    "rk3562": (6144, 16),
    "rk3566": (6144, 8),
    "rk3568": (6144, 8),
}


def parts_of_sum(inputs: int, target: str) -> list[slice]:
    """Return the parts into which the toolkit splits a fully connected layer's sum for a target."""
    limit, unit = _SUMMED_AT_ONCE[target]
    if inputs <= limit:
        return [slice(0, inputs)]
    count = -(-inputs // limit)
    length = inputs // count if inputs % (count * unit) == 0 else limit
    return [slice(start, min(start + length, inputs)) for start in range(0, inputs, length)]


def toolkit_version() -> str:
    """Return the version of rknn-toolkit2.

    Raises:
        ModelError: it is not installed.
    """
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(_INSTALL_HINT) from error


def _check(call: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Run one toolkit call; -1 and exceptions are both failures."""
    with stdout_to_stderr():
        code = vendor_call(f"{DISTRIBUTION} {call}", function, *args, **kwargs)
    if code != 0:
        raise ModelError(f"{DISTRIBUTION} {call}: expected return code 0, found {code}; see stderr")


def write_dataset(samples: Sequence[Sample], contract: Contract, folder: Path) -> Path:
    """Write a calibration set as the toolkit reads it.

    Args:
        samples: checked raw samples.
        contract: normalises the proprioception.
        folder: gets bev_i.npy (1, 2, N, N), proprio_i.npy (1, 6), both float32, and dataset.txt.

    Returns:
        Path of dataset.txt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, sample in enumerate(samples):
        np.save(folder / f"bev_{i}.npy", sample.bev[None])
        np.save(folder / f"proprio_{i}.npy", normalize(contract, sample.proprio)[None])
        lines.append(f"bev_{i}.npy proprio_{i}.npy\n")
    dataset = folder / "dataset.txt"
    dataset.write_text("".join(lines))
    return dataset


def build(
    onnx: Path,
    contract: Contract,
    *,
    target: str,
    dataset: Path | None,
    options: BuildRecord = QUANTIZED,
) -> Any:
    """Build an actor for the NPU.

    Args:
        onnx: an actor in its normal form, as `onnx.model.inspect` returned it.
        contract: names and shapes of the inputs.
        target: platform, for instance rk3588.
        dataset: list written by `write_dataset` for INT8 (w8a8, per channel); None for FP16.
        options: how to quantise.

    Returns:
        The built rknn.api.RKNN object; the caller releases it.

    Raises:
        ModelError: the toolkit is missing or refused a step.
    """
    # The toolkit draws dozens of progress bars on stderr.
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        with stdout_to_stderr():
            from rknn.api import RKNN
    except ImportError as error:
        raise ModelError(f"{_INSTALL_HINT} ({error})") from error
    with stdout_to_stderr():
        rknn = vendor_call(f"{DISTRIBUTION} RKNN", RKNN, verbose=False)
    try:
        _check(
            "config",
            rknn.config,
            target_platform=target,
            quantized_dtype="w8a8",
            quantized_algorithm=options.algorithm or "normal",
            quantized_method="channel",
            auto_hybrid_cos_thresh=HYBRID_COSINE,
        )
        _check(
            "load_onnx",
            rknn.load_onnx,
            model=str(onnx),
            inputs=list(contract.input_shapes),
            input_size_list=[list(shape) for shape in contract.input_shapes.values()],
            outputs=[ACTION_OUTPUT],
        )
        _check(
            "build",
            rknn.build,
            do_quantization=dataset is not None,
            dataset=None if dataset is None else str(dataset),
            auto_hybrid=options.hybrid,
        )
    except BaseException:
        release(rknn)
        raise
    return rknn


def export(rknn: Any, path: Path) -> None:
    """Write the built model to `path`, which must not exist.

    Raises:
        ModelError: the toolkit refused, or wrote nothing.
    """
    if path.exists():
        raise ModelError(f"{path}: expected no such file before the export, found one")
    _check("export_rknn", rknn.export_rknn, str(path))
    if not path.is_file() or path.stat().st_size == 0:
        raise ModelError(f"{DISTRIBUTION} export_rknn: returned 0 but wrote no {path}")


def start_simulator(rknn: Any) -> None:
    """Start the simulator in the session that built the model; a loaded .rknn cannot run in it.

    Raises:
        ModelError: the toolkit refused.
    """
    _check("init_runtime", rknn.init_runtime)


def nhwc(bev: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (1, 2, N, N) as contiguous (1, N, N, 2), the layout both RKNN runtimes read."""
    return np.ascontiguousarray(bev.transpose(0, 2, 3, 1))


def simulate(
    rknn: Any, bev: NDArray[np.float32], proprio: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Run one frame in the simulator.

    Args:
        rknn: a built model with its simulator started.
        bev: (1, 2, N, N) float32 in [0, 1].
        proprio: (1, 6) float32, normalised.

    Returns:
        (1, 2) float32 action.

    Raises:
        ModelError: the simulator gave no answer.
    """
    name, inputs = f"{DISTRIBUTION} inference", [nhwc(bev), proprio]
    outputs = vendor_call(name, rknn.inference, inputs=inputs, data_format="nhwc")
    if not outputs:
        raise ModelError(f"{name}: expected one output, found {outputs}")
    return outputs[0]


@dataclasses.dataclass(frozen=True)
class LayerError:
    """What quantisation costs at a layer of the toolkit's graph on one frame.

    `cosine` similarity and `distance` (Euclidean) to the float network, with all layers before it
    quantised as well.
    """

    name: str
    cosine: float
    distance: float


def layer_errors(
    rknn: Any, bev: NDArray[np.float32], proprio: NDArray[np.float32], folder: Path
) -> list[LayerError]:
    """Return what quantisation costs layer by layer, from the toolkit's accuracy_analysis.

    Layers that the toolkit fused away are not in its table.

    Args:
        rknn: a built INT8 model.
        bev, proprio: one frame as the network takes it, (1, 2, N, N) and (1, 6).
        folder: an empty working folder.

    Raises:
        ModelError: the toolkit refused, or wrote no table.
    """
    files = [folder / f"analysed_{name}.npy" for name in ("bev", "proprio")]
    for file, array in zip(files, (bev, proprio)):
        np.save(file, array)
    output = folder / "analysis"
    _check(
        "accuracy_analysis",
        rknn.accuracy_analysis,
        inputs=[str(file) for file in files],
        output_dir=str(output),
    )
    table = output / "error_analysis.txt"
    if not table.is_file():
        raise ModelError(f"{DISTRIBUTION} accuracy_analysis: returned 0 but wrote no {table}")
    rows = re.findall(r"^\[\w+\] (\S+) +([\d.]+) \| ([\d.]+)", table.read_text(), re.MULTILINE)
    return [LayerError(name, float(cosine), float(distance)) for name, cosine, distance in rows]


def release(rknn: Any) -> None:
    """Free what the toolkit holds for a model."""
    vendor_release(DISTRIBUTION, rknn)
