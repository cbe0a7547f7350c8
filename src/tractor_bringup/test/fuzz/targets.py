"""Every parser of what others wrote, with its documented error and inputs for it.

A target takes bytes, in a folder of its own. It raises nothing but what is wrong with the parser.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import actor_factory
import cv2
import experience_file
import numpy as np
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from tractor_bringup.doctor import host as host_module
from tractor_bringup.doctor import machine
from tractor_calibration import models
from tractor_calibration.bags.reader import Bag
from tractor_calibration.bags.recorded_drive import TYPES, RecordedDrive, Settings
from tractor_calibration.bags.storage import BagError
from tractor_calibration.conversion import toolkit_child
from tractor_calibration.store import folder as models_folder
from tractor_calibration.store import promotion
from tractor_core import contract as contracts
from tractor_core import (
    experience,
    messages,
    outside,
    parameters,
    paths,
    reference_observations,
    samples,
)
from tractor_core.contract import Contract
from tractor_core.errors import (
    ExperienceError,
    LinkError,
    ModelError,
    ParameterError,
    SampleError,
    SensorError,
    TractorError,
)
from tractor_core.offered import ACCEPTED, WAITING, OfferedModel, OfferedModels
from tractor_core.reference_observations import Origin
from tractor_core.samples import Sample
from tractor_inference.model import manifest, reference_vectors
from tractor_inference.model.manifest import BuildRecord
from tractor_inference.model.onnx import model as onnx_model
from tractor_link import offers
from tractor_sim import replay

from . import cases

SCAN = TYPES["scan"][0]
VERSION = "actor.20250101T000000Z"


@dataclasses.dataclass(frozen=True)
class Target:
    """A parser: `run` takes a case, `inputs` draws them, `examples` are some seconds' work."""

    run: Callable[[bytes], None]
    inputs: st.SearchStrategy[bytes]
    examples: int = 25


def make(folder: Path) -> dict[str, Callable[[], Target]]:
    """Return what makes the targets, by name; they work in an empty folder."""
    params = paths.default_params_file()
    contract = contracts.load(params)
    makers: dict[str, Callable[..., Target]] = {
        "sample": _sample, "experience": _experience, "offer": _offer,
        "offered_note": _offered_note, "reference_set": _reference_set,
        "manifest": _manifest,
        "history": _history, "versions": _versions,
        "copied_manifest": _copied_manifest, "parameters": _parameters, "metadata": _metadata,
        "mcap": _mcap, "sqlite": _sqlite, "packed_bag": _packed_bag, "messages": _messages,
        "toolkit_result": _toolkit_result, "toolkit_actions": _toolkit_actions,
        "scans_npz": _scans_npz, "scan_csv": _scan_csv, "depth_png": _depth_png,
        "camera_json": _camera_json, "fast_dds": _fast_dds, "json": _json, "yaml": _yaml,
        "onnx": _onnx,
    }  # fmt: skip

    def make_one(name: str) -> Target:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        return makers[name](place, contract, params)

    return {name: functools.partial(make_one, name) for name in makers}


# Samples and models


def _sample(folder: Path, contract: Contract, params: Path) -> Target:
    (file,) = actor_factory.write_samples(folder, contract, 1)
    seed = file.read_bytes()

    def run(case: bytes) -> None:
        with contextlib.suppress(SampleError):
            found = samples.parse(case, contract)
            assert samples.sample_problems(found.bev, found.proprio, contract) == []
            assert found.session.encode() is not None

    return _archive(run, seed)


def _experience(folder: Path, contract: Contract, params: Path) -> Target:
    seed = experience.encode(experience_file.make(contract, count=5))

    def run(case: bytes) -> None:
        with contextlib.suppress(ExperienceError):
            found = experience.parse(case, contract)
            assert experience.encode(found)

    return Target(run, st.one_of(cases.mutated([seed]), cases.mutated([seed]).map(_with_crc)))


def _offer(folder: Path, contract: Contract, params: Path) -> Target:
    file = offers.File("ab" * 32, 1000)
    seed = offers.Offer(7, file, contract.digest, "cd" * 32, 5, {"metres": 9.3}, file)

    def run(case: bytes) -> None:
        with contextlib.suppress(LinkError):
            found = offers.parse(case)
            assert json.loads(found.encode())["version"] == found.version

    return Target(run, cases.json_texts(json.loads(seed.encode())))


