"""A process is known again whatever becomes of the clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from quarterdeck import proctree
from quarterdeck.fleet.git import scratch
from quarterdeck.hub import place
from support.clock import stepped


def test_a_process_keeps_its_identity_when_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before, known = proctree.started_at(os.getpid()), proctree.identity(os.getpid())
    assert before is not None
    assert known is not None
    stepped(monkeypatch, 3600)
    assert proctree.started_at(os.getpid()) == pytest.approx(before + 3600), "the clock was really set"
    assert proctree.is_alive(os.getpid(), known)


def test_who_ended_and_who_took_the_pid_are_told_apart() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        known = proctree.identity(child.pid)
        assert known is not None
        assert proctree.is_alive(child.pid, known)
        assert not proctree.is_alive(os.getpid(), known)
        child.kill()
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert proctree.identity(child.pid) is None, "a zombie has ended"
        assert not proctree.is_alive(child.pid, known)
    assert proctree.started_ticks(child.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_name_full_of_parentheses_is_no_riddle(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to(sys.executable)
    with subprocess.Popen([odd, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ticks = proctree.started_ticks(child.pid)
        assert ticks is not None
        ours = proctree.started_ticks(os.getpid())
        assert ours is not None
        assert ticks >= ours
        child.kill()


def test_a_hub_is_found_after_the_clock_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.prepare(tmp_path)
    place.announce(
        tmp_path,
        place.HubInfo(
            pid=os.getpid(),
            started_at=proctree.started_at(os.getpid()) or 0.0,
            url="http://127.0.0.1:1",
            folder="/p",
            version="0",
            identity=proctree.identity(os.getpid()) or "",
        ),
    )
    stepped(monkeypatch, -5)
    assert place.running(tmp_path) is not None


@pytest.mark.anyio
async def test_the_scratch_of_a_merge_that_goes_on_is_not_stale(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = subprocess.run(["git", "rev-parse", "main"], cwd=repo, check=True, capture_output=True, text=True).stdout
    async with scratch.scratch_worktree(repo, tmp_path / "scratch", sha.strip()) as made:
        stepped(monkeypatch, 60)
        assert not scratch.is_stale(made.path)
        assert scratch.is_stale(made.path.with_name(f"merge-{os.getpid()}-ab.1-00000000"))
