"""Small file systems of their own, and what fills them."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.must_run import VARIABLE


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system in memory; where nothing may be mounted, skips (and fails in CI, where it must be)."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        reason = f"nothing can be mounted here: {done.stderr.decode().strip()}"
        if os.environ.get(VARIABLE) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield folder
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    """A process that was killed keeps its files until the last of its threads is gone, a little after its death."""
    until = time.monotonic() + 15
    while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode != 0:
        if time.monotonic() > until:
            raise AssertionError(f"{folder} stays busy")
        time.sleep(0.1)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No room is left on a folder's file system meanwhile: one file takes all of it, also what a process that lives
    there gives back (a file that it could not write whole, say)."""
    filler = folder / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    over = threading.Event()

    def fill() -> None:
        while os.statvfs(folder).f_bavail:
            try:
                os.write(descriptor, b"x" * 4096)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break  # somebody was quicker

    def keep_full() -> None:
        while not over.wait(0.001):
            fill()

    fill()
    keeper = threading.Thread(target=keep_full, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        os.close(descriptor)
        filler.unlink()
