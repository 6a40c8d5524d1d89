"""One agent per state folder: a lock that dies with its holder, so a dead one holds nothing."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from quarterdeck.errors import Conflict

_DEAD_SECONDS = 5


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Have the folder for oneself. Raises `Conflict` that names the process that has it."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, state_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, state_dir: Path) -> None:
    end = time.monotonic() + _DEAD_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            # A command that a killed agent was just starting shares the lock until it has become that command.
            if holder.isdigit() and not psutil.pid_exists(int(holder)) and time.monotonic() < end:
                time.sleep(0.01)
                continue
            raise Conflict(
                f"a node agent (process {holder or 'unknown'}) runs with {state_dir} already",
                hint="stop it first: systemctl stop quarterdeck-node",
            ) from None
        return
