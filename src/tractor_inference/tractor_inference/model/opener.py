"""Opening models: beside the one that drives, one at a time, and not for ever."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TypeVar

from tractor_core.background import in_background
from tractor_core.contract import Contract
from tractor_core.errors import ModelError
from tractor_core.parameters import param
from tractor_core.robot import Robot

from . import file as model_file
from .backends import CORE_MASKS, KINDS, open_backend
from .policy import Policy
from .watch import ModelWatch

T = TypeVar("T")

# Opening takes seconds where the toolkit's simulator is built; longer is a driver that hangs.
OPEN_LIMIT_S = 120.0


@dataclasses.dataclass(frozen=True)
class ModelParameters:
    """Which model drives, and in what; see the sac_actor section of config/sac_rover.yaml."""

    model: str = param("The actor, an .onnx or .rknn file.", "models/remote_trained.rknn")
    backend: str = param("What runs the model; auto goes by file and machine.", "auto",
                         choices=KINDS)  # fmt: skip
    npu_core_mask: str = param("The NPU cores that backend rknn runs on.", "auto",
                               choices=CORE_MASKS)  # fmt: skip
    watch_model: bool = param("Take a new model as soon as the path leads to one.", False)
    inference_budget_s: float = param(
        "A new model that keeps taking longer for its answers is rolled back, s.", 0.033,
        minimum=0.001, maximum=1.0,
    )  # fmt: skip
    max_outages_a_minute: int = param(
        "A model that fails more often, each time for a frame or more, is stopped until "
        "~/reload_model.", 5, minimum=0, maximum=1000,
    )  # fmt: skip


class Opener:
    """Opens and checks what the parameter `model` leads to, and knows which file each came from."""

    def __init__(self, contract: Contract, robot: Robot, parameters: ModelParameters) -> None:
        self._contract, self._robot, self._own = contract, robot, parameters
        self._watch = ModelWatch()
        # The real file of each digest that was opened.
        self._files: dict[str, Path] = {}
        self._turn = threading.Lock()

    def changed(self) -> bool:
        """Return whether the path leads to something new that is no longer being written."""
        return self._watch.changed(model_file.stamp(Path(self._own.model)))

    def open(self, digest: str = "") -> Policy:
        """Open a model and warm it up.

        Args:
            digest: sha256 of one that was opened before, from its own file; else the path's.

        Raises:
            TractorError: it cannot be opened, or what lies in its file now is another.
        """
        path = self._files[digest] if digest else Path(self._own.model)
        if not digest:
            # Before it is read: what changes meanwhile is seen later.
            self._watch.opening(model_file.stamp(path))
        file = model_file.real_path(path)
        backend = open_backend(self._own.backend, path, self._contract, self._own.npu_core_mask)
        policy = Policy(self._contract, self._robot, backend)
        try:
            if digest and backend.digest != digest:
                raise ModelError(
                    f"{path}: expected sha256 {digest}, which drove, found {backend.digest}; "
                    "~/reload_model takes it, on trial"
                )
            policy.warm_up()
        except BaseException:
            backend.close()
            raise
        self._files[backend.digest] = file
        return policy

    def open_in_time(self, digest: str = "") -> Policy:
        """Open as `open` does; what comes after OPEN_LIMIT_S is closed.

        Raises:
            ModelError: it took longer.
        """
        work = in_background(lambda: self.open(digest))
        wait([work], OPEN_LIMIT_S)
        if not work.done():
            work.add_done_callback(_close_late)
            raise ModelError(
                f"expected the model open within {OPEN_LIMIT_S:g} s, found it still being opened; "
                "the runtime hangs: restart the actor, and the board if it hangs again"
            )
        return work.result()

    def in_turn(self, work: Callable[[], T]) -> Future[T]:
        """Start work that opens a model, in the background.

        Raises:
            ModelError: other work is under way.
        """
        if not self._turn.acquire(blocking=False):
            raise ModelError("busy: a model is being opened, try again")

        def run_it() -> T:
            try:
                return work()
            finally:
                self._turn.release()

        return in_background(run_it)


def _close_late(work: Future[Policy]) -> None:
    if work.exception() is None:
        work.result().backend.close()
