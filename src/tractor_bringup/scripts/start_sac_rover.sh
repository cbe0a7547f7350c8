#!/usr/bin/env bash
# Drives the rover with the newest actor and collects calibration samples; -h prints the usage.
set -eo pipefail

usage() {
  cat <<'USAGE'
usage: start_sac_rover.sh [nats://HOST:4222] [NAME:=VALUE ...]

Starts sac_rover.launch.py with models/remote_trained.rknn of the current folder and keeps samples
in calibration_data/. With the address of a training server it sends experience there, converts the
models that are offered, and drives with those that pass. Arguments go to the launch file; the most
used:
  drivers:=true              start the drivers of the D435i and the LD19 as well
  sim:=true                  drive the simulated rover
  model:=FILE                another actor, .onnx or .rknn
  accept_models:=all         models of a server on another machine need no: models accept V
  calibration_dir:=FOLDER    another folder for the samples
  explore:=true              noise on the actions, as much as the model asks for: docs/experience.md
  scan_topic:=NAME           also depth_topic, camera_info_topic, odom_topic, cmd_vel_topic
  enable_stamped_cmd_vel:=true   TwistStamped in place of Twist, for a base that takes that
Ctrl-C stops the rover and ends it. All arguments: ros2 launch tractor_bringup sac_rover.launch.py -s
USAGE
}

fail() {
  printf 'start_sac_rover: %s\n' "$@" >&2
  exit 2
}

arguments=()
address=
for argument in "$@"; do
  case $argument in
    -h | --help) usage; exit 0 ;;
    nats://* | tls://*)
      [ -z "$address" ] || fail "expected one address, found $address and $argument"
      address=$argument ;;
    *:=*) arguments+=("$argument") ;;
    *) usage >&2; fail "expected NAME:=VALUE or an address such as nats://192.168.1.10:4222, found $argument" ;;
  esac
done
if [ -n "$address" ]; then arguments+=("nats:=$address"); fi

# The checkout that this script is in; an installed copy relies on a sourced workspace.
root=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
for setup in "/opt/ros/${ROS_DISTRO:-jazzy}/setup.bash" "$root/install/setup.bash"; do
  # shellcheck disable=SC1090 # either may be absent
  if [ -f "$setup" ]; then source "$setup"; fi
done
command -v ros2 >/dev/null ||
  fail "expected ROS 2 Jazzy with ros2 launch, found no ros2 command" \
    "on the rover: install apt ROS 2 Jazzy, then run: make build" \
    "on a PC without ROS, the whole loop in simulation: make demo"

# Another checkout's workspace may be sourced: what drives must be what this script is of.
prefix=
IFS=: read -ra prefixes <<<"${AMENT_PREFIX_PATH:-}"
for candidate in "${prefixes[@]}"; do
  if [ -d "$candidate/share/tractor_bringup" ]; then prefix=$candidate; break; fi
done
[ -n "$prefix" ] || fail "expected a built workspace, found none; run in $root: make build"
is_of_checkout() {
  local package=$prefix/share/tractor_bringup line
  if [ "$package/package.xml" -ef "$root/src/tractor_bringup/package.xml" ]; then return 0; fi
  while read -r line; do  # of a build that copied: where from
    if [ "$line" -ef "$root" ] || [ "$prefix/$line" -ef "$root" ]; then return 0; fi
  done < <(cat "$package/checkout.txt" 2>/dev/null)
  return 1
}
if [ -f "$root/src/tractor_bringup/package.xml" ] && ! is_of_checkout; then
  fail "expected the workspace of $root, found that in $prefix sourced" \
    "run in $root: make build"
fi
exec ros2 launch tractor_bringup sac_rover.launch.py "${arguments[@]}"
