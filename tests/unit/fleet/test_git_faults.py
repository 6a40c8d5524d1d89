"""kill -9 at any moment of making a worktree or merging: doing it again puts all in order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quarterdeck.fleet.git import merge as merging
from quarterdeck.fleet.git import worktree
from quarterdeck.fleet.git.merge import merge

Git = Callable[..., str]
Commit = Callable[..., str]
pytestmark = [pytest.mark.anyio, pytest.mark.fault]
ROUNDS = 6


def killed_after(seconds: float, call: str) -> None:
    """Run a call of ours in a process of its own and kill -9 that after a while (if it still runs)."""
    program = (
        "import anyio, pathlib\nfrom quarterdeck.fleet.git import merge, worktree\n"
        f"async def main():\n    print('go', flush=True)\n    await {call}\nanyio.run(main)\n"
    )
    source = str(Path(merging.__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": source}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"go\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()


async def test_making_a_worktree(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> None:
    head = commit(repo, {f"d{number}/f": "x" * 2000 for number in range(1500)})
    for number in range(ROUNDS):
        path = tmp_path / f"tree{number}"
        where = f"pathlib.Path({str(repo)!r}), pathlib.Path({str(path)!r})"
        killed_after(random.uniform(0, 0.25), f"worktree.add({where}, 'qd/a{number}', {head!r})")
        added = await worktree.add(repo, path, f"qd/a{number}", head)
        assert added.branch == f"qd/a{number}"
        assert git(path, "status", "--porcelain") == ""
        assert len(list(path.glob("d*/f"))) == 1500
    listed = git(repo, "worktree", "list", "--porcelain")
    assert listed.count("worktree ") == ROUNDS + 1
    assert "locked" not in listed


async def test_merging(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> None:
    head = commit(repo, {f"d{number}/f": "x" * 2000 for number in range(500)})
    scratch = tmp_path / "scratch"
    for number in range(ROUNDS):
        tree = tmp_path / f"tree{number}"
        await worktree.add(repo, tree, f"qd/a{number}", head)
        work = commit(tree, {f"new{number}": "n"})
        where = f"scratch_folder=pathlib.Path({str(scratch)!r})"
        call = f"merge.merge(pathlib.Path({str(repo)!r}), 'qd/a{number}', 'main', {where})"
        killed_after(random.uniform(0, 0.25), call)
        # A git that was moving the base goes on by itself to its end; give it that.
        deadline = time.monotonic() + 10
        while (repo / ".git" / "index.lock").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        await merge(repo, f"qd/a{number}", "main", scratch_folder=scratch)
        assert work in git(repo, "rev-list", "main")
        assert git(repo, "status", "--porcelain") == ""
        assert list(scratch.iterdir()) == []
    assert git(repo, "rev-list", "--count", "--merges", "main") == str(ROUNDS)
    assert "scratch" not in git(repo, "worktree", "list", "--porcelain")
