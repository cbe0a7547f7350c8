"""What the sensors, the odometry and others on the topics can do wrong."""

import copy
import math
import time

import numpy as np
import pytest
import test_nodes as nodes

from faults.report import chosen
from faults.rig import AGE_S, PERIOD_S, SCAN_PERIOD_S, STOP_S, Fault
from tractor_inference.guard.senders import SILENT_S

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "Sensors and odometry"
STUCK_S = 5.0


def of_sensors(change):
    """Inject a change of the sensors."""

    def inject(rig):
        with rig.lock:
            change(rig.sensors)

    return inject


def of_odometry(change):
    """Inject a change of the odometry, which then no longer follows the base."""

    def inject(rig):
        with rig.lock:
            rig.follows = False
            change(rig.sensors.odom)

    return inject


def without(*names):
    return of_sensors(lambda sensors: sensors.muted.update(names))


def ranges(pick):
    """Inject a change of the scan's ranges, an array (360,) m."""

    def change(sensors):
        values = np.array(sensors.scan.ranges, np.float32)
        pick(values)
        sensors.scan.ranges = values.tolist()

    return of_sensors(change)


def all_ranges(value):
    return ranges(lambda values: values.fill(value))


def every_second_nan(values):
    values[1::2] = math.nan


def ahead_nan(values):
    values[120:240] = math.nan


def scan_field(**fields):
    def change(sensors):
        for name, value in fields.items():
            setattr(sensors.scan, name, value)

    return of_sensors(change)


def frame_id(topic):
    def change(sensors):
        getattr(sensors, topic).header.frame_id = "another"

    return of_sensors(change)


def offset(seconds):
    return of_sensors(lambda sensors: setattr(sensors, "offset_s", seconds))


def depth(**fields):
    def change(sensors):
        for name, value in fields.items():
            setattr(sensors.depth, name, value)

    return of_sensors(change)


def saturated(sensors):
    sensors.depth.data = np.full((48, 64), 65535, np.uint16).tobytes()


def covered_and_saturated(sensors):
    nodes.covered_scan(sensors)
    saturated(sensors)


def half_the_beams(sensors):
    sensors.scan.ranges = sensors.scan.ranges[::2]
    sensors.scan.angle_increment *= 2.0


def big_endian(sensors):
    pixels = np.frombuffer(bytes(sensors.depth.data), "<u2").astype(">u2")
    sensors.depth.is_bigendian, sensors.depth.data = 1, pixels.tobytes()


def camera_matrix(fx):
    def change(sensors):
        sensors.camera_info.k[0] = fx

    return of_sensors(change)


def speed(value):
    return of_odometry(lambda odom: setattr(odom.twist.twist.linear, "x", value))


def still(odom):
    odom.twist.twist.linear.x = odom.twist.twist.angular.z = 0.0


def nan_pose(odom):
    odom.pose.pose.position.x = odom.pose.pose.orientation.z = math.nan


def second_source(rig):
    rig.command(True)


def stranger(stamped=False, best_effort=False):
    """Inject a publisher on cmd_vel_raw that says nothing, of another type or quality."""

    def inject(rig):
        from geometry_msgs.msg import Twist, TwistStamped
        from rclpy.qos import QoSProfile, qos_profile_sensor_data

        kind = TwistStamped if stamped else Twist
        qos = qos_profile_sensor_data if best_effort else QoSProfile(depth=1)
        rig.stranger = rig.node.create_publisher(kind, "cmd_vel_raw", qos)

    return inject


def slow_and_late(sensors):
    """Let the scan be as old as a driver that stamps the first beam lets it be, and still fresh."""
    sensors.seldom["scan"], sensors.behind_s["scan"] = 0.15, 0.11
    sensors.send_at("scan", time.monotonic() + 0.12)  # no stamp goes back


def another_lidar(rig):
    """Let another LiDAR send on the same topic, behind each scan."""
    rig.sent_s = 0.0

    def send():
        if time.monotonic() < rig.sent_s + SCAN_PERIOD_S / 3:
            return
        rig.sent_s = time.monotonic()
        scan = copy.deepcopy(rig.sensors.scan)
        scan.header.frame_id = "another"
        rig.sensors.publishers["scan"].publish(scan)

    with rig.lock:
        rig.every = send


def alone(rig):
    with rig.lock:
        rig.every = lambda: None


def gone(rig):
    rig.node.destroy_publisher(rig.stranger)


def dead_scan_and_second_source(rig):
    without("scan")(rig)
    second_source(rig)


