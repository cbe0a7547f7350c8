import json
import struct

import numpy as np
import pytest

from tractor_core.errors import SensorError
from tractor_sim.replay import read_recording

cv2 = pytest.importorskip("cv2", reason="reading depth images needs opencv-python-headless")


@pytest.fixture
def recording_folder(tmp_path):
    """Four scans at 10 Hz and two small depth images."""
    np.savez(
        tmp_path / "scans.npz",
        stamps=100.0 + 0.1 * np.arange(4),
        ranges=np.full((4, 90), 2.0, np.float32),
        angle_min=-1.5, angle_increment=0.03, range_min=0.05, range_max=12.0,
    )  # fmt: skip
    for index in range(2):
        pixels = np.full((6, 8), 1000 + index, np.uint16)
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), pixels)
    k = [525.0, 0, 0, 0, 520.0, 0, 3.5, 2.5, 1]
    (tmp_path / "camera.json").write_text(json.dumps({"intrinsic_matrix": k}))
    return tmp_path


def test_pairs_by_time_and_loops_the_shorter_stream(recording_folder):
    recording = read_recording(recording_folder)
    frames = list(recording.frames())
    assert len(frames) == 12
    assert [i for i, frame in enumerate(frames) if frame.scan is not None] == [0, 3, 6, 9]
    assert [frame.depth.pixels[0, 0] for frame in frames[:4]] == [1000, 1001, 1000, 1001]
    intrinsics = frames[0].depth.intrinsics
    assert (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy) == (525.0, 520.0, 3.5, 2.5)


def test_csv_becomes_an_even_circle(recording_folder):
    (recording_folder / "scans.npz").unlink()
    angles = np.linspace(0.0, 2 * np.pi, 100, endpoint=False)[5:]
    np.savetxt(recording_folder / "one.csv", np.stack([angles, 1.0 + angles], 1), delimiter=",")
    (scan,) = read_recording(recording_folder).scans
    assert len(scan.ranges_m) == 100
    assert scan.measured.sum() == 95
    assert np.isnan(scan.ranges_m[:5]).all()
    assert scan.ranges_m[50] == pytest.approx(1.0 + scan.angles_rad[50], abs=1e-5)


def test_names_every_problem_at_once(recording_folder):
    (recording_folder / "scans.npz").write_bytes(b"PK no archive")
    (recording_folder / "0.png").write_bytes(b"no image")
    cv2.imwrite(str(recording_folder / "1.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(SensorError) as error:
        read_recording(recording_folder)
    for name in ("scans.npz", "0.png", "1.png"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("0.png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 60000, 60000),
         "at most 16777216 pixels, found 60000x60000"),
        ("0.png", b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 8, 6) + bytes(9)
         + struct.pack(">I4s", 2**31 - 1, b"IDAT") + bytes(100), "a length in it is wrong"),
        ("a.csv", b"0,1\n1e300,1\n", "angles within"),
        ("a.csv", b"", "it is empty"),
        ("camera.json", b"[" * 100_000, "nests deeper"),
        ("camera.json", b'{"intrinsic_matrix": [' + b"1" * 400 + b"]}", "64 bits"),
    ],
)  # fmt: skip
def test_files_that_would_take_gigabytes_are_refused(recording_folder, name, content, reason):
    (recording_folder / name).write_bytes(content)
    with pytest.raises(SensorError, match=reason):
        read_recording(recording_folder)


def test_a_csv_whose_rows_are_all_at_one_angle_is_read(recording_folder):
    (recording_folder / "a.csv").write_text("0,1\n0,1\n0,2\n")
    assert len(read_recording(recording_folder).scans) == 5


@pytest.mark.parametrize("missing", ["scans.npz", "*.png", "camera.json"])
def test_missing_parts_are_named(recording_folder, missing):
    for path in recording_folder.glob(missing):
        path.unlink()
    with pytest.raises(SensorError, match=r"expected (at least )?one"):
        read_recording(recording_folder)


def test_no_folder(tmp_path):
    with pytest.raises(SensorError, match="expected a folder"):
        read_recording(tmp_path / "nowhere")


def test_pickled_scans_are_refused(recording_folder):
    fields = ("ranges", "angle_min", "angle_increment", "range_min", "range_max")
    np.savez(
        recording_folder / "scans.npz",
        stamps=np.array([object()], dtype=object),
        **dict.fromkeys(fields, 1.0),
    )
    with pytest.raises(SensorError, match=r"scans\.npz"):
        read_recording(recording_folder)


def test_reads_the_real_recordings(shared_data):
    recording = read_recording(shared_data)
    assert len(recording.depths) == 5
    assert len(recording.scans) == 278 + 1
    frames = list(recording.frames())
    assert sum(frame.scan is not None for frame in frames) == 279
    assert {len(scan.ranges_m) for scan in recording.scans} == {681, 160}
    assert recording.depths[0].pixels.shape == (480, 640)
    assert 0.8 < recording.depths[0].valid_fraction < 0.95
