"""A node's parameters: checked all at once, declared with descriptions and limits, changed live."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from tractor_core import contract as contract_module
from tractor_core import parameters
from tractor_core import robot as robot_module
from tractor_core.contract import Contract
from tractor_core.errors import ParameterError
from tractor_core.robot import Robot

T = TypeVar("T")

READ_AT_START = "Read at start: set it there and start the node anew."
NOT_WHILE_DRIVING = "Changes only while the node is not active."
_ROS_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_GROUPS = ((Contract, contract_module.PREFIX), (Robot, robot_module.PREFIX))


class Declared(NamedTuple):
    """The parameters of a node: the contract, the robot and the node's own, frozen dataclasses."""

    contract: Contract
    robot: Robot
    own: Any


def declare(node: Node, own: type, has_section: bool = True) -> Declared:
    """Check all parameters that the node was given, then declare them.

    Args:
        node: was made with `automatically_declare_parameters_from_overrides`.
        own: the dataclass of the node's own parameters.
        has_section: whether they have a section in the parameter file, which must be there.

    Raises:
        ParameterError: listing everything missing, unknown, mistyped or out of range.
    """
    with_values: Any = node.get_parameters_by_prefix("")
    given = {
        name: parameter.value
        for name, parameter in with_values.items()
        if not name.startswith(_ROS_PARAMETERS)
    }
    instances: list[Any] = []
    problems: list[str] = []
    prefixes = ("", *(prefix for _, prefix in _GROUPS))
    for name in given:
        if "." in name and not name.startswith(prefixes[1:]):
            problems.append(f"{name}: unknown parameter")
    for cls, prefix in (*_GROUPS, (own, "")):
        try:
            instances.append(parameters.from_values(cls, given, prefix))
        except ParameterError as error:
            problems.append(str(error))
    if has_section and not parameters.fields_of(own).keys() & given.keys():
        problems.append(
            f"expected a section /**/{node.get_name()} in the parameter file, found none; "
            "a misspelt one would leave the node on its defaults"
        )
    if problems:
        hint = "" if "observation.grid_cells" in given else (
            "\nstart the node with --ros-args --params-file config/sac_rover.yaml"
        )  # fmt: skip
        raise ParameterError("\n".join(problems) + hint)
    for name in given:
        node.undeclare_parameter(name)
    for instance, prefix in zip(instances, (*prefixes[1:], "")):
        for name, (field, kind) in parameters.fields_of(type(instance)).items():
            value = getattr(instance, name)
            value = list(value) if typing.get_origin(kind) is tuple else value
            node.declare_parameter(
                prefix + name, value, _descriptor(field.metadata, kind), ignore_override=True
            )
    return Declared(*instances)


def changed(own: T, changes: Sequence[Any], driving: bool) -> T:
    """Return a node's own parameters with what ROS asks to change; the others are as they were.

    Raises:
        ParameterError: a value is mistyped or out of range, or must not change while driving.
    """
    fields = parameters.fields_of(type(own))
    values = {name: getattr(own, name) for name in fields}
    fixed = [
        c.name for c in changes if c.name in fields and not fields[c.name][0].metadata["driving"]
    ]
    if driving and fixed:
        raise ParameterError(
            f"{', '.join(fixed)}: expected a node that does not drive, found an active one; what "
            "the rover stops for does not change on the way: deactivate the node first"
        )
    values |= {change.name: change.value for change in changes if change.name in values}
    return parameters.from_values(type(own), values)


def _descriptor(metadata: Mapping[str, Any], kind: Any) -> ParameterDescriptor:
    low, high = metadata["minimum"], metadata["maximum"]
    text = metadata["doc"]
    if not metadata["live"]:
        text += f" {READ_AT_START}"
    elif not metadata["driving"]:
        text += f" {NOT_WHILE_DRIVING}"
    descriptor = ParameterDescriptor(description=text, read_only=not metadata["live"])
    if metadata["choices"]:
        descriptor.additional_constraints = "one of " + ", ".join(metadata["choices"])
    if kind is float and low is not None and high is not None:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high))
        ]
    elif kind is int and low is not None and high is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor
