"""Files and names that are on the disk when a call returns. All calls block, and raise `OSError`."""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder and those above it: a file in a folder that a power cut takes away is lost, too."""
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for place in absent:
        sync_folder(place.parent)


def write(path: Path, data: bytes) -> None:
    """Write a whole file, mode 0600. Its name is durable once its folder is synced."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def second_name(path: Path, other: Path) -> None:
    """The same content under another name; a copy on a file system that knows no hard links."""
    try:
        os.link(path, other)
    except OSError:
        data = path.read_bytes()
        try:
            write(other, data)
        except OSError:
            other.unlink(missing_ok=True)
            raise


def sync_folder(folder: Path) -> None:
    """Make what was made, renamed and removed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
