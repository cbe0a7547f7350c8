"""Convert an ONNX actor to an RKNN model, as `ros2 run tractor_calibration convert` does."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

CONFIG = Path(__file__).resolve().parent.parent / "config"
ARGUMENTS = (
    ("model", None, "The actor to convert, an .onnx file.", None),
    ("output", "", "The .rknn file to write; empty: beside the model.", None),
    ("quantize", "false", "Build INT8 from the samples; otherwise FP16.", ("true", "false")),
    ("calibration_dir", "", "Folder of samples; needed to quantize.", None),
    ("params_file", str(CONFIG / "sac_rover.yaml"), "The shared parameter file.", None),
)


def _ended(event, context):
    if event.returncode:
        raise RuntimeError(f"convert ended with exit code {event.returncode}, see its error above")


def _convert(context):
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    command = [ExecutableInPackage("convert", "tractor_calibration"), given["model"]]
    command += ["--params", given["params_file"]]
    for name, option in (("output", "--output"), ("calibration_dir", "--calibration-dir")):
        if given[name]:
            command += [option, given[name]]
    if given["quantize"] == "true":
        command.append("--quantize")
    return [ExecuteProcess(cmd=command, name="convert", output="screen", on_exit=_ended)]


def generate_launch_description():
    """Declare the arguments and run the command."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=text, choices=choices
                )
                for name, default, text, choices in ARGUMENTS
            ),
            OpaqueFunction(function=_convert),
        ]
    )
