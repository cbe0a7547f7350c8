#!/usr/bin/env bash
# Starts the training server; --help says how, config/training.yaml what it learns.
set -eo pipefail

root=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
# A Python with a torch of one's own, as for an AMD card, is named by PYTHON; else that of `make training`.
python=${PYTHON:-$root/.venv/bin/python}
if ! [ -x "$(command -v "$python")" ]; then
  echo "start_sac_server: expected $python, found none; run in $root: make training" >&2
  exit 2
fi
for package in core link inference sim training; do
  PYTHONPATH=$root/src/tractor_$package${PYTHONPATH:+:$PYTHONPATH}
done
export PYTHONPATH
exec "$python" -m tractor_training serve "$@"
