"""Recorded sensors: reads folders of real scans and depth images and pairs them by time.

A folder, searched with its sub-folders in the order of names, may hold

- scans as `*.npz`: `stamps` (n,) s, `ranges` (n, beams) m, `angle_min`, `angle_increment`,
  `range_min`, `range_max`;
- one scan as `*.csv`: rows of `angle_rad,range_m` in any spacing;
- depth images as 16-bit `*.png` in millimetres, and beside them `camera*.json` with
  `intrinsic_matrix`, the nine numbers of K column by column, as Open3D writes it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tractor_core import npz, outside
from tractor_core.errors import SensorError, TractorError, raise_all
from tractor_core.sensors import DepthImage, Intrinsics, Scan

DEPTH_PERIOD_S = 1.0 / 30.0
# A scan without a stamp lasts as long as one turn of the LiDAR.
SCAN_PERIOD_S = 0.1
SCAN_FIELDS = ("stamps", "ranges", "angle_min", "angle_increment", "range_min", "range_max")
# An hour of scans, and the largest image of a depth camera, with much to spare.
MAX_FILE_BYTES, MAX_PIXELS = 256 * 1024 * 1024, 16 * 1024 * 1024
MAX_CSV_BYTES, MAX_BEAMS, MAX_ANGLE_RAD = 4 * 1024 * 1024, 100_000, 4.0 * math.pi
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# A csv does not say what its sensor can measure.
CSV_RANGE_MIN_M, CSV_RANGE_MAX_M = 0.05, 12.0


class Frame(NamedTuple):
    """One depth image, and the scan when a new one came with it."""

    scan: Scan | None
    depth: DepthImage


@dataclass(frozen=True)
class Recording:
    """Scans with their start times (s, rising, first 0), and depth images at 30 Hz."""

    scans: tuple[Scan, ...]
    scan_times_s: NDArray[np.float64]
    depths: tuple[DepthImage, ...]

    @property
    def duration_s(self) -> float:
        """Length of the longer stream; the shorter one is looped to fill it."""
        return max(self.scan_period_s, len(self.depths) * DEPTH_PERIOD_S)

    @property
    def scan_period_s(self) -> float:
        """Time after which the scans repeat."""
        return float(self.scan_times_s[-1]) + SCAN_PERIOD_S

    def frames(self) -> Iterator[Frame]:
        """Yield the recording once, one frame a depth period."""
        last = None
        for tick in range(math.ceil(self.duration_s / DEPTH_PERIOD_S - 1e-6)):
            time_s = (tick * DEPTH_PERIOD_S) % self.scan_period_s
            # A stamp that falls together with the tick must not be missed by a rounding error.
            index = int(np.searchsorted(self.scan_times_s, time_s + 1e-9, side="right")) - 1
            scan = None if index == last else self.scans[index]
            last = index
            yield Frame(scan, self.depths[tick % len(self.depths)])


def read_recording(folder: str | Path) -> Recording:
    """Read all scans and depth images of a folder and its sub-folders.

    Raises:
        SensorError: the folder, its scans or its images are missing, or files cannot be used; all
            of them are named.
        TractorError: OpenCV, which reads the images, is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SensorError(f"recording {folder}: expected a folder, found none")
    problems: list[str] = []
    scans: list[Scan] = []
    times_s: list[float] = []
    start_s = 0.0
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".npz", ".csv")):
        try:
            found, found_times_s = (_read_npz if path.suffix == ".npz" else _read_csv)(path)
        except SensorError as error:
            problems.append(str(error))
            continue
        scans += found
        times_s += [start_s + time_s for time_s in found_times_s]
        start_s = times_s[-1] + SCAN_PERIOD_S
    depths: list[DepthImage] = []
    for path in sorted(folder.rglob("*.png")):
        try:
            depths.append(_read_png(path, _read_intrinsics(path.parent)))
        except SensorError as error:
            if str(error) not in problems:
                problems.append(str(error))
    if not problems:
        if not scans:
            problems.append("expected at least one scan (*.npz or *.csv), found none")
        if not depths:
            problems.append("expected at least one 16-bit depth image (*.png), found none")
    raise_all(SensorError, f"recording {folder}:", problems)
    return Recording(tuple(scans), np.array(times_s), tuple(depths))


