"""The training server with a real nats-server: takes, learns, judges, offers; nothing is lost."""

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from experience_file import make

from tractor_core import contract as contracts
from tractor_core import robot as robots
from tractor_core.errors import TractorError
from tractor_core.experience import encode
from tractor_core.paths import default_params_file
from tractor_core.spool import Spool

torch = pytest.importorskip("torch", reason="learning needs torch")
nats = pytest.importorskip("nats", reason="the link needs nats-py")

from tractor_link import offers, streams  # noqa: E402
from tractor_link.broker import Broker  # noqa: E402
from tractor_link.lease import Lease, LeaseError  # noqa: E402
from tractor_link.uplink import Uplink  # noqa: E402
from tractor_training import config, gate  # noqa: E402
from tractor_training.learning import Learning  # noqa: E402
from tractor_training.server import Server  # noqa: E402

CONTRACT = contracts.load(default_params_file())
ROBOT = robots.load(default_params_file())
GATE = {"every_decisions": 20, "worlds": 2}


@pytest.fixture
def encoder(repository):
    return repository / "models" / "sac_actor_reference.onnx"


@pytest.fixture
def own():
    return config.changed(
        config.load(), learner={"learning_starts": 20, "buffer_size": 5000}, sac={"batch_size": 8},
        gate=GATE, server={"nats_port": 0, "tensorboard_port": 0}, start={"keep_heads": False},
        streams={"experience_max_gb": 0.01},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def judged(monkeypatch):
    """Let the gate find what a test says, in place of driving worlds: (metres, collisions)."""
    found = [(1.0, 0)]

    async def measure(model, params_file, parameters):
        metres, hits = found[-1] if len(found) == 1 else found.pop(0)
        return gate.Score(
            tuple(dataclasses.replace(d, distance_m=metres, collisions=hits)
                  for d in gate.standing(parameters).drives), parameters.seconds
        )  # fmt: skip

    monkeypatch.setattr(gate, "measure", measure)
    return found


def chunks(count, first=0, **fields):
    return [
        (f"chunk_{n:05d}", encode(make(CONTRACT, 30, seed=n, first=30 * n, **fields)))
        for n in range(first, first + count)
    ]


async def until(condition, limit_s=30.0):
    end_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "not reached"
        await asyncio.sleep(0.02)
    return found


class Serving:
    """A server that runs for the length of a block, with a rover that sends to it."""

    def __init__(self, tmp_path, own, encoder, address=None):
        self.learning = Learning(tmp_path / "run", own, CONTRACT, ROBOT, encoder)
        self.server = Server(own, self.learning, str(default_params_file()), address, encoder)
        self.spool = Spool(tmp_path / "experience", 10**9)
        self._ending, self._given = asyncio.Event(), address

    async def __aenter__(self):
        self.task = asyncio.create_task(self.server.run(self._ending))
        await until(lambda: self.server.problem is None or self.task.done())
        if self.task.done():
            self.learning.close()
            self.task.result()
        self.address = self._given or self.server._broker.address
        self._sending = asyncio.create_task(Uplink(self.address, "rover1", self.spool).run())
        return self

    async def __aexit__(self, *_):
        self._sending.cancel()
        self._ending.set()
        await asyncio.gather(self._sending, return_exceptions=True)
        await self.task
        self.learning.close()

    def send(self, some):
        for name, data in some:
            self.spool.add(name, data)

    @contextlib.asynccontextmanager
    async def jetstream(self):
        connection = await nats.connect(self.address)
        try:
            yield connection.jetstream()
        finally:
            await connection.close()

    async def offered(self):
        async with self.jetstream() as jetstream:
            message = await jetstream.get_last_msg(streams.MODELS, streams.OFFERED)
            return offers.parse(message.data)


def test_experience_becomes_a_model_that_is_offered(tmp_path, own, encoder):
    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            serving.send(chunks(4))
            await until(lambda: serving.learning.progress.version == 1)
            progress = serving.learning.progress
            await until(lambda: progress.steps == 120)
            offer = await wait_for_offer(serving)
            assert offer.name == "sac_actor_v01" and offer.contract == CONTRACT.digest
            assert offer.scores["mean_m"] == 1.0 and 30 <= offer.steps <= 120
            async with serving.jetstream() as jetstream:
                onnx = await offers.fetch(jetstream, offer.onnx)
                card = await offers.fetch(jetstream, offer.card)
                status = await (await jetstream.key_value(streams.STATUS)).get("trainer")
            assert onnx == (tmp_path / "run" / "models" / "sac_actor_v01.onnx").read_bytes()
            assert b"The gate: **passed**" in card
            assert json.loads(status.value)["version"] in (0, 1)
        assert (tmp_path / "run" / "checkpoint.pt").exists()
        assert (tmp_path / "run" / "latest.onnx").exists()

    asyncio.run(story())


async def wait_for_offer(serving, version=1):
    from nats.js import errors

    end_s = time.monotonic() + 20.0
    while time.monotonic() < end_s:
        with contextlib.suppress(errors.NotFoundError):
            if (found := await serving.offered()).version >= version:
                return found
        await asyncio.sleep(0.05)
    raise AssertionError("nothing was offered")


def test_what_is_worse_is_refused_and_kept(tmp_path, own, encoder, judged):
    judged[:] = [(2.0, 0), (1.0, 0), (2.0, 1), (3.0, 0)]

    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            for number in range(4):
                serving.send(chunks(3, first=3 * number))
                await until(lambda n=number: serving.learning.progress.candidates == n + 1)
            assert serving.learning.progress.version == 2
            await until(lambda: not serving.spool.waiting())
        return serving

    asyncio.run(story())
    assert sorted(p.name for p in (tmp_path / "run" / "models").glob("*.onnx")) == [
        "sac_actor_v01.onnx", "sac_actor_v02.onnx",
    ]  # fmt: skip
    refused = sorted((tmp_path / "run" / "refused").glob("*.onnx"))
    assert len(refused) == 2
    assert "**refused**. less far" in refused[0].with_suffix(".md").read_text()
    lines = (tmp_path / "run" / "candidates.jsonl").read_text().splitlines()
    assert [json.loads(line)["passed"] for line in lines] == [True, False, False, True]


def test_what_cannot_be_learnt_from_is_put_aside(tmp_path, own, encoder):
    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            serving.send([("bad", b"nonsense"), *chunks(1)])
            await until(lambda: serving.learning.progress.steps == 30)
            async with serving.jetstream() as jetstream:
                info = await jetstream.stream_info(streams.REFUSED)
                assert info.state.messages == 1

    asyncio.run(story())


def test_its_own_nats_server_is_started_again_when_it_dies(tmp_path, own, encoder):
    async def story():
        fixed = config.changed(own, server={"nats_port": free_port()})
        async with Serving(tmp_path, fixed, encoder) as serving:
            serving.send(chunks(2))
            await until(lambda: serving.learning.progress.steps == 60)
            serving.server._broker.process.send_signal(signal.SIGKILL)
            serving.send(chunks(2, first=2))
            await until(lambda: serving.learning.progress.steps == 120)

    asyncio.run(story())


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_model_is_offered_again_to_a_server_that_lost_it(tmp_path, own, encoder):
    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            serving.send(chunks(4))
            await until(lambda: serving.learning.progress.version == 1)
            first = await wait_for_offer(serving)
        shutil.rmtree(tmp_path / "nats")
        async with Serving(tmp_path, own, encoder) as serving:
            assert await wait_for_offer(serving) == first

    asyncio.run(story())


def test_versions_go_on_behind_those_of_an_earlier_run(tmp_path, own, encoder):
    async def story():
        serving = Serving(tmp_path, own, encoder)
        async with serving, serving.jetstream() as jetstream:
            file = offers.File.of(b"earlier")
            await offers.publish(jetstream, offers.Offer(41, file, "0" * 64), b"earlier")
        async with Serving(tmp_path, own, encoder) as serving:
            serving.send(chunks(4))
            await until(lambda: serving.learning.progress.passed == 1)
            assert serving.learning.progress.version == 42

    asyncio.run(story())


def test_what_passed_before_it_was_connected_is_offered_behind_those_of_others(
    tmp_path, own, encoder
):
    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            serving.send(chunks(4))
            await until(lambda: serving.learning.progress.passed == 1)
            first = await wait_for_offer(serving)
        with Broker(tmp_path / "other", port=0) as broker:
            serving = Serving(tmp_path / "none", own, encoder, broker.address)
            async with serving, serving.jetstream() as jetstream:
                file = offers.File.of(b"of others")
                await offers.publish(jetstream, offers.Offer(7, file, "0" * 64), b"of others")
            async with Serving(tmp_path, own, encoder, broker.address) as serving:
                await until(lambda: serving.learning.progress.version == 8)
                again = await wait_for_offer(serving, 8)
                assert again.onnx == first.onnx

    asyncio.run(story())


def test_a_second_trainer_is_refused(tmp_path, own, encoder, monkeypatch):
    from tractor_link import lease

    monkeypatch.setattr(lease, "DEAD_S", 0.5)
    monkeypatch.setattr(lease, "RENEW_S", 0.1)
    monkeypatch.setattr(Lease.take.__func__, "__defaults__", (0.5,))

    async def story(broker):
        async with Serving(tmp_path / "one", own, encoder, broker.address):
            second = Serving(tmp_path / "two", own, encoder, broker.address)
            with pytest.raises(LeaseError, match="another learner uses this server"):
                await second.__aenter__()

    with Broker(tmp_path / "store", port=0) as broker:
        asyncio.run(story(broker))


def test_without_room_on_the_disk_nothing_is_acknowledged(tmp_path, own, encoder, monkeypatch):
    own = config.changed(own, streams={"acknowledge_s": 1.0, "experience_max_gb": 0.01})

    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            log = serving.learning._log
            append, full = log.append, [True]

            def refusing(data):
                if full[0] and data:
                    raise OSError(errno.ENOSPC, "No space left on device")
                append(data)

            monkeypatch.setattr(log, "append", refusing)
            serving.send(chunks(2))
            await until(lambda: serving.server.problem is not None)
            assert "No space left" in serving.server.problem
            full[0] = False
            await until(lambda: serving.learning.progress.steps == 60)
            assert serving.server.problem is None

    asyncio.run(story())


def test_a_model_that_is_gone_keeps_no_experience_out(tmp_path, own, encoder, caplog):
    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            serving.send(chunks(4))
            await wait_for_offer(serving)
        for path in (tmp_path / "run" / "models").iterdir():
            path.unlink()
        shutil.rmtree(tmp_path / "nats")
        async with Serving(tmp_path, own, encoder) as serving:
            await until(lambda: "no model is offered" in caplog.text)
            serving.send(chunks(2, first=4))
            await until(lambda: serving.learning.progress.steps == 180)

    asyncio.run(story())


def test_a_gate_that_fails_is_said_and_learning_goes_on(
    tmp_path, own, encoder, monkeypatch, caplog
):
    async def broken(model, params_file, parameters):
        raise TractorError("a process died")

    monkeypatch.setattr(gate, "measure", broken)

    async def story():
        async with Serving(tmp_path, own, encoder) as serving:
            serving.send(chunks(4))
            await until(lambda: "is not judged: a process died" in caplog.text)
            serving.send(chunks(2, first=4))
            await until(lambda: serving.learning.progress.steps == 180)

    asyncio.run(story())


def test_a_server_that_is_none_is_named_and_tried_again(tmp_path, own, encoder):
    async def story():
        port = free_port()
        address = f"nats://127.0.0.1:{port}"
        learning = Learning(tmp_path / "run", own, CONTRACT, ROBOT, encoder)
        ending = asyncio.Event()
        found = Server(own, learning, str(default_params_file()), address, encoder)
        task = asyncio.create_task(found.run(ending))
        await until(lambda: found.problem is not None and "none answers" in found.problem)
        with Broker(tmp_path / "store", port=port):
            await until(lambda: found.problem is None)
            ending.set()
            await task
        learning.close()

    asyncio.run(story())


def start(repository, tmp_path, *arguments):
    script = repository / "remote_training_server" / "start_sac_server.sh"
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.Popen(
        ["bash", str(script), *arguments], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def options(tmp_path, text=""):
    path = tmp_path / "own.yaml"
    path.write_text(f"server: {{nats_port: 0, tensorboard_port: 0}}\n{text}")
    return path


def test_the_guides_command_serves_until_it_is_ended(repository, tmp_path):
    process = start(repository, tmp_path, "--config", str(options(tmp_path)))
    said = []
    for line in process.stderr:
        said.append(line)
        if "connected; waiting for rovers" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0, "".join(said) + rest
    facts = json.loads((tmp_path / "server_data" / "run" / "run.json").read_text())
    assert facts["versions"]["torch"] and facts["configuration"]["learner"]["seed"] == 0
    assert (tmp_path / "server_data" / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    "arguments, code, why",
    [
        (["--resume"], 2, "expected an earlier run"),
        (["nonsense"], 2, "expected an address such as nats://"),
        (["--nats", "http://here"], 2, "expected an address such as nats://"),
        (["nats://127.0.0.1:4222", "folder", "logs", "0"], 2, "batch"),
        (["--from-experience", "nowhere"], 1, "expected chunks of experience"),
        (["--config", "nowhere.yaml"], 2, "nowhere.yaml"),
    ],
)
def test_what_it_cannot_do_is_said_with_its_exit_code(repository, tmp_path, arguments, code, why):
    process = start(repository, tmp_path, *arguments)
    out, said = process.communicate(timeout=60)
    assert process.returncode == code and why in said, out + said


def test_begun_anew_the_earlier_run_is_kept(repository, tmp_path):
    copied = tmp_path / "copied"
    copied.mkdir()
    for name, data in chunks(3):
        (copied / f"{name}.rvxp").write_bytes(data)
    arguments = ["--config", str(options(tmp_path)), "--from-experience", str(copied)]
    for more in ([], ["--fresh"]):
        process = start(repository, tmp_path, *arguments, *more)
        out, said = process.communicate(timeout=60)
        assert process.returncode == 0 and "3 of 3 chunks, 90 steps" in out, said
    runs = sorted(p.name for p in (tmp_path / "server_data").glob("run*"))
    assert len(runs) == 2 and runs[0] == "run" and runs[1].startswith("run.2")


def test_nothing_is_begun_anew_under_a_trainer_that_runs(repository, tmp_path, own, encoder):
    learning = Learning(tmp_path / "server_data" / "run", own, CONTRACT, ROBOT, encoder)
    process = start(repository, tmp_path, "--config", str(options(tmp_path)), "--fresh")
    out, said = process.communicate(timeout=60)
    assert process.returncode == 3 and "another trainer uses this folder" in said, out + said
    learning.close()


def test_secrets_of_an_address_are_in_no_file(own):
    there = config.changed(own, server={"nats": "nats://rover:secret@host:4222"})
    assert there.as_json()["server"]["nats"] == "nats://host:4222"


def test_the_help_needs_no_torch(repository):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tractor_training import serve; serve.main(['--help'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0 and "--from-experience" in found.stdout, found.stderr
