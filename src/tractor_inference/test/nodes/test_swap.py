"""Changing the model while it drives: real processes, real topics, every grid accounted for."""

import contextlib
import json
import math
import os
import shutil
import threading
import time
from pathlib import Path

import actor_factory
import numpy as np
import onnx
import pytest

from tractor_core import messages
from tractor_inference.model import manifest

pytestmark = pytest.mark.ros

ACTOR = "tractor_inference.nodes.sac_actor_node"
SCRIPTED = "scripted_actor_node"
PERIOD_S = 1 / 30
SWAPS = int(os.environ.get("SWAPS", 10))


class Rover:
    """Publishes odometry, scans and grids at 30 Hz from a thread; keeps what the actor answers.

    `grids` holds their stamps, `commands` (stamp, time of arrival, whether it moves): a command
    has the stamp of its grid, a stop the time of the stop.
    """

    def __init__(self, graph, contract):
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import TwistStamped
        from nav_msgs.msg import Odometry
        from rclpy.qos import qos_profile_sensor_data as qos
        from sensor_msgs.msg import Image, LaserScan
        from std_srvs.srv import Trigger

        self.graph, self.node = graph, graph.node
        self._client = self.node.create_client(Trigger, "/sac_actor/reload_model")
        self._publishers = [
            self.node.create_publisher(kind, topic, qos)
            for kind, topic in ((Odometry, "odom"), (LaserScan, "scan"), (Image, "bev"))
        ]
        scan = LaserScan(
            angle_min=-math.pi, angle_max=math.pi, angle_increment=2 * math.pi / 360,
            range_min=0.05, range_max=12.0, ranges=np.full(360, 3.0, np.float32).tolist(),
        )  # fmt: skip
        scan.header.frame_id = "laser"
        odom = Odometry()
        odom.header.frame_id = "odom"
        self._frames = []
        for sample in actor_factory.make_samples(8):
            image = Image()
            messages.bev_message(image, contract)[:] = sample.bev.transpose(1, 2, 0)
            self._frames.append((odom, scan, image))
        self.grids: list[int] = []
        self.commands: list[tuple[int, float, bool]] = []
        self.node.create_subscription(TwistStamped, "cmd_vel_raw", self._on_command, 100)
        self.diagnostics = graph.collect(DiagnosticArray, "/diagnostics")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def _on_command(self, message):
        twist = message.twist
        moves = bool(twist.linear.x or twist.angular.z)
        self.commands.append((messages.stamp_ns(message.header.stamp), time.monotonic(), moves))

    def _publish(self):
        due_s = time.monotonic()
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            # Late is late: two grids at once are what no camera sends, and the newer one counts.
            due_s = max(due_s + PERIOD_S, time.monotonic() + PERIOD_S / 2)
            stamp_ns = self.node.get_clock().now().nanoseconds
            frame = self._frames[len(self.grids) % len(self._frames)]
            for publisher, message in zip(self._publishers, frame):
                stamp = message.header.stamp
                stamp.sec, stamp.nanosec = divmod(stamp_ns, 10**9)
                publisher.publish(message)
            self.grids.append(stamp_ns)

    def start(self, module=ACTOR, **parameters):
        """Start the actor, and the sensors if they are not; return its process."""
        process = self.graph.start(
            module, node="sac_actor", enable_stamped_cmd_vel=True, sample_probability=0.0,
            **parameters,
        )  # fmt: skip
        if self._thread.ident is None:
            self._thread.start()
            self.drive(10)
        return process

    def drive(self, count):
        """Wait for so many more commands that move."""
        start = len(self.commands)
        self.graph.until(
            lambda: sum(moves for *_, moves in self.commands[start:]) >= count,
            timeout_s=20.0 + 2 * count * PERIOD_S,
        )

    def begin(self):
        """Count from here."""
        self._begin = len(self.commands)

    def missed(self):
        """Return the grids without a command since `begin`, and the commands without a grid."""
        self.drive(3)
        stamps = {stamp for stamp, *_ in self.commands[self._begin :]}
        grids = {stamp for stamp in self.grids if min(stamps) <= stamp <= max(stamps)}
        return len(grids - stamps), len(stamps - grids)

    def assert_none_missed(self):
        """Every grid since `begin` has its command; or the machine cannot tell.

        Where more is running than there are cores, or a control run as long without a swap misses
        grids too, the misses are the machine's.
        """
        missed, count = self.missed(), len(self.commands) - self._begin
        if missed == (0, 0):
            return
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > cores:
            pytest.skip(f"{missed} missed, of a machine with a load of {load:.1f} on {cores} cores")
        self.begin()
        self.drive(count)
        assert self.missed() != (0, 0), f"{missed} missed, and none of as many without a swap"

    def gaps_ms(self):
        """Return the times between commands since `begin`."""
        return 1e3 * np.diff([arrival for _, arrival, _ in self.commands[self._begin :]])

    def said(self, key):
        """Return the actor's last value in /diagnostics, or an empty string."""
        found = [s for m in self.diagnostics for s in m.status if s.name == "sac_actor"]
        return {v.key: v.value for v in found[-1].values}.get(key, "") if found else ""

    def reason(self):
        """Return why the actor stands, as /diagnostics said last."""
        found = [s for m in self.diagnostics for s in m.status if s.name == "sac_actor"]
        return found[-1].message if found else ""

    def say_anew(self):
        """Wait for /diagnostics that were published from now on."""
        self.diagnostics.clear()
        self.graph.until(lambda: len(self.diagnostics) > 1)

    def call_reload(self):
        self.graph.until(self._client.service_is_ready)
        return self._client.call_async(self._client.srv_type.Request())

    def reload(self):
        future = self.call_reload()
        self.graph.until(future.done)
        return future.result()

    def close(self):
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()


