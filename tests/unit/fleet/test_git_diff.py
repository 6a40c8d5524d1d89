"""Diff: the agent's work against the point where it left its base."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.fleet.git import diff as diffing
from quarterdeck.fleet.git import worktree
from quarterdeck.fleet.git.diff import Diff, FileChange, diff

Git = Callable[..., str]
Commit = Callable[..., str]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def tree(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> Path:
    head = commit(repo, {"old.txt": "1\n2\n3\n4\n5\n", "gone.txt": "x\n", "calc.py": "a\n"})
    await worktree.add(repo, tmp_path / "tree", "qd/ann", head)
    return tmp_path / "tree"


def change(path: str, status: str, added: int | None, deleted: int | None, old_path: str | None = None) -> FileChange:
    return FileChange(path=path, old_path=old_path, status=status, added=added, deleted=deleted)


async def test_committed_uncommitted_and_untracked_against_the_merge_base(
    repo: Path, tree: Path, git: Git, commit: Commit
) -> None:
    base = git(repo, "rev-parse", "HEAD")
    head = commit(tree, {"calc.py": "a\nb\n"})
    commit(repo, {"elsewhere": "not the agent's\n"})
    git(tree, "mv", "old.txt", "new.txt")
    (tree / "gone.txt").unlink()
    (tree / "grün\n.txt").write_text("untracked\n")
    (tree / "bin").write_bytes(b"\0\1")
    before = git(tree, "status", "--porcelain"), git(repo, "count-objects")
    index = (repo / ".git" / "worktrees" / "tree" / "index").read_bytes()
    found = await diff(tree, "main", "qd/ann", form="patch")
    assert (found.base, found.head, found.uncommitted) == (base, head, True)
    assert found.files == [
        change("bin", "A", None, None),
        change("calc.py", "M", 1, 0),
        change("gone.txt", "D", 0, 1),
        change("grün\n.txt", "A", 1, 0),
        change("new.txt", "R", 0, 0, "old.txt"),
    ]
    assert (found.files_total, found.added, found.deleted, found.truncated) == (5, 2, 1, False)
    assert "+untracked" in found.text
    assert "elsewhere" not in found.text
    assert found.total_bytes == len(found.text.encode())
    # Looking changes nothing: no index, no object.
    assert (git(tree, "status", "--porcelain"), git(repo, "count-objects")) == before
    assert (repo / ".git" / "worktrees" / "tree" / "index").read_bytes() == index
    assert msgspec.json.decode(msgspec.json.encode(found), type=Diff) == found


async def test_only_what_is_committed_where_asked_or_seen_from_elsewhere(
    repo: Path, tree: Path, commit: Commit
) -> None:
    commit(tree, {"calc.py": "a\nb\n"})
    (tree / "untracked").write_text("x")
    for found in (
        await diff(tree, "main", "qd/ann", include_uncommitted=False),
        await diff(repo, "main", "qd/ann"),
    ):
        assert [each.path for each in found.files] == ["calc.py"]
        assert not found.uncommitted
        assert "calc.py | 1 +" in found.text
        assert "1 file changed, 1 insertion(+)" in found.text


async def test_nothing_and_clean(tree: Path, commit: Commit) -> None:
    found = await diff(tree, "main", "qd/ann")
    assert (found.files, found.text, found.total_bytes, found.uncommitted) == ([], "", 0, False)
    commit(tree, {"a": "1\n"})
    assert not (await diff(tree, "main", "qd/ann")).uncommitted


async def test_a_patch_applies_again(repo: Path, tree: Path, git: Git, tmp_path: Path) -> None:
    (tree / "bin").write_bytes(os.urandom(1000).replace(b"\0", b"x"))
    (tree / "calc.py").write_text("other\n")
    (tree / "run").symlink_to("calc.py")
    found = await diff(tree, "main", "qd/ann", form="patch")
    assert [each.status for each in found.files] == ["A", "M", "A"]
    (tmp_path / "patch").write_text(found.text[found.text.index("diff --git a/calc.py") :])
    git(repo, "apply", str(tmp_path / "patch"))
    assert (repo / "calc.py").read_text() == "other\n"
    assert (repo / "run").is_symlink()


async def test_the_limit_cuts_at_a_line_and_says_so(tree: Path, commit: Commit) -> None:
    commit(tree, {"a": "".join(f"line {number} grün\n" for number in range(10_000))})
    whole = await diff(tree, "main", "qd/ann", form="patch", max_bytes=10**9)
    for limit in (5000, 5001, 5002):
        found = await diff(tree, "main", "qd/ann", form="patch", max_bytes=limit)
        assert found.truncated
        assert found.total_bytes == whole.total_bytes > 150_000
        assert 4950 < len(found.text.encode()) <= limit
        assert whole.text.startswith(found.text)
        assert found.text.endswith("grün\n")
    assert (await diff(tree, "main", "qd/ann", form="patch", max_bytes=0)).text == ""


async def test_many_files_are_counted_and_the_list_is_cut(
    tree: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffing, "FILES_LISTED", 10)
    commit(tree, {f"f{number}": "x\n" for number in range(25)})
    found = await diff(tree, "main", "qd/ann")
    assert (len(found.files), found.files_total, found.added) == (10, 25, 25)


async def test_amid_a_rebase_the_worktree_is_still_the_agents(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    commit(tree, {"calc.py": "ours\n"})
    commit(repo, {"calc.py": "theirs\n"})
    with pytest.raises(Exception, match="rebase"):
        git(tree, "rebase", "-q", "main")
    found = await diff(tree, "main", "qd/ann", form="patch")
    assert found.uncommitted
    assert "+<<<<<<<" in found.text


async def test_line_ends_are_compared_as_git_would_store_them(repo: Path, tree: Path, commit: Commit) -> None:
    commit(tree, {".gitattributes": "*.txt text\n"})
    (tree / "old.txt").write_bytes(b"1\r\n2\r\n3\r\n4\r\nfive\r\n")
    found = await diff(tree, "main", "qd/ann")
    assert change("old.txt", "M", 1, 1) in found.files


async def test_histories_with_nothing_in_common_and_shallow(
    repo: Path, git: Git, tmp_path: Path, commit: Commit
) -> None:
    git(repo, "checkout", "-q", "--orphan", "island")
    commit(repo, {"island": "1\n"})
    found = await diff(repo, "main", "island")
    assert [each.path for each in found.files] == ["island"]
    git(tmp_path, "clone", "-q", "--depth=1", "--branch=main", f"file://{repo}", "shallow")
    shallow = tmp_path / "shallow"
    git(shallow, "checkout", "-q", "-b", "qd/ann")
    commit(shallow, {"new": "1\n"})
    assert [each.path for each in (await diff(shallow, "main", "qd/ann")).files] == ["new"]


async def test_a_repository_whose_path_needs_quoting(tmp_path: Path, git: Git, commit: Commit) -> None:
    odd = tmp_path / 'with:colon "and" quotes'
    odd.mkdir()
    git(odd, "init", "-q", "-b", "main")
    commit(odd, {"a": "1\n"})
    git(odd, "checkout", "-q", "-b", "qd/ann")
    (odd / "a").write_text("2\n")
    assert [each.path for each in (await diff(odd, "main", "qd/ann")).files] == ["a"]


@pytest.mark.parametrize(
    ("base", "branch"), [("nope", "qd/ann"), ("main", "nope"), ("-x", "qd/ann"), ("a\0", "qd/ann")]
)
async def test_unknown_names_are_not_found(tree: Path, base: str, branch: str) -> None:
    with pytest.raises(NotFound):
        await diff(tree, base, branch)


async def test_a_negative_limit_is_refused(tree: Path) -> None:
    with pytest.raises(InvalidInput):
        await diff(tree, "main", "qd/ann", max_bytes=-1)
