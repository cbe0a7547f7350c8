"""Convert an ONNX actor to an RKNN model, as `ros2 run tractor_calibration convert` does."""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

CONFIG = Path(__file__).resolve().parent.parent / "config"
ARGUMENTS = (
    ("onnx", None, "The actor to convert, an .onnx file."),
    ("calibration_dir", "", "Folder of samples to build INT8 from; empty: FP16."),
    ("output", "", "The .rknn file to write; empty: beside the actor."),
    ("params_file", str(CONFIG / "sac_rover.yaml"), "The shared parameter file."),
)


def _ended(event, context):
    if event.returncode:
        raise RuntimeError(f"convert ended with exit code {event.returncode}, see its error above")


def _convert(context):
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    command = [ExecutableInPackage("convert", "tractor_calibration"), given["onnx"]]
    command += ["--params", given["params_file"]]
    if given["calibration_dir"]:
        command += ["--quantize", "--calibration-dir", given["calibration_dir"]]
    if given["output"]:
        command += ["--output", given["output"]]
    return [ExecuteProcess(cmd=command, name="convert", output="screen", on_exit=_ended)]


def generate_launch_description():
    """Declare the arguments and run the command."""
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, default, text in ARGUMENTS
            ),
            OpaqueFunction(function=_convert),
        ]
    )
