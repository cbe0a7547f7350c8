"""What a drive leaves: samples, a snapshot of the current frame, advice to calibrate again."""

import dataclasses
import logging

import pytest
from sample_files import CONTRACT, frame

from tractor_core.drift import LEAST_FRAMES
from tractor_core.errors import TractorError
from tractor_core.observation import Observation
from tractor_inference.recording.recorder import Recorder, RecorderParameters

NARROW = {"cur_lin": [10.0, 11.0]}


@pytest.fixture
def recorder(tmp_path):
    made = Recorder(CONTRACT)
    parameters = RecorderParameters(
        calibration_dir=str(tmp_path), sample_probability=0.0, experience_dir=""
    )
    made.open(parameters, "/")
    yield made
    made.close()


def seen(stamp_ns=7):
    one = frame(1)
    return Observation(one.bev, one.proprio, stamp_ns)


def test_the_current_frame_is_saved_and_an_old_one_is_not(recorder, tmp_path):
    with pytest.raises(TractorError, match="no frame to save yet: scan never received"):
        recorder.snapshot(0.3, "scan never received")
    recorder.take(seen(), (), {})
    path = recorder.snapshot(60.0, None).result(10)
    assert path.parent == tmp_path and path.is_file()
    with pytest.raises(TractorError, match=r"no current frame: the last is .* old, limit 0.00"):
        recorder.snapshot(0.0, "not active")


def test_after_the_end_nothing_is_saved_and_the_counters_stay(recorder):
    recorder.take(seen(), ["cur_lin"], {})
    recorder.close()
    recorder.take(seen(), ["cur_lin"], {})
    assert recorder.describe() == {"clipped cur_lin": 2}


def test_frames_beyond_the_calibrated_ranges_are_advice_once_for_each_model(recorder, caplog):
    caplog.set_level(logging.WARNING)
    for ranges in (NARROW, dict(NARROW)):
        for number in range(LEAST_FRAMES):
            recorder.take(seen(number), (), ranges)
        assert "recalibrate" in recorder.describe()["drift"]
        recorder.describe()
    assert sum("recalibrate" in record.getMessage() for record in caplog.records) == 2
    recorder.take(seen(), (), {})
    assert "drift" not in recorder.describe()


def test_changed_parameters_count_from_the_next_frame_on(recorder, tmp_path):
    changed = dataclasses.replace(
        RecorderParameters(calibration_dir=str(tmp_path)), sample_probability=1.0
    )
    recorder.adjust(changed)
    recorder.take(seen(), (), {})
    recorder.close()
    assert len(list(tmp_path.glob("calib_*.npz"))) == 1
