"""What can be read of a git repository without git: where it is, what is checked out, what is under way.

Reads files of some bytes (0.03 ms together), where asking git costs a process. Everything here is also
right in worktrees, submodules and bare repositories; a repository whose refs are not files (reftable)
is told apart, and git is asked instead.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from quarterdeck.errors import Unavailable
from quarterdeck.files import read_regular

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_SMALL = 64 * 1024
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_LARGE = 256 * 1024 * 1024


@dataclass(frozen=True)
class Repository:
    """Where a repository lies: its work tree's top (None: bare), this work tree's git folder, the shared one."""

    top: Path | None
    git: Path
    common: Path


@dataclass(frozen=True)
class Head:
    """What is checked out: branch (None when detached) and commit (None before the first)."""

    branch: str | None
    sha: str | None


def _read(path: Path) -> str | None:
    """The text of a file; None when there is none. Raises `Unavailable` for one that cannot be read."""
    mode = mode_of(path)
    if not mode or stat.S_ISDIR(mode):  # `refs/heads/a` is a folder where there is a branch `a/b`
        return None
    try:
        return read_regular(path, _SMALL).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error


def mode_of(path: Path) -> int:
    """What `stat` says of the kind of a file; 0 when there is none. Raises `Unavailable` where it may not be looked."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return 0
        raise Unavailable(f"{path} cannot be looked at: {error.strerror}") from error
    except ValueError as error:  # a NUL in its name
        raise Unavailable(f"{str(path)!r} can be the name of no file: {error}") from error


def find(workspace: Path) -> Repository | None:
    """The repository that a folder is in; None when it is in none.

    Raises `Unavailable` where it may not be looked, and where `.git` is nothing that git knows.
    """
    for folder in (workspace, *workspace.parents):
        entry = folder / ".git"
        mode = mode_of(entry)
        if stat.S_ISDIR(mode):
            if mode_of(entry / "HEAD"):
                return _repository(folder, entry)
        elif stat.S_ISREG(mode):
            text = _read(entry) or ""
            if not text.startswith("gitdir:"):
                raise Unavailable(f"{entry} does not say where the git folder is")
            git = _resolved(folder / text.removeprefix("gitdir:").strip())
            if git in (folder, *folder.parents) and not _is_git_folder(git):
                raise Unavailable(f"{entry} says that the git folder is {git}, in which it lies itself")
            return _repository(folder, git)
        if _is_git_folder(folder):
            return _repository(None, folder)
    return None


def _is_git_folder(folder: Path) -> bool:
    kinds = (stat.S_ISREG, "HEAD"), (stat.S_ISDIR, "objects"), (stat.S_ISDIR, "refs")
    return all(is_kind(mode_of(folder / name)) for is_kind, name in kinds)


def _repository(top: Path | None, git: Path) -> Repository:
    common = _read(git / "commondir")
    return Repository(top, git, _resolved(git / common) if common else git)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise Unavailable(f"{str(path)!r} leads nowhere: {error}") from error


def head(repository: Repository) -> Head | None:
    """What is checked out now; None when only git can tell, or can say what is wrong.

    Raises `Unavailable` when the repository's files cannot be read.
    """
    text = _read(repository.git / "HEAD")
    if text is None:
        return None
    if _SHA.match(text):
        return Head(None, text)
    name = text.removeprefix("ref: ")
    if name == text or name == "refs/heads/.invalid":
        return None
    sha = resolve(repository, name)
    if sha is None and os.path.lexists(repository.common / name):
        return None
    return Head(name.removeprefix("refs/heads/"), sha)


def head_ref(repository: Repository) -> str | None:
    """The full name of the ref that is checked out; None when detached. Raises `Unavailable`."""
    text = _read(repository.git / "HEAD")
    return text.removeprefix("ref: ") if text and text.startswith("ref: ") else None


def resolve(repository: Repository, name: str, depth: int = 0) -> str | None:
    """The commit a full ref name stands for; None when there is no such ref. Raises `Unavailable`."""
    text = _read(repository.common / name)
    if text is None:
        return _packed(repository, name)
    if _SHA.match(text):
        return text
    if text.startswith("ref: ") and depth < 5:
        return resolve(repository, text.removeprefix("ref: "), depth + 1)
    return None


def symbolic(repository: Repository, name: str) -> str | None:
    """The ref that a symbolic ref (`refs/remotes/origin/HEAD`) points at; None when it does not."""
    text = _read(repository.common / name)
    return text.removeprefix("ref: ") if text is not None and text.startswith("ref: ") else None


def _packed(repository: Repository, name: str) -> str | None:
    path = repository.common / "packed-refs"
    try:
        found = path.stat()
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        cached = _packs.get(path)
        if cached is not None and cached[0] == stamp:
            return cached[1].get(name)
        lines = read_regular(path, _LARGE).decode(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error
    refs = {line[41:]: line[:40] for line in lines if len(line) > 41 and line[40] == " "}
    refs |= {line[65:]: line[:64] for line in lines if len(line) > 65 and line[64] == " "}
    if len(_packs) > 16:
        _packs.clear()
    _packs[path] = (stamp, refs)
    return refs.get(name)


_packs: dict[Path, tuple[tuple[int, int, int], dict[str, str]]] = {}


def under_way(git: Path) -> tuple[str, str | None] | None:
    """The operation that was begun and not ended, and the branch it goes on, where its files say so."""
    for folder in ("rebase-merge", "rebase-apply"):
        if (git / folder).is_dir():
            name = _read(git / folder / "head-name")
            branch = name.removeprefix("refs/heads/") if name and name.startswith("refs/heads/") else None
            # `git am` uses the same folder; unlike a rebase it stays on the branch.
            return ("applying" if (git / folder / "applying").exists() else "rebasing"), branch
    for file, state in (
        ("MERGE_HEAD", "merging"),
        ("CHERRY_PICK_HEAD", "cherry-picking"),
        ("REVERT_HEAD", "reverting"),
        ("BISECT_LOG", "bisecting"),
    ):
        if (git / file).exists():
            return state, None
    return None


def is_shallow(repository: Repository) -> bool:
    """Whether history ends early (a clone with `--depth`)."""
    return (repository.common / "shallow").exists()
