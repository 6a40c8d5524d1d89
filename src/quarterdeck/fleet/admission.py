"""Whether there is room for another agent: free memory and disk against their floors, with the figures."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from quarterdeck.errors import Unavailable

MB = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Room:
    """What is free, in bytes."""

    memory: int
    disk: int


def measure(folder: Path) -> Room:
    """What is free now on this machine and on the file system of a folder (which need not exist yet)."""
    while not folder.exists():
        folder = folder.parent
    return Room(memory=psutil.virtual_memory().available, disk=shutil.disk_usage(folder).free)


def check(room: Room, *, free_memory_mb: int, free_disk_mb: int) -> None:
    """Raise `Unavailable` with the figures when either floor would be undercut."""
    lacks: list[str] = []
    if room.memory < free_memory_mb * MB:
        lacks.append(f"{room.memory // MB} MB of memory are free, {free_memory_mb} MB must be")
    if room.disk < free_disk_mb * MB:
        lacks.append(f"{room.disk // MB} MB of disk are free, {free_disk_mb} MB must be")
    if lacks:
        raise Unavailable(
            f"no agent is started now: {'; '.join(lacks)}",
            hint="delete agents (`qd agents delete`), run `qd gc`, or lower the floors in [limits]",
            details={"free_memory_mb": room.memory // MB, "free_disk_mb": room.disk // MB},
        )
