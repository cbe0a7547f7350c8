"""Convert an ONNX actor to an RKNN model, as `ros2 run tractor_calibration convert` does."""

from launch import LaunchDescription
from launch.actions import ExecuteProcess, OpaqueFunction
from launch_ros.substitutions import ExecutableInPackage

from tractor_bringup import ros_launch
from tractor_bringup.launch_arguments import Argument

ARGUMENTS = (
    Argument("onnx", None, "The actor to convert, an .onnx file."),
    Argument("calibration_dir", "", "Folder of samples to build INT8 from; empty: FP16."),
    Argument("output", "", "The .rknn file to write; empty: beside the actor."),
    Argument("params_file", "", "The shared parameter file; empty: config/sac_rover.yaml."),
)


def _ended(event, context):
    if event.returncode:
        raise RuntimeError(f"convert ended with exit code {event.returncode}, see its error above")


def _convert(context):
    given = ros_launch.read(context, ARGUMENTS)
    problems = ros_launch.unknown(context, __file__, given)
    params_file = ros_launch.find_params_file(given["params_file"], problems)
    ros_launch.refuse(problems)
    command = [ExecutableInPackage("convert", "tractor_calibration"), given["onnx"]]
    command += ["--params", str(params_file)]
    if given["calibration_dir"]:
        command += ["--quantize", "--calibration-dir", given["calibration_dir"]]
    if given["output"]:
        command += ["--output", given["output"]]
    return [ExecuteProcess(cmd=command, name="convert", output="screen", on_exit=_ended)]


def generate_launch_description():
    """Declare the arguments and run the command."""
    return LaunchDescription([*ros_launch.declare(ARGUMENTS), OpaqueFunction(function=_convert)])
