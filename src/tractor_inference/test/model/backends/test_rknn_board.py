"""The real aarch64 binding under emulation: opening and failing, up to the NPU itself.

Set up by .ci/qemu_aarch64.sh FOLDER; TRACTOR_QEMU_ROOT names the folder.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tractor_inference.model import manifest
from tractor_inference.model.backends import CORE_MASKS

pytestmark = [pytest.mark.qemu, pytest.mark.toolkit]

EXIT_CODE = 3
OPEN = """
import sys
from pathlib import Path
from tractor_core import contract
from tractor_inference.model.backends import open_backend
from tractor_core.errors import TractorError

for core_mask in sys.argv[3:]:
    try:
        open_backend("auto", Path(sys.argv[1]), contract.load(sys.argv[2]), core_mask)
    except TractorError as error:
        print(f"{type(error).__name__}: {error}")
    else:
        sys.exit(f"opened with {core_mask}")
sys.exit(3)
"""


@pytest.fixture(scope="session", autouse=True)
def root(repository) -> Path:
    """Folder of the emulated aarch64 Python."""
    default = repository / ".venv" / "qemu-aarch64"
    folder = Path(os.environ.get("TRACTOR_QEMU_ROOT", default))
    if not (folder / "made_by").is_file():
        pytest.skip(f"no emulated board at {folder}; .ci/qemu_aarch64.sh {folder} sets one up")
    return folder


@pytest.fixture
def model(int8_model, tmp_path) -> Path:
    for suffix in (".rknn", ".json"):
        shutil.copy(int8_model.with_suffix(suffix), tmp_path)
    return tmp_path / int8_model.name


@pytest.fixture
def open_emulated(root, repository, params_file, model):
    """Open the model in the emulated Python, once with each choice of cores.

    With other system files where a folder is given.
    """

    def run(system: Path = root, core_masks: Sequence[str] = ("auto",)):
        sources = (str(repository / "src" / name) for name in ("tractor_core", "tractor_inference"))
        path = os.pathsep.join([str(root / "site"), *sources])
        command = [root / "usr/bin/qemu-aarch64-static", "-L", system]
        command += [root / "usr/bin/python-emulated", "-c", OPEN]
        command += [model, params_file, *core_masks]
        return subprocess.run(
            command,
            env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def refused(result: subprocess.CompletedProcess, *texts: str) -> None:
    """Assert that one error of ours is all that stdout holds, and what it says."""
    assert result.returncode == EXIT_CODE, result.stderr
    assert result.stdout.startswith("ModelError: "), result.stdout
    for text in texts:
        assert text in result.stdout


def test_a_machine_without_an_npu_is_told_everything_it_lacks(open_emulated, model):
    result = open_emulated()
    refused(
        result,
        f"{model}: init_runtime with NPU_CORE_AUTO: expected 0, found -1",
        "rknn-toolkit-lite2 2.5.0, librknnrt of unknown version",
        "model built by rknn-toolkit2 2.5.0 for rk3588",
        "this machine is an unknown aarch64",
        "/proc/device-tree/compatible: this is no Rockchip board",
        "/dev/dri/renderD129: the kernel has no NPU driver",
        "/usr/lib/librknnrt.so: install the vendor's librknnrt",
        "On a PC choose backend rknn_sim",
    )
    # The binding prints on stdout too.
    assert result.stdout.count("\n") == 1
    assert "Target platforms supported by this RKNN model" in result.stderr


@pytest.fixture
def make_board(root, tmp_path):
    """Make system files of a board with an NPU driver and without librknnrt, by its names."""

    def make(*names: str) -> Path:
        board = tmp_path / "board"
        (board / "proc/device-tree").mkdir(parents=True)
        (board / "proc/device-tree/compatible").write_bytes(
            b"".join(n.encode() + b"\0" for n in names)
        )
        (board / "dev/dri").mkdir(parents=True)
        (board / "dev/dri/renderD129").touch()
        for name in ("lib", "usr", "etc"):
            (board / name).symlink_to(root / name)
        return board

    return make


def test_a_board_without_the_runtime_library_is_told_only_that(open_emulated, make_board):
    refused(
        open_emulated(make_board("radxa,rock-5b", "rockchip,rk3588")),
        "this machine is radxa,rock-5b, rockchip,rk3588",
        "missing here: /usr/lib/librknnrt.so: install the vendor's librknnrt. On a PC",
    )


def test_a_model_for_another_machine_is_refused_before_the_npu(open_emulated, make_board):
    refused(
        open_emulated(make_board("radxa,rock-3a", "rockchip,rk3568")),
        "expected a model for this machine, radxa,rock-3a, rockchip,rk3568, found one for rk3588",
    )


def test_the_binding_has_the_cores_that_can_be_asked_for(open_emulated):
    expected = [
        f"init_runtime with NPU_CORE_{core_mask.upper()}: expected 0, found -1"
        for core_mask in CORE_MASKS
    ]
    result = open_emulated(core_masks=CORE_MASKS)
    refused(result, *expected)
    assert result.stdout.count("ModelError: ") == len(CORE_MASKS)


@pytest.mark.parametrize("keep_bytes", [300_000, 500])
def test_a_truncated_model_is_refused_before_the_npu(open_emulated, model, keep_bytes):
    model.write_bytes(model.read_bytes()[:keep_bytes])
    path = manifest.path_of(model)
    value = json.loads(path.read_text())
    value["model"].update(sha256=manifest.sha256_file(model), bytes=model.stat().st_size)
    path.write_text(json.dumps(value))
    refused(open_emulated(), f"{model}: not a readable .rknn file")


def test_a_model_for_another_chip_is_refused_before_the_npu(open_emulated, model):
    path = manifest.path_of(model)
    value = json.loads(path.read_text())
    value["model"]["target"] = "rk3566"
    path.write_text(json.dumps(value))
    refused(
        open_emulated(), "expected a model for rk3566 as its manifest says, found one for rk3588"
    )
