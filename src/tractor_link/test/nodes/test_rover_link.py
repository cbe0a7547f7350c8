"""The node rover_link as a process of its own, over real ROS and with a real NATS server."""

import asyncio
import json
import os
import signal

import experience_file
import pytest
from servers import PARAMETERS, connected

from tractor_core import experience
from tractor_core.offered import DONE, OfferedModels
from tractor_core.spool import Spool
from tractor_link import offers
from tractor_link.broker import Broker
from tractor_link.intake import Intake
from tractor_link.offers import File, Offer
from tractor_link.streams import STATUS

pytestmark = pytest.mark.ros

NODE = "tractor_link.nodes.rover_link_node"


class Rover:
    """rover_link in its folder, and what it says in /diagnostics."""

    def __init__(self, graph, address, module="faked_link_node", arguments=(), **parameters):
        from diagnostic_msgs.msg import DiagnosticArray

        self.graph = graph
        self.folder, self.models = graph.folder, graph.folder / "models"
        self.models.mkdir(exist_ok=True)
        self.spool = Spool(self.folder / "experience", 10**9)
        self._received = graph.collect(DiagnosticArray, "/diagnostics")
        self.process = graph.start(
            module, "rover_link", arguments, address=address, rover="rover1", **parameters
        )

    def says(self, key="message"):
        """Return a value of its last diagnostics, "" where there is none."""
        for message in reversed(self._received):
            for status in message.status:
                if status.name.endswith("rover_link"):
                    values = {entry.key: entry.value for entry in status.values}
                    return (values | {"message": status.message}).get(key, "")
        return ""

    def until(self, condition):
        self.graph.until(condition, 30.0)

    def add_chunk(self, contract, number):
        data = experience.encode(experience_file.make(contract, seed=number))
        self.spool.add(f"20261130T154012Z-0badcafe_{number:06d}", data)
        return data


def offer(address, version, onnx, contract):
    made = Offer(version, File.of(onnx), contract)

    async def story():
        async with connected(address) as jetstream:
            await offers.publish(jetstream, made, onnx)

    asyncio.run(story())


def arrived(address, count):
    async def story():
        async with connected(address) as jetstream:
            intake, got = await Intake.open(jetstream, PARAMETERS), []
            while len(got) < count:
                for arrival in await intake.next():
                    got.append((arrival.rover, arrival.data))
                    await arrival.taken()
            return got

    return asyncio.run(asyncio.wait_for(story(), 20.0))


def status(address):
    async def story():
        async with connected(address) as jetstream:
            return json.loads((await (await jetstream.key_value(STATUS)).get("rover1")).value)

    return asyncio.run(story())


def test_experience_goes_there_and_models_come_back_whatever_the_server_does(
    ros_graph, broker, contract, tmp_path
):
    rover = Rover(ros_graph, broker.address)
    port = int(broker.address.rpartition(":")[2])
    first = rover.add_chunk(contract, 1)
    rover.until(lambda: rover.says("chunks sent") == "1" and rover.says() == "ok")
    assert arrived(broker.address, 1) == [("rover1", first)]

    offer(broker.address, 7, b"promoted", contract.digest)
    rover.until(lambda: "sac_actor_v07: promoted as" in rover.says("model installed"))
    assert (rover.models / "sac_actor_v07.onnx").read_bytes() == b"promoted"
    offer(broker.address, 8, b"gate", contract.digest)
    rover.until(lambda: "sac_actor_v08: refused: exit code 6" in rover.says("model refused"))
    offer(broker.address, 9, b"promoted", "ab" * 32)
    rover.until(
        lambda: "sac_actor_v09 is refused: expected contract" in rover.says("offer refused")
    )
    assert "sac_actor_v07" in rover.says("model installed")
    rover.until(lambda: "sac_actor_v08" in status(broker.address).get("model_refused", ""))
    told = status(broker.address)
    assert (told["rover"], told["chunks_sent"], told["problem"]) == ("rover1", 1, "")

    broker.process.send_signal(signal.SIGKILL)
    broker.process.wait()
    broker.stop()
    rover.until(lambda: "none answers" in rover.says())
    second = rover.add_chunk(contract, 2)
    rover.until(lambda: rover.says("chunks waiting") == "1")
    with Broker(tmp_path / "nats", port) as again:
        rover.until(lambda: rover.says("chunks sent") == "2" and rover.says() == "ok")
        assert arrived(again.address, 1) == [("rover1", second)]
        offer(again.address, 10, b"promoted too", contract.digest)
        rover.until(lambda: "sac_actor_v10" in rover.says("model installed"))
        assert rover.process.stop() == 0
    text = rover.process.output()
    assert "Traceback" not in text and text.count("sac_actor_v09 is refused") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_in_time_while_nothing_answers_and_a_conversion_hangs(
    ros_graph, broker, contract, number
):
    rover = Rover(ros_graph, broker.address)
    offer(broker.address, 7, b"hang", contract.digest)
    rover.until((rover.models / "hangs").exists)
    broker.process.send_signal(signal.SIGSTOP)
    try:
        rover.until(lambda: "in time" in rover.says())
        assert rover.process.stop(number) == 0
    finally:
        broker.process.send_signal(signal.SIGCONT)
    assert (rover.models / "interrupted").exists()
    assert "Traceback" not in rover.process.output()


