"""Rescue: whatever no branch holds comes back byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck.fleet.git import rescue as rescuing
from quarterdeck.fleet.git import worktree
from quarterdeck.fleet.git.rescue import Rescued, rescue

Git = Callable[..., str]
Commit = Callable[..., str]
pytestmark = pytest.mark.anyio
AT = 1_795_262_400.0
REF = "refs/quarterdeck/rescue/ann-20261121T120000Z"


@pytest.fixture
async def tree(repo: Path, git: Git, tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    await worktree.add(repo, path, "qd/ann", git(repo, "rev-parse", "HEAD"))
    return path


def content(repo: Path, revision: str) -> dict[bytes, tuple[str, bytes]]:
    """Every file of a commit: path to mode and bytes."""

    def out(*arguments: str | bytes) -> bytes:
        return subprocess.run(["git", *arguments], cwd=repo, check=True, capture_output=True).stdout

    files = {}
    for entry in out("ls-tree", "-r", "-z", "--full-tree", revision).split(b"\0")[:-1]:
        facts, path = entry.split(b"\t", 1)
        mode, kind, sha = facts.decode().split()
        files[path] = (mode, out("cat-file", kind, sha) if kind == "blob" else sha.encode())
    return files


async def saved(repo: Path, tree: Path) -> Rescued:
    found = await rescue(repo, tree, "ann", AT)
    assert found is not None
    return found


async def test_nothing_to_save(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    (tree / ".gitignore").write_text("*.log\n")
    commit(tree, {"a": "1"})
    (tree / "x.log").write_text("ignored")
    assert await rescue(repo, tree, "ann", AT) is None
    assert git(repo, "for-each-ref", "refs/quarterdeck") == ""


async def test_a_change_within_the_second_of_the_commit(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    """Same size, same second: git itself looks into such a file, since its index is no younger than it."""
    for number in range(3):
        commit(tree, {"file": f"old {number}\n"})
        (tree / "file").write_text(f"new {number}\n")
        found = await rescue(repo, tree, "ann", AT + number)
        assert found is not None, "the change was not seen"
        assert git(repo, "show", f"{found.ref}:file") == f"new {number}"


async def test_changed_staged_deleted_and_untracked(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    head = commit(tree, {"keep": "k", "change": "c", "delete": "d", "becomes-dir": "f", "dir/becomes-file": "f"})
    (tree / "change").write_text("changed")
    (tree / "delete").unlink()
    (tree / "becomes-dir").unlink()
    (tree / "becomes-dir").mkdir()
    (tree / "becomes-dir" / "in").write_text("in")
    shutil.rmtree(tree / "dir")
    (tree / "dir").write_text("file")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    os.symlink("no/where/", tree / "link")
    (tree / "staged").write_text("staged")
    git(tree, "add", "staged")
    before = git(tree, "status", "--porcelain")
    index = (repo / ".git" / "worktrees" / "tree" / "index").read_bytes()
    found = await saved(repo, tree)
    assert (found.ref, found.head, found.not_kept, found.nested) == (REF, head, [], [])
    assert git(repo, "rev-parse", REF) == found.sha
    assert git(repo, "rev-parse", f"{REF}~1") == head
    assert content(repo, REF) == {
        b"README.md": ("100644", b"# Sample\n"),
        b"keep": ("100644", b"k"),
        b"change": ("100644", b"changed"),
        b"becomes-dir/in": ("100644", b"in"),
        b"dir": ("100644", b"file"),
        b"run.sh": ("100755", b"#!/bin/sh\n"),
        b"link": ("120000", b"no/where/"),
        b"staged": ("100644", b"staged"),
    }
    assert found.files == 9
    assert git(tree, "status", "--porcelain") == before
    assert (repo / ".git" / "worktrees" / "tree" / "index").read_bytes() == index
    assert git(repo, "symbolic-ref", "HEAD") == "refs/heads/main"


async def test_the_same_second_twice(repo: Path, tree: Path) -> None:
    (tree / "a").write_text("1")
    assert (await saved(repo, tree)).ref == REF
    assert (await saved(repo, tree)).ref == f"{REF}-2"


async def test_an_index_lock_left_behind_or_a_broken_index_does_not_matter(repo: Path, tree: Path, git: Git) -> None:
    admin = repo / ".git" / "worktrees" / "tree"
    (admin / "index.lock").write_text("")
    (tree / "a").write_text("1")
    await saved(repo, tree)
    assert (admin / "index.lock").exists()
    for broken in (b"", b"DIRC garbage", b"\0" * 100):
        (admin / "index").write_bytes(broken)
        assert content(repo, (await saved(repo, tree)).ref)[b"a"] == ("100644", b"1")
    (admin / "index").unlink()
    assert content(repo, (await saved(repo, tree)).ref).keys() == {b"a", b"README.md"}


async def test_amid_a_merge_with_conflict_markers(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    commit(repo, {"README.md": "theirs\n"})
    commit(tree, {"README.md": "ours\n"})
    with pytest.raises(subprocess.CalledProcessError):
        git(tree, "merge", "-q", "main")
    found = await saved(repo, tree)
    text = content(repo, found.ref)[b"README.md"][1]
    assert text.startswith(b"<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>>")
    assert (repo / ".git" / "worktrees" / "tree" / "MERGE_HEAD").exists()


async def test_amid_a_rebase(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    commit(repo, {"README.md": "theirs\n"})
    commit(tree, {"first": "1"})
    last = commit(tree, {"README.md": "ours\n"})
    with pytest.raises(subprocess.CalledProcessError):
        git(tree, "rebase", "-q", "main")
    found = await saved(repo, tree)
    assert git(repo, "rev-parse", "qd/ann") == last
    assert content(repo, found.ref)[b"first"] == ("100644", b"1")
    assert b"<<<<<<<" in content(repo, found.ref)[b"README.md"][1]


async def test_a_merge_of_something_that_only_the_merge_names(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    git(repo, "checkout", "-q", "-b", "tmp")
    theirs = commit(repo, {"theirs": "1"})
    git(repo, "checkout", "-q", "main")
    commit(tree, {"ours": "1"})
    git(tree, "merge", "-q", "--no-commit", "--no-ff", theirs)
    git(repo, "branch", "-q", "-D", "tmp")
    found = await saved(repo, tree)
    assert theirs in git(repo, "rev-list", found.ref)


async def test_commits_that_only_a_detached_head_holds(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    git(tree, "checkout", "-q", "--detach")
    assert await rescue(repo, tree, "ann", AT) is None
    loose = commit(tree, {"a": "1"})
    found = await saved(repo, tree)
    assert (found.head, found.files) == (loose, 0)
    await worktree.remove(repo, tree, "qd/ann", base="main")
    git(repo, "gc", "-q", "--prune=now")
    assert content(repo, REF)[b"a"] == ("100644", b"1")


async def test_what_was_staged_and_then_changed_is_kept_too(repo: Path, tree: Path, git: Git) -> None:
    (tree / "a").write_text("staged")
    (tree / "b").write_text("staged, then deleted")
    git(tree, "add", "-A")
    (tree / "a").write_text("final")
    (tree / "b").unlink()
    found = await saved(repo, tree)
    assert content(repo, found.ref).get(b"a") == ("100644", b"final")
    assert b"b" not in content(repo, found.ref)
    assert content(repo, f"{found.ref}^2")[b"a"] == ("100644", b"staged")
    assert content(repo, f"{found.ref}^2")[b"b"] == ("100644", b"staged, then deleted")


async def test_staged_although_ignored_and_changed_although_declared_unchanged(
    repo: Path, tree: Path, git: Git, commit: Commit
) -> None:
    commit(tree, {".gitignore": "*.key\n", "config": "old"})
    (tree / "my.key").write_text("secret")
    git(tree, "add", "-f", "my.key")
    git(tree, "update-index", "--assume-unchanged", "config")
    (tree / "config").write_text("new")
    files = content(repo, (await saved(repo, tree)).ref)
    assert files[b"my.key"] == ("100644", b"secret")
    assert files[b"config"] == ("100644", b"new")


async def test_no_identity_hooks_filters_or_line_ends(
    repo: Path, tree: Path, git: Git, commit: Commit, known_user: Path, tmp_path: Path
) -> None:
    known_user.unlink()
    for name in ("pre-commit", "post-commit", "reference-transaction", "post-index-change"):
        (repo / ".git" / "hooks" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
        (repo / ".git" / "hooks" / name).chmod(0o755)
    git(repo, "config", "filter.broken.clean", "false")
    git(repo, "config", "filter.broken.required", "true")
    (tree / ".gitattributes").write_text("*.txt text\n*.bin filter=broken\n")
    (tree / "dos.txt").write_bytes(b"a\r\nb\r\n")
    (tree / "x.bin").write_bytes(b"\0\1")
    found = await saved(repo, tree)
    assert content(repo, found.ref)[b"dos.txt"][1] == b"a\r\nb\r\n"
    assert content(repo, found.ref)[b"x.bin"][1] == b"\0\1"
    assert git(repo, "log", "-1", "--format=%an", found.ref) == "Quarterdeck"
    assert not (tmp_path / "ran").exists()


async def test_strange_names_and_huge_files(repo: Path, tree: Path, git: Git) -> None:
    # Above this size git streams a file into a pack instead of reading it whole.
    git(repo, "config", "core.bigFileThreshold", "20m")
    names = [b"new\nline", b"\xff\xfe", "grün".encode(), b'"quoted"', b"tab\tcr\r", b" lead", b"-rf", b"back\\slash"]
    names += [b"a" * 200 + b"/" + b"b" * 200]
    for name in names:
        path = os.path.join(os.fsencode(tree), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content of " + name)
    with (tree / "huge").open("wb") as file:
        file.seek(60_000_000)
        file.write(b"end")
    found = await saved(repo, tree)
    files = subprocess.run(
        ["git", "ls-tree", "-r", "-z", "-l", found.ref], cwd=repo, check=True, capture_output=True
    ).stdout
    assert b" 60000003\thuge\0" in files
    (tree / "huge").unlink()
    kept = content_without(repo, found.ref, b"huge")
    assert {name: data for name, (_, data) in kept.items() if name != b"README.md"} == {
        name: b"content of " + name for name in names
    }


def content_without(repo: Path, ref: str, path: bytes) -> dict[bytes, tuple[str, bytes]]:
    tree = subprocess.run(["git", "ls-tree", "-z", ref], cwd=repo, check=True, capture_output=True).stdout
    rest = b"\0".join(entry for entry in tree.split(b"\0") if not entry.endswith(b"\t" + path))
    made = subprocess.run(["git", "mktree", "-z"], cwd=repo, check=True, capture_output=True, input=rest).stdout
    return content(repo, made.decode().strip())


async def test_files_that_change_vanish_and_shrink_meanwhile(repo: Path, tree: Path) -> None:
    steady = {f"steady{number}": os.urandom(3000) for number in range(200)}
    for name, data in steady.items():
        (tree / name).write_bytes(data)
    stop = threading.Event()

    def restless() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (tree / "grows-and-shrinks").write_bytes(b"x" * (number % 7) * 500_000)
            (tree / f"temp{number % 5}").write_text("x")
            (tree / f"temp{(number + 2) % 5}").unlink(missing_ok=True)

    thread = threading.Thread(target=restless)
    thread.start()
    try:
        for _ in range(3):
            files = content(repo, (await saved(repo, tree)).ref)
            assert {name: files[name.encode()][1] for name in steady} == steady
    finally:
        stop.set()
        thread.join()


async def test_a_socket_is_named_and_a_pipe_does_not_hang(repo: Path, tree: Path, commit: Commit) -> None:
    commit(tree, {"was-file": "x"})
    (tree / "was-file").unlink()
    os.mkfifo(tree / "was-file")
    os.mkfifo(tree / "pipe")
    (tree / "a").write_text("1")
    found = await saved(repo, tree)
    assert content(repo, found.ref)[b"a"] == ("100644", b"1")
    assert found.not_kept == ["was-file: neither a file nor a link"]


async def test_names_that_git_refuses_are_told_and_do_not_hold_up_the_rest(repo: Path, tree: Path) -> None:
    (tree / ".GIT").mkdir()
    (tree / ".GIT" / "config").write_text("x")
    (tree / ".gitmodules").symlink_to("x")
    for name in ("git~1", ".git.", ".git ", "con", "a:b", ".gitignore2", ".git\u200c"):
        (tree / name).write_text("x")
    found = await saved(repo, tree)
    assert found.not_kept == [".GIT/config: git takes no such name", ".gitmodules: git takes no such name"]
    assert found.files == 7


async def test_repositories_inside_are_kept_with_files_and_history(
    repo: Path, tree: Path, git: Git, commit: Commit
) -> None:
    inner = tree / "vendor" / "inner"
    inner.mkdir(parents=True)
    git(inner, "init", "-q", "-b", "trunk")
    made = commit(inner, {"lib.c": "int x;\n", ".gitignore": "*.o\n"})
    (inner / "lib.o").write_text("ignored there")
    (inner / "dirty").write_text("dirty")
    (inner / "unborn").mkdir()
    git(inner / "unborn", "init", "-q")
    (inner / "unborn" / "f").write_text("f")
    found = await saved(repo, tree)
    files = content(repo, found.ref)
    assert {path for path in files if path.startswith(b"vendor")} == {
        b"vendor/inner/lib.c",
        b"vendor/inner/.gitignore",
        b"vendor/inner/dirty",
        b"vendor/inner/unborn/f",
    }
    assert found.nested == ["vendor/inner", "vendor/inner/unborn"]
    assert found.not_kept == []
    shutil.rmtree(tree)
    git(repo, "gc", "-q", "--prune=now")
    assert git(repo, "rev-parse", f"{found.nested_refs[0]}/heads/trunk") == made
    assert git(repo, "show", f"{made}:lib.c") == "int x;"


async def test_a_submodule_with_work_of_its_own(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "lib")
    commit(tmp_path / "lib", {"l": "1"})
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "lib"), "sub")
    head = commit(repo, {"x": "1"})
    tree = tmp_path / "tree"
    await worktree.add(repo, tree, "qd/ann", head)
    git(tree, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init")
    assert await rescue(repo, tree, "ann", AT) is None
    (tree / "sub" / "l").write_text("2")
    assert content(repo, (await saved(repo, tree)).ref)[b"sub/l"] == ("100644", b"2")
    # Committed in the submodule and noted in the repository: clean, and yet in no other place.
    made = commit(tree / "sub", {"l": "3"})
    commit(tree, {})
    found = await saved(repo, tree)
    assert content(repo, found.ref)[b"sub"] == ("160000", made.encode())
    assert git(repo, "rev-parse", f"{found.nested_refs[0]}/HEAD") == made


async def test_a_worktree_that_git_has_lost(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    head = commit(tree, {"done": "1"})
    (tree / "undone").write_text("2")
    (tree / ".git").unlink()
    found = await saved(repo, tree)
    assert (found.head, found.files) == (head, 1)
    shutil.rmtree(repo / ".git" / "worktrees")
    found = await saved(repo, tree)
    assert (found.head, found.files) == (head, 1)
    assert content(repo, found.ref)[b"undone"] == ("100644", b"2")


async def test_an_agent_that_made_its_worktree_a_repository_of_its_own(
    repo: Path, tree: Path, git: Git, commit: Commit
) -> None:
    (tree / ".git").unlink()
    git(tree, "init", "-q", "-b", "mine")
    made = commit(tree, {"a": "1"})
    (tree / "b").write_text("2")
    found = await saved(repo, tree)
    assert content(repo, found.ref)[b"a"] == ("100644", b"1")
    assert content(repo, found.ref)[b"b"] == ("100644", b"2")
    assert git(repo, "rev-parse", f"{found.nested_refs[0]}/heads/mine") == made


async def test_an_orphan_branch_without_a_commit(repo: Path, tree: Path, git: Git) -> None:
    git(tree, "checkout", "-q", "--orphan", "fresh")
    found = await saved(repo, tree)
    assert found.head is None
    assert content(repo, found.ref) == {b"README.md": ("100644", b"# Sample\n")}


async def test_a_sparse_checkout_is_not_a_mass_deletion(repo: Path, tree: Path, git: Git, commit: Commit) -> None:
    commit(tree, {"in/a": "1", "out/b": "1"})
    git(tree, "sparse-checkout", "set", "in")
    assert not (tree / "out").exists()
    assert await rescue(repo, tree, "ann", AT) is None
    (tree / "in" / "new").write_text("x")
    assert (await saved(repo, tree)).files == 1
    assert b"out/b" in content(repo, REF)


async def test_a_shallow_and_a_sha256_repository(repo: Path, git: Git, tmp_path: Path, commit: Commit) -> None:
    commit(repo, {"a": "1"})
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    git(tmp_path, "init", "-q", "-b", "main", "--object-format=sha256", "wide")
    commit(tmp_path / "wide", {"a": "1", "b": "2"})
    for name in ("shallow", "wide"):
        tree = tmp_path / f"tree-{name}"
        await worktree.add(tmp_path / name, tree, "qd/ann", git(tmp_path / name, "rev-parse", "HEAD"))
        (tree / "new").write_text("x")
        (tree / "a").unlink()
        files = content(tmp_path / name, (await saved(tmp_path / name, tree)).ref)
        assert files[b"new"] == ("100644", b"x")
        assert b"a" not in files


async def test_no_worktree_and_no_store_are_said(repo: Path, tree: Path, tmp_path: Path, git: Git) -> None:
    with pytest.raises(NotFound):
        await rescue(repo, tmp_path / "missing", "ann", AT)
    (tree / "a").write_text("1")
    shutil.rmtree(repo / ".git" / "objects")
    with pytest.raises(QuarterdeckError):
        await rescue(repo, tree, "ann", AT)
    assert (tree / "a").read_text() == "1"


async def test_a_rescue_that_cannot_be_read_back_is_an_error(
    repo: Path, tree: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "a").write_text("precious")
    real = rescuing._commit

    async def lose_the_blob(*arguments: object) -> str:
        sha = await real(*arguments)  # type: ignore[arg-type]
        blob = git(repo, "rev-parse", f"{sha}:a")
        (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
        return sha

    monkeypatch.setattr(rescuing, "_commit", lose_the_blob)
    with pytest.raises(QuarterdeckError, match="cannot be read back"):
        await rescue(repo, tree, "ann", AT)


async def test_a_rescue_is_found_again_by_its_name_and_time(repo: Path, tree: Path) -> None:
    (tree / "a").write_text("precious")
    made = [await rescue(repo, tree, "ann", at) for at in (AT, AT + 60, AT + 60)]
    assert made[-1] is not None
    newest = made[-1].ref
    assert await rescuing.find_rescue(repo, "ann", AT - 5) == newest
    assert await rescuing.find_rescue(repo, "ann", AT + 60.9) == newest, "refs tell whole seconds"
    assert await rescuing.find_rescue(repo, "ann", AT + 61) is None, "that of an earlier agent of this name is not its"
    assert await rescuing.find_rescue(repo, "an", AT - 5) is None
