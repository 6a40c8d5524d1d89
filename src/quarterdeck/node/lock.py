"""One agent per state folder: a lock that dies with its holder, so a dead one holds nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quarterdeck.errors import Conflict


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Have the folder for oneself. Raises `Conflict` that names the process that has it."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = state_dir / "agent.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
            raise Conflict(
                f"a node agent (process {holder}) runs with {state_dir} already",
                hint="stop it first: systemctl stop quarterdeck-node",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
