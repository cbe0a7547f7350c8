"""Parsers of what others wrote give a value or their error, in bounds: a short `make fuzz`."""

import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("rosbags", reason="rosbags is not installed")
pytest.importorskip("cv2", reason="reading depth images needs opencv-python-headless")

from fuzz import targets
from fuzz.limits import within_limits

NAMES = [
    "sample", "experience", "offer", "offered_note", "reference_set", "manifest", "history",
    "versions", "copied_manifest",
    "parameters", "metadata", "mcap", "sqlite", "packed_bag", "messages", "toolkit_result",
    "toolkit_actions", "scans_npz", "scan_csv", "depth_png", "camera_json", "fast_dds", "json",
    "yaml", "onnx",
]  # fmt: skip


@pytest.fixture(scope="module")
def makers(tmp_path_factory):
    return targets.make(tmp_path_factory.mktemp("fuzz"))


def test_every_parser_is_here(makers):
    assert [*makers] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_parser_gives_nothing_but_its_error(makers, name):
    target = makers[name]()

    @settings(max_examples=target.examples, deadline=None, suppress_health_check=[*HealthCheck])
    @given(target.inputs)
    def check(case):
        within_limits(target.run, case)

    check()
