"""The git collector in every state that a repository can be in, and what it never does."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.metadata.collector import Failed
from quarterdeck.metadata.collectors.git import KEYS, GitCollector, merge_base_command, status_command
from quarterdeck.metadata.collectors.gitremotes import command as remotes_command
from quarterdeck.metadata.collectors.remotes import Remote, parse, without_credentials

pytestmark = pytest.mark.anyio
Git = Callable[..., str]


async def collected(workspace: Path, base: str | None = None) -> dict[str, Any]:
    found = dict(await GitCollector(base).collect(workspace))
    assert set(found) <= set(KEYS)
    return {key.removeprefix("git_"): value for key, value in found.items()}


def fails(git: Git, folder: Path, *arguments: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        git(folder, *arguments)


def commit(git: Git, repo: Path, name: str, text: str, message: str) -> str:
    (repo / name).write_text(text)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", message)
    return git(repo, "rev-parse", "HEAD")


async def test_clean(repo: Path, git: Git) -> None:
    found = await collected(repo)
    head = git(repo, "rev-parse", "HEAD")
    assert found["state"] == "normal"
    assert (found["branch"], found["head"], found["subject"]) == ("main", head, "first")
    assert found["committed_at"] == git(repo, "log", "-1", "--format=%cI")
    assert found["dirty"] is False
    assert [found[k] for k in ("staged", "changed", "untracked", "conflicted")] == [0, 0, 0, 0]
    assert (found["upstream"], found["ahead"], found["behind"]) == (None, None, None)
    assert (found["base"], found["merge_base"], found["remotes"]) == ("main", head, {})
    assert (found["shallow"], found["worktree"]) == (False, False)


async def test_dirty_in_every_way(repo: Path, git: Git) -> None:
    commit(git, repo, "moved", "x" * 100, "second")
    (repo / "README.md").write_text("changed")
    (repo / "staged").write_text("x")
    git(repo, "add", "staged")
    (repo / "staged").write_text("again")
    git(repo, "mv", "moved", "other name\n")
    (repo / "folder").mkdir()
    for n in range(3):
        (repo / "folder" / f"é{n}").write_text("x")
    (repo / ".gitignore").write_text("ignored\n")
    (repo / "ignored").write_text("x")
    found = await collected(repo)
    assert found["dirty"] is True
    assert [found[k] for k in ("staged", "changed", "untracked")] == [2, 2, 4]


async def test_branch_base_upstream(repo: Path, git: Git, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repo), str(clone))
    fork = git(clone, "rev-parse", "HEAD")
    git(clone, "checkout", "-q", "-b", "work", "--track", "origin/main")
    commit(git, clone, "a", "1", "a1")
    commit(git, clone, "a", "2", "a2")
    commit(git, repo, "b", "1", "b1")
    git(clone, "fetch", "-q")
    found = await collected(clone)
    assert (found["branch"], found["upstream"]) == ("work", "origin/main")
    assert (found["ahead"], found["behind"]) == (2, 1)
    assert (found["base"], found["merge_base"]) == ("main", fork)
    assert found["remotes"] == {"origin": str(repo)}
    assert (await collected(clone, base="work"))["merge_base"] == found["head"]
    git(clone, "pack-refs", "--all")
    assert await collected(clone) == found


async def test_detached(repo: Path, git: Git) -> None:
    git(repo, "checkout", "-q", "--detach")
    found = await collected(repo)
    assert (found["state"], found["branch"]) == ("detached", None)
    assert found["head"]


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert"])
async def test_operations_with_conflicts(repo: Path, git: Git, operation: str) -> None:
    commit(git, repo, "f", "base\n", "base")
    git(repo, "checkout", "-q", "-b", "side")
    commit(git, repo, "f", "side\n", "side")
    git(repo, "checkout", "-q", "main")
    commit(git, repo, "f", "main\n", "main")
    if operation == "revert":
        fails(git, repo, "revert", "--no-edit", "HEAD~1")
    elif operation == "rebase":
        git(repo, "checkout", "-q", "side")
        fails(git, repo, "rebase", "-q", "main")
    else:
        fails(git, repo, operation, "side")
    found = await collected(repo)
    states = {"merge": "merging", "rebase": "rebasing", "cherry-pick": "cherry-picking", "revert": "reverting"}
    assert found["state"] == states[operation]
    assert found["branch"] == ("side" if operation == "rebase" else "main")
    assert found["conflicted"] == 1
    assert found["dirty"] is True


async def test_bisecting(repo: Path, git: Git) -> None:
    for n in range(4):
        commit(git, repo, "f", str(n), str(n))
    git(repo, "bisect", "start", "HEAD", "HEAD~3")
    assert (await collected(repo))["state"] == "bisecting"


async def test_no_repository(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert await collected(tmp_path / "plain") == {"state": "no-repository"}


async def test_a_repository_that_comes_and_goes(tmp_path: Path, git: Git) -> None:
    collector = GitCollector()
    assert await collector.collect(tmp_path) == {"git_state": "no-repository"}
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert (await collector.collect(tmp_path))["git_state"] == "no-commits"
    shutil.rmtree(tmp_path / ".git")
    assert await collector.collect(tmp_path) == {"git_state": "no-repository"}


async def test_no_commit(tmp_path: Path, git: Git) -> None:
    git(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "f").write_text("x")
    found = await collected(tmp_path)
    assert (found["state"], found["branch"], found["head"], found["subject"]) == ("no-commits", "trunk", None, None)
    assert found["untracked"] == 1


async def test_bare(repo: Path, git: Git, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    found = await collected(tmp_path / "bare.git")
    assert (found["state"], found["branch"], found["subject"]) == ("bare", "main", "first")
    assert "dirty" not in found


async def test_shallow(repo: Path, git: Git, tmp_path: Path) -> None:
    commit(git, repo, "f", "1", "second")
    git(tmp_path, "clone", "-q", "--depth", "1", repo.as_uri(), "shallow")
    found = await collected(tmp_path / "shallow")
    assert found["shallow"] is True
    assert found["subject"] == "second"


async def test_worktree_and_folder_inside(repo: Path, git: Git, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(repo, "worktree", "add", "-q", "-b", "qd/alice", str(tree))
    (tree / "new").write_text("x")
    found = await collected(tree)
    assert (found["worktree"], found["branch"], found["untracked"]) == (True, "qd/alice", 1)
    assert (await collected(repo))["branch"] == "main"
    (tree / "in" / "side").mkdir(parents=True)
    assert (await collected(tree / "in" / "side"))["branch"] == "qd/alice"


async def test_submodules(repo: Path, git: Git, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    git(whole, "init", "-q", "-b", "main")
    git(whole, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repo), "part")
    git(whole, "commit", "-q", "-m", "with a part")
    assert (await collected(whole))["dirty"] is False
    (whole / "part" / "README.md").write_text("changed")
    assert (await collected(whole))["changed"] == 1
    inside = await collected(whole / "part")
    assert (inside["state"], inside["changed"]) == ("normal", 1)


async def test_a_corrupt_object_store(repo: Path, git: Git) -> None:
    head = git(repo, "rev-parse", "HEAD")
    shutil.rmtree(repo / ".git" / "objects")
    (repo / ".git" / "objects").mkdir()
    found = await collected(repo)
    assert (found["state"], found["branch"], found["head"]) == ("normal", "main", head)
    assert isinstance(found["subject"], Failed)
    assert isinstance(found["dirty"], Failed)
    assert "git says" in found["dirty"].error


async def test_nothing_in_the_repository_is_written_or_run(repo: Path, git: Git) -> None:
    mark = repo.parent / "ran"
    (repo / "README.md").write_text("# Sample\n")  # same content, newer: git would like to refresh its index
    git(repo, "config", "core.fsmonitor", f"touch {mark}; false")
    os.utime(repo / "README.md", (1, 1))
    before = {p: p.stat().st_mtime_ns for p in (repo / ".git").rglob("*") if p.is_file()}
    await collected(repo)
    assert {p: p.stat().st_mtime_ns for p in (repo / ".git").rglob("*") if p.is_file()} == before
    assert not mark.exists()


async def test_strange_text_cannot_break_anything(repo: Path, git: Git) -> None:
    git(repo, "commit", "-q", "--allow-empty", "-m", "evil \x1b[31m subject\x07")
    assert (await collected(repo))["subject"] == "evil \ufffd[31m subject\ufffd"


async def test_remotes_without_credentials(repo: Path, git: Git) -> None:
    git(repo, "remote", "add", "origin", "https://user:ghp_secret@host.example/o/r.git")
    git(repo, "remote", "add", "ssh", "git@host.example:o/r.git")
    found = await collected(repo)
    assert found["remotes"] == {"origin": "https://host.example/o/r.git", "ssh": "git@host.example:o/r.git"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/o/r.git", Remote("github.com", "o/r")),
        ("https://x:y@GitHub.com/o/r/", Remote("github.com", "o/r")),
        ("git@github.com:o/r.git", Remote("github.com", "o/r")),
        ("github.com:o/r", Remote("github.com", "o/r")),
        ("ssh://git@host.example:2222/g/sub/r.git", Remote("host.example", "g/sub/r")),
        ("http://127.0.0.1:8080/o/r.git", Remote("127.0.0.1:8080", "o/r")),
        ("ssh://git@[::1]/o/r", Remote("[::1]", "o/r")),
        ("/srv/git/o/r.git", None),
        ("file:///srv/o/r", None),
        ("https://host.example/r", None),
        ("../o/r", None),
        ("", None),
        ("https://[broken/o/r", None),
    ],
)
def test_addresses(url: str, expected: Remote | None) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://token@h/o/r", "https://h/o/r"),
        ("https://u:p@w@h:8/o/r?private_token=x", "https://h:8/o/r"),
        ("u:p@h:o/r", "h:o/r"),
        ("git@h:o/r", "git@h:o/r"),
        ("/a/b@c/d", "/a/b@c/d"),
    ],
)
def test_credentials_are_taken_out(url: str, expected: str) -> None:
    assert without_credentials(url) == expected


def test_the_exact_commands() -> None:
    plain = ["git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-c", "log.showSignature=false"]
    assert status_command() == [*plain, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all"]
    assert merge_base_command("a", "b") == [*plain, "merge-base", "a", "b"]
    assert remotes_command() == [*plain, "remote", "--verbose"]


async def test_a_partial_clone_is_never_completed(tmp_path: Path, repo: Path, git: Git) -> None:
    git(repo, "config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "partial"
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=tree:0", f"file://{repo}", str(clone))

    def objects() -> set[Path]:
        return set((clone / ".git" / "objects").rglob("*"))

    before = objects()
    found = await collected(clone)
    assert objects() == before, "something was fetched"
    assert found["branch"] == "main"
    assert found["subject"] == "first"


@pytest.mark.slow
async def test_a_hundred_thousand_files(tmp_path: Path, git: Git) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    blob = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"], cwd=tmp_path, input=b"x", capture_output=True, check=True
    ).stdout.strip()
    lines = b"".join(b"100644 %s 0\td%d/f%d\n" % (blob, n // 1000, n) for n in range(100_000))
    subprocess.run(["git", "update-index", "--index-info"], cwd=tmp_path, input=lines, check=True)
    git(tmp_path, "commit", "-q", "-m", "many")
    git(tmp_path, "checkout-index", "-a", "-q")
    found = await collected(tmp_path)
    assert found["dirty"] is False
    (tmp_path / "d5" / "f5000").write_text("y")
    assert (await collected(tmp_path))["changed"] == 1


async def test_mails_that_are_applied_are_no_rebase(repo: Path, git: Git) -> None:
    (repo / "README.md").write_text("from a mail\n")
    git(repo, "commit", "-q", "-a", "-m", "mailed")
    mail = git(repo, "format-patch", "-1", "--stdout") + "\n"
    git(repo, "reset", "-q", "--hard", "HEAD~1")
    (repo / "README.md").write_text("something else\n")
    git(repo, "commit", "-q", "-a", "-m", "in the way")
    (repo.parent / "mail").write_text(mail)
    with pytest.raises(subprocess.CalledProcessError):
        git(repo, "am", "-q", str(repo.parent / "mail"))
    found = await collected(repo)
    assert (found["state"], found["branch"]) == ("applying", "main")
