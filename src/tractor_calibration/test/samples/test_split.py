"""Which frames validate: apart in time from those that calibrate."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tractor_calibration.parameters import ConvertParameters, Request
from tractor_calibration.samples import selection, split
from tractor_calibration.samples.hold_out import hold_out
from tractor_calibration.samples.material import Material
from tractor_calibration.samples.reading import CheckedFolder
from tractor_calibration.samples.selection import Activations
from tractor_core import diversity
from tractor_core.packed import PackedSamples
from tractor_core.reference_observations import FILE_NAME, Origin, ReferenceObservations
from tractor_core.samples import Sample


@given(
    gaps=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=120),
    share=st.floats(0.0, 0.9),
    separation_s=st.floats(0.0, 3.0),
)
def test_held_out_frames_are_apart_from_the_pool_in_time(gaps, share, separation_s):
    stamps = (np.cumsum(gaps) * 1e9).astype(np.int64).tolist()
    count = int(len(stamps) * share)
    pool, held_out = hold_out(stamps, count, separation_s)
    assert len(held_out) == count
    assert held_out == sorted(set(held_out))
    assert not set(pool) & set(held_out)
    for i in pool:
        for j in held_out:
            assert abs(stamps[i] - stamps[j]) >= separation_s * 1e9


def test_held_out_frames_are_runs_spread_over_the_recording():
    pool, held_out = hold_out([None] * 100, 40, 1.0)
    ends = (20, 40, 60, 80, 100)
    assert held_out == [frame for end in ends for frame in range(end - 8, end)]
    assert sorted(pool + held_out) == list(range(100))


def test_nothing_is_held_out_when_nothing_is_asked_for():
    assert hold_out([1, 2, 3], 0, 1.0) == ([0, 1, 2], [])


def test_a_run_lies_where_it_is_asked_for_in_its_part():
    for place, first in ((0.0, 0), (0.5, 6), (1.0, 12)):
        _, held_out = hold_out([None] * 100, 40, 1.0, place)
        starts = range(first, 100, 20)
        assert held_out == [frame for start in starts for frame in range(start, start + 8)]


# Which frames a conversion is divided into; the network is a stand-in of two activations.


@pytest.fixture
def material(contract):
    """Make material of so many samples, of which some turn: (samples, reference observations)."""

    def make(turning, count=96, reference=(), turns=None):
        def frame(turn, number):
            bev = np.zeros(contract.bev_shape, np.float32)
            bev[:, number % 100, 5:9] = 1.0
            proprio = np.array([2.0, 0, 0, 0.1, turn, 0.0], np.float32)
            return Sample(bev, proprio, (number + 1) * 400_000_000)

        if turns is None:
            turns = [1.0 if i in turning else 0.0 for i in range(count)]
        frames = [frame(turn, i) for i, turn in enumerate(turns)]
        folder = CheckedFolder(
            names=tuple(f"calib_{i}.npz" for i in range(count)),
            stamps_ns=tuple(one.stamp_ns for one in frames),
            samples=PackedSamples(frames),
            regions=tuple(diversity.regions(one.bev, one.proprio, contract) for one in frames),
            always_empty=(False, False),
            rejected=(),
            grade="fair",
            findings=(),
        )
        others = ReferenceObservations(
            PackedSamples(frame(turn, i) for i, turn in enumerate(reference)),
            tuple(range(len(reference))), "a command", b"",
        )  # fmt: skip
        return Material(folder, others if reference else None)

    return make


@pytest.fixture
def divide(params_file, monkeypatch, tmp_path):
    """Divide material with a network whose activations and first action are the turn rate."""

    def activations(onnx, contract, frames, target):
        turns = np.array([[frame.proprio[4], 0.0] for frame in frames])
        return Activations(turns, turns, turns.astype(np.float32))

    monkeypatch.setattr(selection, "activations", activations)
    monkeypatch.setattr(
        split, "reference_actions",
        lambda onnx, contract, frames: np.array([[x.proprio[4], 0.0] for x in frames], np.float32),
    )  # fmt: skip
    request = Request(
        tmp_path / "actor.onnx", tmp_path / "actor.rknn", True, tmp_path, params_file,
        Origin.load(params_file), ConvertParameters(),
    )  # fmt: skip

    def run(found, quantize=True, **changes):
        asked = dataclasses.replace(
            request, quantize=quantize, parameters=ConvertParameters(**changes)
        )
        return split.divide(asked, b"", found)

    return run


def turning(samples):
    return [i for i, frame in enumerate(samples) if frame.proprio[4] > 0.5]


def test_a_held_out_frame_that_alone_extends_the_range_calibrates(divide, material):
    # The runs of the first split are at the ends of the three parts of 32 samples.
    found = divide(material({30, 31}))
    first = next(one for one in found if any("calibrate instead" in note for note in one.notes))
    assert turning(first.calibration) and not turning(first.validation)
    (note,) = [note for note in first.notes if "calibrate instead" in note]
    assert note.startswith("2 of 24 held-out samples calibrate instead")
    assert "turning left, at speed (2)" in note and "action left positive (2)" in note
    stamps = {frame.stamp_ns for frame in first.validation}
    # What is within half a second of them validates nothing.
    assert not stamps & {31 * 400_000_000, 32 * 400_000_000, 30 * 400_000_000}


def test_the_split_that_holds_out_most_comes_first(divide, material):
    found = divide(material({30, 31}))
    counts = [len(one.validation) for one in found]
    assert counts == sorted(counts, reverse=True)
    assert (len(found), counts[0]) == (3, 24)


def test_reference_observations_calibrate_and_validate_by_world(divide, material):
    (found, *_) = divide(material(set(), reference=[1.0, 0.5, -1.0, 0.25]))
    assert found.references(len(found.names)) == 2
    assert [x for x in found.names if not x.startswith("calib_")] == [
        f"{FILE_NAME}#0", f"{FILE_NAME}#2"
    ]  # fmt: skip
    assert [frame.proprio[4] for frame in found.beyond] == [0.5, 0.25]
    assert found.answers_beyond[:, 0].tolist() == [0.5, 0.25]
    assert found.ranges["cur_ang"] == [-1.0, 1.0]
    assert found.frames == "24 held-out samples and 2 reference observations"
    assert not found.warnings


def test_what_only_the_validation_frames_show_is_named(divide, material):
    # The reference observations cover the turn, so it may stay held out.
    (found, *_) = divide(material({30, 31, 62, 63, 94, 95}, reference=[1.0, 1.0]))
    notes = [note for one in divide(material({30, 31}, reference=[1.0, 1.0])) for note in one.notes]
    assert (
        "only samples that validate show motion: turning left, at speed: 2 to validate, 0 to "
        "calibrate and 1 reference observations; action left positive: 2 to validate, 0 to "
        "calibrate and 1 reference observations"
    ) in notes
    assert len(found.validation) == 24


def test_too_few_samples_validate_on_what_calibrates_and_say_so(divide, material):
    (found,) = divide(material(set(), count=12))
    assert found.source == "samples" and len(found.validation) == 12
    assert any("of 12 samples 8 cannot be held out" in warning for warning in found.warnings)
    assert any("nothing is known beyond" in warning for warning in found.warnings)


def test_frames_of_two_clocks_and_in_any_order_of_names_are_apart_in_time(divide, material):
    found = material(set(), count=96)
    rng = np.random.default_rng(0)
    stamps = rng.permutation([i * 100_000_000 + 1 for i in range(96)]).tolist()
    folder = dataclasses.replace(
        found.folder,
        stamps_ns=tuple(stamps),
        samples=PackedSamples(
            dataclasses.replace(frame, stamp_ns=stamp)
            for frame, stamp in zip(found.folder.samples, stamps)
        ),
    )
    for one in divide(dataclasses.replace(found, folder=folder)):
        held_out = np.array([frame.stamp_ns for frame in one.validation])
        calibrate = np.array([frame.stamp_ns for frame in one.calibration])
        assert np.abs(held_out[:, None] - calibrate).min() >= 500_000_000


def test_where_many_runs_leave_too_little_there_are_fewer(divide, material):
    # 96 samples, 0.4 s apart: three runs with 10 s on both sides would leave nothing.
    found = divide(material(set()), held_out_separation_s=10.0)
    assert all(one.source == "held-out samples" for one in found)
    assert all(one.pool >= 10 for one in found)


def test_of_few_samples_as_many_as_are_needed_stay_to_validate(divide, material):
    # Each sample turns more than the one before: most of the eight held out extend the range.
    (found, *_) = divide(material(set(), count=30, turns=np.linspace(-1.0, 1.0, 30)))
    assert found.source == "held-out samples"
    assert len(found.validation) >= 8


def test_without_a_set_or_samples_fp16_has_notes_and_no_warnings(divide):
    nothing = Material(None, None, None, "there is none")
    (found,) = divide(nothing, quantize=False)
    assert found.source == "synthetic frames" and not found.warnings
    assert "without reference observations: there is none" in found.notes