def _offered_note(folder: Path, contract: Contract, params: Path) -> Target:
    """A note that cannot be read costs only itself."""
    offered = OfferedModels(folder)
    for version in (7, 8):
        state = (WAITING, ACCEPTED)[version - 7]
        digest = hashlib.sha256(b"network").hexdigest()
        model = OfferedModel(version, digest, 7, "nats://10.0.0.5:4222", "2026", state)
        offered.put(model, b"network")
    note = offered.folder / "sac_actor_v07.json"

    def run(case: bytes) -> None:
        note.write_bytes(case)
        found = offered.all()
        assert 8 in {model.version for model in found} <= {7, 8}
        json.dumps([dataclasses.asdict(model) for model in found])

    return Target(run, cases.json_texts(json.loads(note.read_text())))


def _with_crc(data: bytes) -> bytes:
    """Let damage get beyond the check of the whole."""
    return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")


def _archive(run: Callable[[bytes], None], seed: bytes) -> Target:
    """Return a target whose cases are .npz files like one."""
    with np.load(io.BytesIO(seed)) as archive:
        arrays = dict(archive)
    stored = io.BytesIO()
    np.savez(stored, **arrays)
    members = {}
    for name, array in arrays.items():
        member = io.BytesIO()
        np.lib.format.write_array(member, array)
        members[f"{name}.npy"] = member.getvalue()
    inputs = cases.mutated([seed, stored.getvalue()])
    return Target(run, st.one_of(inputs, cases.npz_files(members)))


def _reference_set(folder: Path, contract: Contract, params: Path) -> Target:
    file, origin = folder / "set.npz", Origin.load(params)
    count = 2 * reference_observations.LEAST_A_HALF
    frames = [Sample(np.zeros(contract.bev_shape, "f4"), np.zeros(6, "f4")) for _ in range(count)]
    reference_observations.write(file, frames, [i % 10 for i in range(count)], "command", origin)

    def run(case: bytes) -> None:
        with contextlib.suppress(SampleError):
            found = reference_observations.parse(case, contract, origin)
            assert len(found.samples) == len(found.worlds) > 0
            for frame in found.samples:
                assert samples.sample_problems(frame.bev, frame.proprio, contract) == []

    return _archive(run, file.read_bytes())


def _write_model(folder: Path, contract: Contract) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "actor.rknn"
    (folder / "actor.onnx").write_bytes(b"network")
    model.write_bytes(b"model")
    files = actor_factory.write_samples(folder / "calibration_data", contract, 2)
    actor_factory.write_manifest(
        model, folder / "actor.onnx", contract, files, actor_factory.no_answer
    )
    return model


def _manifest(folder: Path, contract: Contract, params: Path) -> Target:
    model = _write_model(folder, contract)
    path = manifest.path_of(model)
    value = json.loads(path.read_text())

    def run(case: bytes) -> None:
        path.write_bytes(case)
        with contextlib.suppress(TractorError):
            record = manifest.read(model)
            for probe in record.probes.frames:
                with contextlib.suppress(ModelError):
                    reference_vectors.unpack(probe, contract)
            manifest.load(model, contract)

    return Target(run, cases.json_texts(value))


def _copied_manifest(folder: Path, contract: Contract, params: Path) -> Target:
    value = json.loads(manifest.path_of(_write_model(folder, contract)).read_text())

    def run(case: bytes) -> None:
        copy = folder / "copy.json"
        copy.write_bytes(case)
        promotion._move_paths(copy)

    return Target(run, cases.json_texts(value))


def _change(version: str) -> dict[str, Any]:
    return {"time": "2025-01-01", "action": "promote", "version": version, "previous": None}


def _history(folder: Path, contract: Contract, params: Path) -> Target:
    """One line costs only itself."""
    ends = [json.dumps(_change(name)).encode() for name in ("first", "last")]

    def run(case: bytes) -> None:
        (folder / models_folder.HISTORY).write_bytes(
            ends[0] + b"\n" + case + b"\n" + ends[1] + b"\n"
        )
        found = models_folder.recorded(folder)
        assert found[0].version == "first" and found[-1].version == "last"
        models_folder.before(folder)

    return Target(run, cases.json_texts(_change("middle")))


