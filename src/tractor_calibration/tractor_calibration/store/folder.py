"""What is in a models folder: versions that never change, links, and their history.

    versions/NAME.STAMP/                     NAME.rknn, NAME.json (manifest), NAME.report.html
    NAME.rknn, NAME.json, NAME.report.html   links to the version of NAME that was promoted last
    remote_trained.rknn                      link to the active model
    history.jsonl                            a line for every change of the active model

Nothing here changes the folder or locks it; that is `promotion`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tractor_core import outside
from tractor_core.contract import Contract
from tractor_core.errors import ModelError, TractorError
from tractor_inference.model import manifest
from tractor_inference.model.manifest import Manifest

LINK = "remote_trained.rknn"
VERSIONS = "versions"
SUFFIXES = (".rknn", ".json", ".report.html")
HISTORY = "history.jsonl"
# A folder that a process works in, and in it the change that the process is about to make.
WORK_PREFIX = ".convert-"
INTENT = "intent.json"
# A line has 200 bytes: a model that changes each hour writes two megabytes a year.
MAX_LINE_BYTES, MAX_HISTORY_BYTES = 64 * 1024, 64 * 1024 * 1024
MOST_NAMED = 10
_VERSION = re.compile(r"([^/]+)\.(\d{8}T\d{6}Z)(?:-\d+)?")

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Change:
    """A line of the history: `action` is convert, promote or rollback, `version` active since then.

    `previous` was active before: a version, where a link made by hand led, or None for no model.
    """

    time: str
    action: str
    version: str
    previous: str | None


@dataclasses.dataclass(frozen=True)
class Version:
    """A folder of versions/, `number` from the oldest; `broken` says why it has no record."""

    number: int
    name: str
    record: Manifest | None
    broken: str = ""


def active(folder: Path) -> str | None:
    """Return the active version; where the link leads when that is none; None without a link."""
    link = folder / LINK
    if not os.path.lexists(link):
        return None
    model = manifest.real_path(link)
    if model.parent.parent == manifest.real_path(folder) / VERSIONS:
        return model.parent.name
    return os.readlink(link) if link.is_symlink() else LINK


def stem_of(version: str) -> str:
    """Return the NAME of a version.

    Raises:
        ModelError: it is no name of a version.
    """
    match = _VERSION.fullmatch(version)
    if not match:
        raise ModelError(f"{version}: expected a name like NAME.20250131T235959Z")
    return match[1]


def names(folder: Path) -> list[str]:
    """Return what is in versions/, also what is no version, the oldest first."""

    def age(name: str) -> tuple[str, str]:
        match = _VERSION.fullmatch(name)
        return (match[2] if match else "", name)

    try:
        return sorted(os.listdir(folder / VERSIONS), key=age)
    except FileNotFoundError:
        return []


def read(folder: Path, version: str, contract: Contract) -> Manifest:
    """Read the manifest of a version, and check the model against it and against the contract.

    Raises:
        ModelError: no such version, a link in place of a file, or not what the manifest describes.
        ContractError: made for another contract.
    """
    place = folder / VERSIONS / version
    model = place / f"{stem_of(version)}.rknn"
    if not os.path.lexists(place):
        raise ModelError(f"{place}: expected a version, found none; see `models list`")
    for path in (place, model, model.with_suffix(".json")):
        if path.is_symlink():
            raise ModelError(f"{path}: expected a part of the version, found a link")
    _, record, _ = manifest.load(model, contract)
    if record.model.file != model.name:
        raise ModelError(
            f"{model}: expected {record.model.file} as its manifest says, found {model.name}; "
            "convert the ONNX actor again"
        )
    return record


def versions(folder: Path, contract: Contract) -> list[Version]:
    """Read and check every version, the oldest first."""
    found = []
    for number, name in enumerate(names(folder), 1):
        try:
            found.append(Version(number, name, read(folder, name, contract)))
        except TractorError as error:
            reason = str(error)
            for place in (manifest.real_path(folder), folder):
                reason = reason.replace(f"{place / VERSIONS}{os.sep}", "")
            found.append(Version(number, name, None, " ".join(reason.split())))
    return found


def find(folder: Path, text: str) -> str:
    """Return the one version with this name, number of `versions`, or beginning of its name.

    Raises:
        ModelError: none or several.
    """
    known = names(folder)
    if text in known:
        return text
    fits = [
        name
        for number, name in enumerate(known, 1)
        if text == str(number) or (text and name.startswith(text))
    ]
    if len(fits) != 1:
        there = f"which fits {', '.join(fits)}" if fits else "which fits no version"
        raise ModelError(
            f"{folder}: expected the name of a version, a beginning that only one has, or its "
            f"number in `models list`, found {text!r}, {there}"
        )
    return fits[0]


def history(folder: Path) -> list[Change]:
    """Return every change of the active model, the oldest first.

    A line that cannot be read, such as one cut short by a power failure, is named and left out. A
    change whose process was killed before it wrote the line is there all the same.
    """
    return recorded(folder) + unrecorded(folder)


def before(folder: Path) -> str | None:
    """Return the version active before; of one that was rolled back to, the one before that."""
    was_active: list[str] = []
    times: Counter[str] = Counter()
    for change in history(folder):
        # Where lines are lost, or the link was moved by hand, `previous` still tells.
        for name in filter(None, (change.previous, change.version)):
            if change.action == "rollback" and name == change.version and times[name]:
                while was_active[-1] != name:
                    times[was_active.pop()] -= 1
            elif was_active[-1:] != [name]:
                was_active.append(name)
                times[name] += 1
    if was_active[-1:] == [active(folder)]:
        was_active.pop()
    return was_active[-1] if was_active else None


def recorded(folder: Path) -> list[Change]:
    """Return the lines of the history, the oldest first."""
    path, changes = folder / HISTORY, []
    unread: list[int] = []
    for number, line in enumerate(_lines(path), 1):
        if change := _parse(line):
            changes.append(change)
        elif line:
            unread.append(number)
    for number in unread[:MOST_NAMED]:
        log.warning("%s: line %d cannot be read and is left out", path, number)
    if len(unread) > MOST_NAMED:
        log.warning("%s: %d more lines too", path, len(unread) - MOST_NAMED)
    return changes


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of the history, none without one; of a line that is too long the beginning.

    Raises:
        ModelError: it is no file, or longer than any rover's life.
    """
    try:
        with outside.open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > MAX_HISTORY_BYTES:
                raise ValueError(f"expected at most {MAX_HISTORY_BYTES} bytes, found {size}")
            while line := file.readline(MAX_LINE_BYTES):
                rest = line
                while rest[-1:] != b"\n" and (rest := file.readline(MAX_LINE_BYTES)):
                    pass
                yield line.rstrip(b"\n")
    except FileNotFoundError:
        return
    except ValueError as error:
        raise ModelError(f"{path}: {error}; move it away, the versions stay") from error


def unrecorded(folder: Path) -> list[Change]:
    """Return what a killed process has changed without recording it; empty, or one change."""
    found = []
    for file in folder.glob(f"{WORK_PREFIX}*/{INTENT}"):
        # FileNotFoundError: its process has just ended. ValueError: no process of ours wrote it.
        with contextlib.suppress(FileNotFoundError, ValueError):
            change = _parse(outside.read_bytes(file, MAX_LINE_BYTES))
            if change and change.version == active(folder) and change not in recorded(folder):
                found.append(change)
    return found


def _parse(line: bytes) -> Change | None:
    try:
        # A byte that is no text costs one letter of a name, not the line.
        change = Change(**outside.json_value(line.decode("utf-8", "replace"), MAX_LINE_BYTES))
    except (ValueError, TypeError):
        return None
    texts = (change.time, change.action, change.version)
    fits = all(isinstance(text, str) for text in texts) and isinstance(change.previous, str | None)
    return change if fits else None
