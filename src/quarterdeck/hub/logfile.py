"""The log of a hub in the background: cut before it fills the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

MAX_LOG_BYTES = 20_000_000


async def keep_small(log: Path, *, max_bytes: int = MAX_LOG_BYTES, every_seconds: float = 10) -> None:
    """Keep the hub's log below a size, with one older part of it beside it, until cancelled.

    The process writes to it as its standard error, which cannot be given another file: so its content is moved.
    """
    while True:
        await run_sync(_move_content, log, max_bytes)
        await anyio.sleep(every_seconds)


def _move_content(log: Path, max_bytes: int) -> None:
    with contextlib.suppress(OSError):
        if log.stat().st_size <= max_bytes:
            return
        # A disk without room for the older part is all the more reason to cut the log.
        with contextlib.suppress(OSError):
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)
