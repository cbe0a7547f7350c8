"""What the storages of recordings share: messages, and how much a file may make of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tractor_core.errors import TractorError

# The largest image of a camera has 33 MB; recorders close a chunk once it has some megabytes.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Constant images pack 2000 times. Small files get room beyond that.
MAX_RATIO, FREE_BYTES = 5000, 64 * 1024 * 1024
# A message takes 31 bytes at least, and packs to one.
FREE_RECORDS = 200_000

Note = Callable[[str], None]


class BagError(TractorError):
    """A recording cannot be read at all, or does not hold what a drive needs."""


class TooMuchError(BagError):
    """A file makes more of itself than any recorder would; the rest of it is not read."""


class Message(NamedTuple):
    """One recorded message: serialised as CDR, with the time it was recorded, ns."""

    topic: str
    kind: str
    recorded_ns: int
    data: bytes | memoryview


class Allowance:
    """How much a file of some size may still unpack to, and how many records it may hold."""

    def __init__(self, size: int) -> None:
        self.bytes = FREE_BYTES + MAX_RATIO * size
        self.records = FREE_RECORDS + size

    def take(self, unpacked: int, records: int) -> None:
        """Use some of it.

        Raises:
            TooMuchError: it is used up.
        """
        self.bytes -= unpacked
        self.records -= records
        if self.bytes < 0 or self.records < 0:
            raise TooMuchError(
                "it holds far more than a recording of its size does; the rest is not read"
            )


def one_line(error: BaseException) -> str:
    """Return what an error says in one line."""
    return " ".join(str(error).split()) or type(error).__name__
