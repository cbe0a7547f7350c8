"""sac_actor: grid, scan and odometry become a command; frames are sampled on the way.

The executor thread infers when a grid arrives. A watchdog thread on the steady clock publishes
zero, and names the reason, whenever an input is missing or stale or the inference does not answer,
so a blocked inference cannot keep an old command alive: after inference_exit_s it ends the process
with exit code 70, for a supervisor to start it anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image, LaserScan
from std_srvs.srv import Trigger

from tractor_core import messages, outside
from tractor_core.drift import DriftWatch
from tractor_core.errors import ContractError, ModelError, TractorError
from tractor_core.kinematics import STOP, Velocity
from tractor_core.observation import Observation, Proprioception
from tractor_core.samples import Sample
from tractor_core.text import printable_message

from . import model_file
from .actor_parameters import ActorParameters
from .backends import open_backend
from .node_usage import usage
from .policy import Decision, Policy
from .ros_background import answer_of, in_background
from .ros_lifecycle import MAX_RETRY_DELAY_S, RETRY_DELAY_S
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
from .trial import TRIAL_FRAMES, ModelWatch, Trial

T = TypeVar("T")

NOT_ACTIVE = "not active"
FAILURES_BEFORE_REOPEN = 3
# Two minutes at 25 Hz.
LATENCIES_KEPT = 3000
# Opening takes seconds where the toolkit's simulator is built; longer is a driver that hangs.
OPEN_LIMIT_S = 120.0
# A model is taken after one to two of these: what is still being written is not.
WATCH_PERIOD_S = 1.0
EXIT_HUNG = 70
# In the rover's own folder beside the samples: the digest of a model that hung on trial, for the
# next start.
HUNG_FILE = "hung_on_trial.txt"
MAX_HUNG_BYTES = 1000
NOTE_LIMIT_S = 1.0


class SacActorNode(ManagedNode):
    """Drives while every input is fresh; stops, and says why, when one is not.

    Args:
        direct: the grids come by calls of `take_grid`, not by the topic.
    """

    def __init__(self, direct: bool = False) -> None:
        super().__init__("sac_actor", ActorParameters, inputs=("bev", "scan", "odom"))
        self._direct = direct
        self._policy: Policy | None = None
        # Of the policy, while it is on trial; both are replaced under both locks.
        self._trial: Trial | None = None
        # While its policy is asked: what hangs then is not the one before.
        self._answering: Trial | None = None
        self._model_watch = ModelWatch()
        self._unwatched = threading.Event()
        # Digests; only ~/reload_model takes them again.
        self._rolled_back: set[str] = set()
        # The real file of each digest that was opened.
        self._files: dict[str, Path] = {}
        # Why the last model that was to take over does not drive.
        self._refusal: str | None = None
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
        self._failures = 0
        self._reopen_delay_s = RETRY_DELAY_S
        self._reopen_after_s = 0.0
        # Held while inferring, so that a model is never closed under a running inference.
        self._policy_lock = threading.Lock()
        # Held while publishing: a command and the watchdog's zero never overtake each other.
        self._publish_lock = threading.Lock()
        # One model is opened at a time.
        self._opening = threading.Lock()
        self.serve(Trigger, "calibration/snapshot", self._service(self._snapshot))
        self.serve(Trigger, "~/reload_model", self._service(self._start_reload))
        self._watchdog: threading.Thread | None = None
        self._halting = threading.Event()

    # Life cycle

    def prepare(self) -> Policy:
        """Open and warm up the model."""
        if hung := self._hung_digest():
            self._rolled_back.add(hung)
        policy = self._wait_for(in_background(self._open_policy), OPEN_LIMIT_S)
        try:
            self._require_not_rolled_back(policy)
        except ModelError:
            policy.backend.close()
            raise
        return policy

    def set_up(self, policy: Policy) -> None:
        """Start the sampler, create the interfaces."""
        own: ActorParameters = self.parameters
        with self._policy_lock, self._publish_lock:
            self._replace(policy)
        self._say_driving(policy)
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
        with self._policy_lock, self._publish_lock:
            retired = self._replace(None)
        _close(retired)

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

    def _wait_for(self, work: Future[Policy], limit_s: float) -> Policy:
        """Wait in steps, so that signals are heard; a driver that hangs ends the process."""
        end_s = steady_s() + limit_s
        while not work.done():
            if ENDING.wait(0.01):
                raise ModelError("interrupted while the model was being opened")
            if steady_s() > end_s:
                self.get_logger().fatal(f"the model was not open within {limit_s:g} s; ending")
                os._exit(EXIT_HUNG)
        return work.result()

    def _open_policy(self, path: Path | None = None) -> Policy:
        """Open and prove a model, by default the one that the parameter's path leads to."""
        own: ActorParameters = self.parameters
        if path is None:
            path = Path(own.model)
            # Before it is read: what changes meanwhile is seen later.
            self._model_watch.opening(model_file.stamp(path))
        file = model_file.real_path(path)
        backend = open_backend(own.backend, path, self.contract, own.npu_core_mask)
        policy = Policy(self.contract, self.robot, backend)
        try:
            policy.warm_up()
        except BaseException:
            backend.close()
            raise
        self._files[backend.digest] = file
        return policy

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
        decision, trial = self._infer(observation)
        if decision is None:
            return
        took_s = steady_s() - started_s
        driven = self._drive(decision, stamp)
        policy = self._policy
        if policy is not None:
            policy.backend.tidy()
        if trial is not None:
            self._judge(trial, observation, decision, took_s)
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
        policy = self._policy
        if policy is None:
            return False
        if policy is not self._drift_of:
            self._drift_of = policy
            self._drift = DriftWatch(self.contract, policy.backend.calibrated)
            self._drift_said = False
        return self._drift.step(sample.bev, sample.proprio, steady_s())

    def _to_bev(self, message: Image) -> np.ndarray:
        return messages.bev_from_message(message, self.contract)

    def _infer(self, observation: Observation) -> tuple[Decision | None, Trial | None]:
        """Return the decision and the trial it counts for, or stop at once.

        A failure rolls a model on trial back; failures in a row open the model anew.
        """
        trial: Trial | None = None
        self._inferring_since_s = steady_s()
        try:
            with self._policy_lock:
                if self._policy is None:
                    return None, None
                trial = self._answering = self._trial
                decision = self._policy.step(observation)
        except Exception as error:  # a vendor library may raise anything; the rover must stop
            self._stop(f"inference failed: {error}")
            if isinstance(error, ContractError):
                return None, None  # the observation was at fault, not the model
            if trial is not None:
                self._end_trial(trial, str(error))
            else:
                self._failures += 1
                self._reopen_when_due()
            return None, None
        finally:
            self._inferring_since_s = self._answering = None
        self._failures = 0
        return decision, trial

    def _drive(self, decision: Decision, stamp: Any) -> bool:
        """Publish a decision unless a reason to stop came up while it was made."""
        with self._publish_lock:
            if self._problem(steady_s()) is not None or self._policy is None:
                return False
            self._proprio.executed(decision.action)
            self._publish(decision.velocity, stamp)
            if self._stop_reason is not None:
                self.get_logger().info("driving")
            self._stop_reason = None
            return True

    # A new model's trial

    def _replace(self, policy: Policy | None, before: Policy | None = None) -> set[Policy]:
        """Let a policy drive, on trial if there is one before; needs both locks.

        Returns:
            Those that are not needed any more and are to be closed.
        """
        held = {self._policy, self._trial.before if self._trial is not None else None}
        budget_s = self.parameters.inference_budget_s
        self._trial = Trial(policy, before, budget_s) if policy and before else None
        self._policy = policy
        return {old for old in held - {policy, before} if old is not None}

    def _judge(
        self, trial: Trial, observation: Observation, decision: Decision, took_s: float
    ) -> None:
        """Roll a new model back when it misbehaves; close the one before when it does not."""
        self._inferring_since_s = steady_s()
        try:
            with self._policy_lock:
                if self._trial is not trial:
                    return
                refusal = trial.answered(observation, decision, took_s)
        finally:
            self._inferring_since_s = None
        if refusal is not None or trial.passed:
            self._end_trial(trial, refusal)

    def _end_trial(self, trial: Trial, refusal: str | None) -> None:
        """Close the model before, or roll back to it where the new one is refused; say so."""
        with self._policy_lock, self._publish_lock:
            if self._trial is not trial:
                return
            retired = self._replace(trial.policy if refusal is None else trial.before)
            if refusal is not None:
                refused, kept = trial.policy.backend.digest, trial.before.backend.digest
                self._failures = 0
                self._rolled_back.add(refused)
                self._refusal = f"rolled back: sha256 {refused} to {kept}: {refusal}"
                self.get_logger().error(f"the new model is {self._refusal}")
        if refusal is None:
            self.get_logger().info(f"the new model passed its trial of {TRIAL_FRAMES} frames")
        _close_in_background(retired)

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
                trial = self._answering
                if trial is not None:
                    self._note_hung(trial.policy.backend.digest)
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

    def _hung_file(self) -> Path:
        return rover_folder(self.parameters.calibration_dir, self.get_namespace()) / HUNG_FILE

    def _hung_digest(self) -> str:
        """Return the digest of a model that hung before; empty when none did, as a rule."""
        try:
            return outside.read_text(self._hung_file(), MAX_HUNG_BYTES).strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            self.get_logger().warning(
                f"{self._hung_file()}: cannot be read ({error}), so it is not known whether a "
                "model hung here before; remove it"
            )
            return ""

    def _note_hung(self, digest: str) -> None:
        """Let the next start refuse a model; a disk that hangs is not waited for."""

        def note() -> None:
            file = self._hung_file()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{digest}\n")

        noted = in_background(note)
        wait([noted], NOTE_LIMIT_S)
        problem = noted.exception() if noted.done() else "its disk does not answer"
        if problem:
            self.get_logger().error(
                f"{self._hung_file()}: cannot be written ({problem}): the next start takes the "
                "model that hung once more; let another one drive"
            )

    def _forget_hung(self, digest: str) -> None:
        if self._hung_digest() == digest:
            with contextlib.suppress(OSError):  # the next start refuses it once more
                self._hung_file().unlink()

    # Services and reopening

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

    def _start_reload(self) -> Future[str]:
        return self._in_turn(self._reload)

    def _in_turn(self, work: Callable[[], T]) -> Future[T]:
        """Start work that opens a model.

        Raises:
            ModelError: another is being opened.
        """
        if not self._opening.acquire(blocking=False):
            raise ModelError("busy: a model is being opened, try again")

        def run_it() -> T:
            try:
                return work()
            finally:
                self._opening.release()

        return in_background(run_it)

    @contextlib.contextmanager
    def _opened(self, path: Path | None = None) -> Iterator[tuple[Policy, set[Policy]]]:
        """Open a model in time, then hold both locks; yields it and the set of those to close.

        What is yielded is closed unless it is taken out of the set.

        Raises:
            ModelError: it cannot be opened, or not in time: what comes late is closed; or the node
                was cleaned up meanwhile.
        """
        configured = self._sampler
        work = in_background(lambda: self._open_policy(path))
        wait([work], OPEN_LIMIT_S)
        if not work.done():
            work.add_done_callback(_close_late)
            raise ModelError(
                f"expected the model open within {OPEN_LIMIT_S:g} s, found it still being opened; "
                "the runtime hangs: restart the actor, and the board if it hangs again"
            )
        retired = {work.result()}
        try:
            with self._policy_lock, self._publish_lock:
                if configured is None or self._sampler is not configured:
                    raise ModelError("the node was cleaned up while the model was being opened")
                yield work.result(), retired
        finally:
            _close_in_background(retired)

    def _reload(self, watched: bool = False) -> str:
        """Open the model beside the running one, then swap the reference; a trial begins.

        Args:
            watched: not asked for: a model that drives already or was rolled back is left out.
        """
        try:
            with self._opened() as (fresh, retired):
                digest = fresh.backend.digest
                if watched:
                    self._require_not_rolled_back(fresh)
                drives = self._policy is not None and digest == self._policy.backend.digest
                self._refusal = None
                if not (watched and drives):
                    self._rolled_back.discard(digest)
                    self._failures = 0
                    before = self._trial.before if self._trial is not None else self._policy
                    retired |= self._replace(fresh, before)
                    retired.remove(fresh)
                answer = self._say_driving(fresh)
            if not watched:
                self._forget_hung(digest)
            return answer
        except Exception as error:
            self._refusal = f"not taken: {error}"
            self.get_logger().error(f"the new model is {self._refusal}")
            raise

    def _require_not_rolled_back(self, policy: Policy) -> None:
        digest = policy.backend.digest
        if digest and digest in self._rolled_back:
            raise ModelError(
                f"sha256 {digest} was rolled back before, or hung on trial: let the model before "
                "drive (models rollback); ~/reload_model then takes this one, on trial again"
            )

    def _say_driving(self, policy: Policy) -> str:
        backend = policy.backend
        text = f"driving with {backend.name}: {self.parameters.model}"
        if backend.digest:
            text += f", sha256 {backend.digest}"
        self.get_logger().info(text)
        return text

    def _watch_model(self, unwatched: threading.Event) -> None:
        """Reload when the model's path leads to something new, until the node is cleaned up."""
        path = Path(self.parameters.model)
        while not unwatched.wait(WATCH_PERIOD_S):
            if self._model_watch.changed(model_file.stamp(path)):
                # When it is busy the next look says the same.
                with contextlib.suppress(ModelError):
                    self._in_turn(lambda: self._reload(watched=True))

    def _reopen_when_due(self) -> None:
        """Open the model anew after failures in a row, in the background, with growing delays."""
        now_s = steady_s()
        if self._failures < FAILURES_BEFORE_REOPEN or now_s < self._reopen_after_s:
            return
        with contextlib.suppress(ModelError):
            self._in_turn(self._reopen)
            self._reopen_after_s = now_s + self._reopen_delay_s
            self._reopen_delay_s = min(2.0 * self._reopen_delay_s, MAX_RETRY_DELAY_S)

    def _reopen(self) -> None:
        """Open the model that drives, from the file that it came from, and no other."""
        failing = self._policy
        if failing is None:
            return
        self.get_logger().error(f"{self._failures} failures in a row, opening the model anew")
        digest = failing.backend.digest
        try:
            file = self._files[digest]
            with self._opened(file) as (fresh, retired):
                if fresh.backend.digest != digest:
                    raise ModelError(
                        f"{file}: expected sha256 {digest}, which drove, found "
                        f"{fresh.backend.digest}; ~/reload_model takes it, on trial"
                    )
                if self._policy is failing:
                    self._failures = 0
                    retired |= self._replace(fresh)
                    retired.remove(fresh)
        except Exception as error:  # whatever a vendor raises; it is tried again
            self.get_logger().error(f"cannot open the model anew: {error}")

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return the stop reason, model, rates, ages, latency and samples."""
        values: dict[str, Any] = {"contract": self.contract.digest, "model": self.parameters.model}
        policy, sampler = self._policy, self._sampler
        if policy is not None:
            values["backend"] = policy.backend.name
            if policy.backend.chosen_because:
                values["backend auto"] = policy.backend.chosen_because
            values["model sha256"] = policy.backend.digest
            trial = self._trial
            if trial is not None:
                values["model trial"] = f"{trial.frames} of {TRIAL_FRAMES} frames"
            values |= {f"clipped {name}": n for name, n in self._clipped.items()}
        if self._refusal is not None:
            values["model refused"] = self._refusal
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


def _close(policies: Iterable[Policy]) -> None:
    for policy in policies:
        policy.backend.close()


def _close_in_background(policies: Iterable[Policy]) -> None:
    in_background(lambda: _close(policies))


def _close_late(work: Future[Policy]) -> None:
    if work.exception() is None:
        _close([work.result()])


def main() -> None:
    """Run the node."""
    about = usage("tractor_inference.sac_actor_node", __doc__, sac_actor=ActorParameters)
    sys.exit(run(SacActorNode, usage=about))


if __name__ == "__main__":
    main()
