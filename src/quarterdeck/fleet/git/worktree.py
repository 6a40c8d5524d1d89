"""A worktree and a branch per agent: made so that a crash at any point can be repaired, removed by force.

While a worktree is being filled it is locked with a reason of ours; one that still carries the lock was
never handed to an agent and can be made anew.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.errors import Conflict, QuarterdeckError
from quarterdeck.fleet.git import commands, locks, parse
from quarterdeck.fleet.git.folders import remove_tree
from quarterdeck.fleet.git.repository import branch_sha, busy_with, git_dir, list_worktrees, own_git_dir
from quarterdeck.fleet.git.run import git, line

_UNFINISHED = (commands.BEING_MADE, "initializing")
_LOCK_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Added:
    """A worktree that is ready: the branch it really has (`-2`, `-3`... when taken) and its commit.

    `existed` says that it was already there, complete.
    """

    path: str
    branch: str
    head: str
    existed: bool


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What is left after a removal: whether the branch stays, at which commit, and why.

    `commits` are those of the branch that its base has not, neither as they are nor as the same change.
    """

    branch: str
    branch_kept: bool
    head: str | None
    commits: int
    reason: str


async def add(repo: Path, path: Path, branch_wanted: str, base_sha: str) -> Added:
    """Make a worktree at `path` on a branch that starts at `base_sha`.

    Doing it again gives what is there; what a crash left half-made is repaired. A branch of that name
    with work of its own, or that is checked out, is left alone and the next free `-2`, `-3`... is taken.
    Any number may be made at once. Raises `Conflict` when the folder holds something else or the name
    cannot be a branch; on any error nothing half-made remains.
    """
    shared = await git_dir(repo)
    mark = {proctree.MARK_VARIABLE: f"worktree {path}"}
    await anyio.Path(path.parent).mkdir(parents=True, exist_ok=True)
    async with locks.held(
        path.with_name(f".{path.name}.lock"), timeout_seconds=_LOCK_SECONDS, what=f"making the worktree {path}"
    ):
        branch, is_new, begun = "", False, False
        try:
            # Registering is quick and done one at a time; filling takes long and is done side by side.
            async with _registry(shared):
                there = await _find(repo, path)
                if there is not None and await run_sync(_is_complete, shared, path, there):
                    return _as_added(path, there, branch_wanted)
                if there is not None:
                    # Whoever was killed while making it may have left a git that still writes there.
                    await run_sync(proctree.kill_everything, None, mark[proctree.MARK_VARIABLE], None)
                await _make_room(repo, path, there)
                branch, is_new = await _choose_branch(repo, shared, branch_wanted, base_sha)
                begun = True
                await git(commands.add_worktree(repo, path, branch, base_sha), env=mark)
            await git(commands.fill_worktree(path), env=mark)
            await git(commands.unlock_worktree(repo, path))
        except BaseException:
            # Also where git was ended while it registered: it makes the branch first, and the worktree in steps.
            if begun:
                with anyio.CancelScope(shield=True):
                    await _take_back(repo, shared, path, branch if is_new else None, base_sha)
            raise
    return Added(path=str(path), branch=branch, head=base_sha, existed=False)


async def branch_of(repo: Path, path: Path) -> str | None:
    """The branch of a worktree that git knows at `path`, half-made ones included; None where it knows none."""
    there = await _find(repo, path)
    return there.branch if there is not None else None


def _registry(shared: Path) -> AbstractAsyncContextManager[None]:
    return locks.held(
        locks.lock_path(shared, "worktrees"), timeout_seconds=_LOCK_SECONDS, what=f"the worktrees of {shared}"
    )


async def _find(repo: Path, path: Path) -> parse.Worktree | None:
    wanted = _resolved(path)
    return next((each for each in await list_worktrees(repo) if _resolved(Path(each.path)) == wanted), None)


def _resolved(path: Path) -> Path:
    return path.resolve()


def _has_entries(path: Path) -> bool:
    return path.is_dir() and any(entry.name != ".git" for entry in path.iterdir())


def _exists(path: Path) -> bool:
    return path.exists()


def _is_complete(shared: Path, path: Path, there: parse.Worktree) -> bool:
    if there.locked in _UNFINISHED:
        return False
    if (path / ".git").exists():
        return True
    own = own_git_dir(shared, path)
    if own is None or not _has_entries(path):
        return False
    # Somebody removed the `.git` file: the files are the agent's, so they stay and are tied up again.
    (path / ".git").write_text(f"gitdir: {own}\n", errors="surrogateescape")
    return True


def _as_added(path: Path, there: parse.Worktree, wanted: str) -> Added:
    branch = there.branch or ""
    suffix = branch.removeprefix(wanted)
    if there.head is None or not branch.startswith(wanted) or not (suffix == "" or suffix[1:].isdigit()):
        raise Conflict(
            f"{path} is already a worktree, on {there.branch or 'no branch'} instead of {wanted}; nothing was changed",
            hint=f"remove it (git worktree remove {path}) or take another name",
        )
    return Added(path=str(path), branch=branch, head=there.head, existed=True)


async def _make_room(repo: Path, path: Path, there: parse.Worktree | None) -> None:
    """Clear what a crash left. Raises `Conflict` for a folder with content that git does not know as half-made."""
    if there is None and (_has_entries(path) or (_exists(path) and not path.is_dir())):
        raise Conflict(
            f"{path} already holds something that is no worktree of {repo}; nothing was changed",
            hint="move it away, or let `qd gc` look at it",
        )
    await run_sync(remove_tree, path)
    if there is not None:
        await git(commands.forget_worktree(repo, path))


