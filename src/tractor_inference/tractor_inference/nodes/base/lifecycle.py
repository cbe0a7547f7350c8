"""A life cycle that answers every request, in every state and while a transition runs.

rclpy answers a request that does not fit the state with an exception, which the client never hears
of (rclpy issues 1209 and 1319), and nothing at all while a transition runs. Here the slow part of
configuring runs beside the executor, and what does not fit is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import State, Transition
from rclpy._rclpy_pybind11 import RCLError
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from tractor_core.background import in_background

from .services import answer_of

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
# What cannot be configured or activated is tried again with delays that double up to the second.
RETRY_DELAY_S, MAX_RETRY_DELAY_S = 1.0, 10.0
# After a shutdown the process goes on for so long: the answer must arrive, others may ask.
LINGER_S = 1.0
REFUSAL_PERIOD_S = 1.0
# A node that cannot even be released; a supervisor starts it anew.
EXIT_BROKEN = 1
# The others are the state machine's own steps: a client that sent one would end a transition early.
REQUESTS = frozenset(
    {
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
        Transition.TRANSITION_INACTIVE_SHUTDOWN,
        Transition.TRANSITION_ACTIVE_SHUTDOWN,
    }
)
NOT_CONFIGURED, BEING_CONFIGURED = "not configured", "being configured"


class AnsweringLifecycle(LifecycleNodeMixin, Node):
    """A life-cycle node; subclasses say what the states mean.

    `prepare` runs in a thread and must not touch ROS; what it returns is given to `set_up`. An
    error in either fails the transition, with the reason in `failure` and in the log. An error in
    any other transition releases everything and leads to unconfigured.

    Attributes:
        active: whether the node works.
        failure: why it is not configured, or None.
        exit_code: what the process ends with once `done` is true.
    """

    def __init__(self, name: str, **options: Any) -> None:
        Node.__init__(self, name, **options)
        # Its callbacks may await: in the node's own group nothing else would run meanwhile.
        self.service_group = ReentrantCallbackGroup()
        LifecycleNodeMixin.__init__(self, callback_group=self.service_group)
        change_state: Any = self._service_change_state
        change_state.callback = self._on_change_state
        self.active = False
        self.failure: str | None = NOT_CONFIGURED
        self.exit_code = 0
        self._passages: dict[int, Callable[[LifecycleState], TransitionCallbackReturn]] = {
            State.TRANSITION_STATE_CLEANINGUP: self.on_cleanup,
            State.TRANSITION_STATE_ACTIVATING: self.on_activate,
            State.TRANSITION_STATE_DEACTIVATING: self.on_deactivate,
            State.TRANSITION_STATE_SHUTTINGDOWN: self.on_shutdown,
            State.TRANSITION_STATE_ERRORPROCESSING: self.on_error,
        }
        self._changing = False
        self._finalized_s: float | None = None
        self._retry_delay_s = RETRY_DELAY_S
        self._retry: Any = None

    # What subclasses fill in

    def prepare(self) -> Any:
        """Do what takes long before the node can be set up, without ROS; runs in a thread."""

    def set_up(self, prepared: Any) -> None:
        """Create the interfaces, with what `prepare` returned."""
        raise NotImplementedError

    def release(self) -> None:
        """Release what `set_up` made, also after it failed half-way; harmless when done before."""

    def halt(self) -> None:
        """Stop working."""
        self.active = False

    # Starting by itself

    def start(self) -> None:
        """Configure and activate, again and again until it succeeds or somebody else decides."""
        executor: Any = self.executor
        executor.create_task(self._try_start)

    async def _try_start(self) -> None:
        self._cancel_retry()
        if await self._change(Transition.TRANSITION_CONFIGURE) and await self._change(
            Transition.TRANSITION_ACTIVATE
        ):
            self._retry_delay_s = RETRY_DELAY_S
            return
        if self._state().state_id != State.PRIMARY_STATE_UNCONFIGURED:
            return
        delay_s, self._retry_delay_s = self._retry_delay_s, 2.0 * self._retry_delay_s
        self._retry_delay_s = min(self._retry_delay_s, MAX_RETRY_DELAY_S)
        # The reason is said once, and that it goes on while the delays grow; then only a change is.
        if delay_s < MAX_RETRY_DELAY_S:
            self.get_logger().error(f"trying again in {delay_s:g} s")
        self._retry = self.create_timer(
            delay_s, self._try_start, callback_group=self.service_group, clock=STEADY
        )

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self.destroy_timer(self._retry)
            self._retry = None

    # Requests

    async def _on_change_state(self, request: Any, response: Any) -> Any:
        """Answer a request; must not raise, or the client would wait for ever."""
        transition = request.transition
        number, label = transition.id, transition.label
        response.success = False
        if label:
            # As in rclcpp a label counts more: the number is 0 in a request that does not give it.
            try:
                number = self._state_machine.get_transition_by_label(label)
            except RCLError:
                self._refuse(f"{label!r}")
                return response
        try:
            response.success = await self._change(number)
        except RCLError as error:  # the middleware's: publishing the transition
            self.get_logger().error(f"transition {number}: {error}")
        return response

    def _refuse(self, what: str) -> None:
        self.get_logger().warning(
            f"request refused: transition {what} in state {self._state().label}",
            throttle_duration_sec=REFUSAL_PERIOD_S,
        )

    def _state(self) -> LifecycleState:
        number, label = self._state_machine.current_state
        return LifecycleState(state_id=number, label=label)

    async def _change(self, transition_id: int) -> bool:
        """Go through a transition and return whether it succeeded; what does not fit is refused."""
        machine, before = self._state_machine, self._state()
        fitting = {transition[0] for transition in machine.available_transitions}
        if self._changing or transition_id not in REQUESTS & fitting:
            self._refuse(str(transition_id))
            return False
        self._changing = True
        try:
            machine.trigger_transition_by_id(transition_id, True)
            if transition_id == Transition.TRANSITION_CONFIGURE:
                result = await self._configure(before)
            else:
                result = self._follow(self._state(), before)
            machine.trigger_transition_by_label(result.to_label(), True)
            if result == TransitionCallbackReturn.ERROR:
                recovered = self._follow(self._state(), before)
                machine.trigger_transition_by_label(recovered.to_label(), True)
        finally:
            self._changing = False
        if self._state().state_id == State.PRIMARY_STATE_FINALIZED:
            self._finalized_s = time.monotonic()
        return result == TransitionCallbackReturn.SUCCESS

    def _follow(self, now: LifecycleState, before: LifecycleState) -> TransitionCallbackReturn:
        """Run the callback of a state that a transition goes through."""
        try:
            return self._passages[now.state_id](before)
        except Exception as error:  # whatever a vendor raises; rclpy would swallow it
            self.failure = f"error while {now.label}: {error}"
            self.get_logger().error(self.failure)
            return TransitionCallbackReturn.ERROR

    async def _configure(self, before: LifecycleState) -> TransitionCallbackReturn:
        # Whoever configures, the retry must not configure a second time.
        self._cancel_retry()
        said, self.failure = self.failure, BEING_CONFIGURED
        try:
            self.before_preparing()
            prepared = await answer_of(in_background(self.prepare), self.executor)
            self.set_up(prepared)
        except Exception as error:  # vendors' libraries raise anything
            reason = f"cannot be configured: {error}"
            if reason != said:
                self.get_logger().error(reason)
            try:
                self.tear_down()
            except Exception as second:
                self.failure = f"{reason}; nor released: {second}"
                return TransitionCallbackReturn.ERROR
            self.failure = reason
            return TransitionCallbackReturn.FAILURE
        self.failure = None
        return TransitionCallbackReturn.SUCCESS

    def before_preparing(self) -> None:
        """Do what comes before `prepare` and needs ROS."""

    def tear_down(self) -> None:
        """Release everything; harmless when done before."""
        self._cancel_retry()
        self.release()
        self.failure = NOT_CONFIGURED

    # The callbacks of rclpy's transitions

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to work."""
        result = super().on_activate(state)
        self.active = True
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; what is set up stays."""
        self.halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        self.tear_down()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, from whichever state; the process then ends."""
        self.close()
        self.failure = "shut down"
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything after an error, or end the process where that fails as well."""
        failure = self.failure
        try:
            self.close()
        except Exception as error:  # as above
            self.failure = f"{failure}; nor released: {error}"
            self.get_logger().fatal(self.failure)
            self.exit_code = EXIT_BROKEN
            return TransitionCallbackReturn.FAILURE
        self.failure = failure
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """Stop working and release everything; harmless when done before."""
        self.halt()
        self.tear_down()

    @property
    def done(self) -> bool:
        """Whether the node was shut down and its answer has had time to arrive."""
        return self._finalized_s is not None and time.monotonic() > self._finalized_s + LINGER_S
