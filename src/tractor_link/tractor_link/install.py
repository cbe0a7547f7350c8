"""An accepted model: its ONNX into the models folder, and from there to a model that drives."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tractor_core import files, outside
from tractor_core.child import stops_with_starter
from tractor_core.errors import ModelError
from tractor_core.offered import ACCEPTED, DONE, WAITING, OfferedModel, OfferedModels
from tractor_core.system_error import explain
from tractor_core.text import printable

log = logging.getLogger(__name__)

CONVERT = (sys.executable, "-m", "tractor_calibration", "convert")
# It ends with who started it, however that ends, and what drives comes first. In no session of its
# own: Linux's autogroups would give that as much as all the others.
BEHIND_ALL_ELSE = (*stops_with_starter("INT"), "nice", "-n", "19")
# Exit codes of `convert`: too few samples, or a model in doubt that more of them may settle; the
# models folder is busy or cannot be written.
SAMPLES_LACK, FILES = (4, 11), 7
REFUSED = "refused"
INT8, FP16 = "int8", "fp16"
PRECISIONS = (INT8, FP16)
LOOK_S, LIMIT_S, STOP_S = 1.0, 3600.0, 1.5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
# So many more samples than at the last attempt are worth another one.
MORE_SAMPLES, MORE_SHARE = 5, 0.25


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How `convert` ended: its exit code, and what it came to in one line."""

    code: int
    words: str


