"""Bringing an agent's work home: made and checked in a scratch worktree, then the base moves, or nothing does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.errors import Conflict, InternalError, InvalidInput, Unavailable
from quarterdeck.fleet.git import commands, locks, parse
from quarterdeck.fleet.git.check import Checked, run_check
from quarterdeck.fleet.git.repository import branch_sha, busy_with, git_dir, identity, list_worktrees, own_git_dir
from quarterdeck.fleet.git.run import git, shown, some
from quarterdeck.fleet.git.scratch import Scratch, clean, scratch_worktree
from quarterdeck.fleet.git.worktree import unmerged_commits

Method = Literal["merge", "rebase"]
_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Merged:
    """The base branch moved from `before` to `after`, bringing `commits` commits of the branch in.

    With nothing to merge, both are the same and `commits` is 0. `files` are the paths that changed in the
    base. `worktree` is the one that has the base checked out and was brought along. `checked` says that a
    check command ran; `check_output` is the end of what it said.
    """

    branch: str
    base: str
    method: Method
    before: str
    after: str
    commits: int
    files: list[str]
    worktree: str | None
    checked: bool
    check_output: str


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What was asked for, together."""

    repo: Path
    shared: Path
    branch: str
    base: str
    method: Method
    check: Sequence[str]
    check_seconds: float
    message: str
    scratch_folder: Path
    env: Mapping[str, str]


async def merge(
    repo: Path,
    branch: str,
    base: str,
    *,
    method: Method = "merge",
    check: Sequence[str] = (),
    check_seconds: float = 600,
    message: str = "",
    scratch_folder: Path,
    env: Mapping[str, str] | None = None,
    wait_seconds: float = 3600,
) -> Merged:
    """Merge (always with a merge commit) or rebase a branch's commits onto the base branch.

    The `check` command (with `env`) must exit 0 in the merged files. Merges into one base go one after the other,
    waiting up to `wait_seconds`. The branch itself never moves.

    Raises `Conflict`, with base, branch and every worktree as they were: files in conflict, a failing
    check, uncommitted work of the agent, or changes in the worktree that has the base checked out, which
    the merge would overwrite. `details` holds "files" or "output". Raises `NotFound` for an unknown
    branch, `InvalidInput` for a branch into itself, `Unavailable` for a check that is not there or a base
    that is locked.
    """
    if method not in ("merge", "rebase"):
        raise InvalidInput(f"there is no method {method!r}", hint="take merge or rebase")
    if branch == base:
        raise InvalidInput(f"{branch} cannot be merged into itself", hint="name another base")
    order = _Order(
        repo=repo,
        shared=await git_dir(repo),
        branch=branch,
        base=base,
        method=method,
        check=check,
        check_seconds=check_seconds,
        message=message or f"Merge {branch} into {base}",
        scratch_folder=scratch_folder,
        env=env or {},
    )
    lock = locks.lock_path(order.shared, "merge", base)
    async with locks.held(lock, timeout_seconds=wait_seconds, what=f"merging into {base}"):
        await clean(repo, scratch_folder)
        for _ in range(_ATTEMPTS):
            await _refuse_unsaved(order)
            if merged := await _attempt(order):
                return merged
    raise Conflict(
        f"{base} moved {_ATTEMPTS} times while {branch} was merged; it was not merged",
        hint="do it again when fewer commits come in",
    )


async def _attempt(order: _Order) -> Merged | None:
    """Once from the beginning; None when the base moved meanwhile and it has to be done again."""
    before, theirs = await branch_sha(order.repo, order.base), await branch_sha(order.repo, order.branch)
    commits = await unmerged_commits(order.repo, order.branch, order.base)
    if commits == 0:
        return _merged(order, before, before)
    target = await _worktree_of_base(order)
    begin = before if order.method == "merge" else theirs
    async with scratch_worktree(order.repo, order.scratch_folder, begin) as scratch:
        after = await _combine(order, scratch, before, theirs)
        files = parse.fields((await git(commands.changed_paths(order.repo, before, after))).stdout)
        if target is not None:
            await _refuse_overwriting(order, target, files)
        checked = await _check(order, scratch)
    # Not to be cut off half-way: a killed git would leave a lock in somebody's worktree.
    with anyio.CancelScope(shield=True):
        moved = await _move_base(order, before, after, files)
    if not moved:
        return None
    return _merged(
        order, before, after, commits=commits, files=files, worktree=target, output=checked.tail if checked else ""
    )


def _merged(
    order: _Order,
    before: str,
    after: str,
    *,
    commits: int = 0,
    files: Sequence[str] = (),
    worktree: Path | None = None,
    output: str = "",
) -> Merged:
    return Merged(
        branch=order.branch,
        base=order.base,
        method=order.method,
        before=before,
        after=after,
        commits=commits,
        files=[shown(path) for path in files],
        worktree=str(worktree) if worktree else None,
        checked=bool(order.check) and commits > 0,
        check_output=output,
    )


async def _refuse_unsaved(order: _Order) -> None:
    """An agent's uncommitted files would silently stay out of the merge."""
    for each in await list_worktrees(order.repo):
        path = Path(each.path)
        if each.bare or not _is_folder(path):
            continue
        own = own_git_dir(order.shared, path)
        unfinished = busy_with(own) if own else None
        if unfinished and unfinished[1] in (order.branch, order.base):
            raise Conflict(
                f"{unfinished[0]} of {unfinished[1]} is under way in {path}; nothing was merged",
                hint="finish or abort it there, then merge",
            )
        if each.branch != order.branch:
            continue
        dirty = parse.status_paths((await git(commands.status(path))).stdout)
        if dirty or unfinished:
            what = f"has {len(dirty)} uncommitted files ({some(dirty)})" if dirty else f"is in {unfinished}"
            raise Conflict(
                f"the worktree of {order.branch}, {path}, {what}; nothing was merged",
                hint="let the agent commit its work (or commit it there), then merge",
                details={"files": [shown(name) for name in dirty]},
            )


