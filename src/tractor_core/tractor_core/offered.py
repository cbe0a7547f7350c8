"""Models that were offered to a rover, in its models folder until it is known whether they drive.

    models/offered/NAME.json    what is known of it, and where it stands: `state`
    models/offered/NAME.onnx    the model, until it is done
    models/offered/NAME.md      its card, where there is one

The link puts a model there and takes it on, the operator accepts one; both work on the folder at
the same time, each file is written whole, and the note last. One model is there in each state, the
newest: a rover wants no other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
from pathlib import Path

from . import files, outside
from .errors import ModelError

FOLDER = "offered"
WAITING, ACCEPTED, DONE = "waiting", "accepted", "done"
STATES = (WAITING, ACCEPTED, DONE)
MAX_VERSION, MAX_MODEL_BYTES, MAX_CARD_BYTES = 999_999, 256 * 1024 * 1024, 256 * 1024
MAX_NOTE_BYTES, MAX_TEXT = 16 * 1024, 2000
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WANTED = re.compile(r"(?:(?:sac_actor_)?v)?0*([0-9]{1,6})")

log = logging.getLogger(__name__)


def name_of(version: int) -> str:
    """Return what a model is called: sac_actor_vNN."""
    return f"sac_actor_v{version:02d}"


@dataclasses.dataclass(frozen=True)
class OfferedModel:
    """What is known of an offered model.

    Attributes:
        sha256, bytes: of its ONNX.
        origin: the server's address, without secrets.
        received: UTC time, ISO 8601.
        state: WAITING for the operator, ACCEPTED and to be converted, or DONE.
        result: what it came to, or what it waits for, in words.
    """

    version: int
    sha256: str
    bytes: int
    origin: str
    received: str
    state: str = WAITING
    result: str = ""

    @property
    def name(self) -> str:
        """What it is called: sac_actor_vNN."""
        return name_of(self.version)


class OfferedModels:
    """The folder of offered models beneath a models folder.

    Args:
        models: the models folder, which must be there.
    """

    def __init__(self, models: Path) -> None:
        self.folder = models / FOLDER

    def all(self) -> list[OfferedModel]:
        """Return the models, the oldest first; a note that cannot be read is named and left out.

        Raises:
            OSError: the folder cannot be read.
        """
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(_parse(path.stem, outside.read_bytes(path, MAX_NOTE_BYTES)))
            except FileNotFoundError:
                continue
            except ValueError as error:
                log.warning("%s: %s; it is left out", path, error)
        return sorted(found, key=lambda model: model.received)

    def put(self, model: OfferedModel, onnx: bytes, card: bytes | None = None) -> None:
        """Put a model there, in place of the one that is in the same state.

        Raises:
            OSError: the folder cannot be written; the model is not there then.
        """
        self.folder.mkdir(exist_ok=True)
        files.remove_unfinished(self.folder, "")
        # The note goes first and comes last: it never speaks of other files than those beside it.
        self._path(model, ".json").unlink(missing_ok=True)
        files.replace_file(self._path(model, ".onnx"), onnx)
        if card is None:
            self._path(model, ".md").unlink(missing_ok=True)
        else:
            files.replace_file(self._path(model, ".md"), card)
        self._write(model)

    def data(self, model: OfferedModel) -> tuple[bytes, bytes | None]:
        """Return the ONNX and the card of a model, None where there is none.

        Raises:
            ModelError: they are not those that the note speaks of.
        """
        path = self._path(model, ".onnx")
        onnx = outside.read_or_refuse(path, MAX_MODEL_BYTES, ModelError)
        found = hashlib.sha256(onnx).hexdigest()
        if found != model.sha256:
            raise ModelError(
                f"expected sha256 {model.sha256}, found {found}; remove {self.folder} and let the "
                "training server offer a model again",
                path,
            )
        try:
            card = outside.read_bytes(self._path(model, ".md"), MAX_CARD_BYTES, follow=False)
        except FileNotFoundError:
            card = None
        except (OSError, ValueError) as error:
            raise ModelError(str(error), self._path(model, ".md")) from error
        return onnx, card

    def accept(self, wanted: str) -> OfferedModel:
        """Let a model that waits be converted, and return it.

        Args:
            wanted: its version or its name: 7, v07 or sac_actor_v07.

        Raises:
            ModelError: it does not wait there, or is not whole.
            OSError: the note cannot be written.
        """
        waiting = [model for model in self.all() if model.state == WAITING]
        fits = _WANTED.fullmatch(wanted)
        chosen = [model for model in waiting if fits and model.version == int(fits[1])]
        if not chosen:
            there = ", ".join(model.name for model in waiting) or "none that waits"
            raise ModelError(
                f"expected an offered model that waits, found {wanted[:40]!r}; there: {there}",
                self.folder,
            )
        self.data(chosen[0])
        accepted = dataclasses.replace(chosen[0], state=ACCEPTED)
        self._write(accepted)
        return accepted

    def change(self, model: OfferedModel, state: str, result: str) -> bool:
        """Note where a model stands; False when another one has its name by now.

        Raises:
            OSError: the folder cannot be written.
        """
        if model.sha256 not in {m.sha256 for m in self.all() if m.name == model.name}:
            return False
        self._write(dataclasses.replace(model, state=state, result=result[:MAX_TEXT]))
        if state == DONE:
            self._remove(model, ".onnx", ".md")
        return True

    def _write(self, model: OfferedModel) -> None:
        """Write the note of a model, and remove what was there in its state before."""
        text = json.dumps(dataclasses.asdict(model), indent=2)
        files.replace_file(self._path(model, ".json"), f"{text}\n")
        for other in self.all():
            if other.name != model.name and other.state == model.state:
                if model.state != DONE:
                    log.info("%s takes the place of %s", model.name, other.name)
                self._remove(other, ".json", ".onnx", ".md")

    def _remove(self, model: OfferedModel, *suffixes: str) -> None:
        for suffix in suffixes:
            with contextlib.suppress(FileNotFoundError):
                self._path(model, suffix).unlink()

    def _path(self, model: OfferedModel, suffix: str) -> Path:
        return self.folder / f"{model.name}{suffix}"


def _parse(stem: str, data: bytes) -> OfferedModel:
    """Return the model of a note, which anybody may have written; raises ValueError."""
    value = outside.json_value(data, MAX_NOTE_BYTES)
    try:
        model = OfferedModel(**value)
    except TypeError as error:
        raise ValueError(f"not the note of an offered model: {error}") from error
    texts = (model.origin, model.received, model.state, model.result)
    fits = (
        type(model.version) is int
        and 1 <= model.version <= MAX_VERSION
        and type(model.bytes) is int
        and isinstance(model.sha256, str)
        and _DIGEST.fullmatch(model.sha256)
        and all(isinstance(text, str) for text in texts)
        and model.state in STATES
    )
    if not fits:
        raise ValueError("not the note of an offered model: a value that is none of it")
    if model.name != stem:
        raise ValueError(f"expected the note of {stem}, found that of {model.name}")
    return model
