"""What the executables of nodes say to `--help`, and which parameter files they were given."""

from __future__ import annotations

import dataclasses
import itertools
import json
import textwrap
from collections.abc import Sequence
from typing import Any

from tractor_core.parameters import fields_of

WIDTH = 100
NAME_WIDTH = 28


def usage(package: str, name: str, doc: str | None, **sections: type) -> str:
    """Return the help of an executable: what it does, how it is started, its parameters.

    Args:
        package: for instance tractor_inference.
        name: of the executable, for instance bev_builder.
        doc: the docstring of the module.
        sections: {name of a node: the dataclass of its parameters}.
    """
    arguments = "--ros-args --params-file config/sac_rover.yaml [-p NODE:NAME:=VALUE ...]"
    lines = [
        f"usage: ros2 run {package} {name} {arguments}",
        f"   or: .venv/bin/python -m {package}.nodes.{name}_node {arguments}",
        "",
        (doc or "").strip(),
        "",
        "The whole rover is started by: ros2 launch tractor_bringup sac_rover.launch.py",
        "Contract and robot are in section /** of the file. Ctrl-C ends it with exit code",
        "0; it is 2 when parameters or arguments are refused, 1 when it is broken, or hangs",
        "while it ends.",
    ]
    for node, kind in sections.items():
        lines += ["", f"parameters of {node}, section /**/{node}:"]
        for parameter, (field, _) in fields_of(kind).items():
            about = f"{field.metadata['doc']} {_default(field.default)}"
            if field.metadata["choices"]:
                about += f" One of {', '.join(field.metadata['choices'])}."
            lines += textwrap.wrap(
                about, WIDTH, initial_indent=f"  {parameter:{NAME_WIDTH}}",
                subsequent_indent=" " * (NAME_WIDTH + 2), break_on_hyphens=False,
            )  # fmt: skip
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "Must be given."
    return f"Default: {json.dumps(value)}."


def parameter_files(argv: Sequence[str]) -> list[str]:
    """Return the files that ROS's arguments name with --params-file, in words where launch did.

    What a launch file sets lies in its memory, under a name of /proc that says nothing.
    """
    given = [value for option, value in itertools.pairwise(argv) if option == "--params-file"]
    return ["the arguments of launch" if f.startswith("/proc/") else f for f in given]
