"""Merging with a check command, a moving base, and an end in the middle: nothing stays behind."""

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
import pytest

from quarterdeck import proctree
from quarterdeck.errors import Conflict, Unavailable
from quarterdeck.fleet.git import merge as merging

Git = Callable[..., str]
Commit = Callable[..., str]
Bring = Callable[..., Any]
Everything = Callable[[Path], dict[str, str]]
pytestmark = pytest.mark.anyio


async def test_a_check_runs_in_the_merged_files(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    commit(repo, {"theirs.txt": "t\n"})
    script = "import os,sys; print(sorted(os.listdir('.'))); print(os.environ['MINE'], file=sys.stderr)"
    merged = await bring(check=[sys.executable, "-c", script], env={"MINE": "given"})
    assert merged.checked
    assert "'new.txt'" in merged.check_output
    assert "'theirs.txt'" in merged.check_output
    assert merged.check_output.endswith("given")


@pytest.mark.parametrize("method", ["merge", "rebase"])
async def test_a_failing_check_leaves_everything_as_it_was(
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
    commit(merge_tree, {"new.txt": "n\n"})
    before = everything(repo)
    with pytest.raises(Conflict, match=r"failed \(3\)") as caught:
        await bring(method=method, check=["sh", "-c", "touch litter; echo the tail of it; echo bad >&2; exit 3"])
    assert caught.value.details == {"output": "the tail of it\nbad", "exit_code": 3}
    assert everything(repo) == before
    assert no_scratch()


async def test_a_check_that_is_too_slow_is_killed_with_all_it_started(
    no_scratch: Callable[[], bool], repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    script = f"setsid sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & echo before; sleep 60"
    started = time.monotonic()
    with pytest.raises(Conflict, match="longer than 3 s") as caught:
        await bring(check=["sh", "-c", script], check_seconds=3)
    assert time.monotonic() - started < 30
    assert caught.value.details["output"].startswith("before")
    assert proctree.started_at(int((tmp_path / "pid").read_text())) is None
    assert no_scratch()


async def test_a_helper_that_a_good_check_left_does_not_hold_it_up(
    merge_tree: Path, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    started = time.monotonic()
    up = f"until [ -s {tmp_path}/pid ]; do sleep 0.05; done"
    await bring(check=["sh", "-c", f"setsid sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & {up}; echo fine"])
    assert time.monotonic() - started < 30
    assert proctree.started_at(int((tmp_path / "pid").read_text())) is None


async def test_a_missing_check_program_is_said(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, everything: Everything
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    before = everything(repo)
    with pytest.raises(Unavailable, match="no-such-program"):
        await bring(check=["no-such-program"])
    assert everything(repo) == before


async def test_changes_of_the_user_are_looked_at_before_and_after_the_check(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(merge_tree, {"shared.txt": "agent\n"})
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


async def test_a_base_that_moves_meanwhile_is_merged_again(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
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
    commit(merge_tree, {"more.txt": "n\n"})
    commit_tree = f"git -C {repo} -c user.name=U -c user.email=u@example.invalid commit-tree"
    endless = f"git -C {repo} update-ref refs/heads/main $({commit_tree} -p main -m x main^{{tree}})"
    with pytest.raises(Conflict, match="moved 5 times"):
        await bring(check=["sh", "-c", endless])


async def test_after_kill_9_the_next_call_cleans_up(
    no_scratch: Callable[[], bool], repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
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
    assert not no_scratch()
    check = int((tmp_path / "pid").read_text())
    assert proctree.started_at(check) is not None
    before = git(repo, "rev-parse", "main")
    assert (await bring()).before == before
    assert proctree.started_at(check) is None
    assert no_scratch()


async def test_a_registration_whose_scratch_folder_is_gone_is_cleaned_too(
    repo: Path, merge_tree: Path, git: Git, commit: Commit, bring: Bring, tmp_path: Path
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    dead = tmp_path / "scratch" / "merge-999999-ab.1-00000000"
    git(repo, "worktree", "add", "-q", "--detach", str(dead))
    shutil.rmtree(dead)
    alive = tmp_path / "scratch" / "somebody-elses"
    alive.mkdir()
    await bring()
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["somebody-elses"]
    assert "scratch" not in git(repo, "worktree", "list", "--porcelain")


async def test_a_cancelled_merge_leaves_nothing(
    no_scratch: Callable[[], bool],
    repo: Path,
    merge_tree: Path,
    git: Git,
    commit: Commit,
    bring: Bring,
    everything: Everything,
    tmp_path: Path,
) -> None:
    commit(merge_tree, {"new.txt": "n\n"})
    before = everything(repo)
    with anyio.move_on_after(0.5):
        await bring(check=["sleep", "60"])
    assert everything(repo) == before
    assert no_scratch()
