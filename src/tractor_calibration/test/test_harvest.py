"""Recorded drives become samples: as live, from whatever a recorder left behind."""

import contextlib
import dataclasses
import importlib
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tractor_calibration import harvest
from tractor_calibration.bags import mcap, reader
from tractor_calibration.bags.recorded_drive import Settings
from tractor_core import proprio, samples
from tractor_core.bev.builder import BevBuilder
from tractor_core.kinematics import action_to_velocity
from tractor_core.motion import OdometrySample, OdometryTrack, ScanMotion

rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="rosbags is not installed")
pytest.importorskip("mujoco", reason="mujoco is not installed")

from rosbags.typesys import Stores, get_typestore  # noqa: E402

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPE = STORE.types
START_NS = 1_700_000_000_000_000_000
TICK_NS = 33_333_333
SECONDS = 3.0
TOPICS = {
    "scan": ("/scan", "sensor_msgs/msg/LaserScan"),
    "depth": ("/depth", "sensor_msgs/msg/Image"),
    "camera_info": ("/camera_info", "sensor_msgs/msg/CameraInfo"),
    "odom": ("/odom", "nav_msgs/msg/Odometry"),
    "command": ("/cmd_vel", "geometry_msgs/msg/Twist"),
}


@dataclasses.dataclass
class Drive:
    """What was recorded, (role, recorded ns, message), and the frames that the rover saw."""

    events: list
    frames: list


