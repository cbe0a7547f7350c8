"""Calibration samples on disk: `calib_<unix ns>.npz`, raw observations with their contract."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import os
import re
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import files, npz, outside
from .contract import Contract
from .errors import ContractError, Problem, SampleError
from .proprio import LIDAR_MIN_CAP_M
from .system_error import explain

# The guide: 100 samples and more are good, fewer than 50 are poor.
GOOD_SAMPLES, POOR_SAMPLES = 100, 50
# A sample is 131 kB of grid and a few numbers; nothing near this is one.
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_MEMBER_BYTES = 16 * 1024 * 1024
MAX_TEXT = 200
PREFIX = "calib_"
MEMBERS = ("bev", "proprio", "stamp", "contract", "session", "origin")
_DIGEST = re.compile("[0-9a-f]{64}")


class ForeignSampleError(SampleError):
    """The sample was made for another contract, with `digest`, and may be sound under that."""

    def __init__(self, reason: str, digest: str, place: object = None) -> None:
        super().__init__(reason, place)
        self.digest = digest


@dataclasses.dataclass(frozen=True)
class Sample:
    """One observation: bev (2, cells, cells) in [0, 1], proprio (6,) raw, float32; stamp in ns.

    `session` names the drive it comes from, `origin` is how it was taken: "drawn", "snapshot" or
    "harvested". Both are empty in files of other software. `sha256` is that of the file it was read
    from.
    """

    bev: NDArray[np.float32]
    proprio: NDArray[np.float32]
    stamp_ns: int | None = None
    session: str = ""
    origin: str = ""
    sha256: str = ""


def sample_problems(bev: NDArray, proprio: NDArray, contract: Contract) -> list[Problem]:
    """Return why a frame cannot calibrate a model, one sentence each; empty when it can."""
    problems: list[Problem] = []
    for name, array, shape in (
        ("bev", bev, contract.bev_shape),
        ("proprio", proprio, (contract.proprio_size,)),
    ):
        if array.dtype != np.float32:
            problems.append(Problem(f"{name}: expected float32", f"{array.dtype}"))
        elif array.shape != shape:
            problems.append(Problem(f"{name}: expected shape {shape}", f"{array.shape}"))
        elif not np.isfinite(array).all():
            count = int(np.count_nonzero(~np.isfinite(array)))
            problems.append(Problem(f"{name}: expected finite values", f"{count} NaN or Inf"))
        elif name == "bev" and (array.min() < 0.0 or array.max() > 1.0):
            problems.append(Problem("bev: expected 0..1", f"{array.min():.3g}..{array.max():.3g}"))
        elif name == "proprio":
            problems += proprio_range_problems(array, contract)
    return problems


def proprio_range_problems(proprio: NDArray, contract: Contract) -> list[Problem]:
    """Return which features of a raw vector (6,) are beyond what the guide says they can be.

    An outlier in one sample ruins the quantisation of the whole tensor.
    """
    limits = {"lidar_min": (0.0, LIDAR_MIN_CAP_M)}
    limits |= dict.fromkeys(("prev_lin", "prev_ang", "gap_heading"), (-1.0, 1.0))
    # Velocities have no hard limit; beyond the clip of the contract they are certainly wrong units.
    problems: list[Problem] = []
    for i, name in enumerate(contract.proprio_names):
        span = 10.0 * contract.proprio_clip * contract.proprio_std[i]
        low, high = limits.get(name, (-span, span))
        if not low - 1e-3 <= proprio[i] <= high + 1e-3:
            problems.append(
                Problem(f"proprio {name}: expected {low:g}..{high:g}", f"{proprio[i]:.4g}")
            )
    return problems


def read(path: str | Path, contract: Contract) -> Sample:
    """Read and check one sample; pickles, bombs and links are refused before they are loaded.

    Files with only `bev` and `proprio` (written by other software) are read too.

    Raises:
        ForeignSampleError: the file was made for another contract, whatever else is wrong.
        SampleError: the file cannot calibrate a model; all reasons at once.
    """
    path = Path(path)
    data = outside.read_or_refuse(path, MAX_FILE_BYTES, SampleError)
    try:
        return parse(data, contract)
    except ForeignSampleError as error:
        raise ForeignSampleError(error.reason, error.digest, path) from error
    except SampleError as error:
        raise SampleError(error.reason, path) from error


def parse(data: bytes, contract: Contract) -> Sample:
    """Check the bytes of a file and return the sample in them, as `read` does.

    Raises:
        ForeignSampleError: made for another contract, whatever else is wrong.
        SampleError: they cannot calibrate a model; all reasons at once.
    """
    try:
        arrays = npz.read_arrays(data, MEMBERS, MAX_MEMBER_BYTES, MAX_MEMBER_BYTES)
    except ValueError as error:
        raise SampleError(str(error)) from error
    missing = [name for name in ("bev", "proprio") if name not in arrays]
    if missing:
        raise SampleError(f"expected members bev and proprio, missing {missing}")
    problems = sample_problems(arrays["bev"], arrays["proprio"], contract)
    digest = str(arrays.get("contract", contract.digest))
    try:
        contract.require_same(digest[:MAX_TEXT], "sample")
    except ContractError as error:
        problems.append(Problem(str(error)))
    stamp = arrays.get("stamp")
    if stamp is not None and (
        stamp.ndim != 0 or stamp.dtype.kind not in "iu" or not 0 <= int(stamp) < 2**63
    ):
        problems.append(
            Problem("stamp: expected one integer in ns", f"{stamp.dtype} of shape {stamp.shape}")
        )
    texts = {}
    for name in ("session", "origin"):
        array = arrays.get(name, np.array(""))
        if array.ndim != 0 or array.dtype.kind != "U" or len(str(array)) > MAX_TEXT:
            problems.append(
                Problem(f"{name}: expected one text", f"{array.dtype} of {array.shape}")
            )
        else:
            texts[name] = str(array)
    if problems:
        message = "; ".join(map(str, problems))
        if digest != contract.digest and _DIGEST.fullmatch(digest):
            raise ForeignSampleError(message, digest)
        raise SampleError(message)
    stamp_ns = None if stamp is None else int(stamp)
    sha256 = hashlib.sha256(data).hexdigest()
    return Sample(arrays["bev"], arrays["proprio"], stamp_ns, **texts, sha256=sha256)


def list_files(folder: str | Path) -> list[Path]:
    """Return the sample files of a folder in the order of their names, which is that of time.

    A folder that does not exist yet holds none.

    Raises:
        OSError: it cannot be listed.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(Path(folder, name) for name in names if name.endswith(".npz"))


