"""The git collector: what is checked out, what is changed, and where it stands to its base.

Never changes the repository (no optional locks, no fetch), and does not ask the file monitor that the
repository names (`core.fsmonitor`). It does run the filters that are configured (`filter.NAME.clean`, as Git LFS
uses), as every `git status` does: what a file that was touched would be as a commit, and so whether it differs,
only its filter can tell. Without it each such file would be told as changed. One `git status` does the work; what
only changes with commits or configuration is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from quarterdeck.errors import Unavailable
from quarterdeck.metadata.collector import DEADLINE_SECONDS, Failed, Trigger
from quarterdeck.metadata.collectors import gitfiles, status
from quarterdeck.metadata.collectors.gitfiles import Repository
from quarterdeck.metadata.collectors.gitremotes import ENVIRONMENT, PLAIN, Remotes
from quarterdeck.metadata.model import Schema, clean_text
from quarterdeck.process import CommandFailed, Completed, run_quick

KEYS: dict[str, Schema] = {
    "git_state": Schema(
        "normal, detached, merging, rebasing, applying (mails), cherry-picking, reverting, bisecting, no-commits, bare "
        "or no-repository",
        True,
    ),
    "git_branch": Schema("the branch that is checked out; null when detached", True),
    "git_head": Schema("the commit that is checked out; null before the first"),
    "git_subject": Schema("first line of that commit's message", True),
    "git_committed_at": Schema("when that commit was made"),
    "git_dirty": Schema("whether anything differs from that commit, untracked files included", True),
    "git_staged": Schema("number of files with staged changes"),
    "git_changed": Schema("number of files with changes that are not staged"),
    "git_untracked": Schema("number of files that are neither tracked nor ignored"),
    "git_conflicted": Schema("number of files with conflicts"),
    "git_upstream": Schema("the branch that this one follows; null without one"),
    "git_ahead": Schema("commits that the upstream does not have; null without an upstream"),
    "git_behind": Schema("commits that only the upstream has, as of the last fetch; null without an upstream"),
    "git_base": Schema("the branch that this work goes home to"),
    "git_merge_base": Schema("the commit where this branch left the base; null when there is none"),
    "git_remotes": Schema("remote name to address, without credentials"),
    "git_shallow": Schema("whether history was cut short (a clone with --depth)"),
    "git_worktree": Schema("whether this is an additional work tree of its repository"),
}
_BASES = ("main", "master", "trunk", "develop")
# Nothing can be said of these where it cannot be told what is checked out.
_OF_HEAD = (
    "git_state", "git_branch", "git_head", "git_subject", "git_committed_at", "git_base", "git_merge_base",
    "git_shallow", "git_worktree",
)  # fmt: skip


def status_command() -> list[str]:
    """The one command that looks at every file."""
    return ["git", *PLAIN, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all"]


def commit_command(sha: str) -> list[str]:
    """Subject and time of a commit."""
    return ["git", *PLAIN, "log", "-1", "--no-show-signature", "--format=%cI%x00%s", sha, "--"]


def merge_base_command(one: str, other: str) -> list[str]:
    """The best common ancestor of two commits."""
    return ["git", *PLAIN, "merge-base", one, other]


class GitCollector:
    """Facts of the repository that the workspace is in; `base` is the project's, where it names one."""

    name = "git"
    deadline = DEADLINE_SECONDS
    max_age = 60.0
    trigger: Trigger = "files"
    peeked = frozenset({"git_branch", "git_head"})
    keys: Mapping[str, Schema] = KEYS

    def __init__(self, base: str | None = None) -> None:
        self._base = base
        self._repository: Repository | None = None
        self._known_remotes = Remotes()
        self._remembered: dict[str, tuple[Any, Any]] = {}

    def peek(self, workspace: Path) -> Mapping[str, Any]:
        """Branch and commit, by reading two small files."""
        repository = self._repository
        head = gitfiles.head(repository) if repository else None
        if repository is None or head is None:
            return {}
        branch = head.branch
        if branch is None and (begun := gitfiles.under_way(repository.git)):
            branch = begun[1]
        return {"git_branch": branch, "git_head": head.sha}

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        """All keys that make sense in this repository. Raises `Unavailable` when git cannot be asked."""
        # Looked for anew each time: one may have been made nearer than the one that is known.
        self._repository = None
        self._repository = repository = gitfiles.find(workspace)
        if repository is None:
            return {"git_state": "no-repository"}
        values: dict[str, Any] = {}
        async with anyio.create_task_group() as group:
            if repository.top is not None:
                group.start_soon(self._status, repository, values)
            group.start_soon(self._history, repository, values)
            group.start_soon(self._remotes, repository, values)
        if not isinstance(values["git_head"], Failed):
            values["git_shallow"] = gitfiles.is_shallow(repository)
            values["git_worktree"] = repository.git != repository.common
        return values

    async def _status(self, repository: Repository, values: dict[str, Any]) -> None:
        done = await _git(repository, status_command())
        keys = ("dirty", "staged", "changed", "untracked", "conflicted", "upstream", "ahead", "behind")
        if done.returncode != 0:
            values.update(dict.fromkeys((f"git_{key}" for key in keys), Failed(_words(done))))
            return
        found = status.parse(done.stdout)
        dirty = bool(found.staged or found.changed or found.untracked or found.conflicted)
        numbers = (found.staged, found.changed, found.untracked, found.conflicted)
        rest = (found.upstream, found.ahead, found.behind)
        values.update(zip((f"git_{key}" for key in keys), (dirty, *numbers, *rest), strict=True))

    async def _history(self, repository: Repository, values: dict[str, Any]) -> None:
        try:
            head = gitfiles.head(repository) or await self._asked_head(repository)
            begun = gitfiles.under_way(repository.git)
            branch = head.branch or (begun[1] if begun else None)
            base, base_sha = self._base_of(repository, branch)
        except Unavailable as error:
            values.update(dict.fromkeys(_OF_HEAD, Failed(error.message)))
            return
        values["git_branch"], values["git_head"] = branch, head.sha
        values["git_state"] = _state(repository, head, begun)
        values["git_base"] = base
        if head.sha is None:
            values.update(git_subject=None, git_committed_at=None, git_merge_base=None)
            return
        sha = head.sha
        subject = await self._once("commit", sha, lambda: _commit(repository, sha))
        values["git_committed_at"], values["git_subject"] = subject
        if base_sha is None:
            values["git_merge_base"] = None
        elif base_sha == sha:
            values["git_merge_base"] = sha
        else:
            values["git_merge_base"] = await self._once(
                "merge-base", (sha, base_sha), lambda: _merge_base(repository, sha, base_sha)
            )

    async def _remotes(self, repository: Repository, values: dict[str, Any]) -> None:
        try:
            values["git_remotes"] = await self._known_remotes.of(repository, self.deadline)
        except CommandFailed as error:
            values["git_remotes"] = Failed(_words(error.completed) if error.completed else error.message)

    async def _once(self, name: str, stamp: Any, ask: Any) -> Any:
        """What `ask` said when the stamp was the same, or ask it."""
        remembered = self._remembered.get(name)
        if remembered is not None and remembered[0] == stamp:
            return remembered[1]
        value = await ask()
        if not _any_failed(value):
            self._remembered[name] = (stamp, value)
        return value

    async def _asked_head(self, repository: Repository) -> gitfiles.Head:
        """What git says of it. Raises `Unavailable` with its words where something is wrong."""
        name = await _git(repository, ["git", *PLAIN, "symbolic-ref", "-q", "HEAD"])
        sha = await _git(repository, ["git", *PLAIN, "rev-parse", "-q", "--verify", "HEAD"])
        for done in (name, sha):
            if done.returncode not in (0, 1):  # 1: there is none
                raise Unavailable(_words(done))
        branch = name.out.removeprefix("refs/heads/") if name.returncode == 0 else None
        return gitfiles.Head(branch, sha.out if sha.returncode == 0 else None)

    def _base_of(self, repository: Repository, branch: str | None) -> tuple[str | None, str | None]:
        """The base and its commit: the project's, the remote's default, or a usual name."""
        default = gitfiles.symbolic(repository, "refs/remotes/origin/HEAD")
        names = [self._base] if self._base else []
        if default:
            names.append(default.removeprefix("refs/remotes/"))
        names += _BASES
        for name in names:
            for ref in (f"refs/heads/{name}", f"refs/remotes/{name}", f"refs/remotes/origin/{name}"):
                sha = gitfiles.resolve(repository, ref)
                if sha is not None:
                    return name.removeprefix("origin/"), sha
        return (self._base, None) if self._base else (None, None)