@pytest.fixture
def rover(ros_graph, contract):
    with contextlib.closing(Rover(ros_graph, contract)) as rover:
        yield rover


@pytest.fixture
def models(ros_graph):
    """A folder of models with two ONNX actors as versions."""
    folder = ros_graph.folder / "models"
    for number in (1, 2):
        (folder / f"versions/actor.{number}").mkdir(parents=True)
        onnx.save(
            actor_factory.make_actor(number), folder / f"versions/actor.{number}" / "actor.onnx"
        )
    lead(folder / "drives.onnx", "versions/actor.1/actor.onnx")
    return folder


def lead(link: Path, target: str):
    """Let a link lead elsewhere, atomically."""
    new = link.with_name(f".{link.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def write(path: Path, text: str):
    new = path.with_name(f".{path.name}")
    new.write_text(text)
    new.replace(path)


def digest_of(models, number):
    return manifest.sha256_file(models / f"versions/actor.{number}/actor.onnx")


@pytest.fixture
def converted(ros_graph, int8_model):
    """A folder of models with two converted actors, alike but for their digests."""
    folder = ros_graph.folder / "models"
    for number in (1, 2):
        model = folder / f"versions/actor.{number}" / int8_model.name
        shutil.copytree(int8_model.parent, model.parent)
        model.write_bytes(int8_model.read_bytes() + bytes(number))
        path = manifest.path_of(model)
        value = json.loads(path.read_text())
        value["model"] |= {"sha256": manifest.sha256_file(model), "bytes": model.stat().st_size}
        path.write_text(json.dumps(value))
    lead(folder / "drives.rknn", f"versions/actor.1/{int8_model.name}")
    return folder


def swap(rover, link, file, count, drive):
    """Swap so often between two versions of a model, and assert that no grid was missed."""
    # A busy machine misses a grid now and then, also without swaps; a fault misses in each round.
    for _ in range(3):
        rover.begin()
        for number in (2 - index % 2 for index in range(count)):
            lead(link, f"versions/actor.{number}/{file}")
            answer = rover.reload()
            assert answer.success, answer.message
            digest = manifest.sha256_file(link.parent / f"versions/actor.{number}/{file}")
            assert digest in answer.message
            rover.drive(drive)
        missed = rover.missed()
        gaps_ms = rover.gaps_ms()
        p50, p99 = np.percentile(gaps_ms, [50, 99])
        print(
            f"\n{count} swaps, {len(gaps_ms) + 1} commands, {missed[0]} grids missed, "
            f"{missed[1]} stops, gaps p50 {p50:.1f} p99 {p99:.1f} max {gaps_ms.max():.1f} ms"
        )
        if missed == (0, 0):
            return
    rover.assert_none_missed()


@pytest.mark.slow
def test_swaps_miss_no_grid(rover, models):
    """The figures of docs/operations.md: SWAPS=100 pytest -s -k miss_no_grid."""
    rover.start(backend="onnx", model=str(models / "drives.onnx"))
    rover.reload()
    swap(rover, models / "drives.onnx", "actor.onnx", SWAPS, 5)


@pytest.mark.slow
@pytest.mark.toolkit
def test_swaps_of_converted_models_miss_no_grid(rover, converted, int8_model):
    rover.start(backend="rknn_sim", model=str(converted / "drives.rknn"))
    swap(rover, converted / "drives.rknn", int8_model.name, max(2, SWAPS // 10), 30)


@pytest.mark.parametrize("word", ["nan", "inf", "range", "none", "raise", "late", "constant"])
def test_a_model_that_misbehaves_is_rolled_back(rover, ros_graph, word):
    model = ros_graph.folder / "model"
    model.write_text("weave")
    actor = rover.start(SCRIPTED, model=str(model), watch_model=True)
    before = rover.said("model sha256") or ros_graph.until(lambda: rover.said("model sha256"))
    write(model, word)
    refused = manifest.sha256_file(model)
    ros_graph.until(lambda: "rolled back" in rover.said("model refused"))
    rover.drive(10)
    assert f"sha256 {refused} to {before}: " in rover.said("model refused")
    assert f"the new model is {rover.said('model refused')}" in actor.output()
    ros_graph.until(lambda: rover.said("model sha256") == before)
    if word == "nan":
        # The same bytes, written again, are not taken; others are.
        write(model, word)
        ros_graph.until(lambda: "was rolled back before" in rover.said("model refused"))
        rover.begin()
        write(model, "weave better")
        ros_graph.until(lambda: manifest.sha256_file(model) in actor.output())
        rover.assert_none_missed()
        ros_graph.until(lambda: not rover.said("model refused"))


def test_opening_that_takes_long_keeps_no_grid_waiting(rover, ros_graph):
    model = ros_graph.folder / "model"
    model.write_text("weave")
    rover.start(SCRIPTED, model=str(model))
    write(model, "slowly")
    rover.begin()
    assert rover.reload().success
    assert len(rover.gaps_ms()) > 5
    rover.assert_none_missed()


def test_a_model_that_passes_its_trial_frees_the_one_before(rover, ros_graph):
    model = ros_graph.folder / "model"
    model.write_text("weave")
    actor = rover.start(SCRIPTED, model=str(model))
    write(model, "weave better")
    rover.begin()
    assert rover.reload().success
    ros_graph.until(lambda: "of 150 frames" in rover.said("model trial"))
    ros_graph.until(lambda: "passed its trial of 150 frames" in actor.output())
    rover.assert_none_missed()


def test_the_watch_takes_what_its_path_leads_to_and_says_what_it_does_not_take(
    rover, ros_graph, models
):
    link = models / "drives.onnx"
    actor = rover.start(backend="onnx", model=str(link), watch_model=True)
    rover.begin()
    lead(link, "versions/actor.2/actor.onnx")
    ros_graph.until(lambda: rover.said("model sha256") == digest_of(models, 2))
    (models / "versions/actor.3").mkdir()
    good = (models / "versions/actor.1/actor.onnx").read_bytes()
    (models / "versions/actor.3/actor.onnx").write_bytes(good[: len(good) // 2])
    lead(link, "versions/actor.3/actor.onnx")
    ros_graph.until(lambda: "not a valid ONNX file" in rover.said("model refused"))
    assert rover.said("model sha256") == digest_of(models, 2)
    # What is completed later is taken then.
    (models / "versions/actor.3/actor.onnx").write_bytes(good)
    ros_graph.until(lambda: rover.said("model sha256") == digest_of(models, 1))
    assert not rover.said("model refused")
    rover.assert_none_missed()
    assert "the new model is not taken" in actor.output()


def test_foreign_onnx_files_are_refused_and_it_drives_on(rover, ros_graph, models, shared_data):
    link = models / "drives.onnx"
    good = link.read_bytes()
    outside = ros_graph.folder / "outside.onnx"
    outside.write_bytes(good)
    foreign = sorted((shared_data / "foreign_onnx").glob("*.onnx"))[0]
    rover.start(backend="onnx", model=str(link))
    rover.begin()

    def refused(reason):
        answer = rover.reload()
        assert not answer.success and reason in answer.message, answer.message
        rover.drive(3)

    for data, reason in (
        (foreign.read_bytes(), "expected bev float"),
        (good[: len(good) // 2], "not a valid ONNX file"),
        (b"", "expected 1.."),
    ):
        link.unlink()
        link.write_bytes(data)
        refused(reason)
    lead(link, "../outside.onnx")
    refused(f"found a link to {outside}")
    link.unlink()
    refused("No such file")
    rover.assert_none_missed()
    ros_graph.until(lambda: "No such file" in rover.said("model refused"))


def test_what_is_opened_anew_is_what_drove_and_nothing_else(rover, ros_graph):
    folder = ros_graph.folder / "models"
    folder.mkdir()
    good, bad, link = folder / "good", folder / "bad", folder / "model"
    good.write_text("fragile")
    bad.write_text("nan")
    lead(link, "good")
    actor = rover.start(SCRIPTED, model=str(link))
    lead(link, "bad")
    assert rover.reload().success
    ros_graph.until(lambda: "rolled back" in rover.said("model refused"))
    # It fails from its frame 90 on, and comes back although the path leads to the refused one.
    ros_graph.until(lambda: actor.output().count("closed fragile") == 1)
    rover.drive(10)
    rover.say_anew()
    assert rover.said("model sha256") == manifest.sha256_file(good)
    # Not even in the place of its file does another one drive.
    digest = manifest.sha256_file(good)
    write(good, "weave untried")
    ros_graph.until(lambda: f"expected sha256 {digest}, which drove" in actor.output(), 40.0)
    rover.say_anew()
    assert rover.said("model sha256") == digest
    # Asked for, it does, on trial.
    lead(link, "good")
    assert rover.reload().success
    ros_graph.until(lambda: "of 150 frames" in rover.said("model trial"))


def test_a_model_that_fails_now_and_then_does_not_drive_for_ever(rover, ros_graph):
    model = ros_graph.folder / "model"
    model.write_text("flaky")
    rover.start(SCRIPTED, model=str(model), max_outages_a_minute=2)
    ros_graph.until(lambda: "the model failed 3 times within 60 s" in rover.reason())
    rover.begin()
    ros_graph.until(lambda: len(rover.commands) > rover._begin + 20)
    assert not any(moves for *_, moves in rover.commands[rover._begin :])
    write(model, "weave")
    assert rover.reload().success
    rover.drive(10)


def test_observations_at_fault_neither_refuse_a_model_nor_open_one(rover, ros_graph):
    model = ros_graph.folder / "model"
    model.write_text("weave")
    actor = rover.start(SCRIPTED, model=str(model))
    write(model, "blind")
    assert rover.reload().success
    ros_graph.until(lambda: actor.output().count("inference failed: cur_lin") == 1)
    rover.drive(20)
    rover.say_anew()
    assert rover.said("model sha256") == manifest.sha256_file(model)
    assert rover.said("model trial") and not rover.said("model refused")
    assert "opening the model anew" not in actor.output()


def test_a_roll_back_while_another_model_is_closed_is_said(rover, ros_graph):
    model = ros_graph.folder / "model"
    model.write_text("weave")
    actor = rover.start(SCRIPTED, model=str(model))
    for text in ("weave reluctant", "nan"):
        write(model, text)
        assert rover.reload().success
    ros_graph.until(lambda: "rolled back" in actor.output())
    ros_graph.until(lambda: "closed weave reluctant" in actor.output())
    rover.say_anew()
    assert rover.said("model refused").startswith("rolled back")


def test_opening_that_hangs_is_given_up_and_what_comes_late_is_closed(rover, ros_graph):
    from std_srvs.srv import Trigger

    model = ros_graph.folder / "model"
    model.write_text("weave")
    actor = rover.start(SCRIPTED, model=str(model))
    write(model, "stuck")
    opening = rover.call_reload()
    rover.drive(3)
    assert "busy: a model is being opened" in rover.reload().message
    assert ros_graph.call(Trigger, "calibration/snapshot").success
    ros_graph.until(opening.done)
    wanted = "expected the model open within 3 s"
    assert not opening.result().success and wanted in opening.result().message
    assert wanted in actor.output()
    ros_graph.until(lambda: wanted in rover.said("model refused"))
    write(model, "weave better")
    assert rover.reload().success
    (ros_graph.folder / "loosened").touch()
    ros_graph.until(lambda: "closed stuck" in actor.output())
    rover.say_anew()
    assert rover.said("model sha256") == manifest.sha256_file(model)


def test_a_model_that_hangs_on_trial_is_not_opened_by_the_next_start(rover, ros_graph):
    model = ros_graph.folder / "model"
    model.write_text("weave")
    actor = rover.start(SCRIPTED, model=str(model), inference_exit_s=0.5)
    write(model, "hang")
    assert rover.reload().success
    ros_graph.until(lambda: actor.process.poll() is not None)
    assert actor.process.returncode == 70
    actor = rover.start(SCRIPTED, model=str(model), inference_exit_s=60.0)
    ros_graph.until(lambda: "or hung on trial: let the model before drive" in actor.output())
    assert actor.process.poll() is None
    write(model, "weave")
    rover.drive(10)
    # Asked for, it is tried again.
    write(model, "hang")
    assert rover.reload().success
    actor.process.kill()
    assert not list(ros_graph.folder.glob("calibration_data/hung*"))


def test_that_a_model_hung_is_said_where_it_cannot_be_noted(rover, ros_graph):
    (ros_graph.folder / "calibration_data/hung_on_trial.txt").mkdir(parents=True)
    model = ros_graph.folder / "model"
    model.write_text("weave")
    actor = rover.start(SCRIPTED, model=str(model), inference_exit_s=0.5)
    assert "hung_on_trial.txt: cannot be read" in actor.output()
    write(model, "hang")
    assert rover.reload().success
    ros_graph.until(lambda: actor.process.poll() is not None)
    assert actor.process.returncode == 70
    assert "hung_on_trial.txt: cannot be written" in actor.output()


@pytest.fixture
def board_models(ros_graph, contract, monkeypatch, models):
    """The two actors as models of the board whose NPU is onnxruntime; `drives` is the first."""
    board = Path(__file__).parents[1] / "fake_board"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(board), os.environ["PYTHONPATH"]]))
    for number in (1, 2):
        source = models / f"versions/actor.{number}/actor.onnx"
        shutil.copy(source, source.with_suffix(".rknn"))
        actor_factory.write_manifest(source.with_suffix(".rknn"), source, contract, [])
    lead(models / "drives.rknn", "versions/actor.1/actor.rknn")
    return models


def tampered(model):
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)


def swapped(model):
    shutil.copy(model.parents[1] / "actor.1/actor.rknn", model)


def truncated(model):
    model.write_bytes(model.read_bytes()[:-1])


def validated_otherwise(model):
    path = model.with_suffix(".json")
    value = json.loads(path.read_text())
    value["probes"]["frames"][0]["built"][0] *= -1.0
    path.write_text(json.dumps(value))


def without_manifest(model):
    model.with_suffix(".json").unlink()


def half_a_manifest(model):
    path = model.with_suffix(".json")
    path.write_bytes(path.read_bytes()[:200])


def of_another_contract(model):
    path = model.with_suffix(".json")
    value = json.loads(path.read_text())
    value["contract"]["observation"]["proprio_clip"] = 2.0
    value["contract"]["digest"] = "0" * 64
    path.write_text(json.dumps(value))


def for_another_chip(model):
    path = model.with_suffix(".json")
    value = json.loads(path.read_text())
    value["model"]["target"] = "rk3566"
    path.write_text(json.dumps(value))


def test_models_that_are_not_what_their_manifest_says_are_refused_and_it_drives_on(
    rover, ros_graph, board_models
):
    link = board_models / "drives.rknn"
    rover.start(backend="rknn", model=str(link))
    rover.begin()
    for number, (change, reason) in enumerate(
        {
            tampered: "expected sha256",
            swapped: "expected sha256",
            truncated: "bytes as its manifest says",
            without_manifest: "expected the manifest that convert writes",
            half_a_manifest: "not a readable manifest",
            of_another_contract: "proprio_clip: here 3.0, there 2.0",
            validated_otherwise: "reference vector 1 of 8: expected the action",
            for_another_chip: "expected a model for rk3566 as its manifest says",
        }.items(),
        start=3,
    ):
        version = board_models / f"versions/actor.{number}"
        shutil.copytree(board_models / "versions/actor.2", version)
        change(version / "actor.rknn")
        lead(link, f"versions/actor.{number}/actor.rknn")
        answer = rover.reload()
        assert not answer.success and reason in answer.message, answer.message
        rover.drive(3)
    rover.assert_none_missed()
    lead(link, "versions/actor.2/actor.rknn")
    assert rover.reload().success
    rover.assert_none_missed()