def test_a_link_that_is_killed_takes_its_conversion_along_and_takes_it_up_again(
    ros_graph, broker, contract
):
    rover = Rover(ros_graph, broker.address)
    offer(broker.address, 7, b"hang", contract.digest)
    rover.until((rover.models / "hangs").exists)
    child = int((rover.models / "hangs").read_text())
    assert rover.process.stop(signal.SIGKILL) == -signal.SIGKILL
    rover.until((rover.models / "interrupted").exists)
    rover.until(lambda: not os.path.exists(f"/proc/{child}"))
    (rover.models / "hangs").unlink()
    again = Rover(ros_graph, broker.address)
    again.until((rover.models / "hangs").exists)
    assert again.process.stop() == 0


def test_without_a_server_it_says_so_and_goes_on(ros_graph):
    rover = Rover(ros_graph, "nats://127.0.0.1:9", NODE)
    rover.until(lambda: "none answers; is it running" in rover.says())
    assert rover.says().startswith("experience, models, status: NATS server at")
    assert rover.process.stop() == 0


def by_another_address(broker):
    """Return an address that leads to this machine, as the kernel knows and the rover does not."""
    return broker.address.replace("127.0.0.1", "0.0.0.0")


def test_models_of_another_machine_wait_for_the_operator(
    ros_graph, broker, contract, signal_handlers_stay
):
    from tractor_calibration import models as command

    rover = Rover(ros_graph, by_another_address(broker))
    offer(broker.address, 7, b"promoted", contract.digest)
    rover.until(lambda: "sac_actor_v07 waits for the operator" in rover.says("model waits"))
    assert not (rover.models / "sac_actor_v07.onnx").exists()
    assert command.main(["accept", "7", "--models-dir", str(rover.models)]) == 0
    rover.until(lambda: "sac_actor_v07" in rover.says("model installed"))
    assert [m.state for m in OfferedModels(rover.models).all()] == [DONE]
    assert rover.process.stop() == 0


def test_with_all_accepted_nothing_waits_and_that_is_said_aloud(ros_graph, broker, contract):
    rover = Rover(ros_graph, by_another_address(broker), accept_models="all")
    offer(broker.address, 7, b"promoted", contract.digest)
    rover.until(lambda: "sac_actor_v07" in rover.says("model installed"))
    rover.until(lambda: rover.says() == "accept_models is all")
    assert rover.process.stop() == 0
    assert "decides what drives" in rover.process.output()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"address": "192.168.1.2"}, "expected an address such as nats://192.168.1.10:4222"),
        ({"params_file": "/nowhere.yaml"}, "/nowhere.yaml: cannot be read"),
        ({"rovr": "x"}, "rovr: unknown parameter"),
    ],
)
def test_what_it_cannot_use_is_refused(ros_graph, parameters, message):
    process = ros_graph.start(NODE, "rover_link", **parameters)
    assert process.wait() == 2
    assert message in process.output() and "Traceback" not in process.output()