def _versions(folder: Path, contract: Contract, params: Path) -> Target:
    """`models list` names a version that cannot be read, and lists the other ones."""
    good = folder / models_folder.VERSIONS / VERSION
    _write_model(good, contract)
    bad = folder / models_folder.VERSIONS / VERSION.replace("2025", "2024")
    value = json.loads(manifest.path_of(_write_model(bad, contract)).read_text())

    def run(case: bytes) -> None:
        (bad / "actor.json").write_bytes(case)
        name = os.fsdecode(case[:60].replace(b"/", b"_").replace(b"\0", b"_"))
        odd = folder / models_folder.VERSIONS / f"x{name}"
        odd.mkdir(exist_ok=True)
        try:
            result = models._list(folder, contract)
            models.table(result)
            json.dumps(result)
            rows = {row["version"]: row for row in result["versions"]}
            assert "broken" not in rows[VERSION]
        finally:
            odd.rmdir()

    return Target(run, cases.json_texts(value))


def _toolkit_result(folder: Path, contract: Contract, params: Path) -> Target:
    np.savez(folder / "fp16.npz", actions=np.zeros((3, 2), "f4"), repeated=np.zeros((3, 2), "f4"))
    build = {"seconds": 1.0, "infer_ms": 2.0, "layers": [["conv", 0.9, 1.0]], "no_layers": ""}
    value = {"builds": {"fp16": build}, "toolkit": "2.5.0", "python": "3.11"}

    def run(case: bytes) -> None:
        (folder / "result.json").write_bytes(case)
        _read_outcome(folder, contract)

    return Target(run, cases.json_texts(value))


def _toolkit_actions(folder: Path, contract: Contract, params: Path) -> Target:
    build = {"seconds": 1.0, "infer_ms": 2.0, "layers": [], "no_layers": ""}
    value = {"builds": {"fp16": build}, "toolkit": "2.5.0", "python": "3.11"}
    (folder / "result.json").write_text(json.dumps(value))
    members = {}
    for name in ("actions", "repeated"):
        member = io.BytesIO()
        np.lib.format.write_array(member, np.zeros((3, 2), np.float32))
        members[f"{name}.npy"] = member.getvalue()

    def run(case: bytes) -> None:
        (folder / "fp16.npz").write_bytes(case)
        _read_outcome(folder, contract)

    return Target(run, cases.npz_files(members))


def _read_outcome(folder: Path, contract: Contract) -> None:
    job = toolkit_child.Job(
        b"", "rk3588", contract, (), np.zeros((0, 2), np.float32), builds={"fp16": BuildRecord()}
    )
    with contextlib.suppress(ModelError):
        outcome = toolkit_child._read_outcome(job, folder, 0, folder / "log")
        for build in outcome.builds.values():
            json.dumps([f"{build.seconds:.1f} {build.infer_ms:.1f}", build.no_layers])
            [f"{layer.name} {layer.cosine:.5f} {layer.distance:.5f}" for layer in build.layers]


def _onnx(folder: Path, contract: Contract, params: Path) -> Target:
    """An actor, opened in a child process with limits of its own."""
    file = folder / "actor.onnx"
    seed = actor_factory.make_actor().SerializeToString()
    small = seed[:2000] + seed[-2000:]

    def run(case: bytes) -> None:
        file.write_bytes(case)
        with contextlib.suppress(TractorError):
            onnx_model.inspect(file, contract)

    return Target(run, cases.mutated([seed, small]), examples=4)


# Parameters


def _parameters(folder: Path, contract: Contract, params: Path) -> Target:
    file = folder / "params.yaml"

    def run(case: bytes) -> None:
        file.write_bytes(case)
        for read in (
            contracts.load,
            Settings.load,
            parameters.read_sections,
        ):
            with contextlib.suppress(ParameterError):
                read(file)

    return Target(run, cases.yaml_texts(params.read_text()))


def _fast_dds(folder: Path, contract: Contract, params: Path) -> Target:
    file = folder / "profile.xml"
    host = host_module.Host(environ={machine.PROFILES: str(file)})
    seed = paths.config_file("fastdds.xml").read_bytes()
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha">' + b"".join(
        b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
    ) + b"]><x>&j;</x>"  # fmt: skip
    nested = st.integers(1, 20_000).map(lambda n: b"<a>" * n + b"</a>" * n)

    def run(case: bytes) -> None:
        file.write_bytes(case)
        assert machine.fast_dds(host)

    return Target(run, st.one_of(cases.mutated([seed, bomb]), nested))


# Recordings


