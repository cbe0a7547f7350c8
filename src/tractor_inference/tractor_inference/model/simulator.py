"""The toolkit's simulator in a process of its own.

Building a model keeps Python's interpreter for seconds, now and then for a tenth of one at a time:
in the process of a rover that drives, its ticks would wait.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core.child import killed_with, same_modules
from tractor_core.contract import Contract
from tractor_core.errors import ModelError
from tractor_core.files import lock
from tractor_core.packed import PackedSamples

from . import rknn_toolkit, vendor
from .manifest import BuildRecord

# For a process that is to end; the toolkit may hold it up.
END_LIMIT_S = 2.0
# Less than a model may take to open (`opener.OPEN_LIMIT_S`): the process ends with the attempt.
BUILD_LIMIT_S = 110.0
PREFIX, LOCK = "rknn_sim_", "lock"
# What is newer may not be locked yet.
NEW_S = 10.0


class Simulator:
    """A model that is built again and answers in the simulator, until it is closed.

        with contextlib.closing(Simulator(onnx, frames, contract, "rk3588", options)) as simulator:
            action = simulator.answer(bev, proprio)

    Args:
        onnx: the bytes of an actor in its normal form.
        frames: what calibrates it; none for FP16.
        contract: names and shapes of the inputs.
        target: platform, for instance rk3588.
        options: how to quantise.

    Raises:
        ModelError: the toolkit refused, or the process ended.
    """

    def __init__(
        self,
        onnx: bytes,
        frames: PackedSamples,
        contract: Contract,
        target: str,
        options: BuildRecord,
    ) -> None:
        _remove_abandoned()
        with contextlib.ExitStack() as opened:
            # Of the process's life: what the toolkit leaves in it goes when that is killed, too.
            self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            opened.callback(shutil.rmtree, self._folder, ignore_errors=True)
            opened.callback(os.close, lock(self._folder / LOCK))
            self._line, far_end = Pipe()
            opened.enter_context(self._line)
            alive, far_life = socket.socketpair()
            opened.enter_context(alive)
            with far_end, far_life:
                ends = far_end.fileno(), far_life.fileno()
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, *map(str, ends)],
                    stdin=subprocess.DEVNULL, stdout=2, pass_fds=ends,
                    env=os.environ | same_modules() | {"TMPDIR": str(self._folder)},
                )  # fmt: skip
            opened.callback(self._end)
            self._build(onnx, frames, contract, target, options)
            self._opened = opened.pop_all()

    def _build(
        self, onnx: bytes, frames: PackedSamples, contract: Contract, target: str,
        options: BuildRecord,
    ) -> None:  # fmt: skip
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            file = Path(name, "actor.onnx")
            file.write_bytes(onnx)
            dataset = rknn_toolkit.write_dataset(frames, contract, Path(name)) if frames else None
            self._ask((file, contract, target, dataset, options), BUILD_LIMIT_S)

    def answer(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the action (1, 2) to one frame, see `rknn_toolkit.simulate`.

        Raises:
            ModelError: the simulator gave no answer, or its process ended.
        """
        return self._ask((bev, proprio))

    def close(self) -> None:
        """End the process."""
        self._opened.close()

    def _end(self) -> None:
        self._line.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, question: tuple, limit_s: float | None = None) -> NDArray[np.float32]:
        try:
            self._line.send(question)
            if not self._line.poll(limit_s):
                self._process.kill()
                raise ModelError(
                    f"{rknn_toolkit.DISTRIBUTION}: expected the model built within {limit_s:g} s, "
                    "found it still being built"
                )
            answer = self._line.recv()
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT_S)
            raise ModelError(
                f"{rknn_toolkit.DISTRIBUTION}: the process of the simulator has ended, with "
                f"{self._process.returncode}; see stderr"
            ) from error
        except BaseException:
            # An answer that was not received would be taken for that to the next question.
            self._process.kill()
            self._line.close()
            raise
        if isinstance(answer, str):
            raise ModelError(answer)
        return answer


def _serve(line: Connection) -> None:
    """Build what is asked for first, and answer frames until the other end is closed."""
    file, contract, target, dataset, options = line.recv()
    try:
        with vendor.silent_unless_it_fails():
            rknn = rknn_toolkit.build(
                file, contract, target=target, dataset=dataset, options=options
            )
            rknn_toolkit.start_simulator(rknn)
    except Exception as error:  # whatever it is, it belongs to who asked
        line.send(str(error) or type(error).__name__)
        return
    line.send(None)
    while True:
        bev, proprio = line.recv()
        try:
            answer = rknn_toolkit.simulate(rknn, bev, proprio)
        except ModelError as error:
            line.send(str(error))
        else:
            line.send(answer)


def _remove_abandoned() -> None:
    """Remove the folders of simulators whose owner was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # of a simulator that is open, or of somebody else
            if time.time() - folder.stat().st_mtime < NEW_S:
                continue
            handle = lock(folder / LOCK)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


if __name__ == "__main__":
    # Ctrl-C reaches everybody at the terminal; who opened this process ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in sys.argv[1:]:
        os.set_inheritable(int(end), False)
    killed_with(int(sys.argv[2]))
    with Connection(int(sys.argv[1])) as here, contextlib.suppress(EOFError, ConnectionError):
        _serve(here)
