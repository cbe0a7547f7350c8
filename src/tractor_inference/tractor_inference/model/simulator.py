"""The toolkit's simulator in a process of its own.

Building a model keeps Python's interpreter for seconds, now and then for a tenth of one at a time:
in the process of a rover that drives, its ticks would wait.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tractor_core.child import same_modules
from tractor_core.contract import Contract
from tractor_core.errors import ModelError
from tractor_core.packed import PackedSamples

from . import rknn_toolkit, vendor
from .manifest import BuildRecord

# For a process that is to end; the toolkit may hold it up.
END_LIMIT_S = 2.0


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
        # Of the process's life: what the toolkit leaves in it goes when the process is killed, too.
        self._folder = tempfile.TemporaryDirectory(prefix="rknn_sim_")
        folder = Path(self._folder.name)
        file = folder / "actor.onnx"
        file.write_bytes(onnx)
        dataset = rknn_toolkit.write_dataset(frames, contract, folder) if frames else None
        self._line, far_end = Pipe()
        with far_end:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(far_end.fileno())],
                stdin=subprocess.DEVNULL, stdout=2, pass_fds=[far_end.fileno()],
                env=os.environ | same_modules() | {"TMPDIR": str(folder)},
            )  # fmt: skip
        try:
            self._ask((file, contract, target, dataset, options))
        except BaseException:
            self.close()
            raise

    def answer(self, bev: NDArray[np.float32], proprio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the action (1, 2) to one frame, see `rknn_toolkit.simulate`.

        Raises:
            ModelError: the simulator gave no answer, or its process ended.
        """
        return self._ask((bev, proprio))

    def close(self) -> None:
        """End the process."""
        self._line.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _ask(self, question: tuple) -> NDArray[np.float32]:
        try:
            self._line.send(question)
            answer = self._line.recv()
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_LIMIT_S)
            raise ModelError(
                f"{rknn_toolkit.DISTRIBUTION}: the process of the simulator has ended, with "
                f"{self._process.returncode}; see stderr"
            ) from error
        if isinstance(answer, str):
            raise ModelError(answer)
        return answer


def _serve(line: Connection) -> None:
    """Build what is asked for first, and answer frames until the other end is closed."""
    threading.Thread(target=_end_with, args=(line.fileno(),), daemon=True).start()
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


def _end_with(descriptor: int) -> None:
    """End this process, whatever it does, when nobody is at the other end any more."""
    gone = select.poll()
    gone.register(descriptor, select.POLLHUP)
    gone.poll()
    os._exit(0)


if __name__ == "__main__":
    # Ctrl-C reaches everybody at the terminal; who opened this process ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as here, contextlib.suppress(EOFError, ConnectionError):
        _serve(here)
