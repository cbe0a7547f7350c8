"""Train actors from what rovers experience, and offer the rovers better ones.

Takes experience from NATS JetStream, learns by soft actor-critic, judges candidates in simulated
worlds, and offers those that are not worse than the best before. Without an address it starts a
nats-server on loopback. What it has is kept in --folder; started again, it goes on from there.

Exit codes:
  0  ended by a signal, or all of --from-experience was learnt from
  1  it cannot go on; what was learnt is saved
  2  wrong arguments or configuration, or nothing to resume
  3  another trainer uses the folder or the server
  130  interrupted while it started
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tractor_core import cli as commands
from tractor_core import outside
from tractor_core.child import stops_with_starter
from tractor_core.errors import ExperienceError, ParameterError, TractorError
from tractor_core.experience import MAX_FILE_BYTES
from tractor_core.files import replace_file
from tractor_core.system_error import explain
from tractor_core.text import printable, printable_message
from tractor_link.broker import LOOPBACK
from tractor_link.lease import LeaseError
from tractor_link.reasons import require_address
from tractor_sim.senses import Setup

from . import config
from .config import Configuration
from .learning import (
    CHECKPOINT,
    CHUNKS,
    RUN,
    FolderUsedError,
    Learning,
    files_of,
    locked,
)
from .server import LATEST, Server
from .trainer import choose_device

log = logging.getLogger(__name__)

RUN_FOLDER = "run"
USED = 3
# Of an address: others read what is written here.
SECRETS = r"://[^/@\s]*@"
AT_ONCE = 500
LIBRARIES = ("torch", "numpy", "onnx", "nats-py", "tensorboard")
HINT = "pip install -r requirements/training.txt -r requirements/nats.txt"


@commands.printing
def main(argv: list[str] | None = None) -> int:
    """Run the training server and return the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    commands.set_up_log("%(asctime)s %(levelname).1s %(message)s")
    try:
        own = _configured(arguments)
        params_file = str(commands.params_file(arguments.params))
        _require_libraries()
    except TractorError as error:
        print(printable_message(error), file=sys.stderr)
        return commands.USAGE
    try:
        return _serve(own, arguments, params_file)
    except ParameterError as error:
        print(printable_message(error), file=sys.stderr)
        return commands.USAGE
    except (LeaseError, FolderUsedError) as error:
        print(printable_message(error), file=sys.stderr)
        return USED
    except (TractorError, OSError) as error:
        text = explain(error, own.server.folder) if isinstance(error, OSError) else error
        print(printable_message(text), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return commands.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="start_sac_server.sh", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    old = parser.add_argument_group("arguments by position, each may be left out from the right")
    old.add_argument("address", nargs="?", default="", metavar="NATS", help="as --nats")
    old.add_argument("place", nargs="?", default="", metavar="FOLDER", help="as --folder")
    old.add_argument("curves", nargs="?", default="", metavar="LOG", help="folder for the curves")
    old.add_argument("batch", nargs="?", type=int, help="transitions an update")
    old.add_argument("replay", nargs="?", type=int, help="steps that it draws from")
    parser.add_argument("--config", type=Path, help="default: config/training.yaml of the suite")
    parser.add_argument("--params", help="shared parameter file, default: config/sac_rover.yaml")
    parser.add_argument("--nats", metavar="ADDRESS", help="a server of your own, nats://HOST:4222")
    parser.add_argument("--folder", help="where all is kept (default: server_data)")
    parser.add_argument("--seed", type=int, help="of weights and draws")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="fail where there is nothing to go on")
    how.add_argument(
        "--fresh", action="store_true", help="begin anew; what was there is kept beside it"
    )
    parser.add_argument(
        "--from-experience", type=Path, metavar="DIR",
        help="learn from copied chunks, without a server, and end",
    )  # fmt: skip
    return parser


def _configured(arguments: argparse.Namespace) -> Configuration:
    """Return the configuration file with what the command line says instead.

    Raises:
        ParameterError, LinkError: it cannot be used.
    """
    own = config.load(arguments.config)
    server: dict[str, Any] = {}
    if address := arguments.nats or arguments.address:
        server["nats"] = address
    if folder := arguments.folder or arguments.place:
        server["folder"] = folder
    if arguments.curves:
        server["curves"] = arguments.curves
    learner: dict[str, Any] = {}
    if arguments.seed is not None:
        learner["seed"] = arguments.seed
    if arguments.replay is not None:
        learner["buffer_size"] = arguments.replay
    sac = {"batch_size": arguments.batch} if arguments.batch is not None else {}
    own = config.changed(own, server=server, learner=learner, sac=sac)
    if own.server.nats:
        require_address(own.server.nats)
    return own


