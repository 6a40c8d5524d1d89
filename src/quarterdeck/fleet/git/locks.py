"""Locks between processes: `flock` on a file, which the system lets go when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

from quarterdeck.errors import StorageRefused, Unavailable


def lock_path(git_dir: Path, purpose: str, subject: str = "") -> Path:
    """Where the lock for a purpose (and, hashed, a subject such as a branch) lies in a repository."""
    suffix = "-" + hashlib.sha256(os.fsencode(subject)).hexdigest()[:16] if subject else ""
    return git_dir / "quarterdeck" / f"{purpose}{suffix}.lock"


@contextlib.asynccontextmanager
async def held(path: Path, *, timeout_seconds: float, what: str) -> AsyncIterator[None]:
    """Hold a lock; waiting does not block the event loop and can be cancelled.

    Raises `Unavailable` when somebody else holds it for longer than the timeout, `StorageRefused` when
    the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageRefused(
            f"the lock {path} cannot be made: {error.strerror}; nothing was changed",
            hint="make the repository's git folder writable, with some room on its disk",
        ) from error
    try:
        deadline = time.monotonic() + timeout_seconds
        while not _taken(descriptor):
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{what}: somebody else has been at it for more than {timeout_seconds:g} s; nothing was changed",
                    hint=f"try again later; the lock is {path}",
                )
            await anyio.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