def _is_folder(path: Path) -> bool:
    return path.is_dir()


async def _worktree_of_base(order: _Order) -> Path | None:
    """The worktree that has the base checked out. Raises `Conflict` when there are several, or one is busy."""
    paths = [
        Path(each.path) for each in await list_worktrees(order.repo) if each.branch == order.base and not each.bare
    ]
    if len(paths) > 1:
        raise Conflict(
            f"{order.base} is checked out in several places: {some([str(path) for path in paths])}; nothing was merged",
            hint="check out another branch in all of them but one",
        )
    if not paths:
        return None
    path = paths[0]
    if not _is_folder(path):
        raise Conflict(
            f"{order.base} is checked out in {path}, which is not there; nothing was merged",
            hint=f"bring it back, or forget it: git -C {order.repo} worktree prune",
        )
    own = own_git_dir(order.shared, path)
    if own and (unfinished := busy_with(own)):
        raise Conflict(
            f"{unfinished[0]} is under way in {path}, where {order.base} is checked out; nothing was merged",
            hint="finish or abort it there, then merge",
        )
    return path


async def _combine(order: _Order, scratch: Scratch, before: str, theirs: str) -> str:
    """Make the merged commit in the scratch worktree. Raises `Conflict` naming the files."""
    who = {**await identity(order.repo), proctree.MARK_VARIABLE: scratch.mark}
    if order.method == "merge":
        done = await git(commands.merge_into_head(scratch.path, theirs, order.message), env=who, check=False)
    else:
        done = await git(commands.rebase_head(scratch.path, before), env=who, check=False)
    if done.returncode != 0:
        files = parse.fields((await git(commands.unmerged(scratch.path))).stdout)
        why = f"conflict in {some(files)}" if files else f"git refused: {done.err or done.out}"
        raise Conflict(
            f"{order.branch} cannot be brought into {order.base} ({order.method}): {why}; nothing was changed",
            hint=f"let the agent merge {order.base} into its branch and resolve it, then merge again",
            details={"files": [shown(name) for name in files]},
        )
    return (await git(commands.commit_sha(scratch.path, "HEAD"))).out


async def _check(order: _Order, scratch: Scratch) -> Checked | None:
    """Run the project's check on the merged files. Raises `Conflict` with the end of its output."""
    if not order.check:
        return None
    done = await run_check(order.check, cwd=scratch.path, env=order.env, seconds=order.check_seconds, mark=scratch.mark)
    if done.exit_code != 0:
        how = f"took longer than {order.check_seconds:g} s" if done.exit_code is None else f"failed ({done.exit_code})"
        raise Conflict(
            f"the check {' '.join(order.check)!r} {how} with {order.branch} in {order.base}; nothing was changed:\n"
            f"{done.tail[-2000:]}",
            hint="give the agent the output as its next task, then merge again",
            details={"output": done.tail, "exit_code": done.exit_code},
        )
    return done


async def _refuse_overwriting(order: _Order, target: Path, files: Sequence[str]) -> None:
    """Raises `Conflict` when the worktree of the base has changes of its own in files that the merge changes."""
    dirty = set(parse.status_paths((await git(commands.status(target))).stdout))
    tracked = set(parse.fields((await git(commands.read(target, "ls-files", "-z"))).stdout))
    hits = await run_sync(_in_the_way, target, files, dirty, tracked)
    if hits:
        raise Conflict(
            f"{order.base} is checked out in {target}, with changes of its own in {some(hits)}; nothing was merged",
            hint="commit, stash or move these files there, then merge",
            details={"files": [shown(name) for name in hits]},
        )


def _in_the_way(target: Path, files: Sequence[str], dirty: set[str], tracked: set[str]) -> list[str]:
    hits: dict[str, None] = {}
    for path in files:
        if path in dirty:
            hits[path] = None
        # Files that git ignores are not dirty, and still somebody's.
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name in tracked or not os.path.lexists(target / name):
                continue
            if (target / name).is_symlink() or not (target / name).is_dir():
                hits[name] = None
    return list(hits)


async def _move_base(order: _Order, before: str, after: str, files: Sequence[str]) -> bool:
    """Compare-and-swap the base, with the worktree that has it checked out; False when it had moved."""
    target = await _worktree_of_base(order)
    who = await identity(order.repo)
    if target is None:
        command = commands.move_ref(order.repo, f"refs/heads/{order.base}", after, before, order.message)
    else:
        await _refuse_overwriting(order, target, files)
        command = commands.bring_along(target, after)
    done = await git(command, env=who, check=False)
    now = await branch_sha(order.repo, order.base)
    if done.returncode == 0:
        if now != after and target is not None and not await _contains(order.repo, after, now):
            raise InternalError(
                f"another branch was checked out in {target} while {order.branch} was merged into {order.base}, and "
                f"got the commits instead; {order.base} is where it was",
                hint=f"look at it: git -C {target} reflog",
            )
        return True
    if now != before:
        return False
    problem = f"{order.base} could not be moved: {done.err}; nothing was merged"
    if target is None:
        raise Unavailable(problem, hint="is the repository writable, and is there room on its disk?")
    raise Conflict(problem, hint=f"put {target} in order (git -C {target} status), then merge")


async def _contains(repo: Path, old: str, new: str) -> bool:
    return (await git(commands.is_ancestor(repo, old, new), check=False)).returncode == 0