def _require_libraries() -> None:
    try:
        import nats  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise TractorError(f"training needs {error.name}, found none: {HINT}") from error


def _serve(own: Configuration, arguments: argparse.Namespace, params_file: str) -> int:
    folder = Path(own.server.folder) / RUN_FOLDER
    there = (folder / CHECKPOINT).exists() or (folder / CHUNKS).exists()
    if arguments.resume and not there:
        raise ParameterError(f"--resume: expected an earlier run in {folder}, found none")
    if arguments.fresh and there:
        _put_aside(folder)
    setup = Setup.load(params_file)
    device = choose_device(own.server.device, own.server.threads)
    encoder = config.encoder_file(own)
    learning = Learning(folder, own, setup.contract, setup.robot, encoder, device)
    try:
        _write_run_file(folder, own, setup.contract.digest, device)
        if arguments.from_experience is not None:
            return _learn_offline(learning, arguments.from_experience, own)
        return asyncio.run(_run(own, learning, params_file, encoder))
    finally:
        learning.close()


async def _run(own: Configuration, learning: Learning, params_file: str, encoder: Path) -> int:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.set)
    board = _start_tensorboard(own, learning.folder)
    try:
        await Server(own, learning, params_file, own.server.nats or None, encoder).run(ending)
    finally:
        if board is not None:
            board.terminate()
            board.wait()
    log.info("ended; %s has all that was learnt", printable(learning.folder))
    return 0


def _learn_offline(learning: Learning, folder: Path, own: Configuration) -> int:
    """Learn from a folder of chunks; leaves the actor as latest.onnx."""
    paths = files_of(folder)
    if not paths:
        raise TractorError("expected chunks of experience, *.rvxp, found none", folder)
    refused = 0
    for first in range(0, len(paths), AT_ONCE):
        some = paths[first : first + AT_ONCE]
        data = [outside.read_or_refuse(path, MAX_FILE_BYTES, ExperienceError) for path in some]
        for path, why in zip(some, learning.add(data)):
            if why is not None:
                refused += 1
                log.warning("%s is left out: %s", printable(path), why)
        saved_s = time.monotonic()
        while learning.step():
            if time.monotonic() - saved_s >= own.server.checkpoint_s:
                learning.save()
                saved_s = time.monotonic()
        learning.save()
        updates = learning.trainer.sac.updates
        log.info("%d of %d chunks, %d updates", first + len(some), len(paths), updates)
    learning.export(learning.folder / LATEST, own.server.exploration_scale)
    print(
        f"{len(paths) - refused} of {len(paths)} chunks, {learning.progress.steps} steps, "
        f"{learning.trainer.sac.updates} updates; the actor: {learning.folder / LATEST}"
    )
    return 0


def _put_aside(folder: Path) -> None:
    """Give an earlier run another name, so that nothing of it is lost.

    Raises:
        FolderUsedError: a trainer has it.
    """
    lock = locked(folder)
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    aside = folder.with_name(f"{folder.name}.{stamp}")
    folder.rename(aside)
    os.close(lock)
    log.info("the earlier run is kept as %s", printable(aside))


def _write_run_file(folder: Path, own: Configuration, contract: str, device: str) -> None:
    """Write what it takes to understand the run, and to make it again."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    facts = {
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": [re.sub(SECRETS, "://", part) for part in sys.argv], "device": device,
        "contract": contract, "versions": versions, "commit": _commit(),
        "configuration": own.as_json(),
    }  # fmt: skip
    replace_file(folder / RUN, json.dumps(facts, indent=1) + "\n")


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[3]
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=10.0, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _start_tensorboard(own: Configuration, folder: Path) -> subprocess.Popen | None:
    port = own.server.tensorboard_port
    if not port:
        return None
    try:
        importlib.metadata.version("tensorboard")
    except importlib.metadata.PackageNotFoundError:
        return None  # the curves say so
    command = [
        *stops_with_starter("TERM"), sys.executable, "-m", "tensorboard.main", "--logdir",
        str(config.curves_folder(own, folder)), "--host", LOOPBACK, "--port", str(port),
    ]  # fmt: skip
    with (folder / "tensorboard.log").open("w") as said:
        board = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    log.info("TensorBoard: http://%s:%d", LOOPBACK, port)
    return board


if __name__ == "__main__":
    sys.exit(main())
