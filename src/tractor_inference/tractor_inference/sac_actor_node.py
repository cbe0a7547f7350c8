"""sac_actor: grid, scan and odometry become a command; frames are sampled on the way.

The executor thread infers when a grid arrives. A watchdog thread on the steady clock publishes
zero, and names the reason, whenever an input is missing or stale or the inference does not answer,
so a blocked inference cannot keep an old command alive: after inference_exit_s it ends the process
with exit code 70, for a supervisor to start it anew.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, LaserScan
from std_srvs.srv import Trigger

from tractor_core import messages
from tractor_core.drift import DriftWatch
from tractor_core.errors import ModelError, TractorError
from tractor_core.kinematics import STOP, Velocity
from tractor_core.observation import Observation, Proprioception
from tractor_core.samples import Sample
from tractor_core.text import printable_message

from . import model_slot
from .actor_parameters import ActorParameters
from .background import in_background
from .hung import HungNote
from .model_slot import ModelSlot
from .node_usage import usage
from .policy import Decision, Policy
from .ros_background import answer_of
from .ros_node import (
    COMMAND_QOS,
    DELIVERY_LIMIT,
    ENDING,
    ManagedNode,
    command_message,
    command_type,
    log_as,
    run,
    steady_s,
)
from .sampler import (
    ENOUGH_IN_REGION,
    Sampler,
    rover_folder,
    sample_folder,
)
from .standstill import Standstill

NOT_ACTIVE = "not active"
# Two minutes at 25 Hz.
LATENCIES_KEPT = 3000
# A model is taken after one to two of these: what is still being written is not.
WATCH_PERIOD_S = 1.0
EXIT_HUNG = 70


class SacActorNode(ManagedNode):
    """Drives while every input is fresh; stops, and says why, when one is not.

    Args:
        direct: the grids come by calls of `take_grid`, not by the topic.
    """

    def __init__(self, direct: bool = False) -> None:
        super().__init__("sac_actor", ActorParameters, inputs=("bev", "scan", "odom"))
        self._direct = direct
        own: ActorParameters = self.parameters
        log, folder = self.get_logger(), rover_folder(own.calibration_dir, self.get_namespace())
        self._slot = ModelSlot(self.contract, self.robot, own, HungNote(folder, log), log)
        self._unwatched = threading.Event()
        self._sampler: Sampler | None = None
        self._latest: tuple[Sample, float] | None = None
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self._drift = DriftWatch(self.contract, {})
        self._drift_of: Policy | None = None
        self._drift_said = False
        self._proprio = Proprioception(self.robot)
        # Frames with a feature beyond the contract's range.
        self._clipped: Counter[str] = Counter()
        self._stop_reason: str | None = NOT_ACTIVE
        self._inferring_since_s: float | None = None
        # Held while publishing: a command and the watchdog's zero never overtake each other.
        self._publish_lock = threading.Lock()
        self.serve(Trigger, "calibration/snapshot", self._service(self._snapshot))
        self.serve(Trigger, "~/reload_model", self._service(self._slot.reload))
        self._watchdog: threading.Thread | None = None
        self._halting = threading.Event()

    # Life cycle

    def prepare(self) -> Policy:
        """Open and warm up the model."""
        return self._wait_for(in_background(self._slot.open_first))

    def set_up(self, policy: Policy) -> None:
        """Start the sampler, create the interfaces."""
        own: ActorParameters = self.parameters
        self._slot.install(policy)
        folder = sample_folder(own.calibration_dir, self.get_namespace())
        sampling = dataclasses.replace(own, calibration_dir=str(folder))
        self._sampler = Sampler(sampling, self.contract)
        kind = command_type(own.enable_stamped_cmd_vel)
        self._publisher = self.advertise(kind, "cmd_vel_raw", COMMAND_QOS)
        self.subscribe(Odometry, "odom", self._on_odom)
        self.subscribe(LaserScan, "scan", self._on_scan)
        if not self._direct:
            self.subscribe(Image, "bev", self._on_bev)
        if own.watch_model:
            self._unwatched = threading.Event()
            arguments = (self._unwatched,)
            threading.Thread(target=self._watch_model, args=arguments, daemon=True).start()

    def release(self) -> None:
        """Close the model and write queued samples."""
        self._unwatched.set()
        self._latest = None
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        self._slot.empty()

    def on_parameters(self, updated: ActorParameters) -> None:
        """Sample as the changed parameters say from the next frame on."""
        if self._sampler is not None:
            self._sampler.adjust(updated)

    def on_mounting(self) -> None:
        """See the next scans with the new mounting."""
        self._proprio.mount(self.robot)

    def on_activate(self, state: Any) -> Any:
        """Start the watchdog, then drive."""
        self._halting.clear()
        result = super().on_activate(state)
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._watchdog.start()
        return result

    def halt(self) -> None:
        """Stop driving with a last zero."""
        if not self.active:
            return
        self._halting.set()
        if self._watchdog is not None:
            self._watchdog.join()
        self._stop(NOT_ACTIVE)
        self._publisher.wait_for_all_acked(DELIVERY_LIMIT)
        super().halt()

    def _wait_for(self, work: Future[Policy]) -> Policy:
        """Wait in steps, so that signals are heard; a driver that hangs ends the process."""
        end_s = steady_s() + model_slot.OPEN_LIMIT_S
        while not work.done():
            if ENDING.wait(0.01):
                raise ModelError("interrupted while the model was being opened")
            if steady_s() > end_s:
                limit_s = model_slot.OPEN_LIMIT_S
                self.get_logger().fatal(f"the model was not open within {limit_s:g} s; ending")
                os._exit(EXIT_HUNG)
        return work.result()

    # Inputs

    def _on_odom(self, message: Odometry) -> None:
        twist = self.receive("odom", messages.twist_from_odometry, message)
        if twist is not None:
            self._proprio.take_twist(*twist)

    def _on_scan(self, message: LaserScan) -> None:
        scan = self.receive("scan", self.to_scan, message, mounting="lidar_pose")
        if scan is not None:
            self._proprio.take_scan(scan)

    def _on_bev(self, message: Image) -> None:
        if not self.active:
            return
        bev = self.receive("bev", self._to_bev, message)
        if bev is not None:
            self._act(bev, message.header.stamp)

    def take_grid(self, grid: np.ndarray, stamp: Any) -> None:
        """Drive by a grid of the builder in this process, (2, cells, cells) float32.

        Its memory is the builder's: what is kept is copied.
        """
        if not self.active:
            return
        stamp_ns, clock_ns = messages.stamp_ns(stamp), self.get_clock().now().nanoseconds
        monitor = self.monitors["bev"]
        if monitor.accept(messages.BASE_FRAME, stamp_ns, clock_ns, steady_s()):
            self._act(grid.copy(order="K"), stamp)
        else:
            self.warn("bev", monitor.last_rejection)

    def _act(self, bev: np.ndarray, stamp: Any) -> None:
        """Infer and drive, then offer the frame as a sample."""
        if self._problem(steady_s()) is not None:
            return
        started_s = steady_s()
        observation = self._proprio.observe(bev, messages.stamp_ns(stamp))
        decision = self._infer(observation)
        if decision is None:
            return
        took_s = steady_s() - started_s
        driven = self._drive(decision, stamp)
        self._slot.tidy()
        self._judge(observation, decision, took_s)
        if not driven:
            return
        age_ns = self.get_clock().now().nanoseconds - observation.stamp_ns
        self._latencies_ms.append(age_ns * 1e-6)
        self._clipped.update(decision.clipped)
        sample = Sample(observation.bev, observation.proprio, observation.stamp_ns)
        self._latest = (sample, steady_s())
        outside = self._watch_drift(sample)
        if self._sampler is not None:
            self._sampler.offer(sample, wanted=outside)

    def _watch_drift(self, sample: Sample) -> bool:
        """Return whether the frame lies outside of what the model was calibrated with."""
        policy = self._slot.policy
        if policy is None:
            return False
        if policy is not self._drift_of:
            self._drift_of = policy
            self._drift = DriftWatch(self.contract, policy.backend.calibrated)
            self._drift_said = False
        return self._drift.step(sample.bev, sample.proprio, steady_s())

    def _to_bev(self, message: Image) -> np.ndarray:
        return messages.bev_from_message(message, self.contract)

    def _infer(self, observation: Observation) -> Decision | None:
        """Return the decision, or stop at once."""
        self._inferring_since_s = steady_s()
        try:
            return self._slot.infer(observation)
        except Exception as error:  # a vendor library may raise anything; the rover must stop
            self._stop(f"inference failed: {error}")
            self._slot.failed(error, steady_s())
            return None
        finally:
            self._inferring_since_s = None

    def _judge(self, observation: Observation, decision: Decision, took_s: float) -> None:
        """Let a model on trial be judged, which may ask the one before."""
        self._inferring_since_s = steady_s()
        try:
            self._slot.judge(observation, decision, took_s)
        finally:
            self._inferring_since_s = None

    def _drive(self, decision: Decision, stamp: Any) -> bool:
        """Publish a decision unless a reason to stop came up while it was made."""
        with self._publish_lock:
            if self._problem(steady_s()) is not None or self._slot.policy is None:
                return False
            self._proprio.executed(decision.action)
            self._publish(decision.velocity, stamp)
            if self._stop_reason is not None:
                self.get_logger().info("driving")
            self._stop_reason = None
            return True

    # Stopping

    def _problem(self, now_s: float) -> str | None:
        """Return why the rover must stand still now, or None."""
        since_s = self._inferring_since_s
        if since_s is not None and now_s - since_s > self.parameters.max_input_age_s:
            return f"inference has not answered for {now_s - since_s:.2f} s"
        return self.input_problem(now_s)

    def _watch(self) -> None:
        """Publish zero while there is a reason to; end the process when the inference hangs."""
        standstill = Standstill(steady_s())
        while not self._halting.wait(self.parameters.watchdog_period_s):
            now_s = steady_s()
            problem = self._problem(now_s)
            said = standstill.step(problem, now_s)
            if problem is None:
                continue
            self._stop(problem)
            if said is not None:
                log_as(self, *said)
            since_s = self._inferring_since_s
            if since_s is not None and now_s - since_s > self.parameters.inference_exit_s:
                self.get_logger().fatal(f"{problem}; ending so that a supervisor starts it anew")
                self._slot.note_hung()
                os._exit(EXIT_HUNG)

    def _stop(self, reason: str) -> None:
        with self._publish_lock:
            self._proprio.stop()
            if self._stop_reason is None:
                self.get_logger().warning(f"stopped: {reason}")
            self._stop_reason = reason
            self._publish(STOP, self.get_clock().now().to_msg())

    def _publish(self, velocity: Velocity, stamp: Any) -> None:
        stamped = self.parameters.enable_stamped_cmd_vel
        self._publisher.publish(command_message(velocity, stamped, stamp))

    # Services

    def _service(self, start: Callable[[], Future[Any]]) -> Callable:
        """Make a Trigger callback that waits without blocking the control path."""

        async def callback(request: Trigger.Request, response: Trigger.Response) -> Any:
            try:
                if self.failure is not None:
                    raise TractorError(self.failure)
                response.message = printable_message(await answer_of(start(), self.executor))
                response.success = True
            except Exception as error:  # an exception here would end the node
                response.message = printable_message(error)
            return response

        return callback

    def _snapshot(self) -> Future[Path]:
        """Start to save the current frame; the answer is the absolute path."""
        limit_s = self.parameters.max_input_age_s
        if self._sampler is None or self._latest is None:
            raise TractorError(f"no frame to save yet: {self._stop_reason}")
        sample, taken_s = self._latest
        if steady_s() - taken_s > limit_s:
            raise TractorError(
                f"no current frame: the last is {steady_s() - taken_s:.1f} s old, "
                f"limit {limit_s:.2f}: {self._stop_reason}"
            )
        return self._sampler.save(sample)

    def _watch_model(self, unwatched: threading.Event) -> None:
        """Look for a new model until the node is cleaned up."""
        while not unwatched.wait(WATCH_PERIOD_S):
            self._slot.look()

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return the stop reason, model, rates, ages, latency and samples."""
        values: dict[str, Any] = {"contract": self.contract.digest, "model": self.parameters.model}
        sampler = self._sampler
        values |= self._slot.describe()
        values |= {f"clipped {name}": n for name, n in self._clipped.items()}
        values |= self.describe_inputs()
        if sampler is not None:
            values |= {"samples kept": sampler.kept, "samples dropped": sampler.dropped}
            if sampler.lacking:
                values["samples lacking"] = f"{sampler.lacking} (wanted: {ENOUGH_IN_REGION})"
            if sampler.error is not None:
                values["sampling"] = sampler.error
        advice = self._drift.advice()
        if advice is not None:
            values["drift"] = advice
            if not self._drift_said:
                self._drift_said = True
                self.get_logger().warning(advice)
        if self._latencies_ms:
            p50, p99 = np.percentile(list(self._latencies_ms), [50, 99])
            values |= {"latency p50 ms": f"{p50:.2f}", "latency p99 ms": f"{p99:.2f}"}
        return self.failure or self._stop_reason, values


def main() -> None:
    """Run the node."""
    about = usage("tractor_inference.sac_actor_node", __doc__, sac_actor=ActorParameters)
    sys.exit(run(SacActorNode, usage=about))


if __name__ == "__main__":
    main()
