"""Folders on the disk: what they use, and removing them for good. Blocking; call it in a thread."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path

from quarterdeck.errors import Unavailable

_ATTEMPTS = 20


def remove_tree(path: Path) -> None:
    """Remove a folder with all in it, read-only ones too; a link is removed, not followed.

    Whoever still writes there makes it try again for a while. Raises `Unavailable` when it cannot be removed.
    """
    problem: OSError | None = None
    for attempt in range(_ATTEMPTS):
        if not os.path.lexists(path):
            return
        try:
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            else:
                shutil.rmtree(path)
        except OSError as error:
            problem = error
            if isinstance(error, PermissionError):
                _make_writable(path)
            time.sleep(0.01 * attempt)
    if os.path.lexists(path):
        raise Unavailable(
            f"{path} could not be removed: {problem}; part of it may be gone",
            hint="stop what still writes there or take over the files, then do it again",
        )


def _make_writable(top: Path) -> None:
    for folder, folders, _ in os.walk(top):
        for each in (folder, *(os.path.join(folder, name) for name in folders)):  # noqa: PTH118 (speed)
            with contextlib.suppress(OSError):
                if not os.path.islink(each):  # noqa: PTH114
                    os.chmod(each, os.stat(each).st_mode | stat.S_IRWXU)  # noqa: PTH101,PTH116


def used_bytes(path: Path) -> int:
    """The blocks that a folder takes on the disk, in bytes: links not followed, hard links counted once."""
    total, seen, folders = 0, set[tuple[int, int]](), [os.fspath(path)]
    with contextlib.suppress(OSError):
        total += path.lstat().st_blocks * 512
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue
        for entry in entries:
            # Agents write and delete while we look.
            with contextlib.suppress(OSError):
                facts = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif facts.st_nlink > 1:
                    if (facts.st_dev, facts.st_ino) in seen:
                        continue
                    seen.add((facts.st_dev, facts.st_ino))
                total += facts.st_blocks * 512
    return total
