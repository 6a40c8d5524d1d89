"""What `qd gc` does with what it finds: a pure decision, so that a dry run and the real one are the same.

Nothing that holds unsaved or unmerged work is ever removed; it is listed as kept, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

BRANCH_PREFIX = "qd/"
Kind = Literal["folder", "worktree", "branch", "scratch", "rescue", "history"]
Action = Literal["remove", "keep"]


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One thing found: a path, branch or ref (`what`), its bytes on the disk (0 for refs), and what to do.

    A `worktree` is a registration in `repo` whose folder is gone, a `history` what a deleted agent did. `base`
    is the branch that has, or has not, a branch's work; `sha` its commit.
    """

    kind: Kind
    what: str
    action: Action
    reason: str
    repo: str | None = None
    base: str | None = None
    sha: str | None = None
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """A folder below the agents' folder; `unsaved` says what is in it that only it holds, "" for nothing."""

    path: str
    name: str
    age_seconds: float
    bytes: int
    unsaved: str


@dataclass(frozen=True, kw_only=True)
class RegistrationFacts:
    """A worktree that git knows below the agents' folder (`name`: the agent's), and that is not there."""

    repo: str
    path: str
    name: str


@dataclass(frozen=True, kw_only=True)
class BranchFacts:
    """A branch of ours; `commits` are those that its base has not, None when that cannot be told."""

    repo: str
    branch: str
    sha: str
    base: str | None
    commits: int | None
    in_use: bool


@dataclass(frozen=True, kw_only=True)
class ScratchFacts:
    """A scratch worktree whose maker is dead."""

    repo: str
    path: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class RescueFacts:
    """A rescue ref."""

    repo: str
    ref: str
    sha: str


@dataclass(frozen=True, kw_only=True)
class Survey:
    """All that was found; living agents' things may be among it."""

    folders: list[FolderFacts] = field(default_factory=list)
    registrations: list[RegistrationFacts] = field(default_factory=list)
    branches: list[BranchFacts] = field(default_factory=list)
    scratches: list[ScratchFacts] = field(default_factory=list)
    rescues: list[RescueFacts] = field(default_factory=list)


def plan(survey: Survey, living: Collection[str], *, grace_seconds: float) -> list[Leftover]:
    """What to do with each thing that belongs to no living agent.

    A folder younger than `grace_seconds` may be an agent that is just being made, and is kept.
    """
    return [
        *(_folder(each, grace_seconds) for each in survey.folders if each.name not in living),
        *(_registration(each) for each in survey.registrations if each.name not in living),
        *(_branch(each) for each in survey.branches if not belongs_to(each.branch, living)),
        *(_scratch(each) for each in survey.scratches),
        *(_rescue(each) for each in survey.rescues),
    ]


def belongs_to(branch: str, living: Collection[str]) -> bool:
    """Whether a branch is one that a living agent may have been given (`qd/NAME`, `qd/NAME-2`...)."""
    name = branch.removeprefix(BRANCH_PREFIX)
    return name in living or re.sub(r"-\d+$", "", name) in living


def _folder(facts: FolderFacts, grace_seconds: float) -> Leftover:
    action: Action = "keep"
    if facts.unsaved:
        reason = f"no agent has it, but it holds {facts.unsaved}"
    elif facts.age_seconds < grace_seconds:
        reason = f"it is only {facts.age_seconds:.0f} s old: an agent may be in the making"
    else:
        action, reason = "remove", "no agent has it, and all its work is saved"
    return Leftover(kind="folder", what=facts.path, action=action, reason=reason, bytes=facts.bytes)


def _registration(facts: RegistrationFacts) -> Leftover:
    return Leftover(
        kind="worktree", what=facts.path, action="remove", reason="git still knows it, but it is gone", repo=facts.repo
    )


def _branch(facts: BranchFacts) -> Leftover:
    action: Action = "keep"
    if facts.in_use:
        reason = "a worktree has it checked out"
    elif facts.commits is None:
        reason = "its base is not known, so nobody can say whether it is merged"
    elif facts.commits:
        reason = f"{facts.commits} of its commits are not in {facts.base}"
    else:
        action, reason = "remove", f"{facts.base} holds all its work"
    return Leftover(
        kind="branch",
        what=facts.branch,
        action=action,
        reason=reason,
        repo=facts.repo,
        base=facts.base,
        sha=facts.sha,
    )


def _scratch(facts: ScratchFacts) -> Leftover:
    return Leftover(
        kind="scratch",
        what=facts.path,
        action="remove",
        reason="the merge that made it is dead",
        repo=facts.repo,
        bytes=facts.bytes,
    )


def _rescue(facts: RescueFacts) -> Leftover:
    return Leftover(
        kind="rescue",
        what=facts.ref,
        action="keep",
        reason="rescued work is only ever listed; when it is not needed: git update-ref -d REF",
        repo=facts.repo,
        sha=facts.sha,
    )
