"""A CameraInfo as intrinsics of the depth image, or refused by name."""

from __future__ import annotations

import math
import re
from typing import Any

from .errors import SensorError
from .sensors import Intrinsics

# Focal length over the side of the image: lenses of 174 degrees and of 1 degree. What is outside
# was computed for another size or unit.
FOCAL_PER_SIDE = (0.026, 60.0)
# Pixels are about square; sensors that leave out rows or columns have one axis of a quarter.
MAX_PIXEL_ASPECT = 4.2


def is_rectified(topic: str) -> bool | None:
    """Return whether an image topic is rectified, None when its name does not say.

    image_proc's convention: image_rect, image_rect_raw and the like are, image_raw is not.
    """
    # The last part that says something counts: /raw_cameras/front/image_rect is rectified.
    for part in reversed(topic.lower().split("/")):
        words = re.split("[^a-z]+", part)
        if any(word.startswith("rect") for word in words):
            return True
        if "raw" in words:
            return False
    return None


def intrinsics_from_message(message: Any, topic: str = "") -> Intrinsics:
    """Return the pinhole intrinsics of the depth image that comes with a sensor_msgs/CameraInfo.

    P describes the rectified image, K the raw one. P is used, as in depth_image_proc, and K where P
    is not filled or the topic is a raw image's, if that has no distortion. Binning and the offset
    of the region of interest are applied as in image_geometry's PinholeCameraModel. Fields that a
    stand-in for a message lacks are as in an empty message.

    Args:
        topic: the depth image's; its name says whether the image is rectified.

    Raises:
        SensorError: the image is distorted, or may be; focal lengths that are not positive, values
            that are not finite, or numbers that no lens has for an image of this size.
    """
    k, p, d = ([float(v) for v in getattr(message, name, ())] for name in ("k", "p", "d"))
    # A matrix without focal lengths is not filled, whatever else a driver writes into it.
    rectified, has_k, has_p = is_rectified(topic), any(k[:5:4]), any(p[:6:5])
    if any(d):
        found = f"distortion ({', '.join(f'{v:g}' for v in d)}) and the topic {topic!r}"
        remedy = "rectify it, with image_proc for instance, and subscribe to that topic"
        if not rectified:
            raise SensorError(
                "camera_info: expected no distortion, or a depth topic that is known to be "
                "rectified by rect in its name",
                f"{found}; {remedy}",
            )
        if not has_p:
            raise SensorError(
                "camera_info: expected p, the matrix of the rectified image",
                f"{found} without p; calibrate the camera, or let the driver fill p",
            )
    use_k = not has_p or (rectified is False and has_k)
    name, values, at = ("k", k, (0, 2, 4, 5)) if use_k else ("p", p, (0, 2, 5, 6))
    if len(values) <= at[-1]:
        raise SensorError("camera_info: expected intrinsics in p or k", f"{len(values)} values")
    _ensure_matrix(name, values)
    fx, cx, fy, cy = (values[i] for i in at)
    if not (math.isfinite(fx) and math.isfinite(fy) and fx > 0 and fy > 0):
        raise SensorError(f"camera_info: expected fx, fy > 0 in {name}", f"{fx:g} and {fy:g}")
    if not (math.isfinite(cx) and math.isfinite(cy)):
        raise SensorError(f"camera_info: expected finite cx, cy in {name}", f"{cx:g} and {cy:g}")
    _ensure_plausible(message, name, (fx, fy), (cx, cy))
    left, top, *_ = _region(message)
    across, down = _binning(message)
    return Intrinsics(fx / across, fy / down, (cx - left) / across, (cy - top) / down)


def _ensure_matrix(name: str, values: list[float]) -> None:
    """Refuse a camera matrix whose last row is not that of one, as of one that was transposed."""
    last, width = values[-len(values) // 3 :], len(values) // 3
    if any(last[:2]) or len(values) != 3 * width:
        raise SensorError(
            f"camera_info: expected 0, 0, 1 as the last row of {name}, row by row",
            f"{', '.join(f'{value:g}' for value in last)}; correct the driver or the calibration",
        )


def _ensure_plausible(
    message: Any, name: str, focals: tuple[float, float], centre: tuple[float, float]
) -> None:
    """Refuse focal lengths and a principal point that no lens has for an image of this size."""
    least, most = FOCAL_PER_SIDE
    for axis, focal, middle, side in zip("xy", focals, centre, (message.width, message.height)):
        if not side:
            continue  # image_size_from_message refuses it
        if not least * side <= focal <= most * side:
            raise SensorError(
                f"camera_info: expected f{axis} of {least * side:.3g}..{most * side:.3g} pixels in "
                f"{name} for an image of {message.width}x{message.height}",
                f"{focal:g}; calibrate the camera in this mode",
            )
        if not -side <= middle <= 2 * side:
            raise SensorError(
                f"camera_info: expected c{axis} within one image of the image, {-side}..{2 * side} "
                f"pixels in {name} for {message.width}x{message.height}",
                f"{middle:g}; calibrate the camera in this mode",
            )
    if not 1.0 / MAX_PIXEL_ASPECT <= focals[0] / focals[1] <= MAX_PIXEL_ASPECT:
        raise SensorError(
            f"camera_info: expected fx and fy in {name} within {MAX_PIXEL_ASPECT:g} times each "
            f"other",
            f"{focals[0]:g} and {focals[1]:g}; calibrate the camera in this mode",
        )


def image_size_from_message(message: Any) -> tuple[int, int]:
    """Return the (height, width) of the image that comes with a sensor_msgs/CameraInfo.

    That of its region of interest, binned; all zeros is the whole image (sensor_msgs/CameraInfo).

    Raises:
        SensorError: there is no size, or the region of interest is not within the image.
    """
    if not (message.width and message.height):
        raise SensorError(
            "camera_info: expected the size of the image in width and height",
            f"{message.width}x{message.height}",
        )
    left, top, width, height = _region(message)
    across, down = _binning(message)
    if not (0 < width <= message.width - left and 0 < height <= message.height - top):
        raise SensorError(
            f"camera_info: expected a region of interest within the image of "
            f"{message.width}x{message.height}",
            f"{width}x{height} at {left}, {top}",
        )
    if not (height // down and width // across):
        raise SensorError(
            f"camera_info: expected binning that leaves pixels of {width}x{height}",
            f"{across}x{down}",
        )
    return height // down, width // across


def _region(message: Any) -> tuple[int, int, int, int]:
    """Return x and y offset, width and height of the region of interest."""
    roi = getattr(message, "roi", None)
    region = (roi.x_offset, roi.y_offset, roi.width, roi.height) if roi is not None else (0,) * 4
    return region if any(region) else (0, 0, message.width, message.height)


def _binning(message: Any) -> tuple[int, int]:
    """Return how many pixels of the sensor were combined across and down; 0 means 1."""
    return getattr(message, "binning_x", 0) or 1, getattr(message, "binning_y", 0) or 1