class Installer:
    """Converts the newest accepted model, and tries again what samples or a disk may change.

        await Installer(models, samples, params, "int8").run()  # until it is cancelled

    Args:
        models: the models folder.
        samples: the folder of calibration samples.
        params: the shared parameter file.
        precision: INT8, which waits while there are too few samples, or FP16.
        accept_warnings: whether a model of which `convert` has warnings is promoted.
        accepts_all: whether a model that waits for the operator is converted all the same.
        command: `convert`; its arguments follow.
        limit_s: how long it may take.

    Attributes:
        installed: the newest model that was promoted, with its figures, or "".
        refused: why a later one was not, or "".
        waits: what a model waits for, or "".
        problem: what is wrong with the disk, or None.
    """

    def __init__(
        self,
        models: Path,
        samples: Path,
        params: Path,
        precision: str,
        accept_warnings: bool = False,
        accepts_all: bool = False,
        command: Sequence[str] = CONVERT,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._models, self._samples, self._params = models, samples, params
        self._offered = OfferedModels(models)
        self._quantize, self._limit_s, self._command = precision == INT8, limit_s, command
        self._accept_warnings = accept_warnings
        self._states = (ACCEPTED, WAITING) if accepts_all else (ACCEPTED,)
        # What is converted again, and with how many samples.
        self._later = ("", 0)
        self.installed = self.refused = self.waits = ""
        self.problem: str | None = None

    async def run(self) -> None:
        """Convert what is accepted until it is cancelled; no fault of a disk ends it."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                model = await asyncio.to_thread(self._next)
                if model is not None:
                    await self._install(model)
                self.problem, pause_s = None, FIRST_PAUSE_S
                await asyncio.sleep(LOOK_S)
            except (OSError, ModelError) as error:
                text = explain(error, self._models) if isinstance(error, OSError) else str(error)
                if text != self.problem:
                    log.warning("%s; it is tried again", printable(text))
                self.problem = text
                await asyncio.sleep(pause_s)
                pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)

    def _next(self) -> OfferedModel | None:
        """Return the model to convert now, or None."""
        found = self._offered.all()
        for model in found:
            if model.state == DONE and not (self.installed or self.refused):
                self._say_done(model.name, model.result)
        ready = [model for model in found if model.state in self._states]
        if not ready:
            asks = [model.name for model in found if model.state == WAITING]
            self.waits = f"{asks[-1]} waits for the operator: models accept" if asks else ""
            return None
        sha256, samples = self._later
        if ready[-1].sha256 == sha256 and self._count_samples() < samples:
            return None
        return ready[-1]

    async def _install(self, model: OfferedModel) -> None:
        """Convert a model, and note what it came to; raises OSError, ModelError."""
        path = await asyncio.to_thread(self._place, model)
        samples = await asyncio.to_thread(self._count_samples)
        self.waits = f"{model.name} is being converted"
        log.info("converting %s", printable(path))
        done = await self._convert(path)
        words = f"{model.name}: {done.words}"
        not_yet = f"{model.name}: {done.words.replace(REFUSED, 'not yet', 1)}"
        self.waits = ""
        if done.code == FILES:
            raise ModelError(not_yet)
        if self._quantize and done.code in SAMPLES_LACK:
            wanted = samples + max(MORE_SAMPLES, round(MORE_SHARE * samples))
            self._later = (model.sha256, wanted)
            self.waits = f"{not_yet}; it is tried again with {wanted} samples, {samples} are there"
            log.warning("%s", self.waits)
            await asyncio.to_thread(self._offered.change, model, model.state, self.waits)
            return
        if done.code == 0:
            log.info("%s", words)
        else:
            log.error("%s; the model before drives on", words)
        self._say_done(model.name, done.words)
        await asyncio.to_thread(self._offered.change, model, DONE, done.words)

    def _say_done(self, name: str, words: str) -> None:
        refused = words.startswith(REFUSED)
        self.refused = f"{name}: {words}" if refused else ""
        if not refused:
            self.installed = f"{name}: {words}"

    def _place(self, model: OfferedModel) -> Path:
        """Put the ONNX and its card among the models, and return the path of the ONNX.

        Raises:
            ModelError: it is not whole, or other files have its names.
            OSError: the folder cannot be written.
        """
        onnx, card = self._offered.data(model)
        names = (model.name, f"{model.name}_{model.sha256[:8]}")
        for name in names:
            path = self._models / f"{name}.onnx"
            if _put_once(path, onnx):
                if card is not None and not _put_once(path.with_suffix(".md"), card):
                    log.warning("%s holds something else and stays", path.with_suffix(".md"))
                return path
        raise ModelError(
            f"expected {' or '.join(names)} free for an offered model, found other files; move "
            "them away",
            self._models,
        )

    def _count_samples(self) -> int:
        return sum(1 for _ in self._samples.glob("calib_*.npz"))

    async def _convert(self, onnx: Path) -> Conversion:
        """Run `convert` behind all else; when this is cancelled it is interrupted, then killed."""
        arguments = [str(onnx), "--params", str(self._params), "--json"]
        if self._quantize:
            arguments.append("--quantize")
        if self._accept_warnings:
            arguments.append("--accept-warnings")
        if self._quantize or self._samples.is_dir():
            arguments += ["--calibration-dir", str(self._samples)]
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as told:
            process = await asyncio.create_subprocess_exec(
                *BEHIND_ALL_ELSE, *self._command, *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=answer, stderr=told,
            )  # fmt: skip
            try:
                await asyncio.wait_for(process.wait(), self._limit_s)
            except asyncio.TimeoutError:
                return Conversion(-1, f"{REFUSED}: not converted within {self._limit_s:.0f} s")
            finally:
                await _end(process)
            code = process.returncode or 0
            return Conversion(code, _words(code, _tail(answer), _tail(told)))


def _put_once(path: Path, data: bytes) -> bool:
    """Write a file whole; False when it is there with other content, which stays."""
    try:
        return outside.read_bytes(path, len(data)) == data
    except ValueError:  # larger, or no file
        return False
    except FileNotFoundError:
        files.remove_unfinished(path.parent, path.name)
        files.add_file(path.parent, iter([path.name]), data)
        return True


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process that still runs, tidied up where it does so in time."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), STOP_S)


def _tail(file: IO[bytes]) -> bytes:
    """Return the end of what a process wrote."""
    size = file.seek(0, 2)
    file.seek(max(0, size - outside.MAX_TEXT_BYTES))
    return file.read()


def _words(code: int, answer: bytes, told: bytes) -> str:
    """Return what a conversion came to in one line: figures, or exit code and headline."""
    try:
        result = outside.json_value(answer.strip().rpartition(b"\n")[2])
        if code == 0:
            return printable(_figures(result))
        headline = str(result["error"]).partition("\n")[0].removeprefix("NOT PROMOTED: ")
    except (ValueError, TypeError, LookupError):
        if code == 0:
            return "promoted"
        lines = told.decode("utf-8", "replace").strip().splitlines()
        headline = lines[-1] if lines else "it said nothing"
    return printable(f"{REFUSED}: exit code {code}: {headline}")


def _figures(result: Any) -> str:
    """Return which model is promoted, and how well it agrees; raises LookupError, TypeError."""
    precision, found = result["precision"], result["validation"]
    figures = found[precision]
    return (
        f"promoted as {result['version']}, {precision.upper()}, verdict {found['verdict']}: on "
        f"{found['frames']} frames it differs from its ONNX by {figures['mae']:.4f} on average and "
        f"{figures['max']:.3f} at most, SQNR {figures['sqnr_db']:.1f} dB"
    )
