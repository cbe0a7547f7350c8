"""Typed parameters: one frozen dataclass serves ROS nodes and plain Python alike.

A field made with `param` carries its description and limits. `from_values` turns flat
`{name: value}` mappings into the dataclass and lists every problem at once; `read_file` makes such
a mapping from a ROS 2 parameter file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from . import outside
from .errors import ParameterError, raise_all

T = TypeVar("T")
MOST_DIFFERENCES = 20

# The shared file has some kilobytes, and is read a section at a time.
MAX_FILE_BYTES = 256 * 1024


def param(
    doc: str,
    default: Any = dataclasses.MISSING,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    length: int | None = None,
    live: bool = False,
    driving: bool = True,
) -> Any:
    """Declare a dataclass field as a parameter.

    Args:
        doc: one sentence with the unit, shown by `ros2 param describe`.
        default: value when the file is silent; without it the parameter is required.
        minimum, maximum: inclusive limits of a number, or of every element of a list.
        choices: the strings that are allowed; empty allows any.
        length: required number of elements of a list.
        live: True when a running node may change it.
        driving: False when it may do so only while it does not drive.
    """
    metadata = dict(
        doc=doc, minimum=minimum, maximum=maximum, choices=choices, length=length, live=live,
        driving=driving,
    )  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def fields_of(cls: type) -> dict[str, tuple[dataclasses.Field, Any]]:
    """Return {field name: (field, resolved type)} of a parameter dataclass."""
    hints = typing.get_type_hints(cls)
    return {field.name: (field, hints[field.name]) for field in dataclasses.fields(cls)}


def _convert(value: Any, kind: Any) -> Any:
    """Return `value` as `kind`, or raise TypeError; an integer is a fine float."""
    if typing.get_origin(kind) is tuple:
        element = typing.get_args(kind)[0]
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise TypeError
        return tuple(_convert(item, element) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError
    return value


def _kind_name(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return f"list of {typing.get_args(kind)[0].__name__}"
    return kind.__name__


def _value_problems(name: str, value: Any, metadata: Mapping[str, Any]) -> list[str]:
    problems = []
    if metadata["length"] is not None and len(value) != metadata["length"]:
        problems.append(f"{name}: expected {metadata['length']} elements, found {len(value)}")
    if metadata["choices"] and value not in metadata["choices"]:
        choices = list(metadata["choices"])
        problems.append(f"{name}: expected one of {choices}, found {value!r:.200}")
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, float) and not math.isfinite(item):
            problems.append(f"{name}: expected a finite number, found {item}")
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            low, high = metadata["minimum"], metadata["maximum"]
            if low is not None and item < low:
                problems.append(f"{name}: expected at least {low}, found {item}")
            if high is not None and item > high:
                problems.append(f"{name}: expected at most {high}, found {item}")
    return problems


def from_values(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Build the parameter dataclass `cls` from flat values.

    Args:
        values: {prefix + field name: value}; names with another prefix are ignored.
        prefix: for instance "observation."; empty takes the names that contain no dot.

    Raises:
        ParameterError: listing every missing, unknown, mistyped or out-of-range parameter, and
            what the class's own `problems()` method adds about fields that must fit each other.
    """
    problems: list[str] = []
    known = fields_of(cls)
    found: dict[str, Any] = {}
    missing = {name for name, (f, _) in known.items() if f.default is dataclasses.MISSING}
    for full_name, value in values.items():
        name = full_name[len(prefix) :] if full_name.startswith(prefix) else "."
        if "." in name:
            continue
        if name not in known:
            problems.append(f"{full_name}: unknown parameter, expected one of {sorted(known)}")
            continue
        field, kind = known[name]
        missing.discard(name)
        try:
            converted = _convert(value, kind)
        except TypeError:
            problems.append(f"{full_name}: expected {_kind_name(kind)}, found {value!r:.200}")
            continue
        found[name] = converted
        problems += _value_problems(full_name, converted, field.metadata)
    for name, (field, _) in known.items():
        if name in missing:
            problems.append(f"{prefix}{name}: missing ({field.metadata['doc']})")
    heading = f"{cls.__name__} parameters are not usable:"
    raise_all(ParameterError, heading, problems)
    instance = cls(**found)
    check = getattr(instance, "problems", None)
    if check is not None:
        raise_all(ParameterError, heading, [f"{prefix}{problem}" for problem in check()])
    return instance


def canonical(values: Any) -> dict[str, Any]:
    """Return a dataclass of parameters as plain JSON types, as files keep it."""
    return json.loads(json.dumps(dataclasses.asdict(values)))


def differences(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the fields in which two canonical forms differ, one bounded text each."""
    found = [
        f"{name:.60}: here {mine.get(name)!r:.200}, there {other.get(name)!r:.200}"
        for name in sorted({*mine, *other})
        if mine.get(name) != other.get(name)
    ]
    hidden = len(found) - MOST_DIFFERENCES
    return found[:MOST_DIFFERENCES] + ([f"and {hidden} more"] if hidden > 0 else [])


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_file(path: str | Path, node: str = "") -> dict[str, Any]:
    """Read a ROS 2 parameter file as flat `{dotted name: value}`.

    Args:
        path: a file as `ros2 ... --params-file` takes it.
        node: node name whose section is laid over the shared `/**` section; "" for `/**` alone.

    Raises:
        ParameterError: the file is missing, is not YAML, or has no `ros__parameters`.
    """
    document = _read_document(Path(path))
    sections = ["/**"]
    if node:
        sections += [f"/**/{node}", f"/{node}", node]
    flat: dict[str, Any] = {}
    for section in sections:
        if document.get(section) is not None:
            flat.update(_section(Path(path), document, section))
    return flat


def read_sections(path: Path) -> dict[tuple[str, str], Any]:
    """Read every section of a ROS 2 parameter file as `{(section, dotted name): value}`.

    Raises:
        ParameterError: as `read_file`, also for a section of a node that is not the suite's.
    """
    document = _read_document(path)
    return {
        (str(section), name): value
        for section, content in document.items()
        if content is not None
        for name, value in _section(path, document, section).items()
    }


def _section(path: Path, document: Mapping[str, Any], section: str) -> dict[str, Any]:
    content = document[section]
    values = content.get("ros__parameters") if isinstance(content, Mapping) else None
    if not isinstance(values, Mapping):
        raise ParameterError(f"parameter file {path}: section {section} has no ros__parameters")
    return _flatten(values)


def _read_document(path: Path) -> Mapping[str, Any]:
    try:
        document = outside.yaml_value(outside.read_text(path, MAX_FILE_BYTES))
    except OSError as error:
        raise ParameterError(
            f"parameter file {path}: cannot be read ({error.strerror}); "
            "give the path of config/sac_rover.yaml"
        ) from error
    except ValueError as error:
        raise ParameterError(f"parameter file {path}: not valid YAML: {error}") from error
    if not isinstance(document, Mapping):
        raise ParameterError(
            f"parameter file {path}: expected sections of nodes, found {document!r:.200}"
        )
    return document
