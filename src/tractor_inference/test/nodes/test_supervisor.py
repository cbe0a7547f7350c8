"""What systemd hears of the nodes over its socket, by which it starts the rover anew."""

import signal
import socket

import pytest
from test_nodes import BUILDER, GUARD, diagnostics_of, last_message

from tractor_inference.nodes.base.supervisor import Supervisor

# Longer than the second between two messages, and than a busy machine delays one.
SILENCE_S = 4.0


@pytest.fixture
def systemd(monkeypatch, tmp_path):
    """The socket that systemd would hold."""
    name = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        held.bind(name)
        held.settimeout(20.0)
        yield held


def heard(systemd):
    return systemd.recv(4096).decode().split("\n")


@pytest.mark.ros
def test_the_guard_says_that_it_is_ready_and_works_until_it_hangs(ros_graph, systemd):
    guard = ros_graph.start(GUARD).process
    first = heard(systemd)
    assert first[:2] == ["READY=1", "WATCHDOG=1"]
    assert first[2].startswith("STATUS=stopped: ")
    for _ in range(3):
        assert heard(systemd)[0] == "WATCHDOG=1"
    guard.send_signal(signal.SIGSTOP)
    systemd.settimeout(SILENCE_S)
    with pytest.raises(TimeoutError):
        # What was sent before is still in the socket.
        for _ in range(3):
            heard(systemd)
    guard.send_signal(signal.SIGCONT)
    assert heard(systemd)[0] == "WATCHDOG=1"


@pytest.mark.ros
def test_no_other_node_speaks_for_the_guard(ros_graph, systemd):
    diagnostics = diagnostics_of(ros_graph)
    ros_graph.start(BUILDER)
    ros_graph.until(lambda: last_message(diagnostics, "bev_builder"))
    count = len(diagnostics)
    ros_graph.until(lambda: len(diagnostics) > count + 2)
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        heard(systemd)


def test_a_supervisor_that_does_not_listen_delays_nothing(systemd):
    supervisor = Supervisor()
    for _ in range(10_000):
        supervisor.alive("ok")
    assert heard(systemd) == ["READY=1", "WATCHDOG=1", "STATUS=ok"]


def test_a_socket_that_is_in_no_file_system_is_reached(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        held.bind(f"\0{tmp_path}")
        Supervisor().alive("ok")
        assert heard(held)[0] == "READY=1"


def test_a_status_is_one_line(systemd):
    Supervisor().alive("ok\nWATCHDOG=trigger")
    assert heard(systemd)[1:] == ["WATCHDOG=1", "STATUS=ok\\nWATCHDOG=trigger"]


def test_ready_is_said_again_where_it_was_not_heard(systemd, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nobody/listens")
    supervisor = Supervisor()
    supervisor.alive("ok")
    supervisor._address = systemd.getsockname()
    supervisor.alive("ok")
    assert heard(systemd)[0] == "READY=1"
