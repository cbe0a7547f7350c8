"""A model's files as they are on disk: read once, whole, and from one folder.

A model is named by a path that may be a link to a version beneath its folder, and links move while
the rover drives. So what the path leads to is resolved once; its folder is opened component by
component without following links, and everything is read through that one descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tractor_core.errors import ModelError

# An actor is a few megabytes; nothing near this is one.
MAX_MODEL_BYTES = 256 * 1024 * 1024
# Non-blocking: opening a named pipe would wait for a writer.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

Stamp = tuple[object, ...]


def real_path(path: Path) -> Path:
    """Return the file a model's path leads to now; a link may be moved at any time.

    A path that may not be followed is returned as it is: opening it says why.
    """
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return Path(os.path.abspath(path))


def stamp(path: Path) -> Stamp:
    """Return what a model's path leads to now; it changes when a file is replaced or written."""
    model = real_path(path)
    # Beside an .onnx torch writes its weights, under this name.
    beside = ".json" if model.suffix == ".rknn" else f"{model.suffix}.data"
    files = [model, model.with_suffix(beside)]
    found: list[object] = [str(model)]
    for file in files:
        try:
            status = file.stat()
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError as error:
            found.append(error.errno)
    return tuple(found)


class ModelFolder:
    """The open folder of the file that a model's path leads to; what is read in it is no link.

    Args:
        path: the model, or a link to one; `model` is then the real file.

    Raises:
        ModelError: the real file lies outside of the folder that the path lies in, or the folder
            cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        with _named_errors(path):
            self.model, top = real_path(path), real_path(path.parent)
        if not self.model.is_relative_to(top):
            raise ModelError(
                f"{path}: expected a model in {top} or beneath it, found a link to {self.model}; "
                "copy it with its manifest into that folder, or name it where it is"
            )
        flags = _READ | os.O_DIRECTORY | os.O_NOFOLLOW
        with _named_errors(path):
            self._descriptor = os.open(top, flags)
            try:
                for part in self.model.relative_to(top).parts[:-1]:
                    inner = os.open(part, flags, dir_fd=self._descriptor)
                    os.close(self._descriptor)
                    self._descriptor = inner
            except OSError:
                os.close(self._descriptor)
                raise

    def __enter__(self) -> ModelFolder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, path: Path) -> bytes:
        """Read the file of the folder that has the name of `path`, whole.

        Raises:
            ModelError: a link, or no readable regular file of a sensible size; its cause is a
                FileNotFoundError where there is none.
        """
        with _named_errors(path):
            return _read(os.open(path.name, _READ | os.O_NOFOLLOW, dir_fd=self._descriptor), path)


def read_model_bytes(path: Path) -> bytes:
    """Read a file once, wherever links lead; its bytes are then checked and used.

    Raises:
        ModelError: no readable regular file of a sensible size.
    """
    with _named_errors(path):
        return _read(os.open(path, _READ), path)


def require_digest(path: Path, found: str, expected: str) -> None:
    """Refuse a file that a manifest names when it is not the one that the manifest was written for.

    Raises:
        ModelError: the two sha256 differ.
    """
    if found != expected:
        raise ModelError(
            f"{path}: expected sha256 {expected} as its manifest says, found {found}; "
            "the file was changed or replaced, convert the ONNX actor again"
        )


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn what the system says while a file is opened and read into a ModelError."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            reason = "links beside a model's real file are not followed"
        raise ModelError(f"{path}: cannot be read: {reason}") from error


def _read(descriptor: int, path: Path) -> bytes:
    """Read and close."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: expected a regular file, found a folder or special file")
        if not 0 < status.st_size <= MAX_MODEL_BYTES:
            raise ModelError(f"{path}: expected 1..{MAX_MODEL_BYTES} bytes, found {status.st_size}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)
