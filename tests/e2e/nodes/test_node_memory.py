"""A gigabyte over the wire, both ways: neither the node agent nor `qd` holds it in memory."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.node_world import NodeProcess, Person

pytestmark = [pytest.mark.podman, pytest.mark.slow]
SIZE = 1024**3
MOST_GROWTH = 64 * 1024**2


@contextlib.contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """The resident memory of a process, every 20 ms while the block lasts."""
    seen, over, process = [], threading.Event(), psutil.Process(pid)

    def watch() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(psutil.Error):
                seen.append(process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def ended(process: subprocess.Popen[str]) -> list[int]:
    """Wait for a `qd` that was started; its memory meanwhile."""
    with watched(process.pid) as seen:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err
    return seen


def test_push_and_pull_of_a_gigabyte_are_flat(person: Person, n1: NodeProcess, name: str, tmp_path: Path) -> None:
    source = tmp_path / "big"
    with source.open("wb") as file:
        # Not all the same, and mostly a hole: the disk holds what is pushed, not this.
        file.write(b"begin")
        file.truncate(SIZE)
        file.seek(SIZE - 3)
        file.write(b"end")
    assert n1.process is not None
    person.qd("service", "push", name, __file__, "small.py", "--node", "n1")
    before = psutil.Process(n1.process.pid).memory_info().rss
    there = n1.folder / "srv" / name / "big"
    try:
        with watched(n1.process.pid) as agent:
            began = time.monotonic()
            pushing = ended(person.start("service", "push", name, str(source), "big", "--node", "n1"))
            pushed = time.monotonic()
            pulling = ended(person.start("service", "pull", name, "big", str(tmp_path / "back"), "--node", "n1"))
        print(f"push {pushed - began:.1f} s, pull {time.monotonic() - pushed:.1f} s, agent {max(agent) - before:,} B")
        assert subprocess.run(["cmp", str(source), str(there)]).returncode == 0
        assert subprocess.run(["cmp", str(source), str(tmp_path / "back")]).returncode == 0
        assert len(agent) > 50
        assert max(agent) - before < MOST_GROWTH
        # The commands began empty; with the interpreter and gRPC they stay far below the file.
        assert max(pushing) < 2 * MOST_GROWTH
        assert max(pulling) < 2 * MOST_GROWTH
    finally:
        for each in (source, there, tmp_path / "back"):
            each.unlink(missing_ok=True)
