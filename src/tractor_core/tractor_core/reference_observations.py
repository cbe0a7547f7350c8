"""Reference observations: a small fixed set of varied frames for one contract and one robot.

The samples of a drive say nothing beyond that drive. These frames come from simulated drives and
were chosen to be diverse, so that they hold what a drive may lack: those of one half of the worlds
calibrate a model beside the rover's samples, those of the other half validate it.
`python -m tractor_sim observations` makes them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import contract as contracts
from . import npz, outside, parameters
from . import robot as robots
from .bev.parameters import BevParameters
from .contract import Contract
from .errors import ParameterError, SampleError
from .files import replace_file
from .packed import PackedSamples
from .paths import config_file
from .robot import Robot
from .samples import Sample, sample_problems
from .system_error import explain

FILE_NAME = "reference_observations.npz"
_FRAME_NAME = re.compile(r"(.+\.npz)#(\d{1,5})", re.DOTALL)
COMMAND = "python -m tractor_sim observations"
_MAKE = f"{COMMAND} --params YOURS.yaml --out FILE.npz"
# Fewer frames of a half would say little beyond a drive.
LEAST_A_HALF, LEAST_WORLDS = 50, 5
MAX_TEXT = 500
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_MEMBER_BYTES = 64 * 1024 * 1024
MAX_FRAMES = 4096
_MEMBERS = ("bev", "proprio", "world", "contract", "robot", "grid", "made_by")


@dataclasses.dataclass(frozen=True)
class Origin:
    """What observations depend on, and a set of them is made for."""

    contract: Contract
    robot: Robot
    grid: BevParameters

    @classmethod
    def load(cls, params_file: str | Path) -> Origin:
        """Read the parameter file; raises ParameterError listing everything that is wrong."""
        builder = parameters.read_file(params_file, "bev_builder")
        return cls(
            contracts.load(params_file),
            robots.load(params_file),
            parameters.from_values(
                BevParameters,
                {k: v for k, v in builder.items() if k in parameters.fields_of(BevParameters)},
            ),
        )

    def canonical(self) -> dict[str, dict[str, Any]]:
        """Return each part as plain JSON types; a scan that fades is not among them."""
        grid = parameters.canonical(self.grid)
        del grid["scan_decay_s"]
        return {
            "contract": self.contract.canonical(),
            "robot": self.robot.canonical(),
            "grid": grid,
        }


@dataclasses.dataclass(frozen=True)
class ReferenceObservations:
    """Frames in a fixed order, the number of the world that each is of, and what made them.

    `samples` have the sha256 of the file, whose bytes are `data`. `made_by` is the command.
    """

    samples: PackedSamples
    worlds: tuple[int, ...]
    made_by: str
    data: bytes

    @property
    def calibrating(self) -> list[int]:
        """Indices of the frames that may calibrate: those of worlds of even number."""
        return [i for i, world in enumerate(self.worlds) if calibrates(world)]

    @property
    def validating(self) -> list[int]:
        """Indices of the frames that validate: those of worlds of odd number."""
        return [i for i, world in enumerate(self.worlds) if not calibrates(world)]


def calibrates(world: int) -> bool:
    """Return whether frames of a world calibrate; those of the others validate."""
    return world % 2 == 0


def write(
    path: Path, frames: Sequence[Sample], worlds: Sequence[int], made_by: str, origin: Origin
) -> None:
    """Write a set atomically, one bit a cell.

    Args:
        path: the file.
        frames: their grids hold zeros and ones.
        worlds: the number of the world of each.
        made_by: the command.
        origin: what they were made for.

    Raises:
        SampleError: nobody could read the set: too few frames, or other values in a grid.
        OSError: the file cannot be written.
    """
    if any(not np.isin(frame.bev, (0.0, 1.0)).all() for frame in frames):
        raise SampleError("expected grids of zeros and ones, found other values")
    cells = int(np.prod(origin.contract.bev_shape))
    file = io.BytesIO()
    np.savez_compressed(
        file,
        bev=np.packbits(np.array([x.bev > 0 for x in frames], bool).reshape(len(frames), cells), 1),
        proprio=np.array([frame.proprio for frame in frames], np.float32),
        world=np.array(worlds, np.int64),
        made_by=np.array(made_by),
        **{name: np.array(json.dumps(part)) for name, part in origin.canonical().items()},
    )
    parse(file.getvalue(), origin.contract, origin)
    replace_file(path, file.getvalue())


def frame_name(file: str, index: int) -> str:
    """Return the name of one frame of a file, as manifests have it: FILE.npz#17."""
    return f"{file}#{index}"


def file_and_index(name: str) -> tuple[str, int] | None:
    """Return what `frame_name` was given, or None for the name of a sample's file."""
    found = _FRAME_NAME.fullmatch(name)
    return (found[1], int(found[2])) if found else None


def find(named: str, origin: Origin) -> tuple[Path, ReferenceObservations]:
    """Read the set that a parameter file names, or the suite's own; return its file as well.

    Args:
        named: a file, or empty for the suite's own.

    Raises:
        SampleError: see `read`.
    """
    if named:
        file = Path(named)
    else:
        try:
            file = config_file(FILE_NAME)
        except ParameterError as error:
            raise SampleError(str(error)) from error
    return file, read(file, origin)