def _read_bag(path: Path) -> list[Any]:
    with contextlib.suppress(BagError):
        bag = Bag(path)
        found = list(bag.messages({"/scan"}))
        json.dumps([bag.losses, [f"{topic} {kind}" for topic, kind in bag.counts]])
        return found
    return []


def _mcap(folder: Path, contract: Contract, params: Path) -> Target:
    def run(case: bytes) -> None:
        (folder / "a.mcap").write_bytes(case)
        _read_bag(folder / "a.mcap")

    made = cases.mcap_files(b"\x00\x01\x00\x00abc", SCAN)
    return Target(run, st.one_of(made, made.flatmap(lambda data: cases.mutated([data]))))


def _sqlite(folder: Path, contract: Contract, params: Path) -> Target:
    def run(case: bytes) -> None:
        (folder / "a.db3").write_bytes(case)
        _read_bag(folder / "a.db3")

    return Target(run, cases.db3_files())


def _packed_bag(folder: Path, contract: Contract, params: Path) -> Target:
    from backports import zstd

    def run(case: bytes) -> None:
        (folder / "a.mcap.zstd").write_bytes(case)
        _read_bag(folder / "a.mcap.zstd")

    made = cases.mcap_files(b"\x00\x01\x00\x00abc", SCAN).map(zstd.compress)
    bombs = st.integers(1, 200).map(lambda n: zstd.compress(bytes(n << 20)))
    return Target(run, st.one_of(made.flatmap(lambda data: cases.mutated([data])), made, bombs))


def _metadata(folder: Path, contract: Contract, params: Path) -> Target:
    """Whatever the metadata say, the messages that are there are read."""
    record = cases.record
    described = record(0x03, b"\1\0" + cases.text(SCAN) + cases.text("") + cases.text(""))
    described += record(
        0x04, b"\1\0\1\0" + cases.text("/scan") + cases.text("cdr") + cases.text("")
    )
    message = record(0x05, b"\1\0" + bytes(4) + b"\5" + bytes(7) + bytes(8) + b"\0\1\0\0")
    (folder / "a.mcap").write_bytes(b"\x89MCAP0\r\n" + described + message)
    seed = """rosbag2_bagfile_information:
  version: 9
  storage_identifier: mcap
  relative_file_paths:
    - a.mcap
  topics_with_message_count:
    - topic_metadata:
        name: /scan
        type: sensor_msgs/msg/LaserScan
        offered_qos_profiles: []
      message_count: 1
  compression_mode: ""
"""

    def run(case: bytes) -> None:
        (folder / "metadata.yaml").write_bytes(case)
        assert len(_read_bag(folder)) == 1

    return Target(run, cases.yaml_texts(seed))


def _messages(folder: Path, contract: Contract, params: Path) -> Target:
    """Messages as they are recorded, one of them changed: the role's number, then its CDR."""
    store = get_typestore(Stores.ROS2_JAZZY)
    settings = Settings.load(params)
    roles = [role for role in TYPES if role != "clock"]
    valid = {role: _valid_message(store, role) for role in roles}

    def run(case: bytes) -> None:
        changed = roles[case[0] % len(roles)] if case else "scan"
        drive = RecordedDrive(settings)
        for role in ("odom", "scan", "camera_info", "command", "depth"):
            data = case[1:] if role == changed else valid[role]
            try:
                message = store.deserialize_cdr(data, TYPES[role][0])
            except Exception:  # what the library says of a damaged message, as harvest takes it
                continue
            drive.take(role, message, 10**9, 1.0)
            if role == "depth":
                with contextlib.suppress(SensorError):
                    messages.bev_from_message(message, contract)

    def of_role(number: int) -> st.SearchStrategy[bytes]:
        return cases.mutated([valid[roles[number]]]).map(lambda data: bytes([number]) + data)

    run(b"\0" + valid[roles[0]])  # compiles the kernel, which takes seconds once
    return Target(run, st.integers(0, len(roles) - 1).flatmap(of_role))


