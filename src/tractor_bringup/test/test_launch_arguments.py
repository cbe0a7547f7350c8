"""What launch files are told, judged and turned into arguments of nodes; no ROS needed."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tractor_bringup import launch_arguments as la
from tractor_core.errors import ParameterError

LAUNCH_FILE = "sac_rover.launch.py"
DEFAULTS = {topic.name: topic.default for topic in la.TOPICS}
NAMES = st.text("abcxyz_", min_size=1, max_size=8)
PRINTED = st.characters(exclude_categories=["Cs", "Cc"])


def remapped(sim=False, drivers=False, **topics):
    return dict(la.remappings(DEFAULTS | topics, sim, drivers))


# Unknown arguments


def test_an_unknown_argument_is_named_with_the_nearest_known_one():
    known = ["sim", "namespace", "use_sim_time"]
    arguments = ["simulate:=true", "namespce:=rover", "sim:=true", "zzzz:=1"]
    first, second, third = la.unknown_arguments(arguments, known)
    assert first == "simulate: unknown argument (did you mean sim?)"
    assert second == "namespce: unknown argument (did you mean namespace?)"
    assert third == "zzzz: unknown argument, expected one of namespace, sim, use_sim_time"


@given(st.sets(NAMES, min_size=1), st.lists(NAMES))
def test_exactly_the_undeclared_names_are_refused(known, names):
    problems = la.unknown_arguments([f"{name}:=a:=b" for name in names], known)
    assert [p.partition(":")[0] for p in problems] == [n for n in names if n not in known]


def test_options_of_ros2_launch_itself_are_no_unknown_arguments():
    assert la.unknown_arguments(["launch-prefix:=gdb", "launch-prefix-filter:=sac"], ["sim"]) == []


def test_an_escape_code_in_a_name_does_not_reach_the_terminal():
    assert "\x1b" not in "".join(la.unknown_arguments(["\x1b[2Jsim:=1"], ["sim"]))


def test_only_the_launch_file_of_the_command_line_judges_its_arguments(repository, tmp_path):
    own = repository / "launch" / LAUNCH_FILE
    assert la.started_as(own, ["/bin/ros2", "launch", "tractor_bringup", LAUNCH_FILE, "sim:=true"])
    assert la.started_as(own, ["ros2", "launch", "-n", "tractor_bringup", "-d", LAUNCH_FILE])
    assert la.started_as(own, ["ros2", "launch", str(own)])
    assert not la.started_as(own, ["ros2", "launch", "my_robot", "all.launch.py", "robot:=r1"])
    assert not la.started_as(own, ["ros2", "launch", "my_robot", LAUNCH_FILE, "robot:=r1"])
    assert not la.started_as(own, ["pytest"])
    namesake = tmp_path / LAUNCH_FILE
    namesake.touch()
    assert not la.started_as(own, ["ros2", "launch", str(namesake)])


# Topics


def test_without_arguments_nodes_keep_their_names_on_a_rover_with_other_drivers():
    assert remapped() == {"tf": "/tf", "tf_static": "/tf_static"}


def test_drivers_bring_the_camera_topics():
    found = remapped(drivers=True)
    assert found["depth"] == "camera/camera/depth/image_rect_raw"
    assert found["camera_info"] == "camera/camera/depth/camera_info"


@pytest.mark.parametrize(
    ("depth", "info"),
    [("/front/depth/image", "/front/depth/camera_info"), ("/depth", "/camera_info"),
     ("d435/depth", "d435/camera_info")],
)  # fmt: skip
def test_camera_info_is_looked_for_beside_the_image(depth, info):
    assert remapped(depth_topic=depth)["camera_info"] == info
    given = remapped(depth_topic=depth, camera_info_topic="mine", drivers=True)
    assert (given["depth"], given["camera_info"]) == (depth, "mine")


def test_transforms_of_a_simulated_rover_are_in_its_namespace():
    assert remapped(sim=True) == {"/tf": "tf", "/tf_static": "tf_static"}
    shared = remapped(sim=True, tf_topic="/tf")
    assert (shared["tf"], shared["tf_static"]) == ("/tf", "/tf_static")


@pytest.mark.parametrize("name", ["a//b", "a/", "1a", "a b", "~x", "a-b", "/", "scan\n"])
def test_a_name_that_is_no_topic_is_refused(name):
    [problem] = la.name_problems({"scan_topic": name}, ["scan_topic"])
    assert problem.startswith("scan_topic: expected letters") and "\n" not in problem


@pytest.mark.parametrize("name", ["", "scan", "/scan", "front/scan_1", "/a/_b"])
def test_a_topic_is_taken(name):
    assert la.name_problems({"scan_topic": name}, ["scan_topic"]) == []


# Mountings as transforms


def frames_given(**frames):
    return dict.fromkeys(la.EXTRINSICS, "") | frames


def test_no_transform_is_published_unless_a_frame_is_named(params_file):
    assert la.extrinsics_arguments(frames_given(), params_file) == {}
    assert la.frame_problems(frames_given(), sim=True) == []


def test_a_named_frame_gets_the_pose_of_the_parameter_file(params_file):
    given = frames_given(lidar_frame="base_laser", camera_frame="camera_depth_optical_frame")
    found = la.extrinsics_arguments(given, params_file)
    place, frame = found["lidar_frame"][:-4], found["lidar_frame"][-4:]
    assert " ".join(place) == "--x 0 --y 0 --z 0.19 --qx 0 --qy 0 --qz 0 --qw 1"
    assert frame == ["--frame-id", "base_link", "--child-frame-id", "base_laser"]
    camera = dict(zip(found["camera_frame"][::2], found["camera_frame"][1::2]))
    assert [camera[f"--q{axis}"] for axis in "xyzw"] == ["-0.5", "0.5", "-0.5", "0.5"]
    assert (camera["--x"], camera["--z"]) == ("0.18", "0.15")


def test_transforms_that_others_publish_are_not_published_twice(params_file, tmp_path):
    given = frames_given(camera_frame="camera_link")
    [problem] = la.frame_problems(given, sim=True)
    assert "camera_frame: the simulator publishes its own" in problem
    own_tree = tmp_path / "params.yaml"
    own_tree.write_text(params_file.read_text().replace("use_tf: false", "use_tf: true"))
    with pytest.raises(ParameterError, match=r"use_tf of .* takes the poses from TF"):
        la.extrinsics_arguments(given, own_tree)


def test_a_frame_with_a_space_is_refused():
    assert la.frame_problems(frames_given(lidar_frame="base laser"), sim=False)


# Values that reach nodes


@settings(max_examples=50)
@given(st.dictionaries(NAMES, st.text(PRINTED, max_size=8) | st.booleans(), max_size=3))
def test_overrides_are_read_back_as_they_were_given(values):
    content = yaml.safe_load(la.override_file({"sac_actor": values, "cmd_guard": {}}))
    assert content["/**/sac_actor"]["ros__parameters"] == values


def link_given(**given):
    return {"nats": "", "accept_models": "", "calibration_dir": ""} | given


def test_without_an_address_there_is_no_link(params_file):
    assert la.link_parameters(link_given(), params_file) == {}
    with pytest.raises(ParameterError, match="accept_models: needs nats:=nats://HOST:4222 too"):
        la.link_parameters(link_given(accept_models="all"), params_file)


@pytest.mark.parametrize("address", ["host:4222", "nats://", "http://host:1", "nats://a b:1"])
def test_an_address_that_is_none_is_refused_with_the_form(params_file, address):
    form = "^nats: expected an address such as nats://192.168.1.10:4222, found"
    with pytest.raises(ParameterError, match=form):
        la.link_parameters(link_given(nats=address), params_file)


def test_the_link_is_told_what_the_launch_was(params_file):
    given = link_given(nats="nats://10.0.0.5:4222", calibration_dir="mine", accept_models="all")
    assert la.link_parameters(given, params_file) == {
        "address": "nats://10.0.0.5:4222", "calibration_dir": "mine", "accept_models": "all",
        "params_file": str(params_file),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("/**/rover_link"), "expected a section /\\*\\*/rover_link"),
        (
            lambda content: content["/**/rover_link"]["ros__parameters"].update(precision="int4"),
            "precision: expected one of",
        ),
        (
            lambda content: content["/**/sac_actor"]["ros__parameters"].update(experience_dir=""),
            "experience_dir of sac_actor and rover_link: expected one folder, found '' and",
        ),
    ],
)
def test_a_section_of_the_link_that_cannot_be_used_is_refused_before_anything_drives(
    params_file, tmp_path, change, message
):
    content = yaml.safe_load(params_file.read_text())
    change(content)
    edited = tmp_path / "params.yaml"
    edited.write_text(yaml.safe_dump(content))
    assert la.link_parameters(link_given(), edited) == {}
    with pytest.raises(ParameterError, match=message):
        la.link_parameters(link_given(nats="nats://10.0.0.5:4222"), edited)


def test_a_seed_is_a_whole_number():
    assert la.seed_problems("12") == []
    assert all(la.seed_problems(text) for text in ("", "-1", "1.5", "x", "1\n", "1" * 20))


def stamped_file(params_file, folder, **sections):
    content = yaml.safe_load(params_file.read_text())
    for node, value in sections.items():
        section = content.setdefault(f"/**/{node}", {"ros__parameters": {}})
        section["ros__parameters"]["enable_stamped_cmd_vel"] = value
    path = Path(folder, "params.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_kind_of_command_is_as_in_the_parameter_file(params_file, tmp_path):
    assert la.stamped_commands("", params_file) is False
    edited = stamped_file(params_file, tmp_path, sac_actor=True, cmd_guard=True)
    assert la.stamped_commands("", edited) is True
    assert la.stamped_commands("false", edited) is False


@pytest.mark.parametrize("alone", ["sac_actor", "cmd_guard", "sim"])
def test_ends_that_would_not_hear_each_other_are_refused(params_file, tmp_path, alone):
    edited = stamped_file(params_file, tmp_path, **{alone: True})
    with pytest.raises(ParameterError, match=f"true for {alone}"):
        la.stamped_commands("", edited)
    assert la.stamped_commands("true", edited) is True
