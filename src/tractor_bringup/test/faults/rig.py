"""A rover on a stand: the real nodes, sensors that can be made to fail, a base, and who listens."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from test_nodes import ACTOR, BUILDER, GUARD, Sensors

from tractor_bringup.process import stop_all

DRIVE = "tractor_inference.nodes.drive_node"
MODULES = {"bev_builder": BUILDER, "sac_actor": ACTOR, "cmd_guard": GUARD, "drive": DRIVE}
# Of the parameter file: max_input_age_s, and T, the watchdog's and the guard's period.
AGE_S, PERIOD_S = 0.30, 0.05
STOP_S, RESUME_S = AGE_S + PERIOD_S, 0.60
# A LiDAR of 10 Hz, sent by a source that ticks thirty times a second.
SCAN_PERIOD_S = 0.09
# How often it is looked whether a message is due.
TICK_S = 0.004
WATCHED_S = 1.5
FULL_SPEED_M_S = 0.18
# Of the commands that may be zero where none should, in the short form, and on a loaded machine.
SHORT_SHARE, LOADED_SHARE = 0.05, 0.5
START_LIMIT_S, LIMIT_S = 30.0, 10.0


class Command(NamedTuple):
    """A command that reached the base, and when, s on the steady clock."""

    at_s: float
    linear: float
    angular: float

    @property
    def moves(self) -> bool:
        return bool(self.linear or self.angular)


@dataclasses.dataclass(frozen=True)
class Fault:
    """A row: what is done, and what must follow.

    Args:
        name, behaviour: in words, for docs/faults.md.
        inject: does it.
        heal: ends it, beside the sensors, which are always made whole again.
        stops: whether the rover must stand within `bound_s`, until the fault is over; False: it
            must never stand; None: it may, once, and drives for good within `resume_s`.
        most_zeros: with `stops` False, how many of 100 commands may be zero all the same.
        released: whether it must go on standing then, until ~/release is called.
        says: must be in what a node says in /diagnostics meanwhile.
        watched_s: for how long it lasts.
        resume_s: within which it must drive again; None where that is only measured.
        ends: the node whose process may end.
        repeats: at most.
        short: part of the short form.
    """

    name: str
    behaviour: str
    inject: Callable[[Rig], Any] = lambda rig: None
    heal: Callable[[Rig], Any] = lambda rig: None
    stops: bool | None = True
    most_zeros: int = 0
    bound_s: float = STOP_S
    released: bool = False
    says: str = ""
    watched_s: float = WATCHED_S
    resume_s: float | None = RESUME_S
    ends: str = ""
    repeats: int = 100
    short: bool = False


@dataclasses.dataclass
class Measured:
    """What one repetition gave.

    Attributes:
        stop_s: from the fault to the first zero; None when none came.
        held: share of zeros from then on until the fault was over.
        resume_s: from its end to the first command that moves; None when none came.
        zeros, of: commands that stop, where none should, of so many.
        wrong: what else is not as the row asks for, in words.
        note: what else was measured, in words.
    """

    stop_s: float | None = None
    held: float | None = None
    resume_s: float | None = None
    zeros: int = 0
    of: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)
    note: str = ""

    def misses(self, fault: Fault, margin_s: float = 0.0) -> list[str]:
        """Return how this is not what the fault's row asks for.

        Args:
            margin_s: that it may be late, in the short form; on a loaded machine it may stand for
                half of the time then.
        """
        found = [*self.wrong]
        if fault.stops:
            if self.stop_s is None:
                found.append("never stopped")
            elif self.stop_s > fault.bound_s + margin_s:
                found.append(f"stopped after {self.stop_s:.2f} s")
            if self.held is not None and self.held < 1.0:
                found.append(f"held {self.held:.1%} only")
        elif fault.stops is False:
            loaded = os.getloadavg()[0] > (os.cpu_count() or 1)
            least = (LOADED_SHARE if loaded else SHORT_SHARE) if margin_s else 0.0
            share = max(fault.most_zeros / 100, least)
            if not self.of:
                found.append("no command came")
            elif self.zeros > share * self.of:
                found.append(f"{self.zeros} of {self.of} commands were zero")
        if self.resume_s is None:
            found.append("did not drive again")
        elif fault.resume_s is not None and self.resume_s > fault.resume_s + margin_s:
            found.append(f"drove again after {self.resume_s:.2f} s")
        return found


class Rig:
    """Starts the nodes, sends them the sensors' messages from a thread, and notes what follows.

    Args:
        graph: RosGraph.
        settings: parameters of nodes, {node: {name: value}}.
        names: of the nodes, see MODULES.
        blind: command full speed ahead in the actor's place.

    Attributes:
        sensors: whose messages are sent.
        lock: held while they are sent, and while they change.
        follows: the base does what it is told, and the odometry says so.
        commands: all that reached the base.
        said: (node, text) of /diagnostics.
    """

    def __init__(
        self,
        graph: Any,
        names: tuple[str, ...] = ("bev_builder", "sac_actor", "cmd_guard"),
        blind: bool = False,
        **settings: dict[str, Any],
    ) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import Twist

        self.graph, self.node = graph, graph.node
        self.settings, self.modules = settings, dict(MODULES)
        self.names = names
        self.processes: dict[str, Any] = {}
        self.sensors = Sensors(graph)
        self.follows = True
        self.commands: list[Command] = []
        self.said: list[tuple[str, str]] = []
        self.every: Callable[[], Any] = lambda: None  # called in the thread that sends
        self._blind = blind
        self._commander: Any = None
        self._command_s = 0.0
        self._pose = [0.0, 0.0, 0.0]
        self._moved_s = time.monotonic()
        self.lock = threading.RLock()
        self._ending = threading.Event()
        self.node.create_subscription(Twist, "cmd_vel", self._on_command, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.heal()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    # The nodes

    def start(self, *names: str) -> None:
        """Start nodes, all when none is named; one that runs is left alone."""
        for name in names or self.names:
            running = self.processes.get(name)
            if running is None or running.process.poll() is not None:
                node = "sac_actor" if name == "drive" else name
                settings = dict(self.settings.get(node, {}))
                if node == "sac_actor":
                    settings.setdefault("backend", "fake")
                    settings.setdefault("calibration_dir", str(self.graph.folder / "samples"))
                self.processes[name] = self.graph.start(self.modules[name], node, **settings)

    def restart(self, name: str) -> None:
        """Ask a node to end and start it anew, while listening."""
        process = self.processes[name].process
        process.send_signal(signal.SIGINT)
        self.wait(lambda: process.poll() is not None)
        self.start(name)

    def end(self) -> None:
        """End nodes and sensors."""
        killed = stop_all(self.processes.values())
        self._ending.set()
        self._thread.join()
        assert not killed, "\n".join(process.tail() for process in killed)

    # What is sent

    def heal(self) -> None:
        """Let the sensors and the base be whole."""
        with self.lock:
            self.sensors.heal()
            self.sensors.seldom = {"scan": SCAN_PERIOD_S}
            self.follows = True
            self.command(self._blind)

    def command(self, full_speed: bool) -> None:
        """Be a source of full-speed commands on cmd_vel_raw, thirty times a second, or none."""
        from geometry_msgs.msg import Twist

        with self.lock:
            if full_speed and self._commander is None:
                self._commander = self.node.create_publisher(Twist, "cmd_vel_raw", 1)
            elif not full_speed and self._commander is not None:
                self.node.destroy_publisher(self._commander)
                self._commander = None

    def inject(self, fault: Fault) -> float:
        """Let a fault begin; return when, s on the steady clock."""
        at_s = time.monotonic()
        fault.inject(self)
        return at_s

    def _send(self) -> None:
        while not self._ending.wait(TICK_S):
            with self.lock:
                self._move_base()
                self.sensors()
                self._send_command()
                self.every()

    def _send_command(self) -> None:
        from geometry_msgs.msg import Twist

        now_s = time.monotonic()
        if self._commander is None or now_s < self._command_s:
            return
        self._command_s = now_s + 1 / 30
        command = Twist()
        command.linear.x = FULL_SPEED_M_S
        self._commander.publish(command)

    def _move_base(self) -> None:
        now_s = time.monotonic()
        step_s, self._moved_s = now_s - self._moved_s, now_s
        if not self.follows:
            return
        told = self.commands[-1] if self.commands else Command(0.0, 0.0, 0.0)
        x, y, yaw = self._pose
        yaw += told.angular * step_s
        x, y = x + told.linear * step_s * math.cos(yaw), y + told.linear * step_s * math.sin(yaw)
        self._pose = [x, y, yaw]
        odom = self.sensors.odom
        odom.twist.twist.linear.x, odom.twist.twist.angular.z = told.linear, told.angular
        pose = odom.pose.pose
        pose.position.x, pose.position.y = x, y
        pose.orientation.z, pose.orientation.w = math.sin(yaw / 2), math.cos(yaw / 2)

    # What follows

    def _on_command(self, message: Any) -> None:
        self.commands.append(Command(time.monotonic(), message.linear.x, message.angular.z))

    def _on_diagnostics(self, message: Any) -> None:
        self.said += ((status.name, status.message) for status in message.status)

    def since(self, at_s: float) -> list[Command]:
        """Return the commands that came after a time."""
        return [command for command in self.commands if command.at_s >= at_s]

    def wait(self, condition: Callable[[], Any], limit_s: float = LIMIT_S) -> bool:
        """Listen until it holds; False when it does not within the time."""
        end_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end_s:
                return False
            self.graph.executor.spin_once(timeout_sec=0.01)
        return True

    def listen(self, seconds: float) -> None:
        """Listen for so long."""
        end_s = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() > end_s, seconds + 1.0)

    def call(self, kind: type, name: str, request: Any = None) -> Any:
        """Call a service."""
        return self.graph.call(kind, name, request)

    def release(self) -> str:
        """Call ~/release of the guard; return what it says."""
        from std_srvs.srv import Trigger

        return self.call(Trigger, "/cmd_guard/release").message

    def drives(self, limit_s: float = START_LIMIT_S) -> bool:
        """Wait until it has driven for a second without a zero."""
        now_s = time.monotonic()

        def steady() -> bool:
            recent = self.since(max(now_s, time.monotonic() - 1.0))
            return (
                time.monotonic() - now_s > 1.0
                and len(recent) > 10
                and all(command.moves for command in recent)
            )

        return self.wait(steady, limit_s)

    def ready(self) -> None:
        """Make everything whole, and wait until it drives.

        Raises:
            AssertionError: it does not; shows what the nodes said.
        """
        self.heal()
        self.start()
        if not self.drives(LIMIT_S):
            self.release()
            logs = "\n".join(process.tail() for process in self.processes.values())
            assert self.drives(), f"it does not drive: {dict(self.said)}\n{logs}"
        self.said.clear()

    def suffer(self, fault: Fault) -> Measured:
        """Let the fault happen once, while it drives, and measure what follows."""
        self.ready()
        at_s = self.inject(fault)
        if fault.stops is None:
            return self._settling(fault, at_s)
        measured = self._stopping(fault, at_s) if fault.stops else self._going_on(fault, at_s)
        if not self.says_so(fault):
            measured.wrong.append(f"did not say {fault.says!r}")
        measured.wrong += (
            f"{name} ended with {process.process.returncode}"
            for name, process in self.processes.items()
            if process.process.poll() is not None and name != fault.ends
        )
        self.resume(fault, measured)
        return measured

    def count(self, measured: Measured, at_s: float) -> None:
        """Note how many commands since then were zero, and of how many."""
        commands = self.since(at_s)
        measured.zeros = sum(not command.moves for command in commands)
        measured.of = len(commands)

    def resume(self, fault: Fault, measured: Measured) -> None:
        """End the fault and measure when it drives again."""
        self.heal()
        fault.heal(self)
        healed_s = time.monotonic()
        if fault.released:
            self.listen(WATCHED_S)
            if any(command.moves for command in self.since(healed_s)):
                measured.wrong.append("did not wait for ~/release")
            self.release()
            healed_s = time.monotonic()
        if self.wait(lambda: any(c.moves for c in self.since(healed_s)), START_LIMIT_S):
            measured.resume_s = next(c.at_s for c in self.since(healed_s) if c.moves) - healed_s

    def _stopping(self, fault: Fault, at_s: float) -> Measured:
        stopped = self.wait(
            lambda: any(not c.moves for c in self.since(at_s)), fault.bound_s + WATCHED_S
        )
        self.listen(max(fault.watched_s, WATCHED_S))
        if not stopped:
            return Measured()
        first_s = next(command.at_s for command in self.since(at_s) if not command.moves)
        held = self.since(first_s)
        share = sum(not command.moves for command in held) / len(held)
        return Measured(stop_s=first_s - at_s, held=share)

    def _going_on(self, fault: Fault, at_s: float) -> Measured:
        self.listen(fault.watched_s)
        commands = self.since(at_s)
        zeros = sum(not command.moves for command in commands)
        stops = sum(a.moves and not b.moves for a, b in itertools.pairwise(commands))
        note = f"{stops} stops, the last by {dict(self.said).get('cmd_guard')!r}" if zeros else ""
        note = f"of {len(commands)}; {note}".rstrip("; ")
        return Measured(zeros=zeros, of=len(commands), note=note)

    def _settling(self, fault: Fault, at_s: float) -> Measured:
        self.listen(fault.watched_s)
        zeros = [command.at_s for command in self.since(at_s) if not command.moves]
        goes_on = self.commands[-1].moves
        again_s = max(zeros, default=at_s) - at_s
        return Measured(resume_s=again_s if goes_on else None, zeros=len(zeros))

    def says_so(self, fault: Fault, who: str = "") -> bool:
        """Return whether a node, or any, says in /diagnostics what the row asks for, or will."""
        return self.wait(
            lambda: any(fault.says in text and who in (name, "") for name, text in self.said), 3.0
        )
