"""Merge: all or nothing, one after the other, and nobody's changes are overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from quarterdeck.errors import Conflict, InvalidInput, NotFound
from quarterdeck.fleet.git import merge as merging
from quarterdeck.fleet.git import worktree
from quarterdeck.fleet.git.merge import Merged

Git = Callable[..., str]
Commit = Callable[..., str]
Bring = Callable[..., Any]
Everything = Callable[[Path], dict[str, str]]
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_into_the_branch_that_is_checked_out(
    no_scratch: Callable[[], bool],
    repo: Path,
    merge_tree: Path,
    git: Git,
    commit: Commit,
    bring: Bring,
    method: str,
    tmp_path: Path,
) -> None:
    commit(merge_tree, {"new.txt": "n\n"}, "one")
    theirs = commit(merge_tree, {"shared.txt": "1\n2\nthree\n"}, "two")
    before = commit(repo, {"other.txt": "moved on\n"}, "three")
    (repo / "README.md").write_text("my own change\n")
    (repo / "untracked").write_text("mine")
    merged = await bring(method=method, message="Bring it home\n\nreally")
    assert merged == Merged(
        branch="qd/ann",
        base="main",
        method=method,  # type: ignore[arg-type]
        before=before,
        after=git(repo, "rev-parse", "main"),
        commits=2,
        files=["new.txt", "shared.txt"],
        worktree=str(repo),
        checked=False,
        check_output="",
    )
    assert git(repo, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert (repo / "shared.txt").read_text() == "1\n2\nthree\n"
    assert (repo / "other.txt").read_text() == "moved on\n"
    assert git(repo, "status", "--porcelain") == " M README.md\n?? untracked"
    assert git(repo, "rev-parse", "qd/ann") == theirs
    parents = git(repo, "rev-list", "--parents", "-1", "main").split()[1:]
    subjects = git(repo, "log", "--format=%s", "-3", "--first-parent").splitlines()
    if method == "merge":
        assert parents == [before, theirs]
        assert git(repo, "log", "-1", "--format=%B") == "Bring it home\n\nreally"
    else:
        assert subjects == ["two", "one", "three"]
        assert len(parents) == 1
    assert no_scratch()
    assert msgspec.json.decode(msgspec.json.encode(merged), type=Merged) == merged


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_into_a_branch_that_is_not_checked_out(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, method: str
) -> None:
    git(repo, "checkout", "-q", "-b", "feature")
    commit(merge_tree, {"new.txt": "n\n"})
    merged = await bring(method=method)
    assert merged.worktree is None
    assert git(repo, "show", "main:new.txt") == "n"
    assert not (repo / "new.txt").exists()
    assert git(repo, "status", "--porcelain") == ""
    assert "quarterdeck" not in git(repo, "branch", "--list")


async def test_nothing_to_merge_says_so(repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring) -> None:
    merged = await bring(check=["false"])
    assert (merged.commits, merged.before, merged.checked) == (0, merged.after, False)
    work = commit(merge_tree, {"a": "1\n"})
    git(repo, "cherry-pick", work)
    commit(repo, {"b": "1\n"})
    assert (await bring()).commits == 0


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_a_conflict_names_the_files_and_changes_nothing(
    no_scratch: Callable[[], bool],
    repo: Path,
    merge_tree: Path,
    git: Git,
    commit: Commit,
    bring: Bring,
    everything: Everything,
    method: str,
    tmp_path: Path,
) -> None:
    commit(merge_tree, {"shared.txt": "ours\n", "both new": "a\n"})
    commit(repo, {"shared.txt": "theirs\n", "both new": "b\n"})
    before = everything(repo)
    with pytest.raises(Conflict, match=r"conflict in .*shared\.txt") as caught:
        await bring(method=method)
    assert caught.value.details["files"] == ["both new", "shared.txt"]
    assert everything(repo) == before
    assert no_scratch()


async def test_histories_with_nothing_in_common_are_refused(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring
) -> None:
    git(merge_tree, "checkout", "-q", "--orphan", "island")
    commit(merge_tree, {"island": "1"})
    with pytest.raises(Conflict, match="unrelated histories"):
        await bring("island")


async def test_changes_of_the_user_in_the_same_files_are_not_overwritten(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything
) -> None:
    commit(merge_tree, {"shared.txt": "agent\n", "new.txt": "n\n", "deep/f": "f\n"})
    git(merge_tree, "add", "-f", "--intent-to-add", ".")
    (merge_tree / "env.local").write_text("agent's\n")
    git(merge_tree, "add", "-f", "env.local")
    git(merge_tree, "commit", "-q", "-m", "ignored one")
    for name, text, stage in [
        ("shared.txt", "mine\n", False),
        ("shared.txt", "mine\n", True),
        ("new.txt", "mine, untracked\n", False),
        ("env.local", "mine, ignored\n", False),
        ("deep", "a file where a folder goes\n", False),
    ]:
        old = (repo / name).read_text() if (repo / name).exists() else None
        (repo / name).write_text(text)
        if stage:
            git(repo, "add", name)
        before = everything(repo)
        with pytest.raises(Conflict, match="changes of its own") as caught:
            await bring()
        assert caught.value.details["files"] == [name]
        assert everything(repo) == before
        git(repo, "reset", "-q")
        (repo / name).unlink() if old is None else (repo / name).write_text(old)
    assert (await bring()).commits == 2
    assert (repo / "env.local").read_text() == "agent's\n"


async def test_unsaved_work_of_the_agent_is_refused(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    (merge_tree / "forgotten").write_text("x")
    with pytest.raises(Conflict, match="1 uncommitted files") as caught:
        await bring()
    assert caught.value.details["files"] == ["forgotten"]
    (merge_tree / "forgotten").unlink()
    commit(repo, {"new.txt": "theirs\n"})
    with pytest.raises(subprocess.CalledProcessError):
        git(merge_tree, "rebase", "-q", "main")
    with pytest.raises(Conflict, match="a rebase of qd/ann is under way"):
        await bring()


async def test_a_base_worktree_in_a_merge_or_rebase_is_refused(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    git(repo, "branch", "side")
    git(repo, "checkout", "-q", "side")
    commit(repo, {"other.txt": "side\n"})
    git(repo, "checkout", "-q", "main")
    commit(repo, {"other.txt": "main\n"})
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "merge", "-q", "side")
    with pytest.raises(Conflict, match="a merge is under way"):
        await bring()
    git(repo, "merge", "--abort")
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "rebase", "-q", "side")
    with pytest.raises(Conflict, match="a rebase of main is under way"):
        await bring()


async def test_a_locked_index_of_the_user_is_a_conflict(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    (repo / ".git" / "index.lock").write_text("")
    before = everything(repo)
    with pytest.raises(Conflict, match=r"index\.lock"):
        await bring()
    (repo / ".git" / "index.lock").unlink()
    assert everything(repo) == before


async def test_names_that_cannot_be(bring: Bring, merge_tree: Path) -> None:
    with pytest.raises(NotFound):
        await bring("qd/nobody")
    with pytest.raises(NotFound):
        await bring(base="nope")
    with pytest.raises(InvalidInput, match="into itself"):
        await bring("main")
    with pytest.raises(InvalidInput, match="no method"):
        await bring(method="squash")


async def test_ten_agents_merge_into_one_base_and_nothing_is_lost(
    no_scratch: Callable[[], bool], repo: Path, git: Git, tmp_path: Path, commit: Commit, bring: Bring
) -> None:
    base = commit(repo, {"log.txt": "".join(f"{number}\n" for number in range(100))})
    work = []
    for number in range(10):
        tree = tmp_path / f"t{number}"
        await worktree.add(repo, tree, f"qd/a{number}", base)
        lines = [str(each) for each in range(100)]
        lines[number * 10] = f"agent {number}"
        work.append(commit(tree, {f"f{number}": "x\n", "log.txt": "\n".join(lines) + "\n"}))
    merged: list[Merged] = []

    async def one(number: int) -> None:
        merged.append(
            await bring(
                f"qd/a{number}", method="rebase" if number % 3 == 0 else "merge", check=["test", "-f", "log.txt"]
            )
        )

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(one, number)
    # One after the other: each began where the last one ended.
    assert [each.before for each in merged] == [base, *(each.after for each in merged[:-1])]
    assert git(repo, "rev-parse", "main") == merged[-1].after
    text = (repo / "log.txt").read_text()
    for number in range(10):
        assert f"agent {number}\n" in text
        assert (repo / f"f{number}").exists()
        removed = await worktree.remove(repo, tmp_path / f"t{number}", f"qd/a{number}", base="main")
        assert not removed.branch_kept
    assert git(repo, "status", "--porcelain") == ""
    assert no_scratch()


async def test_separate_processes_serialise_too(
    no_scratch: Callable[[], bool], repo: Path, git: Git, tmp_path: Path, commit: Commit
) -> None:
    base = git(repo, "rev-parse", "HEAD")
    for number in range(4):
        await worktree.add(repo, tmp_path / f"t{number}", f"qd/a{number}", base)
        commit(tmp_path / f"t{number}", {f"f{number}": "x\n"})
    program = (
        "import anyio,sys,pathlib\nfrom quarterdeck.fleet.git.merge import merge\n"
        f"async def main(): await merge(pathlib.Path({str(repo)!r}), sys.argv[1], 'main', "
        f"scratch_folder=pathlib.Path({str(tmp_path / 'scratch')!r}))\nanyio.run(main)\n"
    )
    source = str(Path(merging.__file__).parents[3])
    started = [
        subprocess.Popen([sys.executable, "-c", program, f"qd/a{number}"], env={**os.environ, "PYTHONPATH": source})
        for number in range(4)
    ]
    assert [process.wait(60) for process in started] == [0] * 4
    assert all((repo / f"f{number}").exists() for number in range(4))
    assert no_scratch()


async def test_without_an_identity_and_with_hooks_that_refuse(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, known_user: Path
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    commit(repo, {"theirs.txt": "n\n"})
    known_user.write_text("[commit]\n\tgpgSign = true\n[merge]\n\tff = only\n[pull]\n\trebase = true\n")
    for name in ("pre-commit", "commit-msg", "pre-merge-commit", "post-merge", "pre-rebase", "post-checkout"):
        (repo / ".git" / "hooks" / name).write_text("#!/bin/sh\nexit 1\n")
        (repo / ".git" / "hooks" / name).chmod(0o755)
    await bring()
    assert git(repo, "log", "-1", "--format=%cn", "main") == "Quarterdeck"
    commit_two = merge_tree / "two"
    commit_two.write_text("2")
    git(merge_tree, "add", "-A")
    git(merge_tree, "commit", "-q", "--no-gpg-sign", "--no-verify", "-m", "two")
    assert (await bring(method="rebase")).commits == 1


async def test_the_base_in_another_linked_worktree_is_brought_along(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    git(repo, "worktree", "add", "-q", "-b", "release", str(tmp_path / "release"))
    commit(merge_tree, {"new.txt": "n\n"})
    merged = await bring(base="release")
    assert merged.worktree == str(tmp_path / "release")
    assert (tmp_path / "release" / "new.txt").exists()
    assert git(tmp_path / "release", "status", "--porcelain") == ""
