#!/usr/bin/env bash
# Converts an ONNX actor to a validated RKNN model, with or without ROS; -h prints the usage.
set -eo pipefail

usage() {
  cat <<'USAGE'
usage: convert_onnx_to_rknn.sh MODEL.onnx [CALIBRATION_DIR] [OPTION ...]

Converts for the NPU: INT8 from the samples in CALIBRATION_DIR, or FP16 when none is named. The
model is checked against the ONNX file, written beside it as MODEL.rknn, and remote_trained.rknn is
pointed at it. Options and the exit codes are those of: python -m tractor_calibration convert --help
USAGE
}

fail() {
  printf 'convert_onnx_to_rknn: %s\n' "$@" >&2
  exit 2
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  "" | -*) usage >&2; fail "expected MODEL.onnx first, found ${1:-nothing}" ;;
  nats://* | tls://*)
    fail "expected MODEL.onnx first, found the address $1" \
      "a rover converts what a training server offers by itself: ./start_sac_rover.sh $1" \
      "by hand: copy the .onnx file to models/ and run: ./convert_onnx_to_rknn.sh models/NAME.onnx calibration_data" ;;
esac
command=(convert "$1")
shift
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  command+=(--quantize --calibration-dir "$1")
  shift
fi

# The checkout that this script is in; an installed copy relies on a sourced workspace.
root=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
if [ -x "$root/.venv/bin/python" ]; then
  # Of the sourced workspace, which may be another checkout's, would come before its own code.
  exec env -u PYTHONPATH "$root/.venv/bin/python" -m tractor_calibration "${command[@]}" "$@"
fi
command -v ros2 >/dev/null ||
  fail "expected $root/.venv or a sourced ROS 2 workspace, found neither; run: make setup"
exec ros2 run tractor_calibration "${command[@]}" "$@"
