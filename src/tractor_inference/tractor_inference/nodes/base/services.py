"""Services that answer whatever comes, and wait for long work beside an executor that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.task import Future as RosFuture
from std_srvs.srv import Trigger

from tractor_core.errors import TractorError
from tractor_core.text import printable_message

T = TypeVar("T")


async def answer_of(work: Future[T], executor: Any) -> T:
    """Return what background work gave, or raise what it raised; the executor goes on meanwhile.

    Await it in a callback of a reentrant group: in another group nothing else would run.
    """
    done = RosFuture(executor=executor)

    def wake(_: Future) -> None:
        done.set_result(None)
        # The executor polls waiting coroutines only when something wakes it.
        executor.wake()

    work.add_done_callback(wake)
    await done
    return work.result()


def trigger(node: Any, start: Callable[[], Future[Any]]) -> Callable:
    """Make the callback of a Trigger service that waits without blocking the control path.

    Args:
        node: has `failure`, why it is not configured, or None, and the executor.
        start: begins the work, whose answer in words is the message, or whose error is.
    """

    async def callback(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            if node.failure is not None:
                raise TractorError(node.failure)
            response.message = printable_message(await answer_of(start(), node.executor))
            response.success = True
        except Exception as error:  # an exception here would end the node
            response.message = printable_message(error)
        return response

    return callback


def answer_whatever_comes(node: Node) -> None:
    """Make every service of a node answer where its callback raises; those of rclpy are meant.

    rclpy raises for instance for a parameter of a type that does not exist. Coroutines are left
    alone: the suite's own answer themselves.
    """
    for service in node.services:
        if not asyncio.iscoroutinefunction(service.callback):
            service.callback = partial(_answer, node, service.callback)


def _answer(node: Node, callback: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
    try:
        return callback(request, response)
    except Exception as error:
        node.get_logger().error(f"request refused: {error}")
        refused = SetParametersResult(successful=False, reason=str(error))
        if isinstance(request, SetParameters.Request):
            return SetParameters.Response(results=[refused] * len(request.parameters))
        if isinstance(request, SetParametersAtomically.Request):
            return SetParametersAtomically.Response(result=refused)
        return type(response)()
