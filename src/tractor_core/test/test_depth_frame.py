"""A depth frame that is of another unit, or of which too little is known, is refused by name."""

from types import SimpleNamespace

import numpy as np
import pytest

from tractor_core import contract as contract_module
from tractor_core import robot as robot_module
from tractor_core.bev.fusion import Fusion
from tractor_core.bev.parameters import BuilderParameters
from tractor_core.errors import SensorError
from tractor_core.paths import default_params_file

SHAPE = (100, 848)
WALL_M = 0.5


@pytest.fixture
def take():
    """Return a function that gives a depth image to a Fusion with a camera."""
    file = default_params_file()

    def depth_image(pixels, encoding, **parameters):
        fusion = Fusion(
            contract_module.load(file), robot_module.load(file),
            BuilderParameters(kernel="opencv", **parameters),
        )  # fmt: skip
        k = [425.0, 0, 424, 0, 425, 50, 0, 0, 1]
        fusion.take_camera_info(SimpleNamespace(height=SHAPE[0], width=SHAPE[1], k=k))
        return fusion.depth_image(
            SimpleNamespace(
                height=SHAPE[0], width=SHAPE[1], encoding=encoding, is_bigendian=0,
                step=SHAPE[1] * pixels.itemsize, data=pixels.tobytes(),
            )
        )  # fmt: skip

    return depth_image


def room_m():
    """Depth of a room, m, with holes, the floor near and a window far."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.4, 6.0, SHAPE)
    depth[:20] = rng.uniform(15.0, 60.0, (20, SHAPE[1]))
    depth[rng.random(SHAPE) < 0.13] = 0.0
    return depth


def test_a_room_with_a_window_is_taken(take):
    take((1000 * room_m()).astype(np.uint16), "16UC1")
    take(room_m().astype(np.float32), "32FC1")


@pytest.mark.parametrize("parameters", [{}, {"min_valid_depth_fraction": 0.0}])
@pytest.mark.parametrize("holes", [0.0, np.nan, np.inf])
def test_millimetres_in_32fc1_are_refused(take, parameters, holes):
    # ensenso/ros_driver#60.
    pixels = 1000.0 * room_m()
    pixels[pixels == 0.0] = holes
    with pytest.raises(SensorError, match=r"expected metres in 32FC1.*found .* beyond 20 m"):
        take(pixels.astype(np.float32), "32FC1", **parameters)


def test_an_open_field_is_no_other_unit(take):
    # ZED outdoors: the floor near, the rest as far as it measures.
    pixels = np.full(SHAPE, 27.0, np.float32)
    pixels[88:] = 0.9
    take(pixels, "32FC1")
    pixels[:95] = 500.0
    with pytest.raises(SensorError, match=r"expected metres in 32FC1"):
        take(pixels, "32FC1")


def test_another_unit_in_16uc1_is_refused(take):
    # A wall at half a metre in units of 10 micrometres.
    with pytest.raises(SensorError, match=r"expected millimetres in 16UC1.*found 100.0%"):
        take(np.full(SHAPE, 50_000, np.uint16), "16UC1")


def test_depth_that_is_used_is_no_other_unit(take):
    take(np.full(SHAPE, 30.0, np.float32), "32FC1", depth_max_m=40.0)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_covered_camera_is_named(take, kind):
    encoding, scale = ("16UC1", 1000) if kind == np.uint16 else ("32FC1", 1)
    at_the_lens = np.full(SHAPE, 0.1 * scale, kind)
    with pytest.raises(SensorError, match=r"10% valid pixels, found 0.0%.*100.0% nearer .*covered"):
        take(at_the_lens, encoding)
    with pytest.raises(SensorError, match=r"10% valid pixels, found 0.0%.*100.0% without a depth"):
        take(np.zeros(SHAPE, kind), encoding)
    nearly = at_the_lens.copy()
    nearly[:9] = WALL_M * scale
    with pytest.raises(SensorError, match=r"10% valid pixels, found 9.0%.*91.0% nearer"):
        take(nearly, encoding)
    nearly[:10] = WALL_M * scale
    take(nearly, encoding)


def test_a_camera_that_is_too_close_to_measure_anything_is_named(take):
    with pytest.raises(SensorError, match=r"valid pixels, found 0.0%.*100.0% nearer"):
        take(np.full(SHAPE, -np.inf, np.float32), "32FC1")


@pytest.mark.parametrize(
    ("encoding", "remedy"),
    [
        # heuristicus/spot_ros#7, ravijo/ros_openpose#80.
        ("mono16", "16UC1 under another name.*as 16UC1"),
        ("16SC1", "16UC1"),
        ("64FC1", "32FC1"),
        ("mono8", "picture to look at"),
        ("rgb8", "no depth image"),
        ("16UC1; compressedDepth", "no depth image"),
    ],
)
def test_other_encodings_are_refused_with_what_helps(take, encoding, remedy):
    with pytest.raises(SensorError, match=f"expected encoding 16UC1 or 32FC1, found.*{remedy}"):
        take(np.full(SHAPE, 1000, np.uint16), encoding)
