"""Simulated rovers, faster than real time, that send what they experience to a training server.

They drive with the actor of a file, by default the newest of a server here, which is read
anew for each world; explore; and send by the link that a rover sends by. While the trainer has more
than it learns from they wait.

Exit codes:
  0  ended by a signal, or after --decisions, and everything is sent
  1  cannot go on, or what is left was not sent in time
  2  wrong arguments
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tractor_core import cli as commands
from tractor_core.errors import TractorError
from tractor_core.experience import Chunk, encode
from tractor_core.spool import Spool
from tractor_core.system_error import explain
from tractor_core.text import printable_message
from tractor_link.connection import ANSWER_S, Reconnecting, ended
from tractor_link.intake import TRAINER
from tractor_link.parameters import ROVER_NAME
from tractor_link.reasons import require_address
from tractor_link.streams import EXPERIENCE
from tractor_link.uplink import Uplink
from tractor_sim.rollout import FIRST_UNSEEN_SEED
from tractor_sim.workers import begin_worker

from .headless import Trip, drive
from .reward import DECISION_S

log = logging.getLogger(__name__)

# Worlds of training; the reference actor's imitation draws below.
FIRST_SEED = 500_000
TRIP_S = 30.0
# Chunks of about a second; what a trainer of one core learns from in ten.
MOST_WAITING = 100
LOOK_S, DRAIN_S, PROGRESS_S = 0.2, 30.0, 10.0
# One trip in so many is driven without noise: what it is worth shows the actor itself.
EVALUATES = 10
SPOOL_BYTES = 500_000_000


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Drive until a signal or the number of decisions and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tractor_training rovers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", help="default: %(default)s")
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("server_data/run/latest.onnx"),
        help="default: %(default)s",
    )
    parser.add_argument("--spool", type=Path, default=Path("server_data/rovers"), help="what waits")
    parser.add_argument("--name", default="simulated", help="of the rover on the link")
    parser.add_argument("--processes", type=int, default=1, help="worlds at the same time")
    parser.add_argument("--decisions", type=int, default=0, help="then end; 0: when interrupted")
    parser.add_argument("--scale", type=float, default=0.3, help="of the noise (default: 0.3)")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="first world")
    parser.add_argument("--params", help="shared parameter file")
    arguments = parser.parse_args(argv)
    if arguments.processes < 1:
        parser.error(f"--processes: expected 1 or more, found {arguments.processes}")
    if not 0.0 <= arguments.scale <= 1.0:
        parser.error(f"--scale: expected 0 to 1, found {arguments.scale}")
    if arguments.decisions < 0:
        parser.error(f"--decisions: expected 0 or more, found {arguments.decisions}")
    if not ROVER_NAME.fullmatch(arguments.name):
        parser.error(f"--name: expected letters, digits, _ and -, found {arguments.name!a}")
    if not 0 <= arguments.first_seed < FIRST_UNSEEN_SEED:
        parser.error(f"--first-seed: expected 0 to {FIRST_UNSEEN_SEED - 1}, which judge nothing")
    commands.set_up_log("%(asctime)s %(levelname).1s %(message)s")
    try:
        params_file = str(commands.params_file(arguments.params))
        require_address(arguments.nats)
    except TractorError as error:
        print(printable_message(error), file=sys.stderr)
        return commands.USAGE
    try:
        return asyncio.run(_Rovers(arguments, params_file).run())
    except (TractorError, OSError) as error:
        text = explain(error, arguments.spool) if isinstance(error, OSError) else error
        print(printable_message(text), file=sys.stderr)
        return 1


class _Rovers:
    def __init__(self, arguments: argparse.Namespace, params_file: str) -> None:
        self._own, self._params_file = arguments, params_file
        self._spool = Spool(arguments.spool, SPOOL_BYTES)
        self._uplink = Uplink(arguments.nats, arguments.name, self._spool)
        self._trainer = Reconnecting(
            arguments.nats, "trainer", f"consumer {TRAINER}", "rovers", 2.0
        )
        self._decisions = 0.0
        # Chunks on the server that the trainer does not have; None: not known.
        self._behind: int | None = None

    async def run(self) -> int:
        """Drive until the end; return the exit code."""
        ending = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ending.set)
        tasks = [
            asyncio.create_task(self._uplink.run()),
            asyncio.create_task(self._trainer.run(self._look)),
        ]
        try:
            await self._drive(ending)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._drained(), DRAIN_S)
        finally:
            await ended(*tasks)
        left = len(self._spool.waiting())
        print(
            f"{self._decisions:.0f} decisions, {self._uplink.status.chunks} chunks sent, "
            f"{self._uplink.status.bytes} bytes, {left} left in {self._spool.folder}"
        )
        return int(left > 0)

    async def _drive(self, ending: asyncio.Event) -> None:
        import multiprocessing

        own, loop = self._own, asyncio.get_running_loop()
        seed, running = own.first_seed, set[asyncio.Future[list[Chunk]]]()
        told_s, told = loop.time(), 0.0
        # Not fork: threads are running.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(own.processes, context, begin_worker)
        try:
            while not ending.is_set() and not 0 < own.decisions <= self._decisions:
                while self._may_drive() and len(running) < own.processes:
                    scale = own.scale if seed % EVALUATES else 0.0
                    trip = Trip(seed, TRIP_S, self._params_file, str(own.model), scale)
                    running.add(loop.run_in_executor(pool, drive, trip))
                    seed = seed + 1 if seed + 1 < FIRST_UNSEEN_SEED else 0
                if not running:
                    await asyncio.sleep(LOOK_S)
                    continue
                done, running = await asyncio.wait(running, timeout=LOOK_S)
                for future in done:
                    await asyncio.to_thread(self._keep, future.result())
                if loop.time() - told_s >= PROGRESS_S:
                    rate = (self._decisions - told) / (loop.time() - told_s)
                    told_s, told = loop.time(), self._decisions
                    log.info(
                        "%.0f decisions (%.0f/s), %d chunks sent, the trainer is %s behind",
                        self._decisions, rate, self._uplink.status.chunks, self._behind,
                    )  # fmt: skip
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _may_drive(self) -> bool:
        """Return whether there is an actor to drive with, and somebody who learns from it."""
        return (
            self._behind is not None
            and self._behind + len(self._spool.waiting()) <= MOST_WAITING
            and self._own.model.is_file()
        )

    def _keep(self, chunks: list[Chunk]) -> None:
        for chunk in chunks:
            self._spool.add(chunk.id, encode(chunk))
            stamps = chunk.rows["stamp_ns"]
            self._decisions += float(stamps[-1] - stamps[0]) * 1e-9 / DECISION_S
        self._spool.trim()

    async def _look(self, connection: Any) -> None:
        """Keep an eye on how far behind the trainer is."""
        try:
            jetstream = connection.jetstream(timeout=ANSWER_S)
            while not connection.is_closed:
                info: Any = await jetstream.consumer_info(EXPERIENCE, TRAINER)
                self._behind = info.num_pending + info.num_ack_pending
                self._trainer.succeeded()
                await asyncio.sleep(LOOK_S)
        finally:
            self._behind = None

    async def _drained(self) -> None:
        while await asyncio.to_thread(self._spool.waiting):
            await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
