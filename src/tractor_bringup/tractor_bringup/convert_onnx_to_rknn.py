"""The guide's manual path to the converter; the same as `ros2 run tractor_calibration convert`.

python3 src/tractor_bringup/tractor_bringup/convert_onnx_to_rknn.py MODEL.onnx [--output F]
[--quantize --calibration-dir D]
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the converter with the arguments of the command line."""
    try:
        from tractor_calibration import convert
    except ImportError as error:
        print(
            f"error: the rover suite is not importable here ({error}); source install/setup.bash, "
            "or run this with the Python of the .venv that make sets up",
            file=sys.stderr,
        )
        return 2
    return convert.main()


if __name__ == "__main__":
    sys.exit(main())
