"""Which changes of a git folder that many worktrees share are of interest to one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from quarterdeck.metadata.collectors import gitfiles
from quarterdeck.metadata.watching import Watcher, shared_matters

pytestmark = pytest.mark.anyio


@pytest.fixture
def trees(repo: Path, git: Callable[..., str], tmp_path: Path) -> tuple[Path, Path]:
    """Two worktrees, on `qd/ada` and `qd/bob`."""
    for name in ("ada", "bob"):
        git(repo, "worktree", "add", "-q", "-b", f"qd/{name}", str(tmp_path / name))
    return tmp_path / "ada", tmp_path / "bob"


def test_other_agents_branches_are_none_of_its_business(trees: tuple[Path, Path]) -> None:
    repository = gitfiles.find(trees[0])
    assert repository is not None
    matters = {
        "refs/heads/qd/ada": True, "refs/heads/qd/bob": False, "refs/heads/main": True,
        "refs/remotes/origin/main": True, "HEAD": False, "index": False,
        "refs/quarterdeck/rescue/bob-1": False, "quarterdeck/lock": False, "worktrees/bob/index": False,
    }  # fmt: skip
    assert {path: shared_matters(repository, path) for path in matters} == matters


async def test_a_commit_of_another_agent_wakes_nobody(
    trees: tuple[Path, Path], git: Callable[..., str], tmp_path: Path
) -> None:
    ada, bob = trees
    seen: list[str] = []
    watcher = Watcher(ada, tmp_path / "folder", lambda: seen.append("files"), lambda: seen.append("head"))
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        while watcher.state != "watching":
            await anyio.sleep(0.01)
        await anyio.sleep(0.5)
        seen.clear()
        git(bob, "commit", "-q", "--allow-empty", "-m", "of no interest to ada")
        await anyio.sleep(0.8)
        assert seen == []
        git(ada, "commit", "-q", "--allow-empty", "-m", "her own")
        with anyio.fail_after(20):
            while "head" not in seen:
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()
