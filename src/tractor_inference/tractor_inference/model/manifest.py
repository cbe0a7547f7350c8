"""MODEL.json beside MODEL.rknn: what the model was built from, for whom, and how it was validated.

The toolkit's builds are not byte-deterministic and its files are opaque, so a build is known by its
inputs: the ONNX, the calibration samples, the contract and the toolkit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from pathlib import Path
from typing import Any

from tractor_core import outside
from tractor_core.contract import Contract
from tractor_core.errors import ModelError, raise_all
from tractor_core.files import replace_file

from .file import ModelFolder, read_model_bytes, real_path, require_digest

SCHEMA = 2
PRECISIONS = ("int8", "fp16")
ALGORITHMS = {"int8": ("normal", "mmse"), "fp16": ("",)}
# Verdicts of a conversion.
PASS, WARNED = "pass", "warn"
# Fewer probes would hardly tell a wrong layout from a right one.
LEAST_PROBES = 8
# An action is in [-1, 1]: a wider tolerance would let a wrong layout pass.
MAX_TOLERANCE = 0.2


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """The .rknn file, its precision (int8 or fp16) and its platform, for instance rk3588."""

    file: str
    sha256: str
    bytes: int
    precision: str
    target: str


@dataclasses.dataclass(frozen=True)
class BuildRecord:
    """How the toolkit built a model; without arguments FP16.

    `algorithm` of quantisation is normal or mmse, empty for FP16. With `hybrid` the layers that
    lose most stay in FP16. `normaliser_inside` is always false: models whose network normalises
    its inputs itself are refused.
    """

    algorithm: str = ""
    hybrid: bool = False
    normaliser_inside: bool = False


@dataclasses.dataclass(frozen=True)
class OnnxRecord:
    """The ONNX actor it was built from; `file` is relative to the manifest.

    `sha256` and `bytes` are of the file as it was given; with weights in files beside it they are
    of all, see `onnx/external.digest`.
    """

    file: str
    sha256: str
    bytes: int
    shapes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ContractRecord:
    """The observation contract: its digest and its canonical form."""

    digest: str
    observation: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SampleRecord:
    """One calibration sample; `file` is relative to the calibration folder.

    FILE.npz#17 is the frame of this index in a set of reference observations, beside the manifest.
    """

    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class CalibrationRecord:
    """The calibration samples; `folder` is relative to the manifest, no samples for fp16.

    `ranges` holds {feature: [lowest, highest]} of the whole pool that `samples` were chosen of, see
    `drift`: what they cover, not what they are.
    """

    folder: str
    samples: tuple[SampleRecord, ...]
    ranges: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ToolkitRecord:
    """Versions of rknn-toolkit2 and Python that built the model."""

    version: str
    python: str


@dataclasses.dataclass(frozen=True)
class ProbeRecord:
    """One frame and its answers; see `reference_vectors.pack` for how it is packed.

    `built` is the model's action in the toolkit's simulator, `onnx` that of onnxruntime.
    """

    bev: str
    proprio: tuple[float, ...]
    built: tuple[float, ...]
    onnx: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ProbesRecord:
    """Frames that a backend must answer as the simulator did, within `tolerance` of the action."""

    tolerance: float
    frames: tuple[ProbeRecord, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything a reader may rely on; `created` is ISO 8601, `validation` the measured metrics.

    `exploration_scale` is the noise that the ONNX asks for, 0..1, see `exploration`; None where it
    names none, and in older manifests.
    """

    model: ModelRecord
    build: BuildRecord
    onnx: OnnxRecord
    contract: ContractRecord
    calibration: CalibrationRecord
    toolkit: ToolkitRecord
    probes: ProbesRecord
    validation: dict[str, Any]
    created: str
    exploration_scale: float | None = None
    schema: int = SCHEMA

    @property
    def built_as(self) -> str:
        """How it was built in a few words: fp16, int8, int8 mmse, int8 hybrid ..."""
        build = self.build
        return " ".join(
            [self.model.precision]
            + [build.algorithm] * (build.algorithm not in ("", "normal"))
            + ["hybrid"] * build.hybrid
        )

    @property
    def verdict(self) -> str:
        """PASS, WARNED for a model that was accepted with --accept-warnings, or empty: unknown."""
        word = self.validation.get("verdict")
        return word if word in (PASS, WARNED) else ""


def path_of(rknn: Path) -> Path:
    """Return the manifest's path for a model: beside the real file, links followed."""
    return real_path(rknn).with_suffix(".json")