def _read_npz(path: Path) -> tuple[list[Scan], list[float]]:
    try:
        data = outside.read_bytes(path, MAX_FILE_BYTES)
        arrays = npz.read_arrays(data, SCAN_FIELDS, MAX_FILE_BYTES, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise SensorError(f"{path}: not a readable npz: {error}") from error
    missing = [name for name in SCAN_FIELDS if name not in arrays]
    if missing:
        raise SensorError(f"{path}: expected the arrays {SCAN_FIELDS}, missing {missing}")
    stamps, ranges, *geometry = (arrays[name] for name in SCAN_FIELDS)
    for name, array in arrays.items():
        single = name not in ("stamps", "ranges")
        if array.dtype.kind not in "iuf" or (single and array.size != 1):
            raise SensorError(
                f"{path}: expected numbers, and one of {name}, found {array.dtype} of shape "
                f"{array.shape}"
                if single
                else f"{path}: expected numbers in {name}, found {array.dtype}"
            )
    if ranges.ndim != 2 or not ranges.size or stamps.shape != ranges.shape[:1]:
        raise SensorError(
            f"{path}: expected stamps (n,) and ranges (n, beams), "
            f"found {stamps.shape} and {ranges.shape}"
        )
    if not np.isfinite(stamps).all() or (np.diff(stamps) <= 0).any():
        raise SensorError(f"{path}: expected finite, rising stamps")
    if not all(np.isfinite(value).all() for value in geometry):
        raise SensorError(f"{path}: expected finite numbers in {SCAN_FIELDS[2:]}")
    with np.errstate(over="ignore"):  # beyond what float32 holds is beyond range_max
        scans = [Scan(row.astype(np.float32), *(v.item() for v in geometry)) for row in ranges]
    return scans, (stamps - stamps[0]).tolist()


def _read_csv(path: Path) -> tuple[list[Scan], list[float]]:
    try:
        if not (text := outside.read_text(path, MAX_CSV_BYTES)).strip():
            raise ValueError("it is empty")
        rows = np.loadtxt(text.splitlines(), delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise SensorError(f"{path}: not readable as csv: {error}") from error
    if rows.shape[0] < 2 or rows.shape[1] != 2 or not np.isfinite(rows).all():
        raise SensorError(
            f"{path}: expected two or more rows of finite angle_rad,range_m, found {rows.shape}"
        )
    if np.abs(rows[:, 0]).max() > MAX_ANGLE_RAD:
        raise SensorError(f"{path}: expected angles within {MAX_ANGLE_RAD:.1f} rad, found more")
    return [_even_scan(rows[:, 0], rows[:, 1])], [0.0]


def _even_scan(angles_rad: NDArray[np.float64], ranges_m: NDArray[np.float64]) -> Scan:
    """Return a full circle of even beams: each takes its nearest range, NaN (unknown) without."""
    spacing_rad = float(np.median(np.abs(np.diff(np.sort(angles_rad)))))
    beams = min(max(2, round(2.0 * math.pi / max(spacing_rad, 1e-9))), MAX_BEAMS)
    increment_rad = 2.0 * math.pi / beams
    index = np.round(angles_rad / increment_rad).astype(int) % beams
    even_m = np.full(beams, np.inf)
    np.minimum.at(even_m, index, ranges_m)
    even_m[np.isinf(even_m)] = np.nan
    with np.errstate(over="ignore"):
        ranges = even_m.astype(np.float32)
    return Scan(ranges, 0.0, increment_rad, CSV_RANGE_MIN_M, CSV_RANGE_MAX_M)


def _read_png(path: Path, intrinsics: Intrinsics) -> DepthImage:
    try:
        import cv2
    except ImportError as error:
        raise TractorError(
            "reading depth images needs OpenCV: pip install opencv-python-headless"
        ) from error
    try:
        data = outside.read_bytes(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise SensorError(f"{path}: not a readable PNG: {error}") from error
    if problem := _png_problem(data):
        raise SensorError(f"{path}: not a readable PNG: {problem}")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise SensorError(f"{path}: not a readable PNG")
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise SensorError(
            f"{path}: expected one 16-bit channel, found {pixels.dtype} {pixels.shape}"
        )
    return DepthImage(pixels.astype(np.uint16, copy=False), intrinsics)


def _png_problem(data: bytes) -> str:
    """Return why OpenCV, which makes room for whatever a PNG says, must not see one, or nothing.

    The format: https://www.w3.org/TR/png-3/
    """
    width, height = struct.unpack(">II", data[16:24].ljust(8, b"\0"))
    if data[:8] != PNG_MAGIC or not 0 < width * height <= MAX_PIXELS:
        return f"expected at most {MAX_PIXELS} pixels, found {width}x{height}"
    position, kind = len(PNG_MAGIC), b""
    while kind != b"IEND" and position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
    if kind != b"IEND" or position > len(data):
        return "it is cut short, or a length in it is wrong"
    return ""


def _read_intrinsics(folder: Path) -> Intrinsics:
    files = sorted(folder.glob("camera*.json"))
    if len(files) != 1:
        raise SensorError(f"{folder}: expected one camera*.json, found {len(files)}")
    try:
        camera = outside.json_value(outside.read_text(files[0]))
        k = [float(value) for value in camera["intrinsic_matrix"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SensorError(f"{files[0]}: no usable intrinsic_matrix: {error!r}") from error
    if len(k) != 9 or not (k[0] > 0 and k[4] > 0):
        raise SensorError(f"{files[0]}: expected nine numbers of K, column by column, found {k}")
    return Intrinsics(fx=k[0], fy=k[4], cx=k[6], cy=k[7])
