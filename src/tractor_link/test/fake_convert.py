"""Stands in for `tractor_calibration convert`: the bytes of the ONNX say how it ends."""

import json
import os
import signal
import sys
from pathlib import Path

onnx, options = Path(sys.argv[1]), sys.argv[2:]
word = onnx.read_bytes().decode().split()[0]
with (onnx.parent / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({"onnx": onnx.name, "options": options, "nice": os.nice(0)}) + "\n")


def answer(code, **result):
    print(json.dumps({"ok": code == 0, "exit_code": code, **result}))
    sys.exit(code)


def promoted():
    figures = {"mae": 0.0021, "max": 0.04, "sqnr_db": 50.4}
    precision = "int8" if "--quantize" in options else "fp16"
    found = {"frames": 60, "verdict": "pass", precision: figures}
    (onnx.parent / "remote_trained.rknn").write_bytes(onnx.read_bytes())
    version = f"{onnx.stem}.20261130T120000Z"
    answer(0, version=version, precision=precision, validation=found)


if word == "promoted":
    promoted()
elif word == "samples":
    folder = Path(options[options.index("--calibration-dir") + 1])
    if len(list(folder.glob("calib_*.npz"))) >= 10:
        promoted()
    answer(4, error="Too few calibration samples\n  - one of many")
elif word == "gate":
    answer(6, error="NOT PROMOTED: no INT8 model agrees\x1b[2J with its ONNX\nverdict: fail")
elif word == "busy":
    if (onnx.parent / "busy").exists():
        answer(7, error="busy, another conversion works there")
    promoted()
elif word == "silent":
    print("Traceback\nModuleNotFoundError: no module", file=sys.stderr)
    sys.exit(1)
elif word == "nonsense":
    print("{" * 100)
elif word == "hang":
    # The system interrupts it once for each thread of its starter that ends: only the first counts.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    (onnx.parent / "begins").write_text(str(os.getpid()))
    (onnx.parent / "begins").rename(onnx.parent / "hangs")
    signal.sigwait({signal.SIGINT})
    (onnx.parent / "interrupted").touch()
    sys.exit(130)