def header(stamp_ns, frame_id):
    stamp = TYPE["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return TYPE["std_msgs/msg/Header"](stamp, frame_id)


def vector(x=0.0, y=0.0, z=0.0):
    return TYPE["geometry_msgs/msg/Vector3"](x, y, z)


def twist(linear, angular):
    return TYPE["geometry_msgs/msg/Twist"](vector(linear), vector(z=angular))


def scan_message(scan, stamp_ns):
    return TYPE["sensor_msgs/msg/LaserScan"](
        header(stamp_ns, "laser"), scan.angle_min_rad, float(scan.angles_rad[-1]),
        scan.angle_increment_rad, scan.time_increment_s, 0.1, scan.range_min_m, scan.range_max_m,
        scan.ranges_m, np.empty(0, np.float32),
    )  # fmt: skip


def camera_info_message(depth, stamp_ns):
    height, width = depth.pixels.shape
    k = depth.intrinsics
    matrix = np.array([k.fx, 0, k.cx, 0, k.fy, k.cy, 0, 0, 1.0])
    return TYPE["sensor_msgs/msg/CameraInfo"](
        header(stamp_ns, "camera"), height, width, "plumb_bob", np.zeros(5), matrix,
        np.eye(3).reshape(-1), np.zeros(12), 0, 0,
        TYPE["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )  # fmt: skip


def depth_message(depth, stamp_ns):
    height, width = depth.pixels.shape
    return TYPE["sensor_msgs/msg/Image"](
        header(stamp_ns, "camera"), height, width, "16UC1", 0, width * 2,
        depth.pixels.reshape(-1).view(np.uint8),
    )  # fmt: skip


def odometry_message(odom, stamp_ns):
    point = TYPE["geometry_msgs/msg/Point"](odom.x_m, odom.y_m, 0.0)
    turned = TYPE["geometry_msgs/msg/Quaternion"](
        0.0, 0.0, np.sin(odom.yaw_rad / 2), np.cos(odom.yaw_rad / 2)
    )
    pose = TYPE["geometry_msgs/msg/PoseWithCovariance"](
        TYPE["geometry_msgs/msg/Pose"](point, turned), np.zeros(36)
    )
    speed = TYPE["geometry_msgs/msg/TwistWithCovariance"](
        twist(odom.linear_m_s, odom.angular_rad_s), np.zeros(36)
    )
    return TYPE["nav_msgs/msg/Odometry"](header(stamp_ns, "odom"), "base_link", pose, speed)


def record(params_file, seconds, seed=3):
    """Drive the simulated rover with random tracks; what the nodes saw, and what they made of it.

    The frames are made here of the simulator's own arrays, not of messages.
    """
    from tractor_sim.simulation import Simulation

    rover = Settings.load(params_file)
    contract, robot = rover.contract, rover.robot
    simulation = Simulation(seed, robot)
    rng = np.random.default_rng(seed)
    builder = BevBuilder(contract, robot, rover.builder)
    track = OdometryTrack()
    events, frames = [], []
    action = np.zeros(2, np.float32)
    for tick in range(round(seconds * 30)):
        now_ns = START_NS + tick * TICK_NS
        odom = simulation.odom()
        events.append(("odom", now_ns, odometry_message(odom, now_ns)))
        yaw = 2.0 * np.arctan2(np.sin(odom.yaw_rad / 2), np.cos(odom.yaw_rad / 2))
        track.add(
            OdometrySample(now_ns, odom.x_m, odom.y_m, yaw, odom.linear_m_s, odom.angular_rad_s)
        )
        if tick % 3 == 0:
            scan, scan_ns = simulation.scan(), now_ns
            # A scan comes with the angles that its message can hold.
            message = scan_message(scan, scan_ns)
            scan = dataclasses.replace(
                scan,
                **{
                    name: float(np.float32(getattr(scan, name)))
                    for name in ("angle_min_rad", "angle_increment_rad", "range_min_m",
                                 "range_max_m")
                },
            )  # fmt: skip
            events.append(("scan", now_ns, message))
        depth = simulation.depth()
        events.append(("camera_info", now_ns, camera_info_message(depth, now_ns)))
        events.append(("depth", now_ns, depth_message(depth, now_ns)))
        motion = track.motion(scan_ns, now_ns)
        grid = builder.build(scan, depth, ScanMotion(motion, motion), (now_ns - scan_ns) * 1e-9)
        raw = proprio.raw_vector(
            proprio.lidar_min(scan, robot), action, odom.linear_m_s, odom.angular_rad_s,
            proprio.gap_heading(scan, robot),
        )  # fmt: skip
        frames.append(samples.Sample(grid.copy(), raw, now_ns))
        if tick % 10 == 0:
            action = rng.uniform(-1.0, 1.0, 2).astype(np.float32)
        velocity = action_to_velocity(action, contract, robot)
        events.append(("command", now_ns + 5_000_000, twist(*velocity)))
        simulation.step(*velocity, 1 / 30)
    return Drive(events, frames)


def write_bag(path, events, storage="mcap", topics=None, extra=(), compression=None, mode="NONE"):
    """Write events as a bag; `extra` are (topic, type, recorded ns, bytes).

    `compression` (name, function) is MCAP's own, of its chunks; `mode` is that of rosbag2.
    """
    plugin = getattr(rosbag2.StoragePlugin, storage.upper())
    topics = TOPICS | (topics or {})
    serialised = [
        (*topics[role], at_ns, bytes(STORE.serialize_cdr(message, topics[role][1])))
        for role, at_ns, message in events
    ]
    writer = rosbag2.Writer(path, version=9, storage_plugin=plugin)
    writer.set_compression(getattr(rosbag2.CompressionMode, mode), rosbag2.CompressionFormat.ZSTD)
    with writer:
        if compression:
            writer.storage.compression, writer.storage.compressor = compression
        connections = {}
        for topic, kind, at_ns, data in sorted([*serialised, *extra], key=lambda e: e[2]):
            if (topic, kind) not in connections:
                connections[topic, kind] = writer.add_connection(topic, kind, typestore=STORE)
            writer.write(connections[topic, kind], at_ns, data)
    return path


@pytest.fixture(scope="module")
def drive(params_file):
    return record(params_file, SECONDS)


@pytest.fixture(scope="module", params=["mcap", "sqlite3"])
def bag(request, drive, tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp("bags") / "a_drive", drive.events, request.param)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "calibration_data"


@pytest.fixture
def run(params_file, out, capsys):
    """Run the command with --json; return its exit code and result."""

    def run_it(*arguments):
        code = harvest.main([*map(str, arguments), "--out", str(out), "--params", str(params_file),
                             "--json"])  # fmt: skip
        return code, json.loads(capsys.readouterr().out)

    return run_it


def harvested(out, contract):
    read = [samples.read(file, contract) for file in samples.list_files(out)]
    return {sample.stamp_ns: sample for sample in read}


def assert_same(found, frames):
    """Assert that the harvested samples are these frames, to the last bit."""
    assert sorted(found) == [frame.stamp_ns for frame in frames]
    for frame in frames:
        sample = found[frame.stamp_ns]
        assert np.array_equal(sample.bev, frame.bev)
        assert np.array_equal(sample.proprio, frame.proprio)
        assert sample.bev.dtype == sample.proprio.dtype == np.float32


def losses(result):
    return [loss for bag in result["bags"] for loss in bag["losses"]]


def file_of(bag):
    (file,) = (f for f in bag.iterdir() if f.suffix in reader.SUFFIXES)
    return file


# As live


def test_a_drive_gives_the_frames_that_the_rover_saw(run, bag, drive, out, contract):
    code, result = run(bag, "--keep", 1000)
    assert code == 0
    found = harvested(out, contract)
    assert_same(found, drive.frames)
    assert len({tuple(s.proprio[1:3]) for s in found.values()}) > 5
    assert {(s.session, s.origin) for s in found.values()} == {("a_drive", "harvested")}
    assert result["usable"] == len(result["written"]) == len(drive.frames)
    assert losses(result) == []


def test_a_drive_is_the_same_whatever_the_command_topic_says_about_stamps(
    run, tmp_path, out, drive, contract
):
    stamped = [
        (role, at_ns, TYPE["geometry_msgs/msg/TwistStamped"](header(at_ns, "base_link"), message))
        if role == "command" else (role, at_ns, message)
        for role, at_ns, message in drive.events
    ]  # fmt: skip
    topics = {"command": ("/cmd_vel", "geometry_msgs/msg/TwistStamped")}
    bag = write_bag(tmp_path / "bag", stamped, topics=topics)
    assert run(bag, "--keep", 1000)[0] == 0
    assert_same(harvested(out, contract), drive.frames)


def test_after_a_stop_or_without_commands_the_last_action_is_zero(
    run, tmp_path, out, drive, contract
):
    stop_ns, silent_ns = START_NS + 1_000_000_000, START_NS + 2_000_000_000
    events = []
    for role, at_ns, message in drive.events:
        if role == "command" and at_ns > silent_ns:
            continue
        stopped = role == "command" and stop_ns < at_ns < stop_ns + 500_000_000
        events.append((role, at_ns, twist(0.0, 0.0) if stopped else message))
    assert run(write_bag(tmp_path / "bag", events), "--keep", 1000)[0] == 0
    last = {ns - START_NS: s.proprio[1:3] for ns, s in harvested(out, contract).items()}
    assert np.any(last[25 * TICK_NS])
    assert not any(last[n * TICK_NS].any() for n in range(32, 44))
    assert np.any(last[50 * TICK_NS])
    # The guard stops the rover 0.3 s after the last command.
    assert np.any(last[67 * TICK_NS])
    assert not any(last[n * TICK_NS].any() for n in range(70, 90))


@pytest.mark.parametrize("role", ["scan", "odom"])
def test_what_stops_the_rover_makes_no_frame(run, tmp_path, out, drive, contract, role):
    gap = range(START_NS + 1_000_000_000, START_NS + 2_000_000_000)
    events = [e for e in drive.events if e[0] != role or e[1] not in gap]
    code, result = run(write_bag(tmp_path / "bag", events), "--keep", 1000)
    assert code == 0
    times_s = [(ns - START_NS) * 1e-9 for ns in harvested(out, contract)]
    # The last one before the gap counts for 0.3 s.
    assert not [t for t in times_s if 1.31 < t < 2.0]
    assert [t for t in times_s if 1.0 < t < 1.25]
    (why,) = result["bags"][0]["refused"]
    assert why.startswith(f"{role} older than 0.30 s")


def test_stamps_of_a_simulation_are_compared_with_its_clock(run, tmp_path, out, drive, contract):
    offset_ns = 50 * 365 * 86400 * 10**9
    clock = TYPE["rosgraph_msgs/msg/Clock"]
    kind = "rosgraph_msgs/msg/Clock"
    time = TYPE["builtin_interfaces/msg/Time"]
    extra = [
        ("/clock", kind, at_ns + offset_ns - 1,
         bytes(STORE.serialize_cdr(clock(time(*divmod(at_ns, 10**9))), kind)))
        for role, at_ns, _ in drive.events if role == "odom"
    ]  # fmt: skip
    events = [(role, at_ns + offset_ns, message) for role, at_ns, message in drive.events]
    bag = write_bag(tmp_path / "bag", events, extra=extra)
    code, result = run(bag)
    assert code == harvest.NOTHING
    assert "--use-sim-time" in result["error"]
    assert run(bag, "--use-sim-time", "--keep", 1000)[0] == 0
    assert_same(harvested(out, contract), drive.frames)


# What is kept


def test_so_many_are_kept_the_same_each_time_and_most_diverse(run, bag, out, drive, contract):
    assert run(bag, "--keep", 20)[0] == 0
    first = harvested(out, contract)
    out.rename(out.with_name("first"))
    assert run(bag, "--keep", 20)[0] == 0
    assert first.keys() == harvested(out, contract).keys()
    assert len(first) == 20
    assert {frame.stamp_ns for frame in drive.frames[:20]} != first.keys()


def test_the_parameter_file_says_how_many(run, bag, drive):
    _, result = run(bag)
    assert len(result["written"]) == min(100, len(drive.frames))


def test_a_share_of_the_frames_can_be_considered(run, bag):
    _, result = run(bag, "--keep", 1000, "--probability", 0.2)
    assert 0 < len(result["written"]) < 0.5 * result["usable"]


def test_samples_that_are_there_stay_and_count(run, bag, out, drive, contract):
    run(bag, "--keep", 1000)
    shutil.copy(samples.list_files(out)[0], out / "of_others.npz")
    (out / "broken.npz").write_bytes(b"nothing")
    before = {file: file.read_bytes() for file in out.iterdir()}
    code, result = run(bag, "--keep", 1000)
    assert code == 0
    assert result["there"] == len(drive.frames) + 1
    assert result["unusable"] == 1
    assert result["written"] == []
    assert {file: file.read_bytes() for file in out.iterdir()} == before


def test_the_drives_of_one_harvest_compete_and_keep_their_names(
    run, tmp_path, out, drive, params_file, contract
):
    other = record(params_file, 1.0, seed=9)
    bags = [
        write_bag(tmp_path / "corridor", drive.events),
        write_bag(tmp_path / "room", other.events, "sqlite3"),
    ]
    assert run(*bags, "--keep", 40)[0] == 0
    sessions = [samples.read(file, contract).session for file in samples.list_files(out)]
    assert len(sessions) == 40
    assert {*sessions} == {"corridor", "room"}
    assert sessions == sorted(sessions)


# Topics


@pytest.mark.parametrize(
    ("topics", "options"),
    [
        ({role: f"/rover1{topic}" for role, (topic, _) in TOPICS.items()}, ()),
        ({"depth": "/camera/camera/depth/image_rect_raw",
          "camera_info": "/camera/camera/depth/camera_info"}, ()),
        ({"scan": "/ld19/points"}, ("--scan-topic", "ld19/points")),
        ({"odom": "/ekf/pose", "command": "/drive"},
         ("--odom-topic", "/ekf/pose", "--command-topic", "/drive")),
    ],
    ids=["namespace", "the rover's drivers", "relative option", "absolute options"],
)  # fmt: skip
def test_topics_are_found(run, tmp_path, out, drive, contract, topics, options):
    named = {role: (topic, TOPICS[role][1]) for role, topic in topics.items()}
    code, result = run(write_bag(tmp_path / "bag", drive.events, topics=named), *options)
    assert code == 0
    assert result["bags"][0]["topics"] == {r: topics.get(r, TOPICS[r][0]) for r in TOPICS}


@pytest.mark.parametrize(
    ("topic", "usable"), [("/camera/depth/image_rect", True), ("/camera/depth/image_raw", False)]
)
def test_a_distorted_camera_is_harvested_where_its_image_is_rectified(
    run, tmp_path, drive, topic, usable
):
    events = []
    for role, at_ns, message in drive.events:
        if role == "camera_info":
            k = message.k
            p = np.array([k[0], 0, k[2], 0, 0, k[4], k[5], 0, 0, 0, 1.0, 0])
            message = dataclasses.replace(message, d=np.full(5, 0.1), p=p)
        events.append((role, at_ns, message))
    bag = write_bag(tmp_path / "bag", events, topics={"depth": (topic, TOPICS["depth"][1])})
    code, result = run(bag, "--depth-topic", topic)
    assert (code == 0) == usable
    assert usable or any("expected no distortion" in why for why in result["bags"][0]["refused"])


def test_missing_and_ambiguous_topics_are_all_named_with_what_is_there(run, tmp_path, out, drive):
    events = [e for e in drive.events if e[0] not in ("camera_info", "command")]
    topics = {"scan": ("/front/scan", TOPICS["scan"][1]), "odom": ("/ekf", TOPICS["odom"][1])}
    scan = next(message for role, _, message in events if role == "scan")
    data = bytes(STORE.serialize_cdr(scan, TOPICS["scan"][1]))
    extra = [
        ("/rear/scan", TOPICS["scan"][1], START_NS, data),
        ("/camera_info", TOPICS["scan"][1], START_NS, data),
    ]
    code, result = run(write_bag(tmp_path / "bag", events, topics=topics, extra=extra))
    assert code == harvest.NOTHING
    for text in (
        "/front/scan, /rear/scan; choose with --scan-topic",
        "found others of that type: /ekf; choose with --odom-topic",
        "camera_info: expected one topic",
        "found /camera_info of type sensor_msgs/msg/LaserScan",
        "--no-command",
    ):
        assert text in result["error"]
    assert not out.exists()


def test_without_commands_only_when_asked_for(run, tmp_path, out, drive, contract):
    bag = write_bag(tmp_path / "bag", [e for e in drive.events if e[0] != "command"])
    assert run(bag)[0] == harvest.NOTHING
    assert run(bag, "--no-command")[0] == 0
    assert not np.any([s.proprio[1:3] for s in harvested(out, contract).values()])


# Damage


def cut(bag, folder, share):
    """Copy a bag, its storage file cut short."""
    copy = shutil.copytree(bag, folder)
    file = file_of(copy)
    with file.open("rb+") as opened:
        opened.truncate(round(file.stat().st_size * share))
    return copy


@pytest.mark.parametrize("share", [0.3, 0.8, 0.999])
def test_a_file_cut_short_gives_what_is_in_it(run, bag, tmp_path, out, drive, contract, share):
    code, result = run(cut(bag, tmp_path / "cut", share), "--keep", 1000)
    assert code == harvest.DAMAGED
    found = harvested(out, contract)
    assert_same(found, drive.frames[: len(found)])
    # In SQLite whole pages are lost, in MCAP what is behind the cut.
    assert share - 0.1 <= len(found) / len(drive.frames) <= share + 0.1
    said = losses(result)
    assert any(file_of(bag).name in loss and " s in" in loss for loss in said)
    missing = len(drive.frames) - len(found)
    counted = f"/depth: {missing} of the {len(drive.frames)} messages that metadata.yaml counts"
    assert (counted in said) == (missing > 0)


def test_without_metadata_all_frames_are_read(run, bag, tmp_path, out, drive, contract):
    copy = shutil.copytree(bag, tmp_path / "copy")
    (copy / "metadata.yaml").unlink()
    code, result = run(copy, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert_same(harvested(out, contract), drive.frames)
    assert losses(result) == [
        "metadata.yaml: missing, so nobody knows how many messages there were"
    ]


@pytest.mark.parametrize("content", ["", "rosbag2_bagfile_information: 7", "{", "\x00"])
def test_metadata_that_cannot_be_used_is_like_none(run, bag, tmp_path, drive, content):
    copy = shutil.copytree(bag, tmp_path / "copy")
    (copy / "metadata.yaml").write_text(content)
    code, result = run(copy, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert len(result["written"]) == len(drive.frames)
    assert losses(result)[0].startswith("metadata.yaml: cannot be used")


@pytest.mark.parametrize("mode", ["FILE", "MESSAGE"])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_recordings_that_the_recorder_compressed(
    run, tmp_path, out, drive, contract, storage, mode
):
    bag = write_bag(tmp_path / "bag", drive.events, storage, mode=mode)
    assert run(bag, "--keep", 1000)[0] == 0
    assert_same(harvested(out, contract), drive.frames)


def killed(path, events, storage, mode, files=1):
    """Write a compressed bag whose recorder was killed before it wrote metadata.yaml."""
    path.mkdir()
    for number in range(files):
        part = events[number * len(events) // files : (number + 1) * len(events) // files]
        bag = write_bag(path.parent / f"part_{number}", part, storage, mode=mode)
        (whole,) = (file for file in bag.iterdir() if file.name != "metadata.yaml")
        whole.rename(path / whole.name.replace(f"part_{number}", f"drive_{number}"))
    return path


@pytest.mark.parametrize("mode", ["FILE", "MESSAGE"])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_compressed_recordings_of_a_killed_recorder(
    run, tmp_path, out, drive, contract, storage, mode
):
    bag = killed(tmp_path / "bag", drive.events, storage, mode, files=2)
    code, result = run(bag, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert_same(harvested(out, contract), drive.frames)
    assert losses(result) == [
        "metadata.yaml: missing, so nobody knows how many messages there were"
    ]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("suffix", [".zstd", ".zst"])
def test_one_compressed_file(run, tmp_path, out, drive, contract, storage, suffix):
    (file,) = killed(tmp_path / "bag", drive.events, storage, "FILE").iterdir()
    file = file.rename(file.with_suffix(suffix))
    code, result = run(file, "--keep", 1000)
    assert (code, losses(result)) == (0, [])
    assert_same(harvested(out, contract), drive.frames)
    assert samples.read(out / sorted(os.listdir(out))[0], contract).session == "drive_0"


def test_a_plain_file_that_was_being_compressed_counts_once(run, tmp_path, out, drive, contract):
    bag = killed(tmp_path / "bag", drive.events, "sqlite3", "NONE")
    (bag / "drive_0.db3.zstd").write_bytes(b"\x28\xb5\x2f\xfd half of it")
    code, _ = run(bag, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert_same(harvested(out, contract), drive.frames)


@pytest.mark.parametrize("content", [b"", b"no zstd", b"\x28\xb5\x2f\xfd" + bytes(100)])
def test_a_compressed_file_that_is_none_is_named(run, tmp_path, out, drive, contract, content):
    bag = killed(tmp_path / "bag", drive.events, "sqlite3", "FILE")
    (bag / "drive_1.db3.zstd").write_bytes(content)
    (bag / "drive_2.db3.gz").write_bytes(content)
    code, result = run(bag, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert_same(harvested(out, contract), drive.frames)
    for name in ("drive_1.db3.zstd", "drive_2.db3.gz"):
        assert any(loss.startswith(name) for loss in losses(result))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_wrong_with_a_file_the_command_ends_with_an_exit_code(
    run, drive, storage, tmp_path, out, data
):
    """Bytes overwritten at random, often where headers and indices are, and cut at random."""
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    file = file_of(write_bag(copy, drive.events[:60], storage))
    size = file.stat().st_size
    place = st.one_of(
        st.integers(0, 5000), st.integers(0, size - 1), st.integers(size - 5000, size)
    )
    changes = st.lists(st.tuples(place, st.binary(min_size=1, max_size=12)), max_size=8)
    with file.open("rb+") as opened:
        for position, content in data.draw(changes):
            opened.seek(position)
            opened.write(content)
        if data.draw(st.booleans()):
            opened.truncate(data.draw(place))
    code, result = run(copy, "--keep", 5)
    assert code in (0, harvest.DAMAGED, harvest.NOTHING)
    if code != harvest.NOTHING:
        assert len(samples.list_files(out)) == len(result["written"]) > 0


def test_a_recording_time_that_leaps_costs_little(run, tmp_path, out, drive):
    year_ns = 365 * 86400 * 10**9
    events = list(drive.events)
    role, at_ns, message = events[100]
    events[100] = (role, at_ns + year_ns, message)
    code, result = run(write_bag(tmp_path / "bag", events), "--keep", 1000)
    assert code == 0
    assert len(result["written"]) >= len(drive.frames) - 10
    assert result["driven_s"] < 2 * SECONDS


def test_a_single_file_is_a_recording(run, bag, out, drive):
    code, result = run(file_of(bag), "--keep", 1000)
    assert code == 0
    assert len(result["written"]) == len(drive.frames)


def test_a_missing_part_is_named_and_the_others_are_read_in_order(
    run, tmp_path, out, drive, contract
):
    whole = tmp_path / "split"
    parts = []
    for i, events in enumerate((drive.events[:150], drive.events[150:250], drive.events[250:])):
        part = file_of(write_bag(tmp_path / f"part{i}", events))
        parts.append(f"split_{i + 9}.mcap")
        whole.mkdir(exist_ok=True)
        shutil.copy(part, whole / parts[-1])
    names = "".join(f"    - {name}\n" for name in parts)
    (whole / "metadata.yaml").write_text(
        f"rosbag2_bagfile_information:\n  relative_file_paths:\n{names}"
        "  topics_with_message_count: []\n"
    )
    assert run(whole, "--keep", 1000)[0] == 0
    assert_same(harvested(out, contract), drive.frames)
    shutil.rmtree(out)
    (whole / parts[1]).unlink()
    code, result = run(whole, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert losses(result) == [f"{parts[1]}: named in metadata.yaml, but not there"]
    assert 0 < len(result["written"]) < len(drive.frames)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bad_messages_cost_only_themselves(run, tmp_path, out, drive, contract, storage):
    """Messages that do not decode, or of another type on the same topic."""
    text = TYPE["std_msgs/msg/String"]("hello")
    extra = [
        ("/depth", TOPICS["depth"][1], START_NS + 15 * TICK_NS + 1, b"\x00\x01\x00\x00garbage"),
        ("/scan", TOPICS["scan"][1], START_NS + 18 * TICK_NS + 1, b""),
        ("/odom", "std_msgs/msg/String", START_NS + 30 * TICK_NS + 1,
         bytes(STORE.serialize_cdr(text, "std_msgs/msg/String"))),
    ]  # fmt: skip
    bag = write_bag(tmp_path / "bag", drive.events, storage, extra=extra)
    code, result = run(bag, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert_same(harvested(out, contract), drive.frames)
    said = losses(result)
    assert len(said) == 3
    assert any(t.startswith("/depth: 1 of its messages, the first 0.5 s in: cannot") for t in said)
    assert any(t.startswith("/scan: 1 of its messages, the first 0.6 s in: cannot") for t in said)
    assert "/odom: 1 of its messages, the first 1.0 s in: is of type std_msgs/msg/String" in said


def compressor(name):
    if name == "zstd":
        from backports import zstd

        return "zstd", zstd.compress
    if name == "lz4":
        import lz4.frame

        return "lz4", lz4.frame.compress
    return "", bytes


def chunks_of(data):
    """Return (offset, length) of the chunk records of an MCAP file."""
    position, found = len(mcap.MAGIC), []
    while position < len(data) - 8:
        operation, length = struct.unpack_from("<BQ", data, position)
        if operation == mcap.CHUNK:
            found.append((position, length))
        position += 9 + length
    return found


@pytest.mark.parametrize("compression", ["", "zstd", "lz4"])
def test_a_damaged_chunk_costs_only_itself(run, tmp_path, out, drive, contract, compression):
    bag = write_bag(tmp_path / "bag", drive.events, compression=compressor(compression))
    file = file_of(bag)
    data = bytearray(file.read_bytes())
    if not compression:
        # With checksums, as ROS's recorder writes them.
        for start, length in chunks_of(data):
            struct.pack_into(
                "<I", data, start + 33, zlib.crc32(data[start + 49 : start + 9 + length])
            )
        file.write_bytes(data)
    assert run(bag, "--keep", 1000)[0] == 0
    assert_same(harvested(out, contract), drive.frames)
    shutil.rmtree(out)
    start, length = chunks_of(data)[3]
    middle = start + 9 + length // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    file.write_bytes(data)
    code, result = run(bag, "--keep", 1000)
    assert code == harvest.DAMAGED
    found = harvested(out, contract)
    # Its own frames, and those until scans have come three in a row again.
    assert len(drive.frames) - 25 < len(found) < len(drive.frames)
    assert max(found) == drive.frames[-1].stamp_ns
    assert any(f"byte {start} of" in loss for loss in losses(result))


def test_a_damaged_page_costs_only_its_rows(run, tmp_path, out, drive):
    bag = write_bag(tmp_path / "bag", drive.events, "sqlite3")
    file = file_of(bag)
    with contextlib.closing(sqlite3.connect(file)) as database:
        query = "SELECT pageno FROM dbstat WHERE name = 'messages' AND pagetype = 'leaf'"
        try:
            page = database.execute(query).fetchall()[9][0]
        except sqlite3.OperationalError as error:
            pytest.skip(f"this SQLite cannot tell its pages: {error}")
    with file.open("rb+") as opened:
        opened.seek((page - 1) * 4096)
        opened.write(b"\xee" * 4096)
    code, result = run(bag, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert len(drive.frames) - 10 < len(result["written"]) < len(drive.frames)
    assert any("rows before row" in loss for loss in losses(result))


def test_what_a_killed_recorder_left_in_the_log_is_read(run, tmp_path, out, drive, contract):
    """A database in which SQLite keeps all but the tables in a file beside it."""
    bag = write_bag(tmp_path / "bag", drive.events, "sqlite3")
    file = file_of(bag)
    live = sqlite3.connect(file)
    live.execute("PRAGMA journal_mode=WAL")
    live.execute("PRAGMA wal_autocheckpoint=0")
    rows = live.execute("SELECT * FROM messages WHERE id > 100").fetchall()
    live.execute("DELETE FROM messages WHERE id > 100")
    live.commit()
    live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    live.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
    live.commit()
    killed = tmp_path / "killed"
    killed.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{file}{suffix}", killed / f"{file.name}{suffix}")
    live.close()
    before = {f.name: f.read_bytes() for f in killed.iterdir()}
    code, result = run(killed, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert_same(harvested(out, contract), drive.frames)
    assert any("killed" in loss for loss in losses(result))
    after = {f.name: f.read_bytes() for f in killed.iterdir()}
    assert after == before


@pytest.mark.parametrize(
    "content", [b"", b"no recording", b"\x89MCAP0\r\n", b"SQLite format 3\x00"]
)
@pytest.mark.parametrize("suffix", reader.SUFFIXES)
def test_a_file_with_nothing_in_it_is_named_and_the_other_drives_are_harvested(
    run, bag, tmp_path, content, suffix, drive
):
    file = tmp_path / f"bad{suffix}"
    file.write_bytes(content)
    code, result = run(file)
    assert code == harvest.NOTHING
    assert str(file) in result["error"]
    code, result = run(file, bag, "--keep", 1000)
    assert code == harvest.DAMAGED
    assert len(result["written"]) == len(drive.frames)
    assert "expected recorded messages, found none" in result["bags"][0]["error"]


def test_no_recording_says_what_was_looked_for(run, bag, tmp_path, out):
    (tmp_path / "loop").symlink_to("loop")
    for path, text in (
        (tmp_path / "nothing", "found nothing there"),
        (tmp_path / "loop", "found nothing there"),
        (bag.parent, f"found bags inside it, name them: {bag.name}"),
        (bag / "metadata.yaml", "found a file of another kind"),
    ):
        code, result = run(path)
        assert code == harvest.NOTHING
        assert text in result["error"]
    assert not out.exists()


# The command


def test_a_folder_that_cannot_be_written_is_said_at_once(run, bag, out):
    out.write_text("a file")
    code, result = run(bag)
    assert code == harvest.FILES
    assert "expected a folder" in result["error"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--keep", "0"], "at least 1"),
        (["--probability", "0"], "more than 0"),
        (["--fast"], "--fast"),
        (["--no-command", "--command-topic", "drive"], "expected one of them"),
    ],
)
def test_wrong_arguments(capsys, out, arguments, text):
    with pytest.raises(SystemExit) as ended:
        harvest.main(["bag", "--out", str(out), *arguments])
    assert ended.value.code == harvest.USAGE
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("use_tf: false", "use_tf: true"), "robot.use_tf: expected false"),
        (("sample_keep: 100", "sample_keep: 0"), "sample_keep: expected at least 1"),
        (("scan_topics", "scan_topic"), "scan_topic: unknown parameter"),
    ],
)
def test_parameters_it_cannot_work_with(bag, params_file, tmp_path, out, caplog, change, text):
    file = tmp_path / "params.yaml"
    file.write_text(params_file.read_text().replace(*change))
    assert harvest.main([str(bag), "--out", str(out), "--params", str(file)]) == harvest.USAGE
    assert text in caplog.text
    assert not out.exists()


def test_the_terminal_says_what_was_done_and_lost(bag, tmp_path, out, params_file):
    command = [sys.executable, "-m", "tractor_calibration", "harvest",
               str(cut(bag, tmp_path / "cut", 0.8)), "--out", str(out),
               "--params", str(params_file)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == harvest.DAMAGED
    assert done.stderr == f"INFO: parameters: {params_file}\n"
    for text in ("scan /scan", "  lost: ", "faster than real time", "samples of", str(out)):
        assert text in done.stdout


# Over real topics


@pytest.mark.ros
@pytest.mark.slow
def test_harvested_and_live_samples_agree(
    ros_graph, run, tmp_path, out, drive, contract, actor_onnx
):
    """The nodes drive and sample by recorded sensors while a harness records what they hear."""
    from geometry_msgs.msg import Twist
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.serialization import deserialize_message, serialize_message

    def kind_of(role):
        package, _, name = TOPICS[role][1].split("/")
        return getattr(importlib.import_module(f"{package}.msg"), name)

    live = tmp_path / "live"
    ros_graph.start(
        "tractor_inference.nodes.drive_node", node="sac_actor", backend="onnx",
        model=str(actor_onnx),
        calibration_dir=str(live), sample_probability=1.0, sample_keep=1000,
        sample_retention="reservoir",
    )  # fmt: skip
    ros_graph.start("tractor_inference.nodes.cmd_guard_node")
    recorded = []
    node = ros_graph.node

    def note(role, message):
        at_ns = node.get_clock().now().nanoseconds
        recorded.append((*TOPICS[role], at_ns, serialize_message(message)))

    node.create_subscription(Twist, "cmd_vel", lambda message: note("command", message), 10)
    publishers = {
        role: node.create_publisher(kind_of(role), topic, qos_profile_sensor_data)
        for role, (topic, _) in TOPICS.items() if role != "command"
    }  # fmt: skip
    ros_graph.until(lambda: all(p.get_subscription_count() for p in publishers.values()), 60.0)
    ros_graph.until(lambda: recorded, 60.0)

    def pause(seconds, enough=lambda: False):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not enough():
            ros_graph.executor.spin_once(timeout_sec=0.002)

    for role, _, message in drive.events:
        if role == "command":
            # The answer; slower ticks would let the scan grow too old.
            there = len(recorded)
            pause(0.06, enough=lambda there=there: len(recorded) > there)
            pause(0.01)
            continue
        if role == "depth":
            # So that the nodes have heard the rest before, in whichever order they look.
            pause(0.02)
        data = bytes(STORE.serialize_cdr(message, TOPICS[role][1]))
        sent = deserialize_message(data, kind_of(role))
        sent.header.stamp = node.get_clock().now().to_msg()
        note(role, sent)
        publishers[role].publish(sent)
    pause(0.5)
    for process in ros_graph.processes:
        process.stop()
    bag = write_bag(tmp_path / "bag", [], extra=recorded)
    assert run(bag, "--keep", 1000)[0] == 0
    found, expected = harvested(out, contract), harvested(live, contract)
    assert len(expected) > 0.5 * len(drive.frames)
    assert {*expected} <= {*found}
    for stamp_ns, sample in expected.items():
        assert np.array_equal(found[stamp_ns].bev, sample.bev)
        assert np.array_equal(found[stamp_ns].proprio, sample.proprio)
    assert len({tuple(sample.proprio[1:3]) for sample in expected.values()}) > 20
