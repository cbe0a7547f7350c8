"""Actors, samples and manifests for tests: the architecture is real, the weights are random."""

from __future__ import annotations

import functools
import hashlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tractor_core import samples
from tractor_core.contract import Contract, normalize
from tractor_core.samples import Sample
from tractor_inference.model import manifest, reference_vectors, rknn_toolkit

Answer = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]

CHANNELS = (2, 32, 64, 64, 64)


def make_actor(seed: int = 0, input_order: tuple[str, str] = ("bev", "proprio")) -> onnx.ModelProto:
    """Four stride-2 convolutions, a 32-32 proprio branch, 256-128-2, tanh; weights from a seed."""
    random = np.random.default_rng(seed)
    nodes, weights = [], []

    def weight(name: str, *shape: int, scale: float) -> str:
        values = random.normal(0.0, scale, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    def layer(op: str, x: str, name: str, shape: tuple[int, ...], activation: str, **kw) -> str:
        fan_in = np.prod(shape[1:]) if op == "Conv" else shape[0]
        outputs = shape[0] if op == "Conv" else shape[1]
        w = weight(f"{name}.weight", *shape, scale=(2.0 / fan_in) ** 0.5)
        b = weight(f"{name}.bias", outputs, scale=0.05)
        nodes.append(helper.make_node(op, [x, w, b], [name], **kw))
        output = "action" if activation == "Tanh" else f"{name}.out"
        nodes.append(helper.make_node(activation, [name], [output]))
        return output

    x = "bev"
    for i, (before, after) in enumerate(itertools.pairwise(CHANNELS)):
        shape = (after, before, 3, 3)
        x = layer("Conv", x, f"conv{i}", shape, "Relu", strides=[2, 2], pads=[1, 1, 1, 1])
    nodes.append(helper.make_node("Flatten", [x], ["features"]))
    y = layer("Gemm", "proprio", "proprio0", (6, 32), "Relu")
    y = layer("Gemm", y, "proprio1", (32, 32), "Relu")
    nodes.append(helper.make_node("Concat", ["features", y], ["joined"], axis=1))
    x = layer("Gemm", "joined", "head0", (64 * 8 * 8 + 32, 256), "Relu")
    x = layer("Gemm", x, "head1", (256, 128), "Relu")
    layer("Gemm", x, "head2", (128, 2), "Tanh")
    shapes = {"bev": [1, 2, 128, 128], "proprio": [1, 6]}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "actor",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in input_order],
            [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, 2])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def make_samples(count: int, seed: int = 0) -> list[Sample]:
    """Sparse binary grids, different in both channels and not symmetric, and raw proprioception."""
    random = np.random.default_rng(seed)
    low = np.array([0.0, -1.0, -1.0, -0.2, -1.0, -1.0])
    high = np.array([4.0, 1.0, 1.0, 0.2, 1.0, 1.0])
    made = []
    for _ in range(count):
        bev = (random.random((2, 128, 128)) < 0.03).astype(np.float32)
        top, left = random.integers(0, 64, 2)
        bev[0, top : top + 4, left : left + 50] = 1.0
        bev[1, left : left + 30, 100:110] = 1.0
        made.append(Sample(bev, random.uniform(low, high).astype(np.float32), stamp_ns=1))
    return made


def onnx_answer(
    model: onnx.ModelProto | Path, bev: NDArray[np.float32], proprio: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Answer of plain onnxruntime, the reference of every backend."""
    import onnxruntime

    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(["action"], {"bev": np.ascontiguousarray(bev), "proprio": proprio})[0]


def write_manifest(
    rknn: Path,
    onnx_file: Path,
    contract: Contract,
    sample_files: list[Path],
    answer: Answer | None = None,
    **changes: str,
) -> manifest.Manifest:
    """Write the manifest of a model with its ONNX and samples.

    `answer` gives the probes' actions, else the ONNX does; `changes` go to the model record.
    """
    if answer is None:
        answer = functools.partial(onnx_answer, onnx_file)

    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    probed = []
    for frame in make_samples(manifest.LEAST_PROBES, seed=77):
        action = answer(frame.bev[None], normalize(contract, frame.proprio)[None])[0]
        probed.append(reference_vectors.pack(frame, action, action))
    model = dict(precision="int8" if sample_files else "fp16", target="rk3588") | changes
    made = manifest.Manifest(
        model=manifest.ModelRecord(rknn.name, digest(rknn), rknn.stat().st_size, **model),
        build=manifest.BuildRecord("normal" if sample_files else ""),
        onnx=manifest.OnnxRecord(onnx_file.name, digest(onnx_file), onnx_file.stat().st_size, {}),
        contract=manifest.ContractRecord(contract.digest, contract.canonical()),
        calibration=manifest.CalibrationRecord(
            "calibration_data",
            tuple(manifest.SampleRecord(f.name, digest(f)) for f in sample_files),
        ),
        toolkit=manifest.ToolkitRecord("2.5.0", ".".join(map(str, sys.version_info[:3]))),
        probes=manifest.ProbesRecord(0.05, tuple(probed)),
        validation={"mean_abs_error": 0.01},
        created="2026-01-01T00:00:00+00:00",
    )
    manifest.write(made, rknn.with_suffix(".json"))
    return made


def write_samples(folder: Path, contract: Contract, count: int, seed: int = 0) -> list[Path]:
    """Write samples as the rover does and return their files in the order of time."""
    return [samples.write(folder, sample, contract) for sample in make_samples(count, seed)]


def no_answer(bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Answer zero, for manifests of files that are no models."""
    return np.zeros((1, 2), np.float32)


def build_int8(folder: Path, onnx: Path, contract: Contract) -> Path:
    """Build an .rknn with the toolkit, with its manifest, ONNX and samples."""
    (folder / "actor.onnx").write_bytes(onnx.read_bytes())
    files = write_samples(folder / "calibration_data", contract, 12)
    dataset = rknn_toolkit.write_dataset(
        [samples.read(file, contract) for file in files], contract, folder / "rknn_dataset"
    )
    rknn = rknn_toolkit.build(folder / "actor.onnx", contract, target="rk3588", dataset=dataset)
    rknn_toolkit.export(rknn, folder / "actor.rknn")
    rknn_toolkit.start_simulator(rknn)
    write_manifest(
        folder / "actor.rknn", folder / "actor.onnx", contract, files,
        answer=functools.partial(rknn_toolkit.simulate, rknn),
    )  # fmt: skip
    rknn_toolkit.release(rknn)
    return folder / "actor.rknn"
