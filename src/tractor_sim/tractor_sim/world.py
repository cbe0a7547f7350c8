"""Worlds for the simulated rover: rooms, corridors and obstacles drawn from a seed.

A world is a plain description. `mjcf` turns it into a MuJoCo model for the sensors' rays, and
`SolidTable` into arrays for collision tests. All lengths are metres in the world frame
(REP-103, floor at z = 0), all angles radians.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WALL_HEIGHT_M = 1.0
WALL_HALF_THICKNESS_M = 0.05
SPAWN_CLEARANCE_M = 0.35
SPAWN_TRIES = 1000

# Everything a sensor can see.
VISIBLE_GROUP = 0
# What would hit the rover, extruded to full height: only the privileged scan looks here.
BLOCKING_GROUP = 1


@dataclass(frozen=True)
class Solid:
    """One upright box or post: centre, yaw, half sizes and its vertical extent.

    A post is a cylinder of radius `half_length_m`; its `half_width_m` equals the radius.
    """

    kind: str
    x_m: float
    y_m: float
    yaw_rad: float
    half_length_m: float
    half_width_m: float
    bottom_m: float
    top_m: float

    def blocks(self, height_m: float) -> bool:
        """Return whether a body standing on the floor with this height would hit the solid."""
        return self.bottom_m < height_m


@dataclass(frozen=True)
class World:
    """A closed room of length x width, centred on the origin, and a free spawn pose."""

    seed: int
    length_m: float
    width_m: float
    walls: tuple[Solid, ...]
    obstacles: tuple[Solid, ...]
    spawn_x_m: float
    spawn_y_m: float
    spawn_yaw_rad: float

    @property
    def solids(self) -> tuple[Solid, ...]:
        """All walls, then all obstacles."""
        return self.walls + self.obstacles


class SolidTable:
    """Solids as arrays, for testing an oriented rectangle against all of them at once."""

    def __init__(self, solids: Sequence[Solid]) -> None:
        self._x_m = np.array([s.x_m for s in solids])
        self._y_m = np.array([s.y_m for s in solids])
        yaw_rad = np.array([s.yaw_rad for s in solids])
        self._cos, self._sin = np.cos(yaw_rad), np.sin(yaw_rad)
        self._half_length_m = np.array([s.half_length_m for s in solids])
        self._half_width_m = np.array([s.half_width_m for s in solids])
        self._is_post = np.array([s.kind == "post" for s in solids], dtype=bool)

    def move(self, index: int, x_m: float, y_m: float) -> None:
        """Put the solid of this index elsewhere."""
        self._x_m[index], self._y_m[index] = x_m, y_m

    def overlaps(
        self,
        x_m: float,
        y_m: float,
        yaw_rad: float,
        half_length_m: float,
        half_width_m: float,
    ) -> np.ndarray:
        """Return a bool per solid: does the oriented rectangle overlap it in the plane.

        Boxes by the separating axis theorem, posts by the distance of the centre to the rectangle.
        """
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        dx_m, dy_m = self._x_m - x_m, self._y_m - y_m
        ahead_m = np.abs(cos * dx_m + sin * dy_m)
        aside_m = np.abs(cos * dy_m - sin * dx_m)
        gap_m = np.hypot(
            np.maximum(ahead_m - half_length_m, 0.0), np.maximum(aside_m - half_width_m, 0.0)
        )
        hits_post = gap_m < self._half_length_m

        # |cos| and |sin| of the angle between rectangle and box project one onto the other's axes.
        c = np.abs(cos * self._cos + sin * self._sin)
        s = np.abs(cos * self._sin - sin * self._cos)
        along_m = np.abs(self._cos * dx_m + self._sin * dy_m)
        across_m = np.abs(self._cos * dy_m - self._sin * dx_m)
        hits_box = (
            (ahead_m < half_length_m + c * self._half_length_m + s * self._half_width_m)
            & (aside_m < half_width_m + s * self._half_length_m + c * self._half_width_m)
            & (along_m < self._half_length_m + c * half_length_m + s * half_width_m)
            & (across_m < self._half_width_m + s * half_length_m + c * half_width_m)
        )
        return np.where(self._is_post, hits_post, hits_box)


@dataclass(frozen=True)
class Style:
    """What worlds are drawn from: sides of the room in m, layouts, how many obstacles.

    `spawn_clearance_m` is free around the rover's circumscribed square where it starts.
    """

    sides_m: tuple[float, float] = (8.0, 12.0)
    layouts: tuple[str, ...] = ("open", "corridor", "rooms")
    obstacles: tuple[int, int] = (14, 24)
    spawn_clearance_m: float = SPAWN_CLEARANCE_M


REGULAR = Style()
TIGHT = Style((2.2, 4.5), ("open",), (1, 5), 0.1)
WIDE = Style((14.0, 20.0), ("open",), (2, 6))


def make_world(seed: int, style: Style = REGULAR) -> World:
    """Return the world of a seed; the same seed gives the same world on every machine.

    Rooms are open, lined by a corridor, or divided by walls with doors. They hold
    low obstacles (under a LiDAR plane of 0.19 m), tall ones, slabs that hang low enough to hit the
    rover, and slabs high enough to drive under.
    """
    rng = np.random.default_rng([seed, 0x5EED])
    length_m, width_m = rng.uniform(*style.sides_m, size=2)
    walls = _outer_walls(length_m, width_m)
    layout = rng.choice(style.layouts)
    if layout == "corridor":
        side = rng.choice([-1.0, 1.0])
        y_m = side * (width_m / 2 - rng.uniform(1.2, 1.9))
        walls += _wall_with_doors(rng, length_m, y_m, doors=2, along_x=True)
    elif layout == "rooms":
        x_m = rng.uniform(-0.15, 0.15) * length_m
        walls += _wall_with_doors(rng, width_m, x_m, doors=int(rng.integers(1, 3)), along_x=False)

    obstacles: list[Solid] = []
    wanted = int(rng.integers(style.obstacles[0], style.obstacles[1] + 1))
    for _ in range(40 * wanted):
        if len(obstacles) == wanted:
            break
        candidate = _random_obstacle(rng, length_m, width_m)
        # Most obstacles leave a wide way around them; some crowd their neighbours.
        gap_m = rng.choice([0.8, 0.1], p=[0.8, 0.2])
        if not _hits(candidate, walls + obstacles, gap_m):
            obstacles.append(candidate)

    table = SolidTable(walls + obstacles)
    for tries in itertools.count(1):
        if tries % SPAWN_TRIES == 0 and obstacles:  # the room is full
            obstacles.pop()
            table = SolidTable(walls + obstacles)
        x_m = rng.uniform(-0.5, 0.5) * length_m
        y_m = rng.uniform(-0.5, 0.5) * width_m
        half_m = 0.2 + style.spawn_clearance_m
        yaw_rad = rng.uniform(-math.pi, math.pi)
        if not table.overlaps(x_m, y_m, yaw_rad, half_m, half_m).any():
            break
    return World(
        seed, length_m, width_m, tuple(walls), tuple(obstacles), float(x_m), float(y_m), yaw_rad
    )


def mjcf(world: World, rover_height_m: float, moving: Solid | None = None) -> str:
    """Return the world as MJCF: floor and solids in one geom group, blocking shapes in another.

    Args:
        moving: a solid that is placed anew again and again, of a mocap body.
    """
    geoms = [
        f'<geom type="plane" size="{world.length_m} {world.width_m} 1" group="{VISIBLE_GROUP}"/>'
    ]
    for solid in world.solids:
        geoms += _geoms(solid, rover_height_m)
    if moving is not None:
        own = _geoms(dataclasses.replace(moving, x_m=0.0, y_m=0.0), rover_height_m)
        geoms += [
            f'<body mocap="true" pos="{moving.x_m} {moving.y_m} 0">', *own, "</body>",
        ]  # fmt: skip
    body = "\n    ".join(geoms)
    return (
        f'<mujoco model="world_{world.seed}">\n  <worldbody>\n    {body}\n  </worldbody>\n</mujoco>'
    )


def _geoms(solid: Solid, rover_height_m: float) -> list[str]:
    geoms = [_geom(solid, solid.bottom_m, solid.top_m, VISIBLE_GROUP)]
    if solid.blocks(rover_height_m):
        geoms.append(_geom(solid, 0.0, WALL_HEIGHT_M, BLOCKING_GROUP))
    return geoms


def _geom(solid: Solid, bottom_m: float, top_m: float, group: int) -> str:
    half_height_m = (top_m - bottom_m) / 2
    if solid.kind == "post":
        shape = f'type="cylinder" size="{solid.half_length_m} {half_height_m}"'
    else:
        shape = f'type="box" size="{solid.half_length_m} {solid.half_width_m} {half_height_m}"'
    half_yaw_rad = solid.yaw_rad / 2
    return (
        f'<geom {shape} pos="{solid.x_m} {solid.y_m} {bottom_m + half_height_m}" '
        f'quat="{math.cos(half_yaw_rad)} 0 0 {math.sin(half_yaw_rad)}" group="{group}"/>'
    )


def _wall(x_m: float, y_m: float, half_length_m: float, along_x: bool) -> Solid:
    yaw_rad = 0.0 if along_x else math.pi / 2
    return Solid("box", x_m, y_m, yaw_rad, half_length_m, WALL_HALF_THICKNESS_M, 0.0, WALL_HEIGHT_M)


def _outer_walls(length_m: float, width_m: float) -> list[Solid]:
    x_m, y_m = length_m / 2 + WALL_HALF_THICKNESS_M, width_m / 2 + WALL_HALF_THICKNESS_M
    return [
        _wall(x_m, 0.0, y_m, along_x=False),
        _wall(-x_m, 0.0, y_m, along_x=False),
        _wall(0.0, y_m, x_m, along_x=True),
        _wall(0.0, -y_m, x_m, along_x=True),
    ]


def _wall_with_doors(
    rng: np.random.Generator, span_m: float, offset_m: float, doors: int, along_x: bool
) -> list[Solid]:
    """Return the pieces of a wall across the room, with doors of 1.0 to 1.5 m, one a section."""
    pieces = []
    start_m = -span_m / 2
    section_m = span_m / doors
    for index in range(doors):
        door_m = rng.uniform(1.0, 1.5)
        low_m = -span_m / 2 + index * section_m
        door_start_m = low_m + rng.uniform(0.2, 0.8) * (section_m - door_m)
        pieces.append((start_m, door_start_m))
        start_m = door_start_m + door_m
    pieces.append((start_m, span_m / 2))
    walls = []
    for low_m, high_m in pieces:
        centre_m, half_m = (low_m + high_m) / 2, (high_m - low_m) / 2
        x_m, y_m = (centre_m, offset_m) if along_x else (offset_m, centre_m)
        walls.append(_wall(x_m, y_m, half_m, along_x))
    return walls


def _random_obstacle(rng: np.random.Generator, length_m: float, width_m: float) -> Solid:
    x_m = rng.uniform(-0.5, 0.5) * length_m
    y_m = rng.uniform(-0.5, 0.5) * width_m
    yaw_rad = rng.uniform(-math.pi, math.pi)
    style = rng.choice(["low", "tall", "overhang", "table"], p=[0.35, 0.40, 0.17, 0.08])
    bottom_m, top_m = 0.0, 0.0
    if style == "low":
        top_m = rng.uniform(0.08, 0.17)
    elif style == "tall":
        top_m = rng.uniform(0.22, 1.0)
    elif style == "overhang":
        bottom_m = rng.uniform(0.195, 0.22)
        top_m = bottom_m + rng.uniform(0.05, 0.3)
    else:
        bottom_m = rng.uniform(0.40, 0.60)
        top_m = bottom_m + 0.04
    if style in ("low", "tall") and rng.random() < 0.5:
        radius_m = rng.uniform(0.03, 0.20)
        return Solid("post", x_m, y_m, yaw_rad, radius_m, radius_m, bottom_m, top_m)
    half_length_m, half_width_m = rng.uniform(0.08, 0.45), rng.uniform(0.08, 0.30)
    return Solid("box", x_m, y_m, yaw_rad, half_length_m, half_width_m, bottom_m, top_m)


def _hits(candidate: Solid, others: list[Solid], gap_m: float) -> bool:
    return bool(
        SolidTable(others)
        .overlaps(
            candidate.x_m,
            candidate.y_m,
            candidate.yaw_rad,
            candidate.half_length_m + gap_m,
            candidate.half_width_m + gap_m,
        )
        .any()
    )