ZERO = "zero, named"
# The first scan that is late is the one after the next.
LATE_S = SCAN_PERIOD_S + 1 / 30 + STOP_S
NAMED_ONLY = "an error in /diagnostics, drives on"
RIVAL = f"{ZERO}; until the other was silent for {SILENT_S:g} s"
RIVAL_S = SILENT_S + 2 * PERIOD_S
FAULTS = [
    Fault("scan ends", ZERO, without("scan"), says="scan ", short=True),
    Fault("depth ends", ZERO, without("depth"), says="bev ", short=True),
    Fault("odometry ends", ZERO, without("odom"), says="odom ", short=True),
    Fault("all sensors end", ZERO, without("scan", "depth", "camera_info", "odom"), says="scan "),
    Fault("camera_info ends", "drives on with the last one", without("camera_info"), stops=False),
    Fault("scan at 1 Hz", ZERO + ", no jerks", of_sensors(nodes.seldom), says="scan ",
          bound_s=LATE_S, watched_s=4.0, short=True),
    Fault("scan at 6 Hz, sent 0.11 s after its stamp", "drives on", of_sensors(slow_and_late),
          stops=False, watched_s=5.0),
    Fault("another LiDAR sends on the same topic", "refused by its frame_id, drives on",
          another_lidar, alone, stops=False, watched_s=8.0, short=True),
    Fault("scan all NaN", ZERO, of_sensors(nodes.dead_scan), says="found none in 360 beams"),
    Fault("scan all zero", ZERO, all_ranges(0.0), says="found none in 360 beams"),
    Fault("LiDAR covered: every beam 0.1 m", ZERO, of_sensors(nodes.covered_scan),
          says="360 on the rover itself", short=True),
    Fault("scan all +Inf", ZERO, all_ranges(math.inf), says="to meet something"),
    Fault("every second beam NaN", "drives on: no hole is wide", ranges(every_second_nan),
          stops=False),
    Fault("the 120 beams ahead NaN", ZERO, ranges(ahead_nan), says="the scan has a hole"),
    Fault("camera covered: depth 90 mm", ZERO, of_sensors(nodes.covered_camera),
          says="nearer than depth_min_m"),
    Fault("depth all zero", ZERO, of_sensors(nodes.empty_depth), says="valid pixels"),
    Fault("depth saturated: 65535 mm", ZERO, of_sensors(saturated), says="depth: expected"),
    Fault("LiDAR covered and depth saturated", ZERO, of_sensors(covered_and_saturated),
          says="360 on the rover itself", short=True),
    Fault("same stamp again", ZERO, of_sensors(nodes.one_stamp), says="expected a stamp at most"),
    Fault("stamps 5 s ahead", ZERO, offset(5.0), says="ahead"),
    Fault("stamps 5 s old", ZERO, offset(-5.0), says="old", short=True),
    Fault("stamps 0.2 s backwards, once", "drives on, or zero for the time that they are behind",
          offset(-0.2), resume_s=1.2),
    Fault("same content under new stamps", ZERO, of_sensors(nodes.frozen), says="the same"),
    Fault("same image under new stamps", f"zero after {2 * AGE_S:g} s, named",
          of_sensors(nodes.frozen_image), bound_s=AGE_S + STOP_S, says="bev "),
    Fault("odometry 100 m/s", ZERO, speed(100.0), says="expected a twist of at most", short=True),
    Fault("odometry NaN", ZERO, speed(math.nan), says="expected a twist"),
    Fault("odometry's pose NaN, frozen", ZERO, of_odometry(nan_pose),
          says="expected a finite pose"),
    Fault("odometry still while commanded",
          f"zero after stuck_stop_s = {STUCK_S:g} s, until ~/release", of_odometry(still),
          bound_s=STUCK_S + 2 * AGE_S + PERIOD_S, released=True, says="stuck", short=True),
    Fault("wrong child_frame_id", ZERO, of_sensors(nodes.of_the_camera),
          says="expected child_frame_id base_link"),
    Fault("another frame_id in scan", ZERO, frame_id("scan"), says="found 'another'"),
    Fault("another frame_id in depth", ZERO, frame_id("depth"), says="found 'another'"),
    Fault("no frame_id in scan", ZERO,
          of_sensors(lambda sensors: setattr(sensors.scan.header, "frame_id", "")),
          says="expected a frame_id"),
    Fault("camera_info fx = 1e-30", ZERO, camera_matrix(1e-30), says="fx"),
    Fault("camera_info fx = NaN", ZERO, camera_matrix(math.nan), says="camera_info"),
    Fault("camera_info of another size", ZERO, of_sensors(nodes.wrong_size), says="camera_info"),
    Fault("camera_info with distortion", ZERO, of_sensors(nodes.distorted_image),
          says="found distortion"),
    Fault("depth of 10 bytes", ZERO, of_sensors(nodes.corrupt_depth), says="10 bytes of data"),
    Fault("depth in another encoding", ZERO, depth(encoding="rgb8"), says="encoding"),
    Fault("depth with a wrong step", ZERO, depth(step=7), says="step"),
    Fault("depth big-endian", "converted, drives on", of_sensors(big_endian), stops=False),
    Fault("half the beams, twice as far apart", "drives on in the same frame",
          of_sensors(half_the_beams), stops=False),
    Fault("angle_increment NaN", ZERO, scan_field(angle_increment=math.nan),
          says="angle_increment"),
    Fault("angle_increment 0", ZERO, scan_field(angle_increment=0.0), says="angle_increment"),
    Fault("scan in millimetres", ZERO, ranges(lambda values: values.__imul__(1000.0)),
          says="expected ranges in metres"),
    Fault("a second source of commands", RIVAL, second_source, says="2 publishers send commands",
          resume_s=RIVAL_S),
    Fault("a publisher of TwistStamped on cmd_vel_raw", NAMED_ONLY, stranger(stamped=True), gone,
          says="carries geometry_msgs/msg/Twist and", stops=False),
    Fault("a silent best-effort publisher on cmd_vel_raw", NAMED_ONLY, stranger(best_effort=True),
          gone, says="is offered best effort but requested reliable", stops=False),
    Fault("scan ends, a second source commands full speed", RIVAL, dead_scan_and_second_source,
          says="scan ", resume_s=RIVAL_S, short=True),
]  # fmt: skip


@pytest.mark.parametrize("fault", chosen(FAULTS), ids=lambda fault: fault.name)
def test_row(rig, report, fault):
    report.measure(KIND, fault, rig.suffer)