def _valid_message(store: Any, role: str) -> bytes:
    make = store.types
    stamp = make["builtin_interfaces/msg/Time"](1, 0)
    header = make["std_msgs/msg/Header"](stamp, "base_link")
    kind = TYPES[role][0]
    if role == "scan":
        ranges = np.full(360, 2.0, np.float32)
        turn = 2.0 * np.pi / 360
        fields = (header, -np.pi, np.pi - turn, turn, 0.0, 0.1, 0.1, 12.0, ranges, ranges[:0])
    elif role == "depth":
        pixels = np.full(60 * 80, 1500, np.uint16)
        fields = (header, 60, 80, "16UC1", 0, 160, pixels.view(np.uint8))
    elif role == "camera_info":
        k = np.array([80.0, 0, 40, 0, 80, 30, 0, 0, 1])
        p = np.array([80.0, 0, 40, 0, 0, 80, 30, 0, 0, 0, 1, 0])
        region = make["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        fields = (header, 60, 80, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), p, 0, 0, region)
    else:
        zero = make["geometry_msgs/msg/Vector3"](0.1, 0.0, 0.0)
        twist = make["geometry_msgs/msg/Twist"](zero, zero)
        fields = (zero, zero)
        if role == "odom":
            point = make["geometry_msgs/msg/Point"](0.0, 0.0, 0.0)
            turned = make["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
            pose = make["geometry_msgs/msg/Pose"](point, turned)
            fields = (
                header, "base_link",
                make["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
                make["geometry_msgs/msg/TwistWithCovariance"](twist, np.zeros(36)),
            )  # fmt: skip
    return bytes(store.serialize_cdr(make[kind](*fields), kind))


# Recorded sensors


def _replay(folder: Path, name: str) -> Callable[[bytes], None]:
    """Return what reads a folder of recorded sensors in which one file is the case."""
    np.savez(folder / "scans.npz", **_scans())
    cv2.imwrite(str(folder / "0.png"), np.full((6, 8), 1000, np.uint16))
    camera = {"intrinsic_matrix": [525.0, 0, 0, 0, 520.0, 0, 3.5, 2.5, 1]}
    (folder / "camera.json").write_text(json.dumps(camera))

    def run(case: bytes) -> None:
        (folder / name).write_bytes(case)
        with contextlib.suppress(SensorError):
            replay.read_recording(folder)

    return run


def _scans() -> dict[str, Any]:
    return dict(
        stamps=0.1 * np.arange(4), ranges=np.full((4, 90), 2.0, np.float32),
        angle_min=-1.5, angle_increment=0.03, range_min=0.05, range_max=12.0,
    )  # fmt: skip


def _scans_npz(folder: Path, contract: Contract, params: Path) -> Target:
    members = {}
    for name, value in _scans().items():
        member = io.BytesIO()
        np.lib.format.write_array(member, np.asarray(value))
        members[f"{name}.npy"] = member.getvalue()
    return Target(_replay(folder, "scans.npz"), cases.npz_files(members))


def _scan_csv(folder: Path, contract: Contract, params: Path) -> Target:
    seed = "".join(f"{angle / 10},{2.0 + angle / 50}\n" for angle in range(60)).encode()
    cell = st.sampled_from(
        ["0", "-0", "1e300", "-1e300", "1e-300", "nan", "inf", "7", "", "x", "0x1"]
    )
    rows = st.lists(st.tuples(cell, cell), max_size=8).map(
        lambda pairs: "\n".join(map(",".join, pairs)).encode()
    )
    return Target(_replay(folder, "one.csv"), st.one_of(cases.mutated([seed]), rows))


def _depth_png(folder: Path, contract: Contract, params: Path) -> Target:
    run = _replay(folder, "0.png")
    return Target(run, cases.mutated([(folder / "0.png").read_bytes()]))


def _camera_json(folder: Path, contract: Contract, params: Path) -> Target:
    value = {"intrinsic_matrix": [525.0, 0, 0, 0, 520.0, 0, 3.5, 2.5, 1]}
    return Target(_replay(folder, "camera.json"), cases.json_texts(value))


# The bounded readers themselves


def _json(folder: Path, contract: Contract, params: Path) -> Target:
    def run(case: bytes) -> None:
        with contextlib.suppress(ValueError):
            json.dumps(outside.json_value(case), allow_nan=False)

    return Target(run, cases.json_texts({"a": [1, 2.5, {"b": None}], "c": "text"}))


def _yaml(folder: Path, contract: Contract, params: Path) -> Target:
    def run(case: bytes) -> None:
        with contextlib.suppress(ValueError):
            repr(outside.yaml_value(case.decode()))

    return Target(run, cases.yaml_texts("a: 1\nb: [1, 2]\nc: {d: 2.5}\n"))
