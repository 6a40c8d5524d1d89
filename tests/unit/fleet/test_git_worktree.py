"""Worktrees: made side by side, repaired after a crash, removed without losing commits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from quarterdeck.errors import Conflict
from quarterdeck.fleet.git import commands, worktree
from quarterdeck.process import CommandFailed

Git = Callable[..., str]
Commit = Callable[..., str]
pytestmark = pytest.mark.anyio


@pytest.fixture
def base(repo: Path, git: Git) -> str:
    return git(repo, "rev-parse", "HEAD")


async def test_a_worktree_on_its_branch(repo: Path, git: Git, tmp_path: Path, base: str) -> None:
    path = tmp_path / "agents" / "ann" / "tree"
    added = await worktree.add(repo, path, "qd/ann", base)
    assert added == worktree.Added(path=str(path), branch="qd/ann", head=base, existed=False)
    assert (path / "README.md").read_text() == "# Sample\n"
    assert git(path, "status", "--porcelain") == ""
    assert git(path, "symbolic-ref", "--short", "HEAD") == "qd/ann"
    assert "locked" not in git(repo, "worktree", "list", "--porcelain")
    assert git(repo, "status", "--porcelain") == ""
    (path / "work").write_text("x")
    again = await worktree.add(repo, path, "qd/ann", base)
    assert again.existed
    assert (path / "work").exists()


async def test_hooks_do_not_run(repo: Path, tmp_path: Path, base: str) -> None:
    hook = repo / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    await worktree.add(repo, tmp_path / "tree", "qd/ann", base)
    assert not (tmp_path / "ran").exists()


async def test_a_branch_with_other_work_is_left_alone(
    repo: Path, git: Git, tmp_path: Path, base: str, commit: Commit
) -> None:
    git(repo, "checkout", "-q", "-b", "qd/ann")
    work = commit(repo, {"other": "work"})
    git(repo, "checkout", "-q", "main")
    git(repo, "branch", "qd/ann-2/below")
    added = await worktree.add(repo, tmp_path / "tree", "qd/ann", base)
    assert added.branch == "qd/ann-3"
    assert git(repo, "rev-parse", "qd/ann") == work
    assert (await worktree.add(repo, tmp_path / "tree", "qd/ann", base)).branch == "qd/ann-3"


async def test_a_branch_without_work_is_taken_unless_it_is_in_use(
    repo: Path, git: Git, tmp_path: Path, base: str, commit: Commit
) -> None:
    git(repo, "branch", "qd/ann")
    newer = commit(repo, {"a": "1"})
    assert (await worktree.add(repo, tmp_path / "one", "qd/ann", newer)).branch == "qd/ann"
    assert (tmp_path / "one" / "a").exists()
    assert (await worktree.add(repo, tmp_path / "two", "qd/ann", newer)).branch == "qd/ann-2"


async def test_a_branch_called_qd_is_in_the_way(repo: Path, git: Git, tmp_path: Path, base: str) -> None:
    git(repo, "branch", "qd")
    with pytest.raises(Conflict, match="while there is a branch qd") as caught:
        await worktree.add(repo, tmp_path / "tree", "qd/ann", base)
    assert "branch -m qd" in caught.value.hint
    assert not (tmp_path / "tree").exists()


async def test_a_folder_with_something_else_is_refused(repo: Path, git: Git, tmp_path: Path, base: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "precious").write_text("x")
    with pytest.raises(Conflict, match="already holds something"):
        await worktree.add(repo, tmp_path / "tree", "qd/ann", base)
    assert (tmp_path / "tree" / "precious").exists()
    git(repo, "worktree", "add", "-q", "-b", "mine", str(tmp_path / "mine"))
    with pytest.raises(Conflict, match="on mine instead of qd/ann"):
        await worktree.add(repo, tmp_path / "mine", "qd/ann", base)


async def test_nothing_is_left_by_a_cancel_at_any_moment(repo: Path, git: Git, tmp_path: Path, base: str) -> None:
    """Also while git starts, and while a git that it started makes the branch."""
    cancelled = 0
    for number in range(60):
        with anyio.move_on_after(0.002 * number) as scope:
            await worktree.add(repo, tmp_path / f"tree-{number}", f"qd/ann-{number}", base)
        if scope.cancelled_caught:
            cancelled += 1
            assert git(repo, "branch", "--list", f"qd/ann-{number}") == ""
            assert not (tmp_path / f"tree-{number}").exists()
    assert cancelled > 5
    assert len(git(repo, "worktree", "list").splitlines()) == 1 + 60 - cancelled


async def test_every_half_made_state_is_repaired(repo: Path, git: Git, tmp_path: Path, base: str) -> None:
    path = tmp_path / "tree"

    def only_the_branch() -> None:
        git(repo, "branch", "qd/ann", base)

    def an_empty_folder() -> None:
        path.mkdir()

    def registered_and_empty() -> None:
        git(*_split(commands.add_worktree(repo, path, "qd/ann", base), repo))

    def registered_and_half_filled() -> None:
        registered_and_empty()
        (path / "README.md").write_text("# Sam")

    def registered_and_filled_but_locked() -> None:
        registered_and_empty()
        git(path, "reset", "-q", "--hard")

    def registered_and_gone() -> None:
        git(repo, "worktree", "add", "-q", "-b", "qd/ann", str(path), base)
        shutil.rmtree(path)

    def locked_and_gone() -> None:
        registered_and_empty()
        shutil.rmtree(path)

    def forgotten_and_only_the_pointer_left() -> None:
        registered_and_empty()
        shutil.rmtree(repo / ".git" / "worktrees")

    for crash in (
        only_the_branch,
        an_empty_folder,
        registered_and_empty,
        registered_and_half_filled,
        registered_and_filled_but_locked,
        registered_and_gone,
        locked_and_gone,
        forgotten_and_only_the_pointer_left,
    ):
        crash()
        added = await worktree.add(repo, path, "qd/ann", base)
        assert added.branch == "qd/ann", crash.__name__
        assert (path / "README.md").read_text() == "# Sample\n", crash.__name__
        assert git(path, "status", "--porcelain") == "", crash.__name__
        listed = git(repo, "worktree", "list", "--porcelain")
        assert listed.count("worktree ") == 2, crash.__name__
        assert "locked" not in listed, crash.__name__
        removed = await worktree.remove(repo, path, "qd/ann", base="main")
        assert not removed.branch_kept, crash.__name__


def _split(command: list[str], repo: Path) -> list[object]:
    return [repo, *command[1:]]


async def test_a_lost_git_file_is_put_back_and_the_files_stay(repo: Path, git: Git, tmp_path: Path, base: str) -> None:
    path = tmp_path / "tree"
    await worktree.add(repo, path, "qd/ann", base)
    (path / "work").write_text("x")
    (path / ".git").unlink()
    assert (await worktree.add(repo, path, "qd/ann", base)).existed
    assert git(path, "status", "--porcelain") == "?? work"


async def test_a_failed_checkout_leaves_nothing(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> None:
    head = commit(repo, {"a.bin": "x", ".gitattributes": "*.bin filter=broken\n"})
    git(repo, "config", "filter.broken.smudge", "false")
    git(repo, "config", "filter.broken.required", "true")
    with pytest.raises(CommandFailed):
        await worktree.add(repo, tmp_path / "tree", "qd/ann", head)
    assert not (tmp_path / "tree").exists()
    assert git(repo, "branch", "--list", "qd/*") == ""
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


async def test_twenty_at_once(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> None:
    head = commit(repo, {f"src/f{number}": str(number) for number in range(50)})
    added: list[worktree.Added] = []

    async def one(number: int) -> None:
        # Half of them want the same name.
        name = "same" if number % 2 else f"agent{number}"
        added.append(await worktree.add(repo, tmp_path / f"tree{number}", f"qd/{name}", head))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one, number)
    assert len({each.branch for each in added}) == 20
    for each in added:
        assert git(Path(each.path), "status", "--porcelain") == ""
        assert git(Path(each.path), "symbolic-ref", "--short", "HEAD") == each.branch

    async def gone(each: worktree.Added) -> None:
        assert not (await worktree.remove(repo, Path(each.path), each.branch, base="main")).branch_kept

    async with anyio.create_task_group() as group:
        for each in added:
            group.start_soon(gone, each)
    assert git(repo, "branch", "--list", "qd/*") == ""
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


async def test_removal_keeps_a_branch_with_commits_of_its_own(
    repo: Path, git: Git, tmp_path: Path, base: str, commit: Commit
) -> None:
    path = tmp_path / "tree"
    await worktree.add(repo, path, "qd/ann", base)
    work = commit(path, {"a": "1"})
    (path / "dirty").write_text("x")
    (path / "readonly").mkdir()
    (path / "readonly" / "f").write_text("x")
    (path / "readonly").chmod(0o500)
    removed = await worktree.remove(repo, path, "qd/ann", base="main")
    assert (removed.branch_kept, removed.head, removed.commits) == (True, work, 1)
    assert "not in main" in removed.reason
    assert not path.exists()
    assert git(repo, "rev-parse", "qd/ann") == work
    again = await worktree.remove(repo, path, "qd/ann", base="main")
    assert again.branch_kept


async def test_removal_drops_a_branch_whose_changes_were_rebased_home(
    repo: Path, git: Git, tmp_path: Path, base: str, commit: Commit
) -> None:
    path = tmp_path / "tree"
    await worktree.add(repo, path, "qd/ann", base)
    work = commit(path, {"a": "1"})
    commit(repo, {"b": "1"})
    git(repo, "cherry-pick", work)
    removed = await worktree.remove(repo, path, "qd/ann", base="main")
    assert not removed.branch_kept
    assert git(repo, "branch", "--list", "qd/*") == ""


async def test_removal_keeps_a_branch_that_is_used_or_cannot_be_compared(
    repo: Path, git: Git, tmp_path: Path, base: str
) -> None:
    await worktree.add(repo, tmp_path / "one", "qd/ann", base)
    git(tmp_path / "one", "checkout", "-q", "--detach")
    git(repo, "worktree", "add", "-q", str(tmp_path / "two"), "qd/ann")
    assert "checked out" in (await worktree.remove(repo, tmp_path / "one", "qd/ann", base="main")).reason
    removed = await worktree.remove(repo, tmp_path / "two", "qd/ann", base="gone")
    assert removed.branch_kept
    assert "cannot be compared" in removed.reason


async def test_the_repository_and_strange_folders_are_never_removed(repo: Path, tmp_path: Path, base: str) -> None:
    (tmp_path / "plain").mkdir()
    for path in (repo, repo / ".git", tmp_path, tmp_path / "plain"):
        with pytest.raises(Conflict, match="nothing was removed"):
            await worktree.remove(repo, path, "qd/ann", base="main")
        assert path.exists()


async def test_a_locked_worktree_and_one_with_a_submodule_go_too(
    repo: Path, git: Git, tmp_path: Path, commit: Commit
) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "lib")
    commit(tmp_path / "lib", {"l": "1"})
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "lib"), "sub")
    head = commit(repo, {"x": "1"})
    path = tmp_path / "tree"
    await worktree.add(repo, path, "qd/ann", head)
    git(path, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init")
    git(repo, "worktree", "lock", str(path))
    await worktree.remove(repo, path, "qd/ann", base="main")
    assert not path.exists()
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1


async def test_settings_of_a_removed_branch_go_with_it(repo: Path, git: Git, tmp_path: Path, base: str) -> None:
    await worktree.add(repo, tmp_path / "tree", "qd/ann", base)
    git(repo, "config", "branch.qd/ann.remote", "origin")
    await worktree.remove(repo, tmp_path / "tree", "qd/ann", base="main")
    assert "qd/ann" not in (repo / ".git" / "config").read_text()