def _state(repository: Repository, head: gitfiles.Head, begun: tuple[str, str | None] | None) -> str:
    if begun is not None:
        return begun[0]
    if repository.top is None:
        return "bare"
    if head.sha is None:
        return "no-commits"
    return "normal" if head.branch is not None else "detached"


async def _commit(repository: Repository, sha: str) -> tuple[Any, Any]:
    done = await _git(repository, commit_command(sha))
    if done.returncode != 0:
        failed = Failed(_words(done))
        return failed, failed
    moment, _, subject = done.out.partition("\0")
    return moment, clean_text(subject, 500)


async def _merge_base(repository: Repository, one: str, other: str) -> Any:
    done = await _git(repository, merge_base_command(one, other))
    if done.returncode == 1:  # no common ancestor, or history was cut before it
        return None
    return done.out if done.returncode == 0 else Failed(_words(done))


async def _git(repository: Repository, command: list[str]) -> Completed:
    folder = repository.top or repository.git
    if not folder.is_dir():
        raise Unavailable(f"the workspace {folder} is gone")
    return await run_quick(command, cwd=folder, env=ENVIRONMENT, timeout_seconds=DEADLINE_SECONDS)


def _words(done: Completed) -> str:
    lines = done.err.splitlines()
    return f"git says: {lines[0] if lines else f'exit code {done.returncode}'}"


def _any_failed(value: Any) -> bool:
    return isinstance(value, Failed) or (isinstance(value, tuple) and any(isinstance(v, Failed) for v in value))
