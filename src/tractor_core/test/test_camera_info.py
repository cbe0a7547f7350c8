"""Which numbers of a CameraInfo belong to the depth image that comes with it."""

from types import SimpleNamespace

import pytest

from tractor_core.camera_info import image_size_from_message, intrinsics_from_message, is_rectified
from tractor_core.errors import SensorError

RECTIFIED, RAW = "/camera/depth/image_rect", "/camera/depth/image_raw"
NO_ROI = (0, 0, 0, 0)
# Calibrations that others published: (width, height, fx, fy, cx, cy of K, the same of P, D).
CALIBRATED = {
    "rpg_monocular_pose_estimator#3": (
        752, 480, (615.65, 616.76, 362.66, 256.67), (525.98, 579.80, 357.62, 258.38),
        (-0.358561, 0.149313, 0.000485, -0.0002, 0.0),
    ),
    "Basler_21029382 (strawlab)": (
        659, 494, (516.385668, 516.1258, 339.16708, 227.379935),
        (444.369751, 474.186859, 337.107818, 225.062743),
        (-0.331416226762003, 0.143584747015566, 0.00314558656668844, -0.00393597842852019, 0),
    ),
    "imx219 (ROBOTIS)": (
        640, 480, (322.070412, 320.867399, 199.268062, 155.253308),
        (329.248383, 329.1044, 198.410151, 155.505712),
        (0.1639958233797625, -0.271840030972792, 0.001055841660100477, -0.00166555973740089, 0),
    ),
}  # fmt: skip


def k_of(fx, fy, cx, cy):
    return [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]


def p_of(fx, fy, cx, cy, tx=0.0):
    return [fx, 0.0, cx, tx, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]


def info(width=640, height=480, k=(0.0,) * 9, p=(0.0,) * 12, d=(), binning=(0, 0), roi=NO_ROI):
    return SimpleNamespace(
        width=width, height=height, k=list(k), p=list(p), d=list(d), binning_x=binning[0],
        binning_y=binning[1],
        roi=SimpleNamespace(x_offset=roi[0], y_offset=roi[1], width=roi[2], height=roi[3]),
    )  # fmt: skip


def found(message, topic=RECTIFIED):
    k = intrinsics_from_message(message, topic)
    return k.fx, k.fy, k.cx, k.cy


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/camera/camera/depth/image_rect_raw", True),  # realsense2_camera
        ("/camera/depth_registered/image_rect", True),
        ("/zed/zed_node/depth/depth_registered", None),
        ("/stereo/rectified_depth", True),
        ("/camera/depth/image_raw", False),
        ("/camera/aligned_depth_to_color/image_raw", False),
        ("/direct/depth", None),
        ("/rover1/depth", None),
        ("/raw_cameras/front/image_rect", True),
        ("/rectifier/input/image_raw", False),
        ("/camera_rect/image_raw/depth", False),
    ],
)
def test_the_name_of_a_topic_says_whether_it_is_rectified(topic, expected):
    assert is_rectified(topic) is expected


@pytest.mark.parametrize("camera", CALIBRATED)
@pytest.mark.parametrize("topic", [RECTIFIED, "", "/depth"])
def test_p_is_that_of_a_rectified_image(camera, topic):
    width, height, k, p, _ = CALIBRATED[camera]
    assert found(info(width, height, k_of(*k), p_of(*p)), topic) == p


@pytest.mark.parametrize("camera", CALIBRATED)
def test_a_rectified_image_of_a_distorted_camera_has_p(camera):
    width, height, k, p, d = CALIBRATED[camera]
    assert found(info(width, height, k_of(*k), p_of(*p), d)) == p


@pytest.mark.parametrize("camera", CALIBRATED)
@pytest.mark.parametrize("topic", [RAW, "", "/depth"])
def test_an_image_that_is_or_may_be_distorted_is_refused(camera, topic):
    width, height, k, p, d = CALIBRATED[camera]
    with pytest.raises(SensorError, match=f"no distortion.*found.*{topic!r}; rectify it"):
        intrinsics_from_message(info(width, height, k_of(*k), p_of(*p), d), topic)


def test_k_stands_in_for_p_of_a_camera_without_distortion():
    k = (425.0, 425.0, 424.0, 50.0)
    for topic in (RECTIFIED, RAW, ""):
        assert found(info(k=k_of(*k), d=[0.0] * 5), topic) == k


def test_k_is_that_of_a_raw_image_without_distortion():
    k, p = (425.0, 425.0, 424.0, 50.0), (400.0, 400.0, 420.0, 55.0)
    assert found(info(k=k_of(*k), p=p_of(*p)), RAW) == k
    # ensenso/ros_driver#131: K is zero, P is filled.
    assert found(info(p=p_of(*p)), RAW) == p


def test_a_distorted_camera_without_p_is_refused_even_where_the_image_is_rectified():
    # luxonis/depthai-ros#58: P and R are zero.
    d = (1.26159, -57.753, 0.00087, 0.00132, 282.645, 1.10723, -56.3538, 277.476)
    k = k_of(1033.0888671875, 1031.7818603515625, 646.242919921875, 369.31561279296875)
    with pytest.raises(SensorError, match=r"expected p, .* without p"):
        intrinsics_from_message(info(1280, 720, k, d=d), RECTIFIED)