def sha256_file(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _may_be_none(kind: Any) -> bool:
    """Say whether a field is of the form TYPE | None; older manifests lack it."""
    return typing.get_origin(kind) is types.UnionType


def _parse(value: Any, kind: Any, where: str, problems: list[str]) -> Any:
    """Return JSON `value` as `kind`, adding what is wrong to `problems`."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            problems.append(f"{where}: expected an object, found {value!r:.80}")
            return None
        hints = typing.get_type_hints(kind)
        required = {name for name in hints if not _may_be_none(hints[name])}
        problems += [f"{where}.{name}: missing" for name in sorted(required - value.keys())]
        problems += [f"{where}.{name}: unknown" for name in sorted(value.keys() - hints.keys())]
        parsed = {
            name: _parse(value[name], hints[name], f"{where}.{name}", problems)
            for name in hints.keys() & value.keys()
        }
        return None if problems else kind(**parsed)
    if _may_be_none(kind):
        return None if value is None else _parse(value, typing.get_args(kind)[0], where, problems)
    origin = typing.get_origin(kind) or kind
    if origin is tuple:
        if not isinstance(value, list):
            problems.append(f"{where}: expected a list, found {value!r:.80}")
            return None
        element = typing.get_args(kind)[0]
        return tuple(
            _parse(item, element, f"{where}[{i}]", problems) for i, item in enumerate(value)
        )
    if type(value) is not origin:
        problems.append(f"{where}: expected {origin.__name__}, found {value!r:.80}")
    return value


def read(rknn: Path) -> Manifest:
    """Read the manifest of a model.

    Args:
        rknn: the .rknn file, or a link to one beneath its folder: models/remote_trained.rknn.

    Raises:
        ModelError: the model or its manifest is missing or malformed; lists every problem.
    """
    with _open(rknn) as folder:
        return _read(folder)


def _open(rknn: Path) -> ModelFolder:
    if not rknn.is_file():
        raise ModelError(f"{rknn}: expected an .rknn file, found none; make it with convert")
    return ModelFolder(rknn)


def _read(folder: ModelFolder) -> Manifest:
    path = folder.model.with_suffix(".json")
    try:
        value: Any = outside.json_value(folder.read(path))
    except ModelError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise ModelError(
            f"{path}: expected the manifest that convert writes beside {folder.model.name}, "
            "found none; convert the ONNX actor again"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: not a readable manifest ({error})") from error
    if isinstance(value, dict) and value.get("schema") != SCHEMA:
        raise ModelError(f"{path}: expected schema {SCHEMA}, found {value.get('schema')!r:.80}")
    problems: list[str] = []
    manifest = _parse(value, Manifest, "manifest", problems)
    if not problems:
        if manifest.model.precision not in PRECISIONS:
            problems.append(
                f"manifest.model.precision: expected one of {PRECISIONS}, "
                f"found {manifest.model.precision!r}"
            )
        elif manifest.build.algorithm not in ALGORITHMS[manifest.model.precision]:
            problems.append(
                f"manifest.build.algorithm: expected one of "
                f"{ALGORITHMS[manifest.model.precision]} for {manifest.model.precision}, "
                f"found {manifest.build.algorithm!r}"
            )
        if manifest.build.normaliser_inside:
            problems.append(
                "manifest.build.normaliser_inside: expected false, found true: such builds are no "
                "longer supported, convert the ONNX actor again"
            )
        if len(manifest.probes.frames) < LEAST_PROBES:
            problems.append(
                f"manifest.probes.frames: expected at least {LEAST_PROBES}, "
                f"found {len(manifest.probes.frames)}"
            )
        if not 0.0 < manifest.probes.tolerance <= MAX_TOLERANCE:
            problems.append(
                f"manifest.probes.tolerance: expected more than 0 and at most {MAX_TOLERANCE}, "
                f"found {manifest.probes.tolerance}"
            )
        scale = manifest.exploration_scale
        if scale is not None and not 0.0 <= scale <= 1.0:
            problems.append(f"manifest.exploration_scale: expected 0..1 or null, found {scale}")
        for name, ends in manifest.calibration.ranges.items():
            numbers = isinstance(ends, list) and all(isinstance(end, (int, float)) for end in ends)
            if not numbers or len(ends) != 2 or not ends[0] <= ends[1]:
                problems.append(
                    f"manifest.calibration.ranges[{name!r}]: expected two ascending numbers, "
                    f"found {ends!r:.80}"
                )
        if (manifest.model.precision == "int8") != bool(manifest.calibration.samples):
            problems.append(
                "manifest.calibration.samples: expected samples for int8 and none for fp16, "
                f"found {len(manifest.calibration.samples)} for {manifest.model.precision}"
            )
    raise_all(ModelError, f"{path}: not a manifest of schema {SCHEMA}:", problems)
    return manifest


def write(manifest: Manifest, path: Path) -> None:
    """Write a manifest atomically.

    Raises:
        OSError: the folder cannot be written.
    """
    replace_file(path, json.dumps(dataclasses.asdict(manifest), indent=2, allow_nan=False) + "\n")


def read_checked(path: Path, sha256: str) -> bytes:
    """Read a file that a manifest names and refuse other bytes than it was written for.

    Raises:
        ModelError: unreadable, or another digest.
    """
    data = read_model_bytes(path)
    require_digest(path, hashlib.sha256(data).hexdigest(), sha256)
    return data


def load(rknn: Path, contract: Contract) -> tuple[Path, Manifest, bytes]:
    """Read a model with its manifest; check that it is the one described, and its contract.

    Both are read through one descriptor of the folder that the real file lies in, and once more
    when they do not fit: one of them may have been replaced between the two reads.

    Args:
        rknn: the .rknn file, or a link to one beneath its folder: models/remote_trained.rknn.

    Returns:
        The real file, its manifest, and the bytes that were checked: use them, not the file.

    Raises:
        ContractError: made for another contract; names both digests and the fields that differ.
        ModelError: missing, malformed or outside of the folder; other bytes than the manifest's.
    """
    try:
        return _load(rknn, contract)
    except ModelError:
        return _load(rknn, contract)


def _load(rknn: Path, contract: Contract) -> tuple[Path, Manifest, bytes]:
    with _open(rknn) as folder:
        model, record, data = folder.model, _read(folder), folder.read(folder.model)
    contract.require_same(
        record.contract.digest, str(model.with_suffix(".json")), record.contract.observation
    )
    if len(data) != record.model.bytes:
        raise ModelError(
            f"{model}: expected {record.model.bytes} bytes as its manifest says, found "
            f"{len(data)}; the file was cut off or replaced, convert the ONNX actor again"
        )
    require_digest(model, hashlib.sha256(data).hexdigest(), record.model.sha256)
    return model, record, data
