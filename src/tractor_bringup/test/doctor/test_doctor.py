"""`doctor` as a user runs it: on a sound machine, on a broken one, and amid rubbish."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import actor_factory
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tractor_bringup import doctor
from tractor_bringup.doctor import host as host_module
from tractor_bringup.doctor import machine, npu
from tractor_core import contract as contracts
from tractor_core import samples
from tractor_inference.model import manifest

pytestmark = pytest.mark.usefixtures("signal_handlers_stay")

BOARD = b"xunlong,orangepi-5-plus\0rockchip,rk3588\0"
VERSIONS = dict.fromkeys(host_module.LIBRARIES, "1.0") | {
    host_module.RCLPY: "rmw_fastrtps_cpp",
    host_module.LITE: "",
}


class Doctor:
    """The command in this process, for a machine that tests make and spoil."""

    def __init__(self, folder, params, capsys):
        self.folder, self.params, self.capsys = folder, params, capsys
        self.root = folder / "root"
        self.environ = {"ROS_DISTRO": "jazzy"}
        self.broken = {}
        self.has_ros = True
        for name, content in {
            "proc/device-tree/compatible": BOARD,
            "proc/sys/net/core/rmem_max": b"4194304\n",
            "proc/rknpu/version": b"RKNPU driver: v0.9.8\n",
            "usr/lib/librknnrt.so": b"\x7fELF\0librknnrt version: 2.5.0 (a1b2c3@2026)\0",
            "dev/dri/renderD129": b"",
            "dev/dri/renderD130": b"",
            "sys/class/drm/renderD130/device/uevent": b"DRIVER=RKNPU\nOF_NAME=npu\n",
        }.items():
            self.write(name, content)
        (self.root / "dev/shm").mkdir()
        self.models, self.samples = folder / "models", folder / "calibration_data"
        self.models.mkdir()

    def write(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def make_pc(self):
        (self.root / "proc/device-tree/compatible").unlink()

    def add_model(self, name, contract, onnx_file, **changes):
        """Write a model as a promotion leaves it: a version, and a link to it."""
        version = self.models / "versions" / f"{name}.20260101T000000Z"
        version.mkdir(parents=True)
        (version / f"{name}.rknn").write_bytes(f"model {name}".encode())
        actor_factory.write_manifest(version / f"{name}.rknn", onnx_file, contract, [], **changes)
        link = self.models / f"{name}.rknn"
        link.symlink_to(version.relative_to(self.models) / link.name)
        return version / link.name

    def drive_with(self, name):
        link = self.models / "remote_trained.rknn"
        link.unlink(missing_ok=True)
        link.symlink_to(os.readlink(self.models / name))

    def edit(self, change):
        content = yaml.safe_load(self.params.read_text())
        change(content)
        self.params.write_text(yaml.safe_dump(content))

    def imports(self, host):
        broken = self.broken

        class Answers:
            def result(self, module):
                return ("", broken[module]) if module in broken else (VERSIONS[module], "")

        return Answers()

    def host(self):
        return host_module.Host(self.root, self.environ, "aarch64", self.has_ros)

    def run(self, *arguments):
        """Return the exit code and {name: its lines}."""
        code = doctor.main([
            "--json", "--params", str(self.params), "--models-dir", str(self.models),
            "--calibration-dir", str(self.samples), *arguments,
        ])  # fmt: skip
        result = json.loads(self.capsys.readouterr().out)
        lines = {}
        for line in result["checks"]:
            assert line["status"] in ("ok", "warn", "fail")
            assert bool(line["remedy"]) == (line["status"] != "ok"), line
            assert line["found"]
            lines.setdefault(line["name"], []).append(line)
        failed = any(line["status"] == "fail" for line in result["checks"])
        assert (result["exit_code"], result["ok"], code) == (failed, not failed, failed)
        self.machine = result["machine"]
        return lines

    def line(self, name, *arguments):
        (found,) = self.run(*arguments)[name]
        return found


def sources(repository):
    """The folders of the packages that the doctor needs."""
    names = ("tractor_core", "tractor_inference", "tractor_bringup")
    return [str(repository / "src" / name) for name in names]


@pytest.fixture
def clinic(tmp_path, params_file, capsys, monkeypatch):
    """A sound rover without a model and samples."""
    params = tmp_path / "sac_rover.yaml"
    params.write_bytes(params_file.read_bytes())
    made = Doctor(tmp_path, params, capsys)
    monkeypatch.setattr(doctor, "Imports", made.imports)
    monkeypatch.setattr(doctor, "Host", made.host)
    # The board's binding as pip would have left it.
    info = tmp_path / "site" / "rknn_toolkit_lite2-2.5.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: rknn-toolkit-lite2\nVersion: 2.5.0\n")
    monkeypatch.syspath_prepend(str(info.parent))
    return made


@pytest.fixture
def rover(clinic, contract, actor_onnx):
    """The same with a model that drives and enough samples."""
    clinic.add_model("sac_v50", contract, actor_onnx)
    clinic.drive_with("sac_v50.rknn")
    clinic.samples.mkdir()
    (first,) = actor_factory.write_samples(clinic.samples, contract, 1)
    for number in range(samples.GOOD_SAMPLES - 1):
        os.link(first, clinic.samples / f"calib_{number}.npz")
    return clinic


class TestWholeMachines:
    def test_on_a_sound_rover_every_line_is_ok(self, rover, contract):
        lines = rover.run()
        unsound = {
            name for name, found in lines.items() for line in found if line["status"] != "ok"
        }
        # Whether this machine has the toolkit is not the rover's matter.
        assert unsound <= {"rknn-toolkit2"}, lines
        assert rover.machine["kind"] == "rover" and "rockchip,rk3588" in rover.machine["board"]
        assert lines["librknnrt"][0]["found"] == "2.5.0"
        assert lines["NPU driver"][0]["found"] == "RKNPU driver: v0.9.8"
        assert lines["NPU device"][0]["found"].endswith("renderD130")
        assert lines["rknn-toolkit-lite2"][0]["found"] == "2.5.0"
        assert contract.digest[:12] in lines["parameters"][0]["found"]
        driving = lines["driving model"][0]["found"]
        assert "remote_trained.rknn -> versions/sac_v50.20260101T000000Z/sac_v50.rknn" in driving
        assert "fp16 for rk3588" in driving

    def test_what_a_pc_cannot_have_is_no_failure(self, clinic):
        clinic.make_pc()
        clinic.has_ros = False
        clinic.broken = {name: "not installed" for name in host_module.LIBRARIES if name != "numpy"}
        clinic.broken.pop("yaml")
        lines = clinic.run()
        assert clinic.machine["kind"] == "PC without ROS 2"
        assert "fail" not in {line["status"] for found in lines.values() for line in found}
        assert lines["NPU"][0]["status"] == lines["ROS 2"][0]["status"] == "ok"
        assert lines["numba"][0]["status"] == "warn"
        assert "make setup" in lines["numba"][0]["remedy"]
        assert not {"librknnrt", "NPU device", "Fast DDS", "ROS network"} & lines.keys()

    @pytest.mark.parametrize(
        ("ros2", "workspace", "kind", "starts"),
        [
            (False, False, "PC with the Python wheels of ROS 2", False),
            (False, True, "PC with the Python wheels of ROS 2", False),
            (True, False, "PC with ROS 2", False),
            (True, True, "PC with ROS 2", True),
        ],
    )
    def test_a_pc_is_told_what_works_there(self, clinic, ros2, workspace, kind, starts):
        clinic.make_pc()
        programs = clinic.folder / "bin"
        programs.mkdir()
        if ros2:
            (programs / "ros2").touch(mode=0o755)
        if workspace:
            (clinic.folder / "install/share/tractor_bringup").mkdir(parents=True)
        clinic.environ |= {
            "PATH": str(programs), "AMENT_PREFIX_PATH": str(clinic.folder / "install")
        }  # fmt: skip
        lines = clinic.run()
        assert clinic.machine["kind"] == kind
        for name in ("samples", "driving model"):
            remedy = lines[name][0]["remedy"]
            assert ("make demo" in remedy) != starts
            assert ("start_sac_rover" in remedy or "model:=" in remedy) == starts

    def test_a_missing_folder_is_said_to_be_missing(self, clinic):
        (line,) = clinic.run("--calibration-dir", str(clinic.folder / "a/b"))["disk, samples"]
        assert line["status"] == "ok"
        assert f"free in {clinic.folder}, where {clinic.folder}/a/b would be made" in line["found"]

    def test_this_machine_is_examined_without_ros_or_libraries(self, repository, tmp_path):
        venv.create(tmp_path / "bare", with_pip=False)
        done = subprocess.run(
            [tmp_path / "bare/bin/python", "-m", "tractor_inference", "doctor", "--json"],
            env={"PYTHONPATH": os.pathsep.join(sources(repository))},
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        lines = {line["name"]: line for line in json.loads(done.stdout)["checks"]}
        assert done.returncode == 1, done.stderr
        assert lines["Python"]["status"] == "ok"
        assert lines["numpy"]["status"] == "fail" and "not installed" in lines["numpy"]["found"]
        assert "No module named 'numpy'" in lines["parameters"]["found"]
        assert "make setup" in lines["parameters"]["remedy"]

    def test_the_page_fits_the_terminal_and_begins_with_the_kind_of_machine(
        self, rover, monkeypatch
    ):
        rover.broken = {"cv2": "its import dies of signal 11"}
        for columns in (80, 120):
            monkeypatch.setenv("COLUMNS", str(columns))
            doctor.main(["--params", str(rover.params), "--models-dir", str(rover.models)])
            rows = rover.capsys.readouterr().out.splitlines()
            assert rows[0].startswith("rover suite on a rover (")
            # A path that does not fit stays whole, so that it can be copied.
            assert all(len(row) <= columns or len(row.split()) <= 4 for row in rows), rows
            (at,) = (i for i, row in enumerate(rows) if row.startswith("WARN  OpenCV"))
            assert "dies of signal 11" in rows[at]
            assert any(row.strip().startswith("-> make setup") for row in rows[at : at + 4])
            assert "warn, 0 fail" in rows[-1]

    def test_help_documents_the_exit_codes_and_a_wrong_option_is_2(self, capsys):
        with pytest.raises(SystemExit) as ended:
            doctor.main(["--help"])
        assert ended.value.code == 0
        assert "1  something failed" in capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            doctor.main(["--nonsense"])
        assert ended.value.code == 2


class TestMachine:
    @pytest.mark.parametrize(
        ("spoil", "name", "status", "found", "remedy"),
        [
            (lambda d: (d.root / npu.LIBRKNNRT).unlink(), "librknnrt", "fail", "no ", "download"),
            (lambda d: d.write(npu.LIBRKNNRT, b"\0"), "librknnrt", "warn", "no version", "downl"),
            (lambda d: d.broken.update({host_module.LITE: "not installed"}), "rknn-toolkit-lite2",
             "fail", "not installed; needed by the backend rknn", "make setup"),
            (lambda d: (d.root / "proc/rknpu/version").unlink(), "NPU driver",
             "warn", "sys/kernel/debug/rknpu/version", "kernel"),
            (lambda d: setattr(d, "has_ros", False), "ROS 2", "fail", "rclpy", "apt ROS 2 Jazzy"),
            (lambda d: d.broken.update({host_module.RCLPY: "its import fails: no librcl"}), "ROS 2",
             "fail", "no librcl", "source"),
            (lambda d: d.environ.update(ROS_DISTRO="humble"), "ROS 2", "warn", "humble", "Jazzy"),
            (lambda d: d.environ.update(ROS_DOMAIN_ID="300"), "ROS network", "fail", "300", "101"),
            (lambda d: d.environ.update(ROS_DOMAIN_ID="x"), "ROS network", "fail", "x", "101"),
            (lambda d: d.environ.update(ROS_AUTOMATIC_DISCOVERY_RANGE="OFF"), "ROS network",
             "warn", "not find each other", "SUBNET"),
            (lambda d: d.environ.update(FASTRTPS_DEFAULT_PROFILES_FILE="/no/p.xml"), "Fast DDS",
             "fail", "/no/p.xml", "config/fastdds.xml"),
            (lambda d: d.environ.update(FASTRTPS_DEFAULT_PROFILES_FILE=str(d.params)), "Fast DDS",
             "fail", "cannot be read", "config/fastdds.xml"),
            (lambda d: d.write("proc/sys/net/core/rmem_max", b"212992"), "UDP buffers",
             "warn", "212992", "sysctl -w net.core.rmem_max=4194304"),
            (lambda d: (d.root / "dev/shm").rmdir(), "shared memory", "warn", "0 MB", "clean"),
            (lambda d: d.broken.update(numba="not installed"), "numba", "fail", "kernel: numba",
             "make setup"),
        ],
    )  # fmt: skip
    def test_each_fault_has_its_line_and_remedy(self, clinic, spoil, name, status, found, remedy):
        spoil(clinic)
        line = clinic.line(name)
        assert line["status"] == status
        assert found in line["found"] and remedy in line["remedy"]

    def test_a_missing_device_names_where_it_was_looked_for(self, clinic):
        for node in (clinic.root / "dev/dri").iterdir():
            node.unlink()
        line = clinic.line("NPU device")
        assert line["status"] == "fail"
        assert "renderD130" in line["found"] and "rknpu" in line["found"]

    def test_a_device_that_does_not_open_is_no_npu(self, clinic):
        node = clinic.root / "dev/dri/renderD130"
        node.unlink()
        node.mkdir()
        line = clinic.line("NPU device")
        assert line["status"] == "fail" and "renderD130 does not open" in line["found"]
        assert "group" in line["remedy"]

    def test_a_full_disk_and_an_unset_clock_fail(self, clinic, monkeypatch):
        usage = machine.shutil.disk_usage(clinic.folder)
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage._replace(free=10**7))
        lines = clinic.run()
        for name in ("disk, models", "disk, samples"):
            assert lines[name][0]["status"] == "fail" and "0.0 GB" in lines[name][0]["found"]
        (line,) = machine.clock(1970)
        assert line.status == "fail" and "1970" in line.found and "timedatectl" in line.remedy

    def test_the_grid_of_opencv_needs_no_numba(self, clinic):
        clinic.broken = {"numba": "not installed"}
        clinic.edit(lambda p: p["/**/bev_builder"]["ros__parameters"].update(kernel="opencv"))
        assert clinic.line("numba")["status"] == "warn"

    def test_a_library_that_kills_its_process_is_a_line(self, tmp_path, monkeypatch):
        (tmp_path / "numba.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
        (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        imports = host_module.Imports(host_module.Host(tmp_path, {}, "x86_64", has_ros=False))
        lines = {line.name: line for line in machine.libraries(imports, {"numba"})}
        assert lines["numba"].status == "fail" and "dies of signal 11" in lines["numba"].found
        assert lines["OpenCV"].status == "warn" and "libGL.so.1" in lines["OpenCV"].found
        assert lines["numpy"].status == "ok"


class TestParameterFile:
    def test_every_wrong_value_is_named_at_once(self, clinic):
        def spoil(content):
            content["/**"]["ros__parameters"]["robot"]["max_linear_speed"] = -1.0
            content["/**/cmd_guard"]["ros__parameters"]["command_timeout"] = 0.3
            content["/**/sac_acter"] = content.pop("/**/sac_actor")

        clinic.edit(spoil)
        line = clinic.line("parameters")
        assert line["status"] == "fail"
        for text in ("robot.max_linear_speed", "command_timeout: unknown", "/**/sac_actor"):
            assert text in line["found"]

    def test_a_missing_file_leaves_the_machine_examined(self, clinic):
        clinic.params.unlink()
        lines = clinic.run()
        assert lines["parameters"][0]["status"] == "fail"
        assert str(clinic.params) in lines["parameters"][0]["found"]
        assert lines["librknnrt"][0]["status"] == "ok"

    def test_the_board_must_be_the_one_that_convert_builds_for(self, clinic):
        clinic.write("proc/device-tree/compatible", b"radxa,rock-3a\0rockchip,rk3568\0")
        line = clinic.line("target")
        assert line["status"] == "fail" and "rk3588" in line["found"] and "rk3568" in line["found"]
        clinic.edit(lambda p: p["/**/convert"]["ros__parameters"].update(target="rk3566"))
        assert clinic.line("target")["status"] == "ok"  # one NPU, two names


class TestModels:
    def test_a_missing_model_is_a_warning_with_what_to_do(self, clinic):
        line = clinic.line("driving model")
        assert line["status"] == "warn" and "does not exist" in line["found"]
        assert "convert MODEL.onnx" in line["remedy"]

    def test_a_link_into_nothing_fails(self, rover):
        rover.drive_with("sac_v50.rknn")
        os.rename(rover.models / "versions", rover.models / "elsewhere")
        line = rover.line("driving model")
        assert line["status"] == "fail" and "versions/sac_v50.2026" in line["found"]

    def test_where_the_driving_version_is_gone_the_whole_ones_are_named(
        self, rover, contract, actor_onnx
    ):
        for name in ("sac_v48", "sac_v49", "sac_v51"):
            model = rover.add_model(name, contract, actor_onnx)
        model.write_bytes(b"cut")
        rover.add_model("other_board", contract, actor_onnx, target="rk3576")
        os.rename(rover.models / "versions/sac_v50.20260101T000000Z", rover.models / "elsewhere")
        lines = rover.run()
        remedy = lines["driving model"][0]["remedy"]
        whole = "sac_v48.20260101T000000Z or sac_v49.20260101T000000Z"
        assert f"models promote V --models-dir {rover.models}, where V is {whole}; or" in remedy
        assert "rollback" not in remedy
        # The link by name to what is gone is no model; what is there is said without contradiction.
        found = [line["found"] for line in lines["models"]]
        assert len(found) == 2 and "3 more in" in found[0] and "sac_v51" in found[1]

    def test_the_default_folder_needs_no_option(self, rover, contract, actor_onnx, monkeypatch):
        rover.add_model("sac_v49", contract, actor_onnx)
        (rover.models / "versions/sac_v50.20260101T000000Z/sac_v50.json").unlink()
        monkeypatch.chdir(rover.folder)
        remedy = rover.line("driving model")["remedy"]
        assert "models promote V, where V is sac_v49.20260101T000000Z; or convert again" in remedy

    @pytest.mark.parametrize(
        ("verdict", "status"), [("warn", "warn"), ("pass", "ok"), (None, "ok")]
    )
    def test_a_model_that_was_accepted_with_warnings_is_a_warning(
        self, rover, contract, actor_onnx, verdict, status
    ):
        def judge(model, word, **build):
            path = manifest.path_of(model)
            value = json.loads(path.read_text())
            value["validation"] = {"verdict": word} if word else {}
            value["build"] |= build
            path.write_text(json.dumps(value))

        judge(rover.models / "sac_v50.rknn", verdict, hybrid=True)
        for name, word in (("sac_v48", "pass"), ("sac_v49", "warn")):
            judge(rover.add_model(name, contract, actor_onnx), word)
        line = rover.line("driving model")
        assert line["status"] == status
        assert ("accepted with warnings" in line["found"]) == (verdict == "warn")
        assert "fp16 hybrid for rk3588" in line["found"]
        if verdict == "warn":
            assert "where V is sac_v48.20260101T000000Z; or convert again" in line["remedy"]

    def test_broken_models_alone_are_not_called_none(self, rover, contract, actor_onnx):
        rover.add_model("sac_v51", contract, actor_onnx).write_bytes(b"cut")
        first, second = rover.run()["models"]
        assert first["found"] == f"no other whole one in {rover.models}"
        assert "sac_v51" in second["found"]

    @pytest.mark.parametrize("kind", ["driving model", "models"])
    @pytest.mark.parametrize(
        ("spoil", "found"),
        [
            (lambda model: model.write_bytes(model.read_bytes()[::-1]), "expected sha256"),
            (lambda model: model.write_bytes(b""), "1.."),
            (lambda model: manifest.path_of(model).unlink(), "expected the manifest"),
            (lambda model: manifest.path_of(model).write_text("{"), "not a readable manifest"),
        ],
    )
    def test_a_changed_model_is_named(self, rover, contract, actor_onnx, kind, spoil, found):
        model = rover.add_model("sac_v51", contract, actor_onnx)
        if kind == "driving model":
            rover.drive_with("sac_v51.rknn")
        spoil(model)
        lines = rover.run()[kind]
        (line,) = (line for line in lines if line["status"] != "ok")
        # A model that does not drive hurts nobody yet.
        assert line["status"] == ("fail" if kind == "driving model" else "warn")
        assert found in line["found"] and "sac_v51" in line["found"]
        assert "convert" in line["remedy"]

    def test_a_wrong_size_in_the_manifest_is_named(self, rover, contract, actor_onnx):
        model = manifest.real_path(rover.models / "sac_v50.rknn")
        path = manifest.path_of(model)
        value = json.loads(path.read_text())
        value["model"]["bytes"] += 1
        path.write_text(json.dumps(value))
        line = rover.line("driving model")
        assert line["status"] == "fail" and "bytes as its manifest says" in line["found"]

    def test_a_model_of_another_contract_names_the_fields(self, rover):
        def spoil(content):
            content["/**"]["ros__parameters"]["observation"]["proprio_clip"] = 2.0

        rover.edit(spoil)
        line = rover.line("driving model")
        assert line["status"] == "fail" and "proprio_clip: here 2.0, there 3.0" in line["found"]

    def test_a_model_that_this_board_cannot_run_says_why(self, rover, contract, actor_onnx):
        rover.write(npu.LIBRKNNRT, b"librknnrt version: 2.3.2 (x)")
        line = rover.line("driving model")
        assert line["status"] == "fail"
        assert "rknn-toolkit2 2.5.0 built it, librknnrt 2.3.2 is older" in line["found"]
        assert "install librknnrt 2.5.0" in line["remedy"]
        rover.add_model("other", contract, actor_onnx, target="rk3576")
        rover.drive_with("other.rknn")
        assert "it is for rk3576, this board is" in rover.line("driving model")["found"]

    def test_an_onnx_that_drives_is_opened(self, clinic, actor_onnx):
        def drive_onnx(content):
            content["/**/sac_actor"]["ros__parameters"]["model"] = "actor.onnx"

        clinic.edit(drive_onnx)
        (clinic.models / "actor.onnx").write_bytes(actor_onnx.read_bytes())
        assert clinic.line("driving model")["status"] == "ok"
        (clinic.models / "actor.onnx").write_bytes(b"no network")
        line = clinic.line("driving model")
        assert line["status"] == "fail" and "not a valid ONNX file" in line["found"]


class TestSamples:
    @pytest.mark.parametrize(
        ("count", "grade", "status"),
        [(100, "good", "ok"), (99, "fair", "ok"), (50, "fair", "ok"), (49, "poor", "warn")],
    )
    def test_are_graded_by_number_as_in_the_guide(self, rover, count, grade, status):
        for file in samples.list_files(rover.samples)[count:]:
            file.unlink()
        line = rover.line("samples")
        assert line["status"] == status and f"{count} in " in line["found"]
        assert f"{grade} by number" in line["found"]
        assert "check" in line["found"] + line["remedy"]

    def test_none_says_so_in_the_words_of_the_guide(self, clinic):
        for make in (lambda: None, clinic.samples.mkdir):
            make()
            line = clinic.line("samples")
            assert line["status"] == "warn"
            assert "No calibration samples found" in line["found"]
            assert "./start_sac_rover.sh" in line["remedy"]

    def test_those_of_another_parameter_file_need_that_file_not_a_drive(self, rover):
        def spoil(content):
            content["/**"]["ros__parameters"]["observation"]["proprio_clip"] = 2.0

        rover.edit(spoil)
        line = rover.line("samples")
        assert line["status"] == "warn" and "100 cannot be used" in line["found"]
        assert line["remedy"].startswith("give the --params they were made with")
        assert "start_sac_rover" not in line["remedy"]

    def test_the_first_unusable_one_is_named_with_its_reason(self, rover):
        (rover.samples / "calib_50.npz").unlink()
        (rover.samples / "calib_50.npz").write_bytes(b"PK\3\4")
        line = rover.line("samples")
        assert line["status"] == "warn" and "99 of the 100 are of contract" in line["found"]
        assert "calib_50.npz: not a readable .npz file" in line["found"]

    def test_a_large_folder_is_not_read_whole(self, rover, monkeypatch):
        read = []
        whole = samples.read
        monkeypatch.setattr(samples, "read", lambda *a: (read.append(a), whole(*a))[1])
        for number in range(300):
            os.link(rover.samples / "calib_1.npz", rover.samples / f"calib_more_{number}.npz")
        assert "400 in " in rover.line("samples")["found"]
        assert len(read) == 100


class TestRubbish:
    def fill(self, folder):
        """Put what a folder can hold into it, under the names that are looked for."""
        folder.mkdir(exist_ok=True)
        for suffix in (".rknn", ".json", ".npz"):
            (folder / f"noise{suffix}").write_bytes(os.urandom(999))
            (folder / f"empty{suffix}").touch()
            (folder / f"folder{suffix}").mkdir()
            (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
            (folder / f"dangling{suffix}").symlink_to("nowhere")
            os.mkfifo(folder / f"pipe{suffix}")
            (folder / f"new\nline\x1b[31m\udcff{suffix}").write_bytes(b"{}")
        (folder / "known.rknn").write_bytes(b"model")
        os.mkfifo(folder / "known.json")
        (folder / "versions").write_bytes(b"no folder")

    def test_folders_full_of_it_are_only_lines(self, clinic):
        self.fill(clinic.models)
        self.fill(clinic.samples)
        lines = clinic.run()
        assert len(lines["models"]) > 5 and lines["samples"][0]["status"] == "warn"
        doctor.main([
            "--params", str(clinic.params), "--models-dir", str(clinic.models),
            "--calibration-dir", str(clinic.samples),
        ])  # fmt: skip
        assert "\x1b" not in clinic.capsys.readouterr().out

    def test_files_in_place_of_folders_and_folders_in_place_of_files(self, clinic):
        clinic.models.rmdir()
        for folder in (clinic.models, clinic.samples):
            folder.write_text("no folder")
        clinic.params.unlink()
        clinic.params.mkdir()
        (clinic.root / npu.LIBRKNNRT).unlink()
        (clinic.root / npu.LIBRKNNRT).mkdir()
        clinic.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(clinic.folder)
        lines = clinic.run()
        assert {lines[n][0]["status"] for n in ("parameters", "librknnrt", "Fast DDS")} == {"fail"}

    def test_files_in_place_of_folders_fail(self, clinic):
        clinic.models.rmdir()
        clinic.models.write_text("no folder")
        clinic.samples.symlink_to("nowhere")
        lines = clinic.run()
        for name in ("models", "samples"):
            assert lines[name][0]["status"] == "fail" and "found a file" in lines[name][0]["found"]

    def test_a_workspace_with_older_copies_than_its_checkout_fails(self, clinic, monkeypatch):
        assert "workspace" not in clinic.run()  # none is sourced
        checkout, prefix = clinic.folder / "checkout", clinic.folder / "install/tractor_bringup"
        share = prefix / "share/tractor_bringup"
        for file in (
            checkout / "src/tractor_bringup/package.xml", checkout / "config/fastdds.xml",
            checkout / "launch/a.launch.py", share / "config/fastdds.xml",
            share / "launch/a.launch.py",
        ):  # fmt: skip
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
        (share / "checkout.txt").write_text(f"{checkout}\n")
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
        assert clinic.line("workspace")["status"] == "ok"
        (checkout / "launch/a.launch.py").write_text("# edited")
        line = clinic.line("workspace")
        assert line["status"] == "fail" and "make build" in line["remedy"]
        assert f"a.launch.py of {checkout}/launch/a.launch.py" in line["found"]

    def test_folders_that_may_not_be_read_are_not_called_empty(self, rover, monkeypatch):
        def deny(path, *_):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "listdir", deny)  # root, who runs tests in containers, may
        monkeypatch.setattr(os, "lstat", deny)
        lines = rover.run()
        for name in ("driving model", "models", "samples"):
            assert lines[name][0]["status"] == "fail"
            assert "Permission denied" in lines[name][0]["found"]

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(content=st.binary(max_size=50) | st.sampled_from([b"/**: 3", b"/**: &a [*a]", b"[]"]))
    def test_any_parameter_file_is_a_line(self, clinic, content):
        clinic.params.write_bytes(content)
        assert clinic.line("parameters")["status"] == "fail"

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
    )
    @given(
        section=st.sampled_from(["/**", "/**/sac_actor", "/**/convert", "/**/bev_builder"]),
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
            max_leaves=4,
        ),
        name=st.sampled_from(["model", "target", "kernel", "calibration_dir", "observation"]),
    )
    def test_any_value_in_it_is_a_line(self, clinic, params_file, section, value, name):
        clinic.params.write_bytes(params_file.read_bytes())
        clinic.edit(lambda content: content[section]["ros__parameters"].update({name: value}))
        assert clinic.run("--params", str(clinic.params))

    def test_a_check_that_fails_itself_is_a_line_with_the_reason(self, clinic, monkeypatch):
        def fail(*_):
            raise RecursionError("too deep")

        monkeypatch.setattr(contracts.Contract, "problems", fail)
        line = clinic.line("parameters")
        assert line["status"] == "fail" and "RecursionError: too deep" in line["found"]
        assert "report this" in line["remedy"]


@pytest.mark.qemu
def test_on_an_emulated_aarch64_board(repository, params_file, tmp_path):
    """The real Python and binding of a board; its children cannot start under emulation."""
    default = repository / ".venv" / "qemu-aarch64"
    emulated = Path(os.environ.get("TRACTOR_QEMU_ROOT", default))
    if not (emulated / "made_by").is_file():
        pytest.skip(f"no emulated board at {emulated}; .ci/qemu_aarch64.sh {emulated} sets one up")
    board = tmp_path / "board"
    (board / "proc/device-tree").mkdir(parents=True)
    (board / "proc/device-tree/compatible").write_bytes(BOARD)
    (board / "dev/dri").mkdir(parents=True)
    (board / "dev/dri/renderD129").touch()
    for name in ("lib", "usr", "etc"):
        (board / name).symlink_to(emulated / name)
    path = os.pathsep.join([str(emulated / "site"), *sources(repository)])
    command = [emulated / "usr/bin/qemu-aarch64-static", "-L", board]
    command += [emulated / "usr/bin/python-emulated", "-m", "tractor_inference", "doctor", "--json"]
    done = subprocess.run(
        [*command, "--params", params_file],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    result = json.loads(done.stdout)
    lines = {line["name"]: line for line in result["checks"]}
    assert done.returncode == 1, done.stderr
    assert result["machine"]["kind"] == "rover" and result["machine"]["architecture"] == "aarch64"
    assert lines["librknnrt"]["status"] == lines["ROS 2"]["status"] == "fail"
    assert lines["NPU device"]["found"] == "/dev/dri/renderD129"
    assert "rockchip,rk3588" in lines["target"]["found"]
    assert {lines[name]["status"] for name in ("parameters", "target", "clock")} == {"ok"}


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    command = f"{sys.executable} -m tractor_inference doctor | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("rover suite on a ") and done.stderr == ""


def test_as_a_command_it_takes_no_heavy_library_into_its_process(tmp_path, params_file):
    """torch, numba and rclpy would take seconds, or bring the page down with them."""
    code = (
        "import sys; from tractor_bringup import doctor; doctor.main(sys.argv[1:])\n"
        "heavy = {'torch', 'numba', 'cv2', 'rclpy', 'rknn', 'onnxruntime'}\n"
        "sys.exit(sorted(heavy & {*sys.modules}) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--params", params_file],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rover suite on a " in done.stdout
