"""The training server: experience in, updates, candidates through the gate, models out.

    await Server(configuration, learning, params_file, address).run(ending)

Driving rovers wait for nothing of it. Chunks are acknowledged when they are durable here; what
cannot be learnt from is put aside with the reason; a server that is not there is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tractor_core.errors import TractorError
from tractor_core.files import replace_file
from tractor_core.system_error import explain
from tractor_core.text import printable
from tractor_link import offers, streams
from tractor_link.broker import LOOPBACK, Broker
from tractor_link.connection import ANSWER_S, connected, ended, outcome
from tractor_link.intake import TRAINER, Intake
from tractor_link.lease import Lease, LeaseError
from tractor_link.offers import File, Offer
from tractor_link.reasons import reason

from .candidates import Candidates
from .config import Configuration, curves_folder
from .curves import Curves, mean_of
from .gate import Score
from .learning import MODELS, Learning
from .reward import TERMS

log = logging.getLogger(__name__)

# Chunks that are taken ahead of learning; the rest waits on the server.
MOST_WAITING = 120
LEARN_S, IDLE_S, WAIT_S, FULL_S = 0.25, 0.05, 0.5, 0.1
PROGRESS_S, STATUS_S, LATEST_S = 10.0, 5.0, 10.0
PAUSE_S = 1.0
CANDIDATE, LATEST = "candidate.onnx", "latest.onnx"


class Server:
    """A learner on the link.

    Args:
        params_file: the shared parameter file, of the contract that is learnt for.
        address: of the NATS server; None where `broker` is started here.
        encoder: the actor where learning begins.

    Attributes:
        problem: why nothing is received or offered now, or None.
    """

    def __init__(
        self, own: Configuration, learning: Learning, params_file: str, address: str | None,
        encoder: Path,
    ) -> None:  # fmt: skip
        self._own, self._learning, self._address = own, learning, address
        self._folder = learning.folder
        self._broker: Broker | None = None
        self._ending = asyncio.Event()
        self._judging: asyncio.Task[None] | None = None
        self._save_soon = False
        self._disk_problem: str | None = None
        # What was not saved is not offered: after a kill the model before would be the newest.
        self._saved_version = learning.progress.version
        self._said: tuple[float, float, int] = (time.monotonic(), 0.0, 0)
        self._curves = Curves(curves_folder(own, self._folder))
        self._candidates = Candidates(own, learning, params_file, encoder, self._curves)
        self.problem: str | None = "not connected yet"

    async def run(self, ending: asyncio.Event) -> None:
        """Serve until `ending` is set; then all that was learnt is saved.

        Raises:
            LeaseError: another learner uses the server.
            TractorError, OSError: it cannot go on; what was learnt until then is saved.
        """
        link, learn = asyncio.create_task(self._link()), asyncio.create_task(self._learn())
        waiting = asyncio.create_task(ending.wait())
        try:
            await asyncio.wait([link, learn, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The thread that learns is waited for: what it holds is saved.
            self._ending.set()
            waiting.cancel()
            await ended(link)
            ends = await asyncio.gather(link, learn, waiting, return_exceptions=True)
            if self._judging is not None:
                self._judging.cancel()
                await asyncio.gather(self._judging, return_exceptions=True)
            # What broke off in the middle of something is not saved over what was whole.
            if not learn.cancelled() and learn.exception() is None:
                await asyncio.to_thread(self._save)
            self._curves.close()
            if self._broker is not None:
                await asyncio.to_thread(self._broker.stop)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    # The link

    async def _link(self) -> None:
        address = self._address or f"nats://{LOOPBACK}:{self._own.server.nats_port}"
        while True:
            try:
                address = self._address or await self._own_address()
                error = await outcome(self._while_connected(address))
            except TractorError as found:
                error = found
            if isinstance(error, LeaseError):
                raise error
            if error is not None:
                self._say(reason(error, address))
            await asyncio.sleep(PAUSE_S)

    async def _own_address(self) -> str:
        """Return the address of the server that is started here, started anew if it died."""
        if self._broker is not None and self._broker.process.poll() is not None:
            log.warning("nats-server ended; it is started again")
            await asyncio.to_thread(self._broker.stop)
            self._broker = None
        if self._broker is None:
            store = self._folder.parent / "nats"
            port = self._own.server.nats_port
            self._broker = await asyncio.to_thread(Broker, store, port)
            log.info("nats-server listens at %s", self._broker.address)
        return self._broker.address

    async def _while_connected(self, address: str) -> None:
        owner = f"{socket.gethostname()}:{self._folder.resolve()}"
        async with connected(address, "trainer") as connection:
            jetstream = connection.jetstream(timeout=ANSWER_S)
            await streams.set_up(jetstream, self._own.streams)
            lease = await Lease.take(jetstream, owner)
            try:
                intake = await Intake.open(jetstream, self._own.streams)
                self._say(None)
                told_s, offered = -STATUS_S, -1
                while not connection.is_closed:
                    await lease.renew()
                    version = self._learning.progress.version
                    if version == self._saved_version != offered:
                        offered = await self._try_to_offer(jetstream)
                    if time.monotonic() - told_s >= STATUS_S:
                        told_s = time.monotonic()
                        await self._tell(jetstream)
                    await self._take(intake)
            finally:
                if not connection.is_closed:
                    with contextlib.suppress(Exception):
                        await asyncio.shield(lease.give_back())

    async def _take(self, intake: Intake) -> None:
        """Take what came, as far as learning keeps up."""
        if self._learning.waiting >= MOST_WAITING:
            await asyncio.sleep(FULL_S)
            return
        arrivals = await intake.next(MOST_WAITING, WAIT_S)
        data = [arrival.data for arrival in arrivals]
        try:
            whys = await asyncio.to_thread(self._learning.add, data)
        except OSError as error:
            raise TractorError(explain(error, self._folder)) from error
        for arrival, why in zip(arrivals, whys):
            if why is None:
                await arrival.taken()
            else:
                log.warning("a chunk of %s is put aside: %s", printable(arrival.rover), why)
                await arrival.refused(why)

    async def _try_to_offer(self, jetstream: Any) -> int:
        """Offer as `_offer` does; what is in the way of it is said, and keeps no experience out."""
        from nats.js import errors

        try:
            return await self._offer(jetstream)
        except OSError as error:
            log.error("no model is offered: %s", explain(error, self._folder / MODELS))
        except TractorError as error:
            log.error("no model is offered: %s", error)
        except errors.APIError as error:
            log.error("no model is offered: NATS server: %s", printable(str(error)))
        return self._learning.progress.version

    async def _offer(self, jetstream: Any) -> int:
        """Offer the newest model that passed, where the server does not have it; return which.

        Versions go on behind the last that was ever offered there.
        """
        from nats.js import errors

        last: Offer | None = None
        with contextlib.suppress(errors.NotFoundError, TractorError):
            message = await jetstream.get_last_msg(streams.MODELS, streams.OFFERED)
            last = offers.parse(message.data or b"")
        progress, models = self._learning.progress, self._folder / MODELS
        highest = last.version if last is not None else 0
        if not progress.passed:
            progress.version = max(progress.version, highest)
            return progress.version
        path = models / f"{offers.name_of(progress.version)}.onnx"
        # No await from here to the offer: another candidate may pass meanwhile.
        onnx, card = path.read_bytes(), path.with_suffix(".md").read_bytes()
        if last is not None and last.onnx == File.of(onnx):
            return progress.version
        if highest >= progress.version:  # of another run, while there was no connection
            version = self._candidates.next_version(highest)
            name = offers.name_of(version)
            replace_file(models / f"{name}.md", card)
            replace_file(models / f"{name}.onnx", onnx)
            progress.version, self._save_soon = version, True
            return self._saved_version  # it is offered once it is saved
        best = Score.from_json(progress.best or {})
        offer = Offer(
            progress.version, File.of(onnx), self._learning.contract.digest,
            self._own.reward.digest, progress.steps, best.figures, File.of(card),
        )  # fmt: skip
        await offers.publish(jetstream, offer, onnx, card)
        log.info("offered to rovers: %s, %s", offer.name, best)
        return offer.version

    async def _tell(self, jetstream: Any) -> None:
        """Say how it goes, in the key-value store."""
        progress, trainer = self._learning.progress, self._learning.trainer
        status = {
            "steps": progress.steps, "decisions": round(trainer.decisions),
            "updates": trainer.sac.updates, "waiting": self._learning.waiting,
            "version": progress.version, "candidates": progress.candidates,
            "passed": progress.passed,
        }  # fmt: skip
        values = await jetstream.key_value(streams.STATUS)
        await values.put(TRAINER, json.dumps(status).encode())

    def _say(self, problem: str | None) -> None:
        if problem != self.problem:
            if problem is None:
                log.info("connected; waiting for rovers")
            else:
                log.warning("%s", problem)
        self.problem = problem

    # Learning

    async def _learn(self) -> None:
        learning, own = self._learning, self._own.server
        saved_s = latest_s = time.monotonic()
        exported = -1
        while not self._ending.is_set():
            busy = await asyncio.to_thread(self._learn_for, LEARN_S)
            now_s = time.monotonic()
            if now_s - self._said[0] >= PROGRESS_S:
                self._progress(now_s)
            updates = learning.trainer.sac.updates
            if exported < 0 or (now_s - latest_s >= LATEST_S and updates != exported):
                latest_s = now_s
                if await self._on_disk(self._export, self._folder / LATEST):
                    exported = updates
            if self._may_judge() and await self._on_disk(self._export, self._folder / CANDIDATE):
                self._judging = asyncio.create_task(self._judge())
            if self._save_soon or now_s - saved_s >= own.checkpoint_s:
                saved_s, self._save_soon = now_s, False
                self._save_soon |= not await self._on_disk(self._save)
            if not busy or self._save_soon:
                await asyncio.sleep(IDLE_S)

    async def _on_disk(self, work: Callable[..., None], *arguments: Any) -> bool:
        """Write something; return whether the disk took it. What it did not is tried again."""
        try:
            await asyncio.to_thread(work, *arguments)
        except OSError as error:
            text = explain(error, self._folder)
            if text != self._disk_problem:
                log.error("%s; learning goes on, and it is tried again", text)
            self._disk_problem = text
            return False
        self._disk_problem = None
        return True

    def _export(self, path: Path) -> None:
        self._learning.export(path, self._own.server.exploration_scale)

    def _learn_for(self, seconds: float) -> bool:
        """Learn for about so long; return whether there was anything to learn from."""
        end_s = time.monotonic() + seconds
        busy = False
        while time.monotonic() < end_s and self._learning.step():
            busy = True
        return busy

    def _save(self) -> None:
        version = self._learning.progress.version
        self._learning.save()
        self._saved_version = version

    def _may_judge(self) -> bool:
        if self._judging is not None:
            if not self._judging.done():
                return False
            self._judging.result()
        return self._candidates.due

    async def _judge(self) -> None:
        if await self._candidates.judge(self._folder / CANDIDATE):
            self._save_soon = True

    def _progress(self, now_s: float) -> None:
        """Say how learning goes, on the terminal and in the curves."""
        trainer, progress = self._learning.trainer, self._learning.progress
        before_s, decisions, updates = self._said
        self._said = now_s, trainer.decisions, trainer.sac.updates
        seconds = now_s - before_s
        rates = {
            "rate/decisions_per_s": (trainer.decisions - decisions) / seconds,
            "rate/updates_per_s": (trainer.sac.updates - updates) / seconds,
        }
        terms = mean_of(self._learning.terms)
        self._curves.add(self._learning.figures | terms | rates, progress.steps)
        reward = sum(terms.get(f"reward/{name}", 0.0) for name in TERMS)
        log.info(
            "%d steps (%.0f decisions/s), %d updates (%.0f/s), reward %.3f, temperature %.3f, "
            "%d chunks wait, version %d",
            progress.steps, rates["rate/decisions_per_s"], trainer.sac.updates,
            rates["rate/updates_per_s"], reward,
            self._learning.figures.get("sac/temperature", 0.0), self._learning.waiting,
            progress.version,
        )  # fmt: skip
