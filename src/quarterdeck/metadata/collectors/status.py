"""Reads `git status --porcelain=v2 --branch -z`. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """What git says about branch and work tree. Ahead and behind are None without an upstream's commit."""

    branch: str | None
    sha: str | None
    upstream: str | None
    ahead: int | None
    behind: int | None
    staged: int
    changed: int
    untracked: int
    conflicted: int


def parse(output: bytes) -> Status:
    """The status in git's answer; a file that is staged and changed again counts in both."""
    branch = sha = upstream = None
    ahead: int | None = None
    behind: int | None = None
    staged = changed = untracked = conflicted = 0
    records = iter(output.split(b"\0"))
    for record in records:
        kind = record[:1]
        if kind in (b"1", b"2"):
            staged += record[2:3] != b"."
            changed += record[3:4] != b"."
            if kind == b"2":
                next(records, None)  # the old name of a renamed file
        elif kind == b"?":
            untracked += 1
        elif kind == b"u":
            conflicted += 1
        elif kind == b"#":
            name, _, value = record[2:].decode(errors="replace").partition(" ")
            if name == "branch.head":
                branch = None if value == "(detached)" else value
            elif name == "branch.oid":
                sha = None if value == "(initial)" else value
            elif name == "branch.upstream":
                upstream = value
            elif name == "branch.ab":
                plus, _, minus = value.partition(" ")
                ahead, behind = int(plus), -int(minus)
    return Status(branch, sha, upstream, ahead, behind, staged, changed, untracked, conflicted)
