"""A folder of samples is read once and kept packed."""

from tractor_calibration.samples.reading import read_folder
from tractor_core import samples


def test_good_samples_are_listed_in_time_and_bad_ones_by_name(calibration_dir, contract):
    good = samples.list_files(calibration_dir)
    (calibration_dir / "calib_0.npz").write_bytes(good[0].read_bytes()[:500])
    (calibration_dir / "calib_1.npz").write_text("text")
    content = {path.name: path.read_bytes() for path in calibration_dir.iterdir()}
    checked = read_folder(calibration_dir, contract)
    assert checked.names == tuple(file.name for file in good)
    assert list(checked.stamps_ns) == [400_000_000 * (i + 1) for i in range(104)]
    assert [name in reason for name, reason in zip(["calib_0", "calib_1"], checked.rejected)] == [
        True,
        True,
    ]
    assert content == {path.name: path.read_bytes() for path in calibration_dir.iterdir()}
