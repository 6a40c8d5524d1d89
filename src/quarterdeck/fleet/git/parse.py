"""Reading what git prints: pure functions. Paths are decoded like file names (`os.fsdecode`)."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Worktree:
    """One entry of `git worktree list`; `branch` is None when HEAD is detached."""

    path: str
    head: str | None = None
    branch: str | None = None
    bare: bool = False
    locked: str | None = None


@dataclass(frozen=True, kw_only=True)
class Staged:
    """One entry of `git ls-files --stage`."""

    mode: str
    sha: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One changed file: `status` is git's letter; lines are None for a binary file."""

    path: str
    old_path: str | None
    status: str
    added: int | None
    deleted: int | None


def fields(output: bytes) -> list[str]:
    """NUL-terminated fields."""
    return [os.fsdecode(part) for part in output.split(b"\0")[:-1]]


def worktrees(output: bytes) -> list[Worktree]:
    """Read `git worktree list --porcelain -z`."""
    found: list[Worktree] = []
    for record in os.fsdecode(output).split("\0\0"):
        facts: dict[str, str] = {}
        for field in record.split("\0"):
            key, _, value = field.partition(" ")
            facts[key] = value
        if "worktree" in facts:
            branch = facts.get("branch")
            found.append(
                Worktree(
                    path=facts["worktree"],
                    head=facts.get("HEAD"),
                    branch=branch.removeprefix("refs/heads/") if branch else None,
                    bare="bare" in facts,
                    locked=facts.get("locked"),
                )
            )
    return found


def status_paths(output: bytes) -> list[str]:
    """The paths of `git status --porcelain=v2 -z --no-renames`: changed, unmerged and untracked."""
    words_before_path = {"1": 8, "u": 10, "?": 1}
    return [
        field.split(" ", words_before_path[field[0]])[-1] for field in fields(output) if field[:1] in words_before_path
    ]


def staged(output: bytes) -> list[Staged]:
    """Read `git ls-files --stage -z`."""
    entries = []
    for field in fields(output):
        facts, _, path = field.partition("\t")
        mode, sha, _stage = facts.split(" ")
        entries.append(Staged(mode=mode, sha=sha, path=path))
    return entries


def refs(output: str) -> dict[str, str]:
    """`sha refname` lines as refname to sha, in their order."""
    pairs = (row.split(" ", 1) for row in output.splitlines() if row)
    return {name: sha for sha, name in pairs}


def compared(output: bytes) -> list[Counted]:
    """Read `git diff-tree -z --raw --numstat`: first all raw records, then all counts, in one order."""
    parts = iter(fields(output))
    raw: list[tuple[str, str | None, str]] = []
    counts: list[tuple[int | None, int | None]] = []
    for part in parts:
        if part.startswith(":"):
            letter = part.rsplit(" ", 1)[-1][:1]
            first = next(parts)
            raw.append((next(parts), first, letter) if letter in "RC" else (first, None, letter))
            continue
        added, deleted, path = part.split("\t", 2)
        if not path:
            next(parts)
            next(parts)
        counts.append((_count(added), _count(deleted)))
    return [
        Counted(path=path, old_path=old, status=letter, added=added, deleted=deleted)
        for (path, old, letter), (added, deleted) in zip(raw, counts, strict=True)
    ]


def _count(text: str) -> int | None:
    return None if text == "-" else int(text)


def quoted(path: str) -> bytes:
    """A path as one line for `git hash-object --stdin-paths`, quoted where git would misread it."""
    name = os.fsencode(path)
    if not name.startswith(b'"') and not any(byte < 0x20 for byte in name):
        return name
    safe = b"".join(
        b"\\%03o" % byte if byte < 0x20 else (b"\\" + bytes([byte]) if byte in b'"\\' else bytes([byte]))
        for byte in name
    )
    return b'"' + safe + b'"'
