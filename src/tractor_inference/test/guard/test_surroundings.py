"""The rover stands before what it sees, does not drive where it sees nothing, and else goes on."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_core import contract as contracts
from tractor_core import robot as robots
from tractor_core.clearance import room
from tractor_core.kinematics import STOP, Velocity
from tractor_core.paths import default_params_file
from tractor_core.sensors import Scan
from tractor_inference.guard.surroundings import StoppingParameters, Surroundings
from tractor_sim.replay import read_recording

ROBOT = robots.load(default_params_file())
CONTRACT = contracts.load(default_params_file())
OWN = StoppingParameters()
FULL = Velocity(ROBOT.max_linear_speed, 0.0)
BEAMS, STEP_RAD = 720, 2.0 * math.pi / 720
PERIOD_S, SCAN_TICKS = 1.0 / 30.0, 3


def scan_of(ranges):
    return Scan(np.asarray(ranges, np.float32), 0.0, STEP_RAD, 0.05, 12.0)


def seen_by(ranges, robot=ROBOT):
    surroundings = Surroundings(OWN, robot, CONTRACT)
    surroundings.take_scan(scan_of(ranges), 0.0)
    return surroundings


def hole(first_deg, last_deg, value=np.nan):
    ranges = np.full(BEAMS, 5.0)
    ranges[np.arange(2 * first_deg, 2 * last_deg) % BEAMS] = value
    return ranges


def ray_cast(posts, x, y, yaw):
    """Return the ranges to posts, rows of (x, y, radius), from the middle of the rover."""
    angles = yaw + STEP_RAD * np.arange(BEAMS)
    dx, dy = posts[:, 0:1] - x, posts[:, 1:2] - y
    ahead = dx * np.cos(angles) + dy * np.sin(angles)
    aside = np.abs(dy * np.cos(angles) - dx * np.sin(angles))
    depth = np.sqrt(np.maximum(posts[:, 2:] ** 2 - aside**2, 0.0))
    met = (aside < posts[:, 2:]) & (ahead > 0.0)
    return np.where(met, ahead - depth, np.inf).min(axis=0)


def nearest_m(posts, x, y, yaw):
    dx, dy = posts[:, 0] - x, posts[:, 1] - y
    cos, sin = math.cos(yaw), math.sin(yaw)
    centres = np.stack([cos * dx + sin * dy, cos * dy - sin * dx], axis=1)
    return float((room(centres, ROBOT) - posts[:, 2]).min())


posts_around = st.lists(
    st.tuples(st.floats(-math.pi, math.pi), st.floats(0.45, 1.2), st.floats(0.03, 0.15)),
    min_size=1, max_size=12,
)  # fmt: skip
commands = st.lists(
    st.tuples(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.integers(5, 60)), min_size=1
)


# m/s, rad/s, and a base that stops both in about the same time, driving later, or turning later.
bases = st.sampled_from(
    [
        (0.18, 1.0, OWN),
        (0.8, 1.0, OWN),
        (0.6, 2.0, dataclasses.replace(OWN, angular_deceleration=10.0)),
        (0.6, 2.0, dataclasses.replace(OWN, linear_deceleration=4.0, angular_deceleration=2.0)),
    ]
)


@settings(deadline=None, max_examples=30)
@given(posts_around, commands, st.integers(0, 4), bases)
def test_whatever_is_commanded_nothing_that_is_seen_is_touched(around, wanted, lag_ticks, base):
    fastest, turning, own = base
    posts = np.array([[d * math.cos(a), d * math.sin(a), r] for a, d, r in around])
    surroundings = Surroundings(own, ROBOT, CONTRACT)
    x = y = yaw = linear = angular = 0.0
    on_the_way = [STOP] * lag_ticks
    ticks = [
        Velocity(fastest * (a + b) / 2, turning * (b - a) / 2)
        for a, b, n in wanted
        for _ in range(n)
    ]
    for tick, command in enumerate(ticks[:900]):
        now_s = tick * PERIOD_S
        if tick % SCAN_TICKS == 0:
            surroundings.take_scan(scan_of(ray_cast(posts, x, y, yaw)), now_s)
        on_the_way.append(surroundings.limit(command, now_s)[0])
        told = on_the_way.pop(0)
        for _ in range(4):
            dt_s = PERIOD_S / 4
            most = own.linear_deceleration * dt_s
            linear += min(max(told.linear - linear, -most), most)
            most = own.angular_deceleration * dt_s
            angular += min(max(told.angular - angular, -most), most)
            yaw += angular * dt_s
            x, y = x + linear * math.cos(yaw) * dt_s, y + linear * math.sin(yaw) * dt_s
        assert nearest_m(posts, x, y, yaw) > 0.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_it_drives_up_to_a_wall_stands_the_margin_before_it_and_can_turn_there(sign):
    surroundings = Surroundings(OWN, ROBOT, CONTRACT)
    wall_m, x = 1.0, 0.0
    along = np.stack([np.full(400, sign * wall_m), np.linspace(-2.0, 2.0, 400)], axis=1)
    for tick in range(600):
        points = along - [x, 0.0]
        ranges = np.full(BEAMS, np.inf)
        beams = np.rint(np.arctan2(points[:, 1], points[:, 0]) / STEP_RAD).astype(int) % BEAMS
        np.minimum.at(ranges, beams, np.hypot(*points.T))
        surroundings.take_scan(scan_of(ranges), tick * PERIOD_S)
        velocity, _ = surroundings.limit(Velocity(sign * 0.18, 0.0), tick * PERIOD_S)
        x += velocity.linear * PERIOD_S
    left_m = wall_m - ROBOT.half_length_m - abs(x)
    assert OWN.obstacle_margin_m <= left_m < OWN.obstacle_margin_m + 0.05
    turn = Velocity(0.0, 1.0)
    assert surroundings.limit(turn, 20.0 - PERIOD_S) == (turn, None)


def test_what_is_beside_the_way_does_not_slow_it():
    ranges = np.full(BEAMS, 5.0)
    ranges[170:190] = ranges[530:550] = ROBOT.half_width_m + 0.05
    assert seen_by(ranges).limit(FULL, 0.0) == (FULL, None)


def test_a_real_lidar_lets_it_drive_and_turn_where_it_looks(shared_data):
    recording = read_recording(shared_data)
    ways = {"ahead": FULL, "back": Velocity(-0.18, 0.0), "turn": Velocity(0.0, 1.0)}
    passed = dict.fromkeys(ways, 0)
    for scan in recording.scans:
        surroundings = Surroundings(OWN, ROBOT, CONTRACT)
        surroundings.take_scan(scan, 0.0)
        for name, velocity in ways.items():
            passed[name] += surroundings.limit(velocity, 0.1)[0] != STOP
    of_all = {name: count / len(recording.scans) for name, count in passed.items()}
    # A Hokuyo of 240 degrees: it does not look back, and dark walls leave holes ahead.
    assert of_all["ahead"] > 0.8 and of_all["turn"] > 0.95 and of_all["back"] < 0.01


@pytest.mark.parametrize("value", [np.nan, 0.0, 0.1, -np.inf, 99.0])
def test_a_covered_sector_stops_what_leads_there_and_nothing_else(value):
    surroundings = seen_by(hole(-30, 30, value))
    velocity, reason = surroundings.limit(FULL, 0.0)
    assert velocity == STOP
    assert reason.startswith("unknown: the scan has a hole of 6") and "leads" in reason
    back = Velocity(-0.18, 0.0)
    assert surroundings.limit(back, 0.0) == (back, None)


def test_single_beams_without_an_answer_and_a_mast_do_not_stop_it():
    rng = np.random.default_rng(0)
    ranges = np.where(rng.random(BEAMS) < 0.3, np.nan, 5.0)
    ranges[350:370] = 0.08
    for velocity in (FULL, Velocity(-0.18, 0.0), Velocity(0.0, 1.0)):
        assert seen_by(ranges).limit(velocity, 0.0) == (velocity, None)


def test_a_lidar_that_does_not_look_back_does_not_let_it_drive_back():
    half_ring = Scan(np.full(541, 5.0, np.float32), -2.356, 2 * 2.356 / 540, 0.05, 12.0)
    surroundings = Surroundings(OWN, ROBOT, CONTRACT)
    surroundings.take_scan(half_ring, 0.0)
    assert surroundings.limit(FULL, 0.0) == (FULL, None)
    velocity, reason = surroundings.limit(Velocity(-0.18, 0.0), 0.0)
    assert velocity == STOP and "unknown: the scan has a hole of 90 deg" in reason


def test_it_does_not_turn_on_the_spot_into_a_hole_and_does_out_of_one():
    left, right = Velocity(0.0, 1.0), Velocity(0.0, -1.0)
    velocity, reason = seen_by(hole(-60, 60)).limit(left, 0.0)
    assert velocity == STOP and reason.startswith("unknown: the scan has a hole of 12")
    aside = seen_by(hole(20, 110))
    assert aside.limit(left, 0.0)[0] == STOP and aside.limit(right, 0.0) == (right, None)
    # What is only ahead it turns away from.
    ahead = seen_by(hole(-15, 15))
    assert ahead.limit(FULL, 0.0)[0] == STOP
    assert [ahead.limit(turn, 0.0)[0] for turn in (left, right)] == [left, right]


def test_a_code_that_some_drivers_send_names_the_parameter_and_a_cover_does_not():
    ranges = np.full(BEAMS, 5.0)
    for first in range(0, BEAMS, 90):
        ranges[first : first + 60] = np.nan
    reason = seen_by(ranges).limit(FULL, 0.0)[1]
    assert "67% of its beams are NaN" in reason and "set robot.lidar_no_return to nan" in reason
    assert "lidar_no_return" not in seen_by(hole(-60, 60)).limit(FULL, 0.0)[1]


def test_a_post_beside_the_way_on_which_it_brakes_is_seen():
    """It turns hard and stops driving late: the post is past the arc, where it then goes on."""
    own = dataclasses.replace(OWN, angular_deceleration=10.0)
    surroundings = Surroundings(own, ROBOT, CONTRACT)
    angle = math.radians(24)
    posts = np.array([[0.7 * math.cos(angle), 0.7 * math.sin(angle), 0.02]])
    surroundings.take_scan(scan_of(ray_cast(posts, 0.0, 0.0, 0.0)), 0.0)
    fast = Velocity(0.6, 2.0)
    assert surroundings._contact_s(surroundings._scan.points, fast) == math.inf
    assert surroundings.limit(fast, 0.0)[0] != fast


def test_a_lidar_at_the_side_sees_the_way_from_there():
    beside = dataclasses.replace(ROBOT, lidar_pose=(0.0, 0.14, 0.19, 0.0, 0.0, 0.0))
    ranges = hole(-80, -40)
    assert seen_by(ranges).limit(FULL, 0.0) == (FULL, None)
    assert seen_by(ranges, beside).limit(FULL, 0.0)[0] == STOP


def test_an_upside_down_lidar_sees_to_the_same_side():
    inverted = dataclasses.replace(ROBOT, lidar_pose=(0.0, 0.0, 0.19, math.pi, 0.0, 0.0))
    ranges = hole(80, 100)
    left = Velocity(0.0, 1.0)
    # Beam 90 degrees of a LiDAR that hangs points to the right.
    for robot, hidden in ((ROBOT, 90.0), (inverted, -90.0)):
        surroundings = seen_by(ranges, robot)
        assert surroundings._hole_rad(np.radians([hidden])) > 0.3
        assert surroundings._hole_rad(np.radians([-hidden])) < 0.1
        assert surroundings.limit(left, 0.0) == (left, None)


def test_the_grid_adds_what_the_scan_does_not_see_while_it_is_new():
    surroundings = seen_by(np.full(BEAMS, 5.0))
    bev = np.zeros(CONTRACT.bev_shape, np.float32)
    bev[1, 56, 60:68] = 1.0  # 0.23 m ahead of the middle
    surroundings.take_grid(bev, 0.0)
    assert surroundings.limit(FULL, 0.0)[0] == STOP
    assert surroundings.limit(Velocity(-0.18, 0.0), 0.0)[1] is None
    assert surroundings.limit(FULL, OWN.max_input_age_s + 0.05)[0] == FULL


def test_an_old_scan_makes_it_slower():
    ranges = np.full(BEAMS, 5.0)
    ranges[:20] = ranges[-20:] = 0.36
    surroundings = seen_by(ranges)
    speeds = [surroundings.limit(FULL, age_s)[0].linear for age_s in (0.0, 0.1, 0.2, 0.3)]
    assert speeds == sorted(speeds, reverse=True) and speeds[0] > speeds[-1]


def test_before_the_first_scan_nothing_moves_and_a_stop_needs_no_reason():
    surroundings = Surroundings(OWN, ROBOT, CONTRACT)
    assert surroundings.limit(FULL, 0.0) == (STOP, "no scan yet")
    assert surroundings.limit(STOP, 0.0) == (STOP, None)