def read(path: Path, origin: Origin) -> ReferenceObservations:
    """Read a set that was made for this contract, robot and grid.

    Raises:
        SampleError: there is none, it is malformed, or it was made for others; names the fields
            that differ and the command that makes one.
    """
    if path.suffix != ".npz":
        raise SampleError("expected reference observations in an .npz file", path)
    try:
        return parse(outside.read_bytes(path, MAX_FILE_BYTES), origin.contract, origin)
    except SampleError as error:
        raise SampleError(error.reason, path) from error
    except FileNotFoundError as error:
        raise SampleError(
            f"expected reference observations, found no such file; make them: {_MAKE}", path
        ) from error
    except OSError as error:
        raise SampleError(explain(error, path), path) from error
    except ValueError as error:  # too large, or no regular file
        raise SampleError(str(error), path) from error


def parse(data: bytes, contract: Contract, origin: Origin | None = None) -> ReferenceObservations:
    """Check the bytes of a file and return the set in them.

    Args:
        data: the file.
        contract: what the frames follow.
        origin: what it must be made for; None takes any robot and grid.

    Raises:
        SampleError: see `read`; lists every problem.
    """
    try:
        arrays = npz.read_arrays(data, _MEMBERS, MAX_MEMBER_BYTES, MAX_MEMBER_BYTES)
        made_by, differences = _origin(arrays, contract, origin)
    except ValueError as error:
        raise SampleError(f"not a set of reference observations: {error}") from error
    if differences:
        raise SampleError(
            f"made for another contract, robot or grid ({'; '.join(differences)}); make them anew "
            f"({_MAKE}) and name the file by reference_observations of the section convert"
        )
    samples, problems = _samples(arrays, contract, hashlib.sha256(data).hexdigest())
    if problems:
        raise SampleError(f"not a set of reference observations: {'; '.join(problems[:10])}")
    found = ReferenceObservations(samples, tuple(arrays["world"].tolist()), made_by, data)
    for half, what in ((found.calibrating, "calibrate"), (found.validating, "validate")):
        worlds = len({found.worlds[i] for i in half})
        if len(half) < LEAST_A_HALF or worlds < LEAST_WORLDS:
            raise SampleError(
                f"expected at least {LEAST_A_HALF} frames of {LEAST_WORLDS} worlds that {what}, "
                f"found {len(half)} of {worlds}"
            )
    return found


def _origin(
    arrays: Mapping[str, NDArray[Any]], contract: Contract, origin: Origin | None
) -> tuple[str, list[str]]:
    """Return what made the set, and the fields in which that was for others.

    Raises:
        ValueError: members are missing or are no texts.
    """
    missing = [name for name in _MEMBERS if name not in arrays]
    if missing:
        raise ValueError(f"expected members {', '.join(_MEMBERS)}, missing {', '.join(missing)}")
    texts = {}
    for name in ("contract", "robot", "grid", "made_by"):
        if arrays[name].ndim or arrays[name].dtype.kind != "U":
            raise ValueError(f"{name}: expected one text, found {arrays[name].dtype}")
        texts[name] = str(arrays[name])
    if len(texts["made_by"]) > MAX_TEXT:
        raise ValueError(f"made_by: expected at most {MAX_TEXT} characters, found more")
    mine = origin.canonical() if origin else {"contract": contract.canonical()}
    differences = []
    for name in ("contract", "robot", "grid"):
        found = outside.json_value(texts[name])
        if not isinstance(found, dict):
            raise ValueError(f"{name}: expected an object, found {found!r:.80}")
        if name in mine:
            differences += parameters.differences(mine[name], found)
    return texts["made_by"], differences


def _samples(
    arrays: Mapping[str, NDArray[Any]], contract: Contract, sha256: str
) -> tuple[PackedSamples, list[str]]:
    """Return the frames, and what is wrong with them."""
    bev, proprio, world = (arrays[name] for name in ("bev", "proprio", "world"))
    count, cells = len(proprio) if proprio.ndim else 0, int(np.prod(contract.bev_shape))
    samples = PackedSamples()
    if not 0 < count <= MAX_FRAMES:
        return samples, [f"expected 1 to {MAX_FRAMES} frames, found {count}"]
    expected = {
        "bev": (bev, (count, -(-cells // 8)), "u1"),
        "proprio": (proprio, (count, contract.proprio_size), "f4"),
        "world": (world, (count,), "i8"),
    }
    problems = [
        f"{name}: expected {shape} {np.dtype(kind)}, found {array.shape} {array.dtype}"
        for name, (array, shape, kind) in expected.items()
        if array.shape != shape or array.dtype != np.dtype(kind)
    ]
    for i in range(0 if problems else count):
        grid = np.unpackbits(bev[i], count=cells).astype(np.float32).reshape(contract.bev_shape)
        problems += [f"frame {i}: {x}" for x in sample_problems(grid, proprio[i], contract)]
        samples.append(Sample(grid, proprio[i], session=f"world {world[i]}", sha256=sha256))
    return samples, problems
