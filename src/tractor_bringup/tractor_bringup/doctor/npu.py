"""What a Rockchip board brings for its NPU: binding, runtime, kernel driver, device."""

from __future__ import annotations

import importlib.metadata
import os
import re

from .host import FAIL, LITE, OK, SETUP, WARN, Host, Imports, Line

# The binding opens the runtime under this name only.
LIBRKNNRT = "usr/lib/librknnrt.so"
LIBRKNNRT_SOURCE = (
    "download it from github.com/airockchip/rknn-toolkit2 (rknpu2/runtime/Linux/librknn_api/"
    "aarch64) to /usr/lib/"
)
# The first is for root only. Source: rockchip's rknpu driver.
DRIVER_VERSIONS = ("sys/kernel/debug/rknpu/version", "proc/rknpu/version")


def absent(host: Host) -> list[Line]:
    """Say why no NPU is looked for."""
    found = "none, this is no Rockchip board; use the backend onnx or rknn_sim"
    if host.architecture == "aarch64":
        found += "; in a container on the rover, map /proc/device-tree and /dev/dri into it"
    return [Line("NPU", OK, found)]


def binding(imports: Imports) -> list[Line]:
    """Import rknn-toolkit-lite2."""
    from tractor_inference.model.backends.rknn import DISTRIBUTION

    _, reason = imports.result(LITE)
    if reason:
        return [Line(DISTRIBUTION, FAIL, f"{reason}; needed by the backend rknn", SETUP)]
    return [Line(DISTRIBUTION, OK, importlib.metadata.version(DISTRIBUTION))]


def runtime_version(host: Host) -> str:
    """Return the version that librknnrt states in itself, or an empty string.

    Raises:
        OSError: the library is not there or not readable.
    """
    found = re.search(
        rb"librknnrt version: ([0-9][0-9A-Za-z.]*)", (host.root / LIBRKNNRT).read_bytes()
    )
    return found[1].decode() if found else ""


def runtime(host: Host) -> list[Line]:
    """Read the version of the NPU's runtime library."""
    try:
        version = runtime_version(host)
    except FileNotFoundError:
        return [Line("librknnrt", FAIL, f"no {host.root / LIBRKNNRT}", LIBRKNNRT_SOURCE)]
    if version:
        return [Line("librknnrt", OK, version)]
    found = f"{host.root / LIBRKNNRT} states no version"
    return [Line("librknnrt", WARN, found, LIBRKNNRT_SOURCE)]


def driver(host: Host) -> list[Line]:
    """Read the version of the kernel's NPU driver where it is readable."""
    denied = False
    for name in DRIVER_VERSIONS:
        try:
            version = (host.root / name).read_text(errors="replace").strip()
        except PermissionError:
            denied = True
        except OSError:
            continue
        else:
            return [Line("NPU driver", OK, version)]
    if denied:
        found = f"its version is for root to read: sudo cat /{DRIVER_VERSIONS[0]}"
        return [Line("NPU driver", OK, found)]
    return [Line(
        "NPU driver", WARN, f"no /{' and no /'.join(DRIVER_VERSIONS)}",
        "use the vendor's kernel with CONFIG_ROCKCHIP_RKNPU; see sudo dmesg | grep -i rknpu",
    )]  # fmt: skip


def device(host: Host) -> list[Line]:
    """Find the device of the NPU and check that this user may open it."""
    cards = sorted((host.root / "sys/class/drm").glob("renderD*"))
    nodes = [
        host.root / "dev/dri" / card.name
        for card in cards
        if "DRIVER=RKNPU" in (card / "device/uevent").read_text(errors="replace").split()
    ]
    # What the binding looks for, and what kernels without DRM have.
    nodes += [host.root / "dev/dri/renderD129", host.root / "dev/rknpu"]
    node = next((node for node in nodes if node.exists()), None)
    if node is None:
        remedy = "use the vendor's kernel; in a container, map /dev/dri into it"
        return [Line("NPU device", FAIL, f"none of {', '.join(map(str, nodes))}", remedy)]
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        remedy = f"add the user to the group that ls -l {node} shows, then log in again"
        return [Line("NPU device", FAIL, f"{node} does not open: {error.strerror}", remedy)]
    return [Line("NPU device", OK, str(node))]
