"""What pays and what must not: driving into a free way does, and nothing that looks like it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import contract as contracts
from tractor_core import robot as robots
from tractor_core.experience import ROW, Chunk, pack_grid
from tractor_core.kinematics import Velocity, velocity_to_action
from tractor_core.paths import default_params_file
from tractor_training.reward import DECISION_S, Judge, RewardParameters

CONTRACT = contracts.load(default_params_file())
ROBOT = robots.load(default_params_file())
FULL = ROBOT.max_linear_speed
TICK_S = 1.0 / 30.0
EMPTY = np.zeros(CONTRACT.bev_shape, np.float32)


def cell(x_m, y_m):
    half, res = CONTRACT.grid_extent_m / 2, CONTRACT.resolution_m
    return int((half - x_m) / res), int((half - y_m) / res)


def wall(x_m, channel=0, half_width_m=0.5):
    """Return a grid with a wall across the way, so far ahead of the rover's middle."""
    grid = EMPTY.copy()
    for y_m in np.arange(-half_width_m, half_width_m, CONTRACT.resolution_m / 2):
        grid[(channel, *cell(x_m, y_m))] = 1.0
    return grid


def drive(velocities, grids=None, moves=True, first=0, start=(0.0, 0.0, 0.0), tick_s=TICK_S):
    """Return the chunk of a rover that does what it is told, or whose tracks only say so."""
    n = len(velocities)
    rows = np.zeros(n + 1, ROW)
    rows["stamp_ns"] = ((first + np.arange(n + 1)) * tick_s * 1e9).astype(np.int64)
    x, y, yaw = start
    for i, velocity in enumerate([Velocity(0.0, 0.0), *velocities]):
        yaw += velocity.angular * tick_s
        step_m = velocity.linear * tick_s
        x, y = x + step_m * np.cos(yaw), y + step_m * np.sin(yaw)
        last = velocity_to_action(velocity, CONTRACT, ROBOT)
        rows["proprio"][i] = (2.0, *last, *velocity, 0.0)
        rows["pose"][i] = (x, y, yaw)
    grids = [EMPTY] * (n + 1) if grids is None else grids
    packed = np.stack([pack_grid(grid) for grid in grids])
    return Chunk("20261130T154012Z-0badcafe", 0, first, "", CONTRACT.digest, "", rows, packed)


def worth(velocities, grids=None, parameters=None, **fields):
    return judge(parameters).rewards(drive(velocities, grids, **fields)).total


def judge(parameters=None):
    return Judge(parameters or RewardParameters(), CONTRACT, ROBOT)


def ahead(speed=FULL, angular=0.0):
    return Velocity(speed, angular)


def test_full_speed_ahead_pays_one_for_a_tenth_of_a_second_whatever_the_rate():
    for tick_s in (TICK_S, 0.1):
        n = round(1.0 / tick_s)
        total = worth([ahead()] * n, tick_s=tick_s)[1:].sum()
        assert total == pytest.approx((n - 1) * tick_s / DECISION_S, rel=1e-3)


def test_progress_counts_as_far_as_the_way_ahead_is_free():
    front = ROBOT.half_length_m
    pays = [
        judge().rewards(drive([ahead()] * 2, [wall(front + way)] * 3)).terms["progress"][1]
        for way in (0.04, 0.15, 0.3, 0.6)
    ]
    assert pays[0] == pytest.approx(0.0, abs=0.02)
    assert pays == sorted(pays) and pays[-1] == pytest.approx(TICK_S / DECISION_S, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1.0, 1.0), st.integers(2, 40))
def test_turning_on_the_spot_never_pays(turn, ticks):
    angular = turn * ROBOT.max_angular_speed
    assert worth([Velocity(0.0, angular)] * ticks).max() <= 1e-6


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 20), st.integers(1, 4))
def test_rocking_never_pays(speed, ticks, times):
    there, back = [ahead(speed * FULL)] * ticks, [ahead(-speed * FULL)] * ticks
    assert worth((there + back) * times).sum() <= 1e-5


def test_standing_pays_nothing_and_standing_near_costs():
    assert worth([ahead(0.0)] * 10).sum() == 0.0
    near = wall(ROBOT.half_length_m + 0.1)
    assert worth([ahead(0.0)] * 10, [near] * 11).sum() < 0.0


@pytest.mark.parametrize("channel", [0, 1])
def test_pushing_against_a_wall_never_pays_though_the_tracks_turn(channel):
    grids = [wall(ROBOT.half_length_m + 0.005, channel)] * 11
    found = judge().rewards(drive([ahead()] * 10, grids))
    assert found.total.max() < 0.0 and found.contact.all()
    assert found.terms["progress"].max() == 0.0 and found.terms["contact"].sum() == -50.0


def test_what_the_camera_no_longer_sees_is_kept_in_mind():
    # A low board: seen from 0.5 m, lost below 0.3 m, and then driven against.
    board_m = 0.5 + ROBOT.half_length_m
    velocities = [ahead()] * 110
    grids, at = [], 0.0
    for velocity in [ahead(0.0), *velocities]:
        at += velocity.linear * TICK_S
        left = board_m - at
        grids.append(wall(left, channel=1) if left - ROBOT.half_length_m > 0.3 else EMPTY)
    found = judge().rewards(drive(velocities, grids))
    touched = int(np.argmax(found.contact))
    travelled = (touched + 1) * FULL * TICK_S
    assert found.contact.any() and travelled == pytest.approx(0.5 - 0.03, abs=0.05)
    assert found.terms["progress"][touched:].max() == 0.0
    forgetful = RewardParameters(remembered_s=0.0)
    assert not judge(forgetful).rewards(drive(velocities, grids)).contact.any()


def test_memory_goes_on_in_the_next_chunk_and_ends_with_the_episode():
    one = drive([ahead()] * 30, [wall(0.6, channel=1)] * 31)
    end = tuple(one.rows["pose"][-1].tolist())
    after = drive([ahead()] * 30, first=30, start=end)
    both = judge()
    both.rewards(one)
    remembers = both.rewards(after)
    assert remembers.terms["clearance"].sum() < 0.0
    both.rewards(one)
    other = dataclasses.replace(after, episode=1)
    assert both.rewards(other).terms["clearance"].sum() == 0.0
    # The same again is worth the same.
    again = judge()
    again.rewards(one)
    assert (again.rewards(after).total == remembers.total).all()


def test_haste_costs():
    smooth = [ahead()] * 10
    rough = [ahead(FULL if i % 2 else 0.5 * FULL) for i in range(10)]
    jerks = [judge().rewards(drive(v)).terms["jerk"].sum() for v in (smooth, rough)]
    assert jerks[1] < jerks[0] <= 0.0


def test_changed_weights_have_another_digest():
    assert RewardParameters().digest == RewardParameters().digest
    assert RewardParameters(jerk=0.06).digest != RewardParameters().digest
    assert RewardParameters(blocked_way_m=0.5).problems()
