"""sac_actor: grid, scan and odometry become a command; frames are sampled on the way.

The executor thread infers when a grid arrives. A watchdog thread on the steady clock publishes
zero, and names the reason, whenever an input is missing or stale or the inference does not answer,
so a blocked inference cannot keep an old command alive: after inference_exit_s it ends the process
with exit code 70, for a supervisor to start it anew.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, LaserScan
from std_msgs.msg import String
from std_srvs.srv import Trigger

from tractor_core import messages
from tractor_core.background import Worker, in_background
from tractor_core.kinematics import STOP, Velocity, action_to_velocity
from tractor_core.observation import Observation, Proprioception

from ..actor_parameters import ActorParameters
from ..model import opener
from ..model.exploration import Explorer
from ..model.hung import HungNote
from ..model.policy import Decision, Policy
from ..model.slot import ModelSlot
from ..recording.episodes import SAID
from ..recording.folders import rover_folder
from ..recording.recorder import Recorder
from .base.commands import COMMAND_QOS, DELIVERY_LIMIT, DRIVER_QOS, command_message, command_type
from .base.node import ManagedNode
from .base.polled import Delivery
from .base.python_log import log_as
from .base.run import ENDING, run
from .base.services import trigger
from .base.timings import Timings
from .base.usage import usage
from .watchdog import Watchdog, wait_for_model

NOT_ACTIVE = "not active"
# Two minutes at 25 Hz.
LATENCIES_KEPT = 3000
# A model is taken after one to two of these: what is still being written is not.
WATCH_PERIOD_S = 1.0


class SacActorNode(ManagedNode):
    """Drives while every input is fresh; stops, and says why, when one is not.

    Args:
        direct: the grids come by calls of `take_grid`, not by the topic.
    """

    def __init__(self, direct: bool = False) -> None:
        super().__init__("sac_actor", ActorParameters, required=("bev", "scan", "odom"))
        self._direct = direct
        own: ActorParameters = self.parameters
        log, folder = self.get_logger(), rover_folder(own.calibration_dir, self.get_namespace())
        self._say = partial(log_as, self)
        self._slot = ModelSlot(self.contract, self.robot, own, HungNote(folder, log), log)
        self._looking = Worker("model watch", self._watch_model)
        self._recorder = Recorder(self.contract)
        self._explorer = Explorer(own, own.seed)
        self._latency = Timings("latency", LATENCIES_KEPT, digits=2)
        self._proprio = Proprioception(self.contract, self.robot)
        self._stop_reason: str | None = NOT_ACTIVE
        self._watchdog = Watchdog(own, self._problem, self._stop, self._slot.note_hung, self._say)
        # Held while publishing: a command and the watchdog's zero never overtake each other.
        self._publish_lock = threading.Lock()
        self.serve(Trigger, "calibration/snapshot", trigger(self, self._snapshot))
        self.serve(Trigger, "~/reload_model", trigger(self, self._reload))

    # Life cycle

    def prepare(self) -> Policy:
        """Open and warm up the model."""
        work = in_background(self._slot.open_first)
        return wait_for_model(work, opener.OPEN_LIMIT_S, ENDING, self._say)

    def set_up(self, policy: Policy) -> None:
        """Start the sampler, create the interfaces."""
        own: ActorParameters = self.parameters
        self._slot.install(policy)
        self._recorder.open(own, self.get_namespace())
        kind = command_type(own.enable_stamped_cmd_vel)
        self._publisher = self.advertise(kind, "cmd_vel_raw", COMMAND_QOS)
        self.others.subscribe(Odometry, "odom", self._on_odom)
        self.others.subscribe(LaserScan, "scan", self._on_scan)
        self._executed_s = -math.inf
        self._pose, self._driver = (0.0, 0.0, 0.0), "policy"
        self.others.subscribe(kind, "cmd_vel", self._on_executed)
        self.subscribe(String, "cmd_guard/driver", self._on_driver, DRIVER_QOS)
        if not self._direct:
            self.subscribe(Image, "bev", self._on_bev)
        if own.watch_model:
            self._looking.start()

    def release(self) -> None:
        """Close the model and write queued samples."""
        self._looking.stop()
        self._recorder.close()
        self._slot.empty()

    def on_parameters(self, updated: ActorParameters) -> None:
        """Sample and explore as the changed parameters say from the next frame on."""
        self._recorder.adjust(updated)
        self._explorer.adjust(updated)

    def on_extrinsics(self) -> None:
        """See the next scans with the new extrinsics."""
        self._proprio.set_extrinsics(self.inputs.robot)

    def on_activate(self, state: Any) -> Any:
        """Drive, watched."""
        result = super().on_activate(state)
        self._watchdog.start()
        return result

    def halt(self) -> None:
        """Stop driving with a last zero."""
        if not self.active:
            return
        self._watchdog.end()
        self._stop(NOT_ACTIVE)
        self._publisher.wait_for_all_acked(DELIVERY_LIMIT)
        super().halt()

    # Inputs

    def _on_odom(self, message: Odometry, delivery: Delivery) -> None:
        waited_s = delivery.waited_s
        twist = self.inputs.receive("odom", self.inputs.to_twist, message, waited_s=waited_s)
        if twist is not None:
            self._proprio.take_twist(*twist)
            self._pose = messages.planar_pose(message.pose.pose)

    def _on_scan(self, message: LaserScan, delivery: Delivery) -> None:
        scan = self.inputs.receive(
            "scan", self.inputs.to_scan, message, "lidar_pose", delivery.waited_s
        )
        if scan is not None:
            self._proprio.take_scan(scan)

    def _on_executed(self, message: Any, delivery: Delivery) -> None:
        """Note what the base was told, whoever it came from."""
        self._proprio.executed(messages.velocity_from_command(message))
        self._executed_s = time.monotonic() - delivery.waited_s

    def _on_driver(self, message: String) -> None:
        """Note who gives what the base is told from now on, or why it stands."""
        if message.data in SAID:
            self._driver = message.data
        else:
            self.warn("driver", f"cmd_guard/driver: expected one of {SAID}, found another")

    def _on_bev(self, message: Image) -> None:
        if not self.active:
            return
        bev = self.inputs.receive("bev", self.inputs.to_bev, message)
        if bev is not None:
            self._act(bev, message.header.stamp)

    def _problem(self, now_s: float) -> str | None:
        """Return why the rover must stand still, or None."""
        return self._slot.problem or self.inputs.problem(now_s)

    def take_grid(self, grid: np.ndarray, stamp: Any) -> None:
        """Drive by a grid of the builder in this process, (2, cells, cells) float32.

        Its memory is the builder's: what is kept is copied.
        """
        if self.active and self.inputs.accept("bev", messages.BASE_FRAME, messages.stamp_ns(stamp)):
            self._act(grid.copy(order="K"), stamp)

    # Driving

    def _act(self, bev: np.ndarray, stamp: Any) -> None:
        """Infer and drive, then let the frame be recorded."""
        self.others.take()
        started_s = time.monotonic()
        if (problem := self._watchdog.problem(started_s)) is not None:
            if self._stop_reason is None:  # the watchdog looks later
                self._stop(problem)
            return
        driver = self._driver
        if started_s - self._executed_s > self.parameters.max_input_age_s:
            self._proprio.stop()
            driver = "stop"
        observation = self._proprio.observe(bev, messages.stamp_ns(stamp))
        decision = self._infer(observation)
        if decision is None:
            return
        took_s = time.monotonic() - started_s
        answer, backend = decision.action, decision.backend
        requested = self._explorer.requested(
            observation, answer, backend, self._slot.on_trial, driver == "teleop"
        )
        driven = self._drive(action_to_velocity(requested, self.contract, self.robot), stamp)
        age_ns = self.get_clock().now().nanoseconds - observation.stamp_ns
        self._slot.tidy()
        # A model on trial is judged, which may ask the one before.
        with self._watchdog.asking():
            self._slot.judge(observation, decision, took_s)
        if driven:
            self._latency.add(age_ns * 1e-6)
            self._recorder.take(observation, decision.clipped, backend.calibrated)
            self._recorder.step(observation, self._pose, answer, requested, backend.digest, driver)

    def _infer(self, observation: Observation) -> Decision | None:
        """Return the decision, or stop at once."""
        try:
            with self._watchdog.asking():
                return self._slot.infer(observation)
        except Exception as error:  # a vendor library may raise anything; the rover must stop
            self._stop(f"inference failed: {error}")
            self._slot.failed(error, time.monotonic())
            return None

    def _drive(self, velocity: Velocity, stamp: Any) -> bool:
        """Publish a command unless a reason to stop came up while it was made."""
        with self._publish_lock:
            if self._watchdog.problem(time.monotonic()) or self._slot.policy is None:
                return False
            self._publish(velocity, stamp)
            if self._stop_reason is not None:
                self.get_logger().info("driving")
            self._stop_reason = None
            return True

    def _stop(self, reason: str) -> None:
        with self._publish_lock:
            drove, self._stop_reason = self._stop_reason is None, reason
            self._publish(STOP, self.get_clock().now().to_msg())
            if drove:
                self._recorder.stopped("session end" if reason == NOT_ACTIVE else "stop")
                self.get_logger().warning(f"stopped: {reason}")

    def _publish(self, velocity: Velocity, stamp: Any) -> None:
        stamped = self.parameters.enable_stamped_cmd_vel
        self._publisher.publish(command_message(velocity, stamped, stamp))

    # Services and diagnostics

    def _snapshot(self) -> Future[Path]:
        return self._recorder.snapshot(self.parameters.max_input_age_s, self._stop_reason)

    def _reload(self) -> Future[str]:
        return self._slot.reload()

    def _watch_model(self, ending: threading.Event) -> None:
        """Look for a new model until the node is cleaned up."""
        while not ending.wait(WATCH_PERIOD_S):
            self._slot.look()

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return the stop reason, model, rates, ages, latency, samples and exploration."""
        values = {"contract": self.contract.digest, "model": self.parameters.model}
        values |= self._slot.describe() | self.inputs.describe()
        values |= self._recorder.describe() | self._latency.describe()
        values["exploration"] = self._explorer.describe(self._stop_reason is None)
        return self.failure or self._stop_reason, values

    def concern(self) -> str | None:
        """Return why nothing is sampled."""
        return self._recorder.error


def main() -> None:
    """Run the node."""
    about = usage("tractor_inference", "sac_actor", __doc__, sac_actor=ActorParameters)
    sys.exit(run(SacActorNode, usage=about))


if __name__ == "__main__":
    main()
