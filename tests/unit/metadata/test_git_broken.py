"""Repositories that are broken, may not be read, come and go: told as such, and never as something else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from quarterdeck.errors import Unavailable
from quarterdeck.metadata import watching
from quarterdeck.metadata.collector import Failed
from quarterdeck.metadata.collectors.git import GitCollector
from quarterdeck.metadata.watching import Watcher

pytestmark = pytest.mark.anyio
Git = Callable[..., str]


async def collected(workspace: Path) -> dict[str, Any]:
    found = await GitCollector().collect(workspace)
    return {key.removeprefix("git_"): value for key, value in found.items()}


@pytest.mark.parametrize(
    "broken", ["moved", "dangling", "garbage HEAD", "empty HEAD", "garbage branch", "empty branch"]
)
async def test_what_is_broken_is_told_as_an_error(repo: Path, git: Git, tmp_path: Path, broken: str) -> None:
    tree = repo
    match broken:
        case "moved":
            tree = tmp_path / "tree"
            git(repo, "worktree", "add", "-q", str(tree))
            repo.rename(tmp_path / "elsewhere")
        case "dangling":
            tree = tmp_path / "tree"
            tree.mkdir()
            (tree / ".git").write_text("gitdir: /nowhere/at/all\n")
        case "garbage HEAD" | "empty HEAD":
            (repo / ".git" / "HEAD").write_text("garbage\n" if "garbage" in broken else "")
        case _:
            (repo / ".git" / "refs" / "heads" / "main").write_text("garbage\n" if "garbage" in broken else "")
    found = await collected(tree)
    for key in ("state", "branch", "head", "subject", "committed_at", "base", "merge_base", "shallow", "worktree"):
        assert isinstance(found[key], Failed), key
        assert found[key].error.startswith("git says: fatal: "), found[key]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"gitdir: a\0b\n", "leads nowhere|no file"),
        (b"gitdir: /\n", "in which it lies itself"),
        (b"gitdir: ..\n", "in which it lies itself"),
        (b"nonsense\n", "does not say where the git folder is"),
        (b"", "does not say where the git folder is"),
    ],
)
async def test_a_git_file_that_is_none_is_an_error_and_no_repository_further_up(
    repo: Path, text: bytes, words: str
) -> None:
    inside = repo / "inside"
    inside.mkdir()
    (inside / ".git").write_bytes(text)
    with pytest.raises(Unavailable, match=words):
        await collected(inside)
    watcher = Watcher(inside, inside / "facts", lambda: None, lambda: None)
    with anyio.move_on_after(0.5):
        await watcher.run()
    assert "not watching" in watcher.state


@pytest.mark.parametrize("broken", ["packed-refs is a folder", "refs may not be searched", "HEAD may not be read"])
async def test_refs_that_cannot_be_read_are_no_missing_commits(
    repo: Path, git: Git, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    git(repo, "pack-refs", "--all")
    if broken == "packed-refs is a folder":
        (repo / ".git" / "packed-refs").unlink()
        (repo / ".git" / "packed-refs").mkdir()
    else:  # as it is for an ordinary user
        place = repo / ".git" / ("refs" if "refs" in broken else "HEAD")
        real = Path.stat

        def denied(self: Path, **more: Any) -> os.stat_result:
            if place in (self, *self.parents):
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return real(self, **more)

        monkeypatch.setattr(Path, "stat", denied)
    if "HEAD" in broken:
        with pytest.raises(Unavailable, match="Permission denied"):
            await GitCollector().collect(repo)
        return
    found = await GitCollector().collect(repo)
    for key in ("git_state", "git_head", "git_branch"):
        assert isinstance(found[key], Failed), found[key]


async def test_a_work_tree_in_its_own_git_folder(tmp_path: Path, git: Git) -> None:
    bare, inside = tmp_path / "b.git", tmp_path / "b.git" / "work"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(bare))
    git(tmp_path, "-C", str(bare), "config", "core.bare", "false")
    inside.mkdir()
    (inside / ".git").write_text("gitdir: ..\n")
    assert (await collected(inside))["branch"] == "main"


async def test_a_repository_that_comes_back_is_watched_again(
    repo: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "RETRY_SECONDS", 0.1)
    tree, seen = tmp_path / "tree", anyio.Event()
    git(repo, "worktree", "add", "-q", str(tree))
    repo.rename(tmp_path / "away")
    watcher = Watcher(tree, tree / "facts", lambda: None, seen.set)
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.run)
        with anyio.fail_after(20):
            while "there is no HEAD in" not in watcher.state:
                await anyio.sleep(0.01)
            (tmp_path / "away").rename(repo)
            while watcher.state != "watching":
                await anyio.sleep(0.01)
            while not seen.is_set():  # the watch begins a moment after it is told
                git(tree, "checkout", "-q", "--detach")
                git(tree, "checkout", "-q", "tree")
                await anyio.sleep(0.3)
        group.cancel_scope.cancel()


async def test_a_repository_that_is_made_nearer_is_the_one_from_then_on(repo: Path, git: Git) -> None:
    inside = repo / "inside"
    inside.mkdir()
    collector = GitCollector()
    assert (await collector.collect(inside))["git_branch"] == "main"
    git(inside, "init", "-q", "-b", "nearer")
    found = await collector.collect(inside)
    assert (found["git_branch"], found["git_state"]) == ("nearer", "no-commits")