async def _choose_branch(repo: Path, shared: Path, wanted: str, base_sha: str) -> tuple[str, bool]:
    """The first of NAME, NAME-2... that is free, or holds nothing that the base has not; and whether it is new."""
    known = parse.refs((await git(commands.refs(repo, "refs/heads"))).out)
    branches = {ref.removeprefix("refs/heads/") for ref in known}
    parts = wanted.split("/")
    for depth in range(1, len(parts)):
        if (above := "/".join(parts[:depth])) in branches:
            raise Conflict(
                f"the branch {wanted} cannot be made while there is a branch {above}; nothing was changed",
                hint=f"rename that one: git -C {repo} branch -m {above} {above}-old",
            )
    in_use = await branches_in_use(repo, shared)
    for number in count(1):
        branch = wanted if number == 1 else f"{wanted}-{number}"
        if branch in in_use or any(other.startswith(branch + "/") for other in branches):
            continue
        if branch not in branches:
            return branch, True
        if (await git(commands.commits_between(repo, base_sha, f"refs/heads/{branch}"))).out == "0":
            return branch, False
    raise AssertionError("unreachable")


async def branches_in_use(repo: Path, shared: Path) -> set[str]:
    """The branches that some worktree has checked out or is rebasing."""
    names = {each.branch for each in await list_worktrees(repo) if each.branch}
    for folder in (shared, *_admin_folders(shared)):
        unfinished = busy_with(folder)
        if unfinished and unfinished[1]:
            names.add(unfinished[1])
    return names


def _admin_folders(shared: Path) -> list[Path]:
    return sorted(folder for folder in shared.glob("worktrees/*") if folder.is_dir())


async def _take_back(repo: Path, shared: Path, path: Path, new_branch: str | None, base_sha: str) -> None:
    async with _registry(shared):
        await run_sync(remove_tree, path)
        await git(commands.forget_worktree(repo, path), check=False)
        if new_branch:
            await git(commands.delete_branch(repo, new_branch, base_sha), check=False)


async def remove(repo: Path, path: Path, branch: str, *, base: str) -> Removed:
    """Remove a worktree whatever is in it (rescue first!), and its branch when the base has all its work.

    Doing it again after a crash finishes it. Raises `Conflict` when `path` is no worktree of the
    repository or is its main one.
    """
    shared = await git_dir(repo)
    there = await _find(repo, path)
    _refuse_foreign(repo, shared, path, there)
    await run_sync(remove_tree, path)
    async with _registry(shared):
        if there is not None:
            await git(commands.forget_worktree(repo, path))
        return await drop_branch(repo, shared, branch, base=base)


def _refuse_foreign(repo: Path, shared: Path, path: Path, there: parse.Worktree | None) -> None:
    place = path.resolve()
    if shared.resolve().is_relative_to(place) or (there is not None and there.bare):
        raise Conflict(f"{path} is the repository itself; nothing was removed", hint="name the agent's worktree")
    if there is None and path.exists() and not _points_into(path / ".git", shared):
        raise Conflict(
            f"{path} is no worktree of {repo}; nothing was removed", hint="look at it, then remove it by hand"
        )


def _points_into(file: Path, shared: Path) -> bool:
    try:
        named = file.read_text(errors="surrogateescape").removeprefix("gitdir: ").rstrip("\n")
    except OSError:
        return False
    return (file.parent / named).resolve().is_relative_to(shared.resolve() / "worktrees")


async def drop_branch(repo: Path, shared: Path, branch: str, *, base: str) -> Removed:
    """Delete a branch when the base holds all its work and no worktree uses it; else say why it stays."""
    sha = await line(commands.branch_sha(repo, branch))
    if sha is None:
        return Removed(branch=branch, branch_kept=False, head=None, commits=0, reason="there is no such branch")

    def kept(reason: str, commits: int = 0) -> Removed:
        return Removed(branch=branch, branch_kept=True, head=sha, commits=commits, reason=reason)

    if branch == base or branch in await branches_in_use(repo, shared):
        return kept("it is the base" if branch == base else "another worktree has it checked out")
    try:
        own = await unmerged_commits(repo, branch, base)
    except QuarterdeckError as error:
        return kept(f"it cannot be compared with {base}: {error.message}")
    if own:
        return kept(f"{own} of its commits are not in {base}", own)
    done = await git(commands.delete_branch(repo, branch, sha), check=False)
    if done.returncode != 0:
        return kept(f"git did not delete it: {done.err}")
    await git(commands.forget_branch_settings(repo, branch), check=False)
    return Removed(branch=branch, branch_kept=False, head=sha, commits=0, reason=f"{base} holds all its work")


async def unmerged_commits(repo: Path, branch: str, base: str) -> int:
    """How many commits of a branch its base has not, neither as they are nor as the same change.

    Raises `NotFound` when one of the branches is not there.
    """
    ours, theirs = await branch_sha(repo, branch), await branch_sha(repo, base)
    if (await git(commands.is_ancestor(repo, ours, theirs), check=False)).returncode == 0:
        return 0
    return int((await git(commands.own_commits(repo, ours, theirs))).out)