def test_the_baseline_of_the_second_camera_of_a_pair_is_no_offset_of_its_pixels():
    # As in depth_image_proc: the points are those of the camera's own frame.
    p = (730.934, 730.934, 606.625, 531.607)
    assert found(info(1224, 1024, p=p_of(*p, tx=-146.187))) == p


# REP-104 spells its video modes out for a camera of 752x480 (roi in full resolution).
MODES = [
    ((0, 0), NO_ROI, (752, 480), (1, 1, 0, 0)),
    ((2, 2), NO_ROI, (376, 240), (2, 2, 0, 0)),
    ((1, 1), (56, 0, 640, 480), (640, 480), (1, 1, 56, 0)),
    ((1, 1), (106, 70, 200, 300), (200, 300), (1, 1, 106, 70)),
    ((2, 2), (56, 0, 640, 480), (320, 240), (2, 2, 56, 0)),
    ((2, 2), (106, 70, 200, 300), (100, 150), (2, 2, 106, 70)),
    ((2, 0), NO_ROI, (376, 480), (2, 1, 0, 0)),
]


@pytest.mark.parametrize(("binning", "roi", "size", "by"), MODES)
def test_binning_and_region_of_interest_move_and_scale_the_pixels(binning, roi, size, by):
    p = (525.98, 579.80, 357.62, 258.38)
    message = info(752, 480, p=p_of(*p), binning=binning, roi=roi)
    across, down, left, top = by
    assert image_size_from_message(message) == size[::-1]
    assert found(message) == pytest.approx(
        (p[0] / across, p[1] / down, (p[2] - left) / across, (p[3] - top) / down)
    )


@pytest.mark.parametrize("roi", [(8, 0, 0, 0), (0, 0, 10_000, 480), (0, 470, 640, 20)])
def test_a_region_outside_of_the_image_is_refused(roi):
    with pytest.raises(SensorError, match=r"expected a region of interest within .* found"):
        image_size_from_message(info(roi=roi))


def test_a_camera_info_without_a_size_is_refused():
    with pytest.raises(SensorError, match=r"expected the size of the image .* found 0x0"):
        image_size_from_message(info(0, 0))


def test_a_matrix_without_focal_lengths_is_not_filled():
    k, p = (425.0, 425.0, 424.0, 50.0), (400.0, 400.0, 420.0, 55.0)
    assert found(info(k=k_of(*k), p=p_of(0.0, 0.0, 320.0, 240.0))) == k
    assert found(info(k=k_of(0.0, 0.0, 0.0, 0.0), p=p_of(*p)), RAW) == p


@pytest.mark.parametrize(
    ("intrinsics", "text"),
    [
        ((0.525, 0.525, 0.32, 0.24), "expected fx of 16.6..3.84e\\+04 pixels"),  # of a unit image
        ((1e-6, 525.0, 319.5, 239.5), "expected fx"),
        ((525.0, 1e9, 319.5, 239.5), "expected fy"),
        ((525.0, 525.0, 1e5, 239.5), "expected cx within one image of the image"),
        ((525.0, 525.0, 319.5, -500.0), "expected cy"),
    ],
)
@pytest.mark.parametrize("matrix", ["k", "p"])
def test_intrinsics_that_no_lens_has_are_refused(matrix, intrinsics, text):
    matrices = {"k": k_of(*intrinsics)} if matrix == "k" else {"p": p_of(*intrinsics)}
    with pytest.raises(SensorError, match=text):
        intrinsics_from_message(info(**matrices), RECTIFIED)


@pytest.mark.parametrize(
    ("matrices", "text"),
    [
        ({"k": [570.0, 0, 0, 0, 570.0, 0, 314.0, 235.0, 1]}, "0, 0, 1 as the last row of k"),
        ({"p": [525.0, 0, 0, 0, 0, 525.0, 0, 0, 319.5, 239.5, 1, 0]}, "the last row of p"),
        ({"k": k_of(525.0, 5250.0, 319.5, 239.5)}, "within 4.2 times each other"),
    ],
)
def test_matrices_that_are_none_are_refused(matrices, text):
    with pytest.raises(SensorError, match=text):
        intrinsics_from_message(info(**matrices), RECTIFIED)


def test_binning_that_leaves_no_pixel_is_refused():
    with pytest.raises(SensorError, match="expected binning that leaves pixels of 64x48"):
        image_size_from_message(info(64, 48, binning=(100, 100)))


@pytest.mark.parametrize(
    "intrinsics", [(40.0, 40.0, 320.0, 240.0), (5000.0, 5000.0, 320.0, 240.0),
                   (525.0, 525.0, -30.0, 700.0)],
)  # fmt: skip
def test_wide_and_long_lenses_and_shifted_ones_are_taken(intrinsics):
    assert found(info(p=p_of(*intrinsics))) == intrinsics


@pytest.mark.parametrize(
    "matrices",
    [
        {},
        {"k": [float("nan")] * 9},
        {"k": [500, 0, float("inf"), 0, 500, 1, 0, 0, 1]},
        {"p": p_of(0.0, 500.0, 320.0, 240.0)},
        {"p": p_of(-500.0, 500.0, 320.0, 240.0)},
        {"p": p_of(500.0, 500.0, float("nan"), 240.0)},
    ],
)
def test_intrinsics_must_be_usable(matrices):
    with pytest.raises(SensorError, match=r"camera_info: expected .* found"):
        intrinsics_from_message(info(**matrices), RECTIFIED)
