"""Merge: all or nothing, one after the other, and nobody's changes are overwritten."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from quarterdeck import proctree
from quarterdeck.errors import Conflict, InvalidInput, NotFound, Unavailable
from quarterdeck.fleet.git import merge as merging
from quarterdeck.fleet.git import worktree
from quarterdeck.fleet.git.merge import Merged, merge

Git = Callable[..., str]
Commit = Callable[..., str]
Bring = Callable[..., Any]
Everything = Callable[[Path], dict[str, str]]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def tree(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> Path:
    head = commit(repo, {"shared.txt": "1\n2\n3\n", "other.txt": "o\n", ".gitignore": "*.local\n"})
    await worktree.add(repo, tmp_path / "tree", "qd/ann", head)
    return tmp_path / "tree"


@pytest.fixture
def bring(repo: Path, tmp_path: Path) -> Bring:
    async def run(branch: str = "qd/ann", base: str = "main", **options: Any) -> Merged:
        return await merge(repo, branch, base, scratch_folder=tmp_path / "scratch", **options)

    return run


def no_scratch(repo: Path, tmp_path: Path, git: Git) -> bool:
    left = list((tmp_path / "scratch").iterdir()) if (tmp_path / "scratch").exists() else []
    return not left and "scratch" not in git(repo, "worktree", "list", "--porcelain")


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_into_the_branch_that_is_checked_out(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, method: str, tmp_path: Path
) -> None:
    commit(tree, {"new.txt": "n\n"}, "one")
    theirs = commit(tree, {"shared.txt": "1\n2\nthree\n"}, "two")
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
    assert no_scratch(repo, tmp_path, git)
    assert msgspec.json.decode(msgspec.json.encode(merged), type=Merged) == merged


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_into_a_branch_that_is_not_checked_out(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, method: str
) -> None:
    git(repo, "checkout", "-q", "-b", "feature")
    commit(tree, {"new.txt": "n\n"})
    merged = await bring(method=method)
    assert merged.worktree is None
    assert git(repo, "show", "main:new.txt") == "n"
    assert not (repo / "new.txt").exists()
    assert git(repo, "status", "--porcelain") == ""
    assert "quarterdeck" not in git(repo, "branch", "--list")


async def test_nothing_to_merge_says_so(repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring) -> None:
    merged = await bring(check=["false"])
    assert (merged.commits, merged.before, merged.checked) == (0, merged.after, False)
    work = commit(tree, {"a": "1\n"})
    git(repo, "cherry-pick", work)
    commit(repo, {"b": "1\n"})
    assert (await bring()).commits == 0


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_a_conflict_names_the_files_and_changes_nothing(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything, method: str, tmp_path: Path
) -> None:
    commit(tree, {"shared.txt": "ours\n", "both new": "a\n"})
    commit(repo, {"shared.txt": "theirs\n", "both new": "b\n"})
    before = everything(repo)
    with pytest.raises(Conflict, match=r"conflict in .*shared\.txt") as caught:
        await bring(method=method)
    assert caught.value.details["files"] == ["both new", "shared.txt"]
    assert everything(repo) == before
    assert no_scratch(repo, tmp_path, git)


async def test_histories_with_nothing_in_common_are_refused(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring
) -> None:
    git(tree, "checkout", "-q", "--orphan", "island")
    commit(tree, {"island": "1"})
    with pytest.raises(Conflict, match="unrelated histories"):
        await bring("island")


async def test_a_check_runs_in_the_merged_files(repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring) -> None:
    commit(tree, {"new.txt": "n\n"})
    commit(repo, {"theirs.txt": "t\n"})
    script = "import os,sys; print(sorted(os.listdir('.'))); print(os.environ['MINE'], file=sys.stderr)"
    merged = await bring(check=[sys.executable, "-c", script], env={"MINE": "given"})
    assert merged.checked
    assert "'new.txt'" in merged.check_output
    assert "'theirs.txt'" in merged.check_output
    assert merged.check_output.endswith("given")


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_a_failing_check_leaves_everything_as_it_was(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything, method: str, tmp_path: Path
) -> None:
    commit(tree, {"new.txt": "n\n"})
    before = everything(repo)
    with pytest.raises(Conflict, match=r"failed \(3\)") as caught:
        await bring(method=method, check=["sh", "-c", "touch litter; echo the tail of it; echo bad >&2; exit 3"])
    assert caught.value.details == {"output": "the tail of it\nbad", "exit_code": 3}
    assert everything(repo) == before
    assert no_scratch(repo, tmp_path, git)


async def test_a_check_that_is_too_slow_is_killed_with_all_it_started(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(tree, {"new.txt": "n\n"})
    script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & echo before; sleep 60"
    started = time.monotonic()
    with pytest.raises(Conflict, match=r"longer than 0\.5 s") as caught:
        await bring(check=["sh", "-c", script], check_seconds=0.5)
    assert time.monotonic() - started < 10
    assert caught.value.details["output"].startswith("before")
    assert proctree.started_at(int((tmp_path / "pid").read_text())) is None
    assert no_scratch(repo, tmp_path, git)


async def test_a_helper_that_a_good_check_left_does_not_hold_it_up(
    tree: Path, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(tree, {"new.txt": "n\n"})
    started = time.monotonic()
    await bring(check=["sh", "-c", f"setsid sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & sleep 0.2; echo fine"])
    assert time.monotonic() - started < 10
    assert proctree.started_at(int((tmp_path / "pid").read_text())) is None


async def test_a_missing_check_program_is_said(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything
) -> None:
    commit(tree, {"new.txt": "n\n"})
    before = everything(repo)
    with pytest.raises(Unavailable, match="no-such-program"):
        await bring(check=["no-such-program"])
    assert everything(repo) == before


async def test_changes_of_the_user_in_the_same_files_are_not_overwritten(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything
) -> None:
    commit(tree, {"shared.txt": "agent\n", "new.txt": "n\n", "deep/f": "f\n"})
    git(tree, "add", "-f", "--intent-to-add", ".")
    (tree / "env.local").write_text("agent's\n")
    git(tree, "add", "-f", "env.local")
    git(tree, "commit", "-q", "-m", "ignored one")
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


async def test_changes_of_the_user_are_looked_at_before_and_after_the_check(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(tree, {"shared.txt": "agent\n"})
    before = git(repo, "rev-parse", "main")
    (repo / "shared.txt").write_text("mine\n")
    with pytest.raises(Conflict, match="changes of its own"):
        await bring(check=["touch", f"{tmp_path}/checked"])
    assert not (tmp_path / "checked").exists()
    git(repo, "checkout", "-q", "shared.txt")
    with pytest.raises(Conflict, match="changes of its own") as caught:
        await bring(check=["sh", "-c", f"echo meanwhile > {repo}/shared.txt"])
    assert caught.value.details["files"] == ["shared.txt"]
    assert (repo / "shared.txt").read_text() == "meanwhile\n"
    assert git(repo, "rev-parse", "main") == before


async def test_unsaved_work_of_the_agent_is_refused(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring
) -> None:
    commit(tree, {"new.txt": "n\n"})
    (tree / "forgotten").write_text("x")
    with pytest.raises(Conflict, match="1 uncommitted files") as caught:
        await bring()
    assert caught.value.details["files"] == ["forgotten"]
    (tree / "forgotten").unlink()
    commit(repo, {"new.txt": "theirs\n"})
    with pytest.raises(subprocess.CalledProcessError):
        git(tree, "rebase", "-q", "main")
    with pytest.raises(Conflict, match="a rebase of qd/ann is under way"):
        await bring()


async def test_a_base_worktree_in_a_merge_or_rebase_is_refused(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring
) -> None:
    commit(tree, {"new.txt": "n\n"})
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
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything
) -> None:
    commit(tree, {"new.txt": "n\n"})
    (repo / ".git" / "index.lock").write_text("")
    before = everything(repo)
    with pytest.raises(Conflict, match=r"index\.lock"):
        await bring()
    (repo / ".git" / "index.lock").unlink()
    assert everything(repo) == before


async def test_names_that_cannot_be(bring: Bring, tree: Path) -> None:
    with pytest.raises(NotFound):
        await bring("qd/nobody")
    with pytest.raises(NotFound):
        await bring(base="nope")
    with pytest.raises(InvalidInput, match="into itself"):
        await bring("main")
    with pytest.raises(InvalidInput, match="no method"):
        await bring(method="squash")


async def test_a_base_that_moves_meanwhile_is_merged_again(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tree, {"new.txt": "n\n"})
    # The check commits to the base twice: two attempts are lost, the third succeeds.
    script = (
        f"cd {repo}; n=$(git rev-list --count HEAD); [ $n -ge 4 ] && exit 0; "
        "echo $n > moved$n; git add -A; git -c user.name=U -c user.email=u@example.invalid commit -qm moved"
    )
    merged = await bring(check=["sh", "-c", script])
    assert (repo / "moved2").exists()
    assert (repo / "moved3").exists()
    assert git(repo, "show", "main:new.txt") == "n"
    assert git(repo, "rev-parse", "main^1") == merged.before
    git(repo, "checkout", "-q", "--detach")
    commit(tree, {"more.txt": "n\n"})
    commit_tree = f"git -C {repo} -c user.name=U -c user.email=u@example.invalid commit-tree"
    endless = f"git -C {repo} update-ref refs/heads/main $({commit_tree} -p main -m x main^{{tree}})"
    with pytest.raises(Conflict, match="moved 5 times"):
        await bring(check=["sh", "-c", endless])


async def test_ten_agents_merge_into_one_base_and_nothing_is_lost(
    repo: Path, git: Git, tmp_path: Path, commit: Commit, bring: Bring
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
    assert no_scratch(repo, tmp_path, git)


async def test_separate_processes_serialise_too(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> None:
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
    assert no_scratch(repo, tmp_path, git)


async def test_after_kill_9_the_next_call_cleans_up(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(tree, {"new.txt": "n\n"})
    program = (
        "import anyio,pathlib\nfrom quarterdeck.fleet.git.merge import merge\n"
        f"async def main(): await merge(pathlib.Path({str(repo)!r}), 'qd/ann', 'main', "
        f"check=['sh','-c','echo $$ > {tmp_path}/pid; sleep 60'], "
        f"scratch_folder=pathlib.Path({str(tmp_path / 'scratch')!r}))\nanyio.run(main)\n"
    )
    source = str(Path(merging.__file__).parents[3])
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": source})
    with anyio.fail_after(20):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            await anyio.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not no_scratch(repo, tmp_path, git)
    check = int((tmp_path / "pid").read_text())
    assert proctree.started_at(check) is not None
    before = git(repo, "rev-parse", "main")
    assert (await bring()).before == before
    assert proctree.started_at(check) is None
    assert no_scratch(repo, tmp_path, git)


async def test_a_registration_whose_scratch_folder_is_gone_is_cleaned_too(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(tree, {"new.txt": "n\n"})
    dead = tmp_path / "scratch" / "merge-999999-1-00000000"
    git(repo, "worktree", "add", "-q", "--detach", str(dead))
    shutil.rmtree(dead)
    alive = tmp_path / "scratch" / "somebody-elses"
    alive.mkdir()
    await bring()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["somebody-elses"]
    assert "scratch" not in git(repo, "worktree", "list", "--porcelain")


async def test_a_cancelled_merge_leaves_nothing(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything, tmp_path: Path
) -> None:
    commit(tree, {"new.txt": "n\n"})
    before = everything(repo)
    with anyio.move_on_after(0.5):
        await bring(check=["sleep", "60"])
    assert everything(repo) == before
    assert no_scratch(repo, tmp_path, git)


async def test_without_an_identity_and_with_hooks_that_refuse(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, known_user: Path
) -> None:
    commit(tree, {"new.txt": "n\n"})
    commit(repo, {"theirs.txt": "n\n"})
    known_user.write_text("[commit]\n\tgpgSign = true\n[merge]\n\tff = only\n[pull]\n\trebase = true\n")
    for name in ("pre-commit", "commit-msg", "pre-merge-commit", "post-merge", "pre-rebase", "post-checkout"):
        (repo / ".git" / "hooks" / name).write_text("#!/bin/sh\nexit 1\n")
        (repo / ".git" / "hooks" / name).chmod(0o755)
    await bring()
    assert git(repo, "log", "-1", "--format=%cn", "main") == "Quarterdeck"
    commit_two = tree / "two"
    commit_two.write_text("2")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "--no-gpg-sign", "--no-verify", "-m", "two")
    assert (await bring(method="rebase")).commits == 1


async def test_the_base_in_another_linked_worktree_is_brought_along(
    repo: Path, tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    git(repo, "worktree", "add", "-q", "-b", "release", str(tmp_path / "release"))
    commit(tree, {"new.txt": "n\n"})
    merged = await bring(base="release")
    assert merged.worktree == str(tmp_path / "release")
    assert (tmp_path / "release" / "new.txt").exists()
    assert git(tmp_path / "release", "status", "--porcelain") == ""
