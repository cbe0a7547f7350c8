"""When is there a new model? Fed from outside; holds no clock, thread or file."""

from __future__ import annotations

from .file import Stamp


class ModelWatch:
    """Says when what a model's path leads to has changed, and is no longer being written."""

    def __init__(self) -> None:
        self._opened: Stamp = ()
        self._seen: Stamp = ()

    def opening(self, stamp: Stamp) -> None:
        """Note what is opened now, or tried to."""
        self._opened = self._seen = stamp

    def changed(self, stamp: Stamp) -> bool:
        """Return whether the path leads to something new that was the same at the last look."""
        settled, self._seen = stamp == self._seen, stamp
        return settled and stamp != self._opened
