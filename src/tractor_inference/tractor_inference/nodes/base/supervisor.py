"""What systemd hears of a node that it watches: sd_notify(3), without its library."""

from __future__ import annotations

import contextlib
import os
import socket

from tractor_core.text import printable


class Supervisor:
    """Tells systemd that a node is ready, goes on working, and what it says of itself.

    Where nobody asks, because NOTIFY_SOCKET is not set, nothing is sent.
    """

    def __init__(self) -> None:
        name = os.environ.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is in no file system; in the address that is a zero byte.
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._news = "READY=1\n"

    def alive(self, status: str) -> None:
        """Say that the node works; called by what stands still when the node does.

        Args:
            status: one line for `systemctl status`.
        """
        if not self._address:
            return
        message = f"{self._news}WATCHDOG=1\nSTATUS={printable(status)}"
        # Nothing waits for systemd. What it does not hear it takes for a node that hangs.
        with contextlib.suppress(OSError):
            self._socket.sendto(message.encode(), self._address)
            self._news = ""
