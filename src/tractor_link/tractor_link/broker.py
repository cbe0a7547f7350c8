"""The nats-server that a training server starts for itself, with its store locked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tractor_core import files
from tractor_core.child import stops_with_starter
from tractor_core.errors import LinkError
from tractor_core.system_error import explain

START_LIMIT_S, STOP_LIMIT_S = 15.0, 10.0
LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 4222
LOG, LOCK, CONFIG = "nats-server.log", "lock", "nats-server.conf"


class Broker:
    """A nats-server with JetStream, whose store is on disk before anything is acknowledged.

        with Broker(Path("server_data/nats")) as broker:
            print(broker.address)  # nats://127.0.0.1:4222

    It listens on loopback only: what is heard by others needs keys, and a server of your own.

    Args:
        store: its folder, made when it is not there; one server at a time has it.
        port: 0 takes a free one.

    Raises:
        LinkError: there is no nats-server, the store is in use or cannot be written, or the server
            does not start; with the end of its log.
    """

    def __init__(self, store: Path, port: int = DEFAULT_PORT) -> None:
        self._store, self._lock = store, -1
        binary = _binary()
        try:
            store.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(store)
            ports = store / "ports"
            shutil.rmtree(ports, ignore_errors=True)
            ports.mkdir()
            (store / CONFIG).write_text(_config(store, port or -1))
            with (store / LOG).open("ab") as log:
                # The lock is held for as long as either of the two lives.
                self.process = subprocess.Popen(
                    [*stops_with_starter("TERM"), binary, "--config", str(store / CONFIG)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[self._lock],
                )  # fmt: skip
        except OSError as error:
            self._unlock()
            raise LinkError(explain(error, store)) from error
        self.address = self._wait(ports)

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.stop()

    def stop(self) -> None:
        """End it; what it has taken is on disk."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _wait(self, ports: Path) -> str:
        """Return the address once it listens."""
        end_s = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end_s and self.process.poll() is None:
            for path in ports.glob("*.ports"):
                try:
                    return json.loads(path.read_text())["nats"][0]
                except (ValueError, LookupError, OSError):
                    break  # it is being written
            time.sleep(0.02)
        self.stop()
        tail = (self._store / LOG).read_text(errors="replace").splitlines()[-5:]
        raise LinkError(
            "nats-server did not start; the end of its log:\n  " + "\n  ".join(tail), self._store
        )


def _binary() -> str:
    """Return nats-server, of this Python environment or of the machine."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise LinkError(
            "expected nats-server, found none: install requirements/nats.txt, which is it, or "
            "give the address of a server of your own"
        )
    return found


def _locked(store: Path) -> int:
    """Return the descriptor of the store's lock; two servers on one store would mix it up."""
    try:
        return files.lock(store / LOCK)
    except BlockingIOError as error:
        raise LinkError(
            "another server uses this store: end it first, or choose another folder", store
        ) from error


def _config(store: Path, port: int) -> str:
    # Without `always` what was acknowledged in the last two minutes is lost with the power.
    return "\n".join([
        f"listen: {json.dumps(f'{LOOPBACK}:{port}')}",
        f"ports_file_dir: {json.dumps(str(store / 'ports'))}",
        "jetstream {",
        f"  store_dir: {json.dumps(str(store / 'jetstream'))}",
        "  sync_interval: always",
        "}",
        "",
    ])  # fmt: skip
