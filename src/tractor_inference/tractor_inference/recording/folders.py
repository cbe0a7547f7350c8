"""Where a rover keeps what it records."""

from __future__ import annotations

from pathlib import Path

DEFAULT_SAMPLES, DEFAULT_EXPERIENCE = "calibration_data", "experience"


def recording_folder(folder: str, namespace: str) -> Path:
    """Return where a rover keeps its samples or its experience, absolute.

    Rovers that are started in one place share the default folders, so that each has a folder of its
    namespace in them; a folder that was named is used as it is.

    Args:
        folder: the parameter.
        namespace: of the node, "/" or "/rover1".
    """
    if Path(folder) in (Path(DEFAULT_SAMPLES), Path(DEFAULT_EXPERIENCE)):
        return rover_folder(folder, namespace)
    return Path(folder).absolute()


def rover_folder(folder: str, namespace: str) -> Path:
    """Return the folder of one rover only within a folder, absolute."""
    return Path(folder, *filter(None, namespace.split("/"))).absolute()
