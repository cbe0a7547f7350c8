#!/usr/bin/env bash
# Sets up the board's runtime binding under emulation: .ci/qemu_aarch64.sh [FOLDER]
# Unpacks qemu user emulation, an arm64 Python and the aarch64 wheel of rknn-toolkit-lite2 into
# FOLDER (.venv/qemu-aarch64), for the tests marked `qemu`. Nothing is installed on the machine and
# no root is needed; a Debian 12 with apt-get is, for its packages. Done once, then it returns at once.
set -euo pipefail

python=3.11
debs="python$python-minimal:arm64 libpython$python-stdlib:arm64 libstdc++6:arm64 libssl3:arm64"
wheels="rknn-toolkit-lite2 numpy psutil ruamel.yaml PyYAML"

here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(realpath -m "${1:-$here/.venv/qemu-aarch64}")
pins=()
for name in $wheels; do
  pin=$(cat "$here"/requirements/*.txt | grep -oE "^${name/./\\.}==[^ ;]+") ||
    { echo "qemu_aarch64: expected a pin of $name in requirements/, found none" >&2; exit 2; }
  pins+=("$pin")
done
made_by=$( (cat "$0"; echo "${pins[@]}") | sha256sum | cut -d' ' -f1)
if [ "$(cat "$folder/made_by" 2>/dev/null)" = "$made_by" ]; then
  echo "qemu_aarch64: ready in $folder"
  exit 0
fi
for tool in apt-get dpkg-deb dpkg; do
  command -v "$tool" >/dev/null || { echo "qemu_aarch64: needs $tool (Debian 12)" >&2; exit 3; }
done
pip_python=$here/.venv/bin/python
[ -x "$pip_python" ] || pip_python=python3

work=$folder.new
rm -rf "$work"
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/site"
: >"$work/apt/status"
# A package database of its own, so that the machine's stays as it is.
host=$(dpkg --print-architecture)
apt=(apt-get -qq -o "Dir::State::status=$work/apt/status" -o "Dir::State::Lists=$work/apt/lists"
  -o "Dir::Cache=$work/apt" -o Debug::NoLocking=1 -o APT::Sandbox::User=root
  -o "APT::Architectures::=$host" -o APT::Architectures::=arm64)
"${apt[@]}" update
# shellcheck disable=SC2086 # a list of names
"${apt[@]}" install --yes --download-only --no-install-recommends $debs
(cd "$work/apt/archives" && "${apt[@]}" download "qemu-user-static:$host")
for deb in "$work"/apt/archives/*.deb; do
  dpkg-deb -x "$deb" "$work"
done
rm -rf "$work/apt" "$work/usr/share"
find "$work/usr/bin" -name 'qemu-*' ! -name qemu-aarch64-static -delete
"$pip_python" -m pip install --quiet --no-deps --only-binary=:all: --target "$work/site" \
  --python-version "$python" --implementation cp --abi "cp${python/./}" --abi none \
  --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --platform any "${pins[@]}"
ln -s "python$python" "$work/usr/bin/python-emulated"
"$work/usr/bin/qemu-aarch64-static" -L "$work" "$work/usr/bin/python-emulated" -c \
  "import platform, sys; sys.exit(platform.machine() != 'aarch64')"
echo "$made_by" >"$work/made_by"
rm -rf "$folder"
mv "$work" "$folder"
echo "qemu_aarch64: ready in $folder"
