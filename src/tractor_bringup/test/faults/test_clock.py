"""What /clock can do wrong under use_sim_time: stamps follow it, ages must not."""

import pytest

from faults.report import chosen
from faults.rig import AGE_S, RESUME_S, SCAN_PERIOD_S, STOP_S, Fault, Rig

pytestmark = [pytest.mark.ros, pytest.mark.slow]

KIND = "Clock"


class Clock:
    """Publishes /clock at 250 Hz: the machine's time and an offset, or always the same."""

    def __init__(self, rig):
        from rclpy.qos import qos_profile_sensor_data
        from rosgraph_msgs.msg import Clock

        self.rig, self.message = rig, Clock()
        self.publisher = rig.node.create_publisher(Clock, "/clock", qos_profile_sensor_data)
        self.offset_s, self.held_ns = 0.0, 0

    def now_ns(self):
        system_ns = self.rig.node.get_clock().now().nanoseconds
        return self.held_ns or system_ns + int(self.offset_s * 1e9)

    def __call__(self):
        now_ns = self.now_ns()
        self.message.clock.sec, self.message.clock.nanosec = divmod(now_ns, 10**9)
        self.publisher.publish(self.message)
        # The drivers stamp by the same clock.
        self.rig.sensors.held_ns = now_ns


def jump(seconds):
    def inject(rig):
        rig.every.offset_s += seconds

    return inject


def stop(rig):
    rig.every.held_ns = rig.every.now_ns()


def go_on(rig):
    rig.every.offset_s -= (rig.every.now_ns() - rig.every.held_ns) * 1e-9
    rig.every.held_ns = 0


# What is behind is refused until what was before it is stale; then three in a row count.
BACK = "zero while the stamps are behind, at most until the inputs before are stale"
BACK_S = AGE_S + RESUME_S
FAULTS = [
    Fault("jumps 10 s ahead", "drives on, or again within 0.6 s", jump(10.0), stops=None,
          watched_s=3.0, resume_s=0.6),
    Fault("jumps 10 s back", BACK, jump(-10.0), stops=None, watched_s=3.0, resume_s=BACK_S),
    Fault("jumps 0.2 s back", BACK, jump(-0.2), stops=None, watched_s=3.0, resume_s=BACK_S),
    # The next scan has a stamp of its own yet.
    Fault("stands still", "zero, named", stop, heal=go_on, says="scan ", watched_s=3.0,
          bound_s=STOP_S + SCAN_PERIOD_S, short=True),
]  # fmt: skip


@pytest.fixture(scope="module")
def rig(shared_ros_graph):
    nodes = ("bev_builder", "sac_actor", "cmd_guard")
    rig = Rig(shared_ros_graph, nodes, **{name: {"use_sim_time": True} for name in nodes})
    rig.every = Clock(rig)
    yield rig
    rig.end()


@pytest.mark.parametrize("fault", chosen(FAULTS), ids=lambda fault: fault.name)
def test_row(rig, report, fault):
    report.measure(KIND, fault, rig.suffer)