def require_folder(folder: Path) -> list[Path]:
    """Return the sample files of a folder that must exist, see `list_files`.

    Raises:
        SampleError: there is no such folder, or it cannot be listed.
    """
    found = "No calibration samples found"
    if not os.path.isdir(folder):
        raise SampleError(f"{found}: {folder} is not a folder")
    try:
        return list_files(folder)
    except OSError as error:
        raise SampleError(f"{found}: {explain(error, folder)}") from error


def remove_unfinished(folder: str | Path) -> int:
    """Remove what writers that were killed left behind, and return how many files that were.

    Raises:
        OSError: the folder cannot be listed or written.
    """
    return files.remove_unfinished(Path(folder), PREFIX)


def write(folder: str | Path, sample: Sample, contract: Contract) -> Path:
    """Write one sample atomically and return its path.

    The name carries the wall clock, so samples of all sessions sort by time and never collide.

    Raises:
        SampleError: the frame itself cannot calibrate a model.
        OSError: the folder cannot be written.
    """
    data = encode(sample, contract)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{PREFIX}{time.time_ns()}.npz" for _ in itertools.count())
    return files.add_file(folder, names, data)


def encode(sample: Sample, contract: Contract) -> bytes:
    """Return a sample as the bytes of its file.

    Raises:
        SampleError: the frame itself cannot calibrate a model.
    """
    problems = sample_problems(sample.bev, sample.proprio, contract)
    if problems:
        raise SampleError("frame not saved: " + "; ".join(map(str, problems)))
    file = io.BytesIO()
    np.savez_compressed(
        file,
        bev=sample.bev,
        proprio=sample.proprio,
        stamp=np.int64(sample.stamp_ns or 0),
        contract=np.array(contract.digest),
        session=np.array(sample.session),
        origin=np.array(sample.origin),
    )
    return file.getvalue()
