"""What agents take on the disk, and what is left over from those that are gone (`qd gc`)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anyio.to_thread import run_sync

from quarterdeck.errors import Conflict, InvalidInput, QuarterdeckError
from quarterdeck.fleet.git import commands, parse, scratch
from quarterdeck.fleet.git.folders import remove_tree, used_bytes
from quarterdeck.fleet.git.leftover_plan import (
    BRANCH_PREFIX,
    BranchFacts,
    FolderFacts,
    Leftover,
    RegistrationFacts,
    RescueFacts,
    ScratchFacts,
    Survey,
    plan,
)
from quarterdeck.fleet.git.repository import busy_with, git_dir, list_worktrees, own_git_dir, resolve_base
from quarterdeck.fleet.git.rescue import RESCUE_PREFIX
from quarterdeck.fleet.git.run import git, line
from quarterdeck.fleet.git.worktree import branches_in_use, drop_branch, unmerged_commits

GRACE_SECONDS = 600.0
_DEPTH = 3


async def disk_use(path: Path) -> int:
    """The bytes that a folder takes on the disk (its blocks; links not followed); 0 when it is not there."""
    return await run_sync(used_bytes, path)


@dataclass(frozen=True, kw_only=True)
class _Repository:
    path: Path
    shared: Path
    base: str | None
    worktrees: list[parse.Worktree] = field(default_factory=list)


async def find_leftovers(
    agents_folder: Path,
    living: Collection[str],
    repositories: Mapping[Path, str | None],
    *,
    scratch_folder: Path,
    grace_seconds: float = GRACE_SECONDS,
) -> list[Leftover]:
    """What no living agent has: what could be removed, and what is kept and why. Nothing is changed.

    `living` are the names of the agents that have a record, `repositories` the projects' folders with
    their base branches (None: the one that is checked out). A folder that is no repository any more is
    passed over.
    """
    found = await survey(agents_folder, living, repositories, scratch_folder=scratch_folder)
    return plan(found, living, grace_seconds=grace_seconds)


async def survey(
    agents_folder: Path, living: Collection[str], repositories: Mapping[Path, str | None], *, scratch_folder: Path
) -> Survey:
    """Look at everything of ours: folders (but the living's), registrations, branches, scratches, rescue refs."""
    known = [facts for path, base in repositories.items() if (facts := await _look_at(path, base))]
    found = Survey()
    for folder in await run_sync(_subfolders, agents_folder):
        if folder.name in living:
            continue
        found.folders.append(await _folder_facts(folder))
    for repository in known:
        found.registrations.extend(await run_sync(_gone, repository, agents_folder))
        found.branches.extend(await _branch_facts(repository))
        for path in await scratch.stale_scratches(repository.path, scratch_folder):
            used = await disk_use(path)
            found.scratches.append(ScratchFacts(repo=str(repository.path), path=str(path), bytes=used))
        refs = parse.refs((await git(commands.refs(repository.path, RESCUE_PREFIX))).out)
        found.rescues.extend(RescueFacts(repo=str(repository.path), ref=ref, sha=sha) for ref, sha in refs.items())
    return found


async def _look_at(path: Path, base: str | None) -> _Repository | None:
    try:
        shared = await git_dir(path)
    except InvalidInput:
        return None
    try:
        base = (await resolve_base(path, base))[0]
    except QuarterdeckError:
        base = None
    return _Repository(path=path, shared=shared, base=base, worktrees=await list_worktrees(path))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []


async def _folder_facts(folder: Path) -> FolderFacts:
    age = time.time() - await run_sync(lambda: folder.stat().st_mtime)
    return FolderFacts(
        path=str(folder),
        name=folder.name,
        age_seconds=age,
        bytes=await disk_use(folder),
        unsaved=await unsaved_in(folder),
    )


async def unsaved_in(folder: Path) -> str:
    """What a folder holds that nothing else does, in words; "" for nothing."""
    checkouts = await run_sync(_checkouts, folder, _DEPTH)
    for checkout in checkouts:
        shared = await run_sync(_shared_of, checkout)
        own = own_git_dir(shared, checkout) if shared else None
        if shared is None or own is None:
            return f"a repository of its own ({checkout})"
        status = await git(commands.status(checkout), check=False)
        if status.returncode != 0:
            return f"a worktree that git cannot read ({checkout}: {status.err})"
        if dirty := parse.status_paths(status.stdout):
            return f"{len(dirty)} uncommitted files in {checkout}"
        if unfinished := busy_with(own):
            return f"{unfinished[0]} under way in {checkout}"
        head = await line(commands.commit_sha(checkout, "HEAD"))
        if head and (await git(commands.unheld(own, checkout, head))).stdout:
            return f"commits that no branch holds in {checkout}"
    return await run_sync(_files_of_nobody, folder, checkouts)


def _files_of_nobody(folder: Path, checkouts: list[Path]) -> str:
    """Files in folders without any `.git`, as in a worktree whose own was removed: no git knows whether they are saved.

    Files of the folder itself are the agent's record and logs.
    """
    for each in _subfolders(folder):
        if each.is_symlink() or any(
            checkout.is_relative_to(each) or each.is_relative_to(checkout) for checkout in checkouts
        ):
            continue
        if any(not inside.is_dir() for inside in each.rglob("*")):
            return f"files that belong to no repository ({each})"
    return ""


def _checkouts(folder: Path, depth: int) -> list[Path]:
    if os.path.lexists(folder / ".git"):
        return [folder]
    if depth == 0:
        return []
    return [found for each in _subfolders(folder) if not each.is_symlink() for found in _checkouts(each, depth - 1)]


def _shared_of(checkout: Path) -> Path | None:
    """The shared git folder of a linked worktree; None when it is none, or its repository is gone."""
    try:
        own = Path((checkout / ".git").read_text(errors="surrogateescape").removeprefix("gitdir: ").rstrip("\n"))
        own = (checkout / own).resolve()
        return (own / (own / "commondir").read_text().strip()).resolve()
    except OSError:
        return None


def _gone(repository: _Repository, agents_folder: Path) -> list[RegistrationFacts]:
    top = agents_folder.resolve()
    gone = []
    for each in repository.worktrees:
        path = Path(each.path)
        if path.resolve().is_relative_to(top) and not path.exists():
            name = path.resolve().relative_to(top).parts[0]
            gone.append(RegistrationFacts(repo=str(repository.path), path=each.path, name=name))
    return gone


async def _branch_facts(repository: _Repository) -> list[BranchFacts]:
    repo = repository.path
    in_use = await branches_in_use(repo, repository.shared)
    gone = {each.branch for each in repository.worktrees if each.branch and not await _is_there(each.path)}
    refs = parse.refs((await git(commands.refs(repo, f"refs/heads/{BRANCH_PREFIX}"))).out)
    facts = []
    for ref, sha in refs.items():
        branch = ref.removeprefix("refs/heads/")
        facts.append(
            BranchFacts(
                repo=str(repo),
                branch=branch,
                sha=sha,
                base=repository.base,
                commits=await unmerged_commits(repo, branch, repository.base) if repository.base else None,
                # A worktree that is gone uses nothing; its registration goes first.
                in_use=branch in in_use - gone or branch == repository.base,
            )
        )
    return facts


async def _is_there(path: str) -> bool:
    return await run_sync(os.path.exists, path)


async def remove_leftover(leftover: Leftover) -> None:
    """Carry out one line of the plan, after looking again whether it still holds.

    Raises `InvalidInput` for one that is to be kept, `Conflict` when it holds work by now. Doing it again is
    harmless. Registrations must go before the branches that they hold: keep the plan's order.
    """
    if leftover.action != "remove":
        raise InvalidInput(f"{leftover.what} is kept: {leftover.reason}", hint="save its work first")
    path = Path(leftover.what)
    if leftover.kind == "folder":
        await _remove_folder(path)
        return
    assert leftover.repo is not None
    repo = Path(leftover.repo)
    if leftover.kind == "scratch":
        if scratch.is_stale(path):
            await scratch.remove_scratch(repo, path)
    elif leftover.kind == "worktree":
        if await _is_there(leftover.what):
            raise Conflict(f"{path} is there again; its registration was kept", hint="run `qd gc` again")
        await git(commands.forget_worktree(repo, path), check=False)
    elif leftover.kind == "branch":
        assert leftover.base is not None
        done = await drop_branch(repo, await git_dir(repo), leftover.what, base=leftover.base)
        if done.branch_kept:
            raise Conflict(f"the branch {leftover.what} was kept: {done.reason}", hint="run `qd gc` again")


async def _remove_folder(folder: Path) -> None:
    if unsaved := await unsaved_in(folder):
        raise Conflict(f"{folder} was kept: it holds {unsaved}", hint="save it, then run `qd gc` again")
    checkouts = [(_shared_of(path), path) for path in await run_sync(_checkouts, folder, _DEPTH)]
    await run_sync(remove_tree, folder)
    for shared, checkout in checkouts:
        assert shared is not None, "unsaved_in has refused what belongs to no repository"
        await git(commands.forget_worktree(shared, checkout), check=False)
