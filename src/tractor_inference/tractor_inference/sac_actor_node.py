"""sac_actor: grid, scan and odometry become a command; frames are sampled on the way.

The executor thread infers when a grid arrives. A watchdog thread on the steady clock publishes
zero, and names the reason, whenever an input is missing or stale or the inference does not answer,
so a blocked inference cannot keep an old command alive.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.task import Future as RosFuture
from sensor_msgs.msg import Image, LaserScan
from std_srvs.srv import Trigger

from . import messages, proprio
from .backends import KINDS, open_backend
from .cmd_guard_node import command_message, command_type
from .errors import SensorError, TractorError
from .freshness import InputMonitor
from .kinematics import STOP, Velocity
from .parameters import param
from .policy import Decision, Policy
from .ros_node import COMMAND_QOS, SENSOR_QOS, SERVICE_QOS, ManagedNode, run, steady_s
from .sampler import Sampler, SamplerParameters
from .samples import Sample

FAILURES_BEFORE_REOPEN = 3
WARN_AFTER_S, ERROR_AFTER_S = 2.0, 10.0
EXIT_HUNG = 70


@dataclasses.dataclass(frozen=True)
class ActorParameters(SamplerParameters):
    """The sac_actor section of config/sac_rover.yaml."""

    autostart: bool = param("Configure and activate at start.", True)
    model: str = param("The actor, an .onnx or .rknn file.", "models/remote_trained.rknn")
    backend: str = param("What runs the model; auto goes by file and machine.", "auto",
                         choices=KINDS)  # fmt: skip
    enable_stamped_cmd_vel: bool = param("TwistStamped instead of Twist.", False)
    max_input_age_s: float = param(
        "Age at which an input is stale and the rover stops, s.", 0.30, minimum=0.05, maximum=5.0
    )
    watchdog_period_s: float = param("Period of the watchdog, s.", 0.05, minimum=0.01, maximum=1.0)
    inference_exit_s: float = param(
        "An inference that takes longer ends the process, s.", 2.0, minimum=0.5, maximum=60.0
    )


class SacActorNode(ManagedNode):
    """Drives while every input is fresh; stops, and says why, when one is not."""

    def __init__(self) -> None:
        super().__init__("sac_actor", ActorParameters)
        self._interfaces: list[Callable[[], Any]] = []
        self._policy: Policy | None = None
        self._sampler: Sampler | None = None
        self._latest: Sample | None = None
        self._latencies_ms: deque[float] = deque(maxlen=3000)
        self._stop_reason: str | None = "not active"
        self._failures = 0
        self._inferring_since_s: float | None = None
        self._busy = threading.Lock()
        # Held while inferring, so that a model is never closed under a running inference.
        self._policy_lock = threading.Lock()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._watchdog: threading.Thread | None = None
        self._ending = threading.Event()

    # Life cycle

    def set_up(self) -> None:
        """Open and warm up the model, start the sampler, create the interfaces."""
        own: ActorParameters = self.parameters
        self._policy = self._open_policy()
        self._sampler = Sampler(own, self.contract)
        self._monitors = {
            name: InputMonitor(name, own.max_input_age_s) for name in ("bev", "scan", "odom")
        }
        kind = command_type(own.enable_stamped_cmd_vel)
        self._publisher = self.create_lifecycle_publisher(kind, "cmd_vel_raw", COMMAND_QOS)
        self._subscribe(Odometry, "odom", self._on_odom)
        self._subscribe(LaserScan, "scan", self._on_scan)
        self._subscribe(Image, "bev", self._on_bev)
        for name, answer in (
            ("calibration/snapshot", self._snapshot),
            ("~/reload_model", self._reload),
        ):
            service = self.create_service(
                Trigger, name, self._service(answer), qos_profile=SERVICE_QOS
            )
            self._interfaces.append(partial(self.destroy_service, service))
        self._interfaces.append(partial(self.destroy_publisher, self._publisher))

    def _subscribe(self, kind: type, topic: str, callback: Callable) -> None:
        subscription = self.create_subscription(kind, topic, callback, SENSOR_QOS)
        self._interfaces.append(partial(self.destroy_subscription, subscription))

    def tear_down(self) -> None:
        """Release the model, write queued samples, destroy the interfaces."""
        for destroy in self._interfaces:
            destroy()
        self._interfaces = []
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        if self._policy is not None:
            self._policy.backend.close()
            self._policy = None

    def on_activate(self, state: Any) -> Any:
        """Start the watchdog, then drive."""
        result = super().on_activate(state)
        self._activated_s = steady_s()
        self._ending.clear()
        self._watchdog = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._watchdog.start()
        return result

    def on_deactivate(self, state: Any) -> Any:
        """Publish a last zero and stop driving."""
        self._halt()
        return super().on_deactivate(state)

    def _halt(self) -> None:
        if not self.active:
            return
        self.active = False
        self._ending.set()
        if self._watchdog is not None:
            self._watchdog.join()
        self._publish(STOP, self.get_clock().now().to_msg())
        self._stop_reason = "not active"

    def close(self) -> None:
        """Publish a last zero and write queued samples."""
        self._halt()
        self._background.shutdown(wait=False, cancel_futures=True)
        self.tear_down()

    def _open_policy(self) -> Policy:
        own: ActorParameters = self.parameters
        backend = open_backend(own.backend, Path(own.model), self.contract)
        policy = Policy(self.contract, self.robot, backend)
        try:
            policy.warm_up()
        except TractorError:
            backend.close()
            raise
        self.get_logger().info(f"driving with {backend.name}: {own.model}")
        return policy

    # Inputs

    def _accepted(self, name: str, header: Any) -> bool:
        monitor = self._monitors[name]
        clock_ns = self.get_clock().now().nanoseconds
        if monitor.accept(messages.stamp_ns(header.stamp), clock_ns, steady_s()):
            return True
        self.warn(monitor.last_rejection)
        return False

    def _rejected(self, name: str, error: SensorError) -> None:
        self._monitors[name].reject(str(error))
        self.warn(str(error))

    def _on_odom(self, message: Odometry) -> None:
        try:
            twist = messages.twist_from_odometry(message)
        except SensorError as error:
            self._rejected("odom", error)
            return
        if self._accepted("odom", message.header):
            self._twist = twist

    def _on_scan(self, message: LaserScan) -> None:
        try:
            scan = messages.scan_from_message(message)
        except SensorError as error:
            self._rejected("scan", error)
            return
        if self._accepted("scan", message.header):
            self._scan_features = (
                proprio.lidar_min(scan, self.robot),
                proprio.gap_heading(scan, self.robot),
            )

    def _on_bev(self, message: Image) -> None:
        if not self.active:
            return
        try:
            bev = messages.bev_from_message(message, self.contract)
        except SensorError as error:
            self._rejected("bev", error)
            return
        arrival_s = steady_s()
        if not self._accepted("bev", message.header) or self._input_problem(arrival_s) is not None:
            return
        decision = self._infer(bev)
        if decision is None or steady_s() - arrival_s > self.parameters.max_input_age_s:
            return
        self._publish(decision.velocity, message.header.stamp)
        self._stop_reason = None
        stamp_ns = messages.stamp_ns(message.header.stamp)
        self._latencies_ms.append((self.get_clock().now().nanoseconds - stamp_ns) * 1e-6)
        self._latest = Sample(bev, decision.proprio, stamp_ns)
        if self._sampler is not None:
            self._sampler.offer(self._latest)

    def _infer(self, bev: np.ndarray) -> Decision | None:
        """Return the decision, or stop at once and after three failures in a row open it anew."""
        if self._policy is None:
            return None
        self._inferring_since_s = steady_s()
        try:
            with self._policy_lock:
                decision = self._policy.step(bev, *self._scan_features, *self._twist)
        except Exception as error:  # a vendor library may raise anything; the rover must stop
            self._failures += 1
            self._stop(f"inference failed: {error}")
            if self._failures % FAILURES_BEFORE_REOPEN == 0 and not self._busy.locked():
                self.get_logger().error(
                    f"{self._failures} failures in a row, opening the model anew"
                )
                self._busy.acquire()
                self._background.submit(self._reopen)
            return None
        finally:
            self._inferring_since_s = None
        self._failures = 0
        return decision

    # Stopping

    def _input_problem(self, now_s: float) -> str | None:
        problems = [p for m in self._monitors.values() if (p := m.problem(now_s)) is not None]
        return "; ".join(problems) or None

    def _problem(self, now_s: float) -> str | None:
        """Return why the rover must stand still now, or None."""
        since_s = self._inferring_since_s
        if since_s is not None and now_s - since_s > self.parameters.max_input_age_s:
            return f"inference has not answered for {now_s - since_s:.2f} s"
        return self._input_problem(now_s)

    def _watch(self) -> None:
        """Publish zero while there is a reason to; end the process when the inference hangs."""
        unknown_since_s = self._activated_s
        level = 0
        while not self._ending.wait(self.parameters.watchdog_period_s):
            now_s = steady_s()
            problem = self._problem(now_s)
            if problem is None:
                unknown_since_s, level = now_s, 0
                continue
            self._stop(problem)
            waited_s = now_s - unknown_since_s
            if level < 2 and waited_s > ERROR_AFTER_S:
                level = 2
                self.get_logger().error(f"standing still for {waited_s:.0f} s: {problem}")
            elif level < 1 and waited_s > WARN_AFTER_S:
                level = 1
                self.get_logger().warning(f"standing still: {problem}")
            since_s = self._inferring_since_s
            if since_s is not None and now_s - since_s > self.parameters.inference_exit_s:
                self.get_logger().fatal(f"{problem}; ending so that a supervisor starts it anew")
                os._exit(EXIT_HUNG)

    def _stop(self, reason: str) -> None:
        if self._policy is not None:
            self._policy.stop()
        if self._stop_reason is None:
            self.get_logger().warning(f"stopped: {reason}")
        self._stop_reason = reason
        self._publish(STOP, self.get_clock().now().to_msg())

    def _publish(self, velocity: Velocity, stamp: Any) -> None:
        stamped = self.parameters.enable_stamped_cmd_vel
        self._publisher.publish(command_message(velocity, stamped, stamp))

    # Services

    def _service(self, start: Callable[[], Future[str]]) -> Callable:
        """Make a Trigger callback that waits without blocking the control path, one at a time."""

        async def callback(request: Trigger.Request, response: Trigger.Response) -> Any:
            if not self._busy.acquire(blocking=False):
                response.message = "busy with another request, try again"
                return response
            try:
                work = start()
                executor: Any = self.executor
                done = RosFuture(executor=executor)

                def wake(_: Future) -> None:
                    done.set_result(None)
                    # The executor polls waiting coroutines only when something wakes it.
                    executor.wake()

                work.add_done_callback(wake)
                await done
                response.message, response.success = work.result(), True
            except (TractorError, OSError) as error:
                response.message = str(error)
            finally:
                self._busy.release()
            return response

        return callback

    def _snapshot(self) -> Future[str]:
        if self._sampler is None or self._latest is None:
            raise TractorError(f"no frame to save yet: {self._stop_reason}")
        saved = self._sampler.save(self._latest)
        path: Future[str] = Future()

        def answer(future: Future[Path]) -> None:
            error = future.exception()
            if error is not None:
                path.set_exception(error)
            else:
                path.set_result(str(future.result().resolve()))

        saved.add_done_callback(answer)
        return path

    def _reload(self) -> Future[str]:
        return self._background.submit(self._swap)

    def _swap(self) -> str:
        """Open the model beside the running one, then swap the reference."""
        fresh = self._open_policy()
        with self._policy_lock:
            old, self._policy = self._policy, fresh
        if old is not None:
            old.backend.close()
        return f"driving with {fresh.backend.name}: {self.parameters.model}"

    def _reopen(self) -> None:
        try:
            self._swap()
        except Exception as error:
            self.get_logger().error(f"cannot open the model anew: {error}")
        finally:
            self._busy.release()

    def diagnose(self) -> tuple[str | None, dict[str, Any]]:
        """Return the stop reason, model, ages, latency and samples."""
        values: dict[str, Any] = {"contract": self.contract.digest, "model": self.parameters.model}
        if self._policy is not None:
            values["backend"] = self._policy.backend.name
            values |= {f"clipped {name}": n for name, n in self._policy.clipped.items() if n}
            for name, monitor in self._monitors.items():
                values[f"{name} received"] = monitor.received
                values[f"{name} rejected"] = monitor.rejected
                values[f"{name} last rejection"] = monitor.last_rejection
        if self._sampler is not None:
            values["samples kept"] = self._sampler.kept
            values["samples dropped"] = self._sampler.dropped
            if self._sampler.error is not None:
                values["sampling"] = self._sampler.error
        if self._latencies_ms:
            p50, p99 = np.percentile(list(self._latencies_ms), [50, 99])
            values |= {"latency p50 ms": f"{p50:.2f}", "latency p99 ms": f"{p99:.2f}"}
        return self.failure or self._stop_reason, values


def main() -> None:
    """Run the node."""
    sys.exit(run(SacActorNode))


if __name__ == "__main__":
    main()
