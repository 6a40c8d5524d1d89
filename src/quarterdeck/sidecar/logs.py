"""The agent's and the sidecar's own log files, kept from growing without end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
KEPT_BYTES = 1024 * 1024


def cap(file: Path, most: int = MAX_BYTES, kept: int = KEPT_BYTES) -> bool:
    """Empty a log that has more than `most` bytes, its last part put into `NAME.1`; whether it was done.

    Whoever writes it has it open for appending and goes on at its new end; what is written in the blink
    between the copy and the cut is lost. On a full disk it is emptied without a copy.
    """
    try:
        size = file.stat().st_size
    except OSError:
        return False
    if size <= most:
        return False
    with contextlib.suppress(OSError), file.open("rb") as source:
        source.seek(size - kept)
        part, _, whole_lines = source.read(kept).partition(b"\n")
        _write(file.with_name(file.name + ".1"), whole_lines or part)
    with contextlib.suppress(OSError):
        os.truncate(file, 0)
        return True
    return False


def _write(file: Path, data: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
