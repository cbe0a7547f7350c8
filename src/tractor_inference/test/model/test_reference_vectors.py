"""Reference vectors tell a backend that computes what was validated from one that does not."""

import dataclasses

import actor_factory
import numpy as np
import pytest

from tractor_core import robot
from tractor_core.contract import normalize
from tractor_core.errors import ModelError
from tractor_inference.model import manifest, reference_vectors
from tractor_inference.model.backends.base import Backend
from tractor_inference.model.policy import Policy

FRAMES = actor_factory.make_samples(8)


class Scripted(Backend):
    """Answers with a function of its inputs."""

    name = "scripted"

    def __init__(self, contract, answer, record):
        super().__init__(contract)
        self._answer = answer
        self.probes = record

    def _run(self, bev, proprio):
        return self._answer(bev, proprio)


@pytest.fixture(scope="module")
def answer(actor_onnx):
    import onnx

    model = onnx.load(actor_onnx)
    return lambda bev, proprio: actor_factory.onnx_answer(model, bev, proprio)


@pytest.fixture(scope="module")
def record(contract, answer):
    packed = []
    for frame in FRAMES:
        action = answer(frame.bev[None], normalize(contract, frame.proprio)[None])[0]
        packed.append(reference_vectors.pack(frame, action, action))
    return manifest.ProbesRecord(0.05, tuple(packed))


def test_a_frame_comes_back_as_it_was_packed(contract, record):
    for frame, packed in zip(FRAMES, record.frames):
        found = reference_vectors.unpack(packed, contract)
        np.testing.assert_array_equal(found.bev, frame.bev)
        np.testing.assert_array_equal(found.proprio, frame.proprio)
        assert len(packed.bev) < 20_000


def test_a_backend_that_answers_as_recorded_is_accepted(contract, answer, record):
    assert reference_vectors.check(Scripted(contract, answer, record)) < 1e-4


def test_a_model_without_a_manifest_has_no_reference_vectors(contract):
    assert reference_vectors.check(Scripted(contract, None, None)) == 0.0


def transposed(answer):
    return lambda bev, proprio: answer(np.ascontiguousarray(bev.transpose(0, 1, 3, 2)), proprio)


def swapped_channels(answer):
    return lambda bev, proprio: answer(bev[:, ::-1], proprio)


def swapped_actions(answer):
    return lambda bev, proprio: answer(bev, proprio)[:, ::-1]


def forgotten_proprio(answer):
    return lambda bev, proprio: answer(bev, np.zeros_like(proprio))


def not_a_number(answer):
    return lambda bev, proprio: np.full((1, 2), np.nan, np.float32)


def another_shape(answer):
    return lambda bev, proprio: np.zeros((1, 3), np.float32)


@pytest.mark.parametrize(
    "fault",
    [
        transposed, swapped_channels, swapped_actions, forgotten_proprio, not_a_number,
        another_shape,
    ],
)  # fmt: skip
def test_a_wrong_computation_is_refused(fault, contract, answer, record):
    with pytest.raises(ModelError, match=r"reference vector \d of 8: expected the action"):
        reference_vectors.check(Scripted(contract, fault(answer), record))


def test_the_policy_asks_before_it_drives(contract, params_file, answer, record):
    policy = Policy(
        contract, robot.load(params_file), Scripted(contract, transposed(answer), record)
    )
    with pytest.raises(ModelError, match="reference vector"):
        policy.warm_up()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bev": "no base64!"}, "cannot be unpacked"),
        ({"bev": "AAAA"}, "cannot be unpacked"),
        ({"bev": "eJwDAAAAAAE="}, "another size"),
        ({"proprio": (1.0,)}, "found 1 and 2"),
        ({"built": (1.0,)}, "found 6 and 1"),
    ],
)
def test_a_damaged_reference_vector_is_named(change, reason, contract, answer, record):
    damaged = dataclasses.replace(record.frames[2], **change)
    frames = (*record.frames[:2], damaged, *record.frames[3:])
    with pytest.raises(ModelError, match=f"reference vector 3 of 8: .*{reason}"):
        reference_vectors.check(Scripted(contract, answer, manifest.ProbesRecord(0.05, frames)))


def test_a_grid_that_unpacks_without_bound_is_refused(contract, record):
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(2**28), 9)).decode()
    with pytest.raises(ModelError, match="another size"):
        reference_vectors.unpack(dataclasses.replace(record.frames[0], bev=bomb), contract)
