"""One server for each folder of stored facts."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from quarterdeck.errors import Conflict, StorageRefused
from quarterdeck.metadata import durable

LOCK = "metadata.lock"
_READ_ONLY = frozenset({1, 13, 30})  # EPERM, EACCES, EROFS


def lock(folder: Path) -> int:
    """Become the one server of this folder; the descriptor that holds the lock.

    Raises `Conflict` when another process has it, `StorageRefused` when the folder cannot be written.
    """
    try:
        descriptor = _lock_file(folder)
    except OSError as error:
        raise StorageRefused(
            f"the folder {folder} cannot be written: {error.strerror}", hint="check its mode and its disk"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Conflict(
            f"another metadata server works in {folder}; this one did not start",
            hint="stop the other, or give this one a folder of its own",
        ) from None
    return descriptor


def _lock_file(folder: Path) -> int:
    """The open lock file, for reading alone where nothing may be written but is there."""
    try:
        durable.make_folder(folder)
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        with contextlib.suppress(OSError):
            return os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        raise
