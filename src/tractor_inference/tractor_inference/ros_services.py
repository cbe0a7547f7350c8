"""Services that answer whatever comes: an exception in one would end the node, unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node


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
