"""Scratch worktrees, in which a merge is made and checked; none stays behind, even after a kill -9.

The folder's name tells which process made it (its identity), so the next call knows the dead ones'.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.fleet.git import commands, locks
from quarterdeck.fleet.git.folders import remove_tree
from quarterdeck.fleet.git.repository import git_dir, list_worktrees
from quarterdeck.fleet.git.run import git

_NAME = re.compile(r"merge-(\d+)-([0-9a-f]*\.\d+)-[0-9a-f]{8}")


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """A scratch worktree; `mark` is to be carried by every process that works in it, so that none outlives it."""

    path: Path
    mark: str


@contextlib.asynccontextmanager
async def scratch_worktree(repo: Path, folder: Path, sha: str) -> AsyncIterator[Scratch]:
    """A detached worktree at a commit below `folder`, gone afterwards with all processes that carry its mark."""
    shared = await git_dir(repo)
    pid = os.getpid()
    name = f"merge-{pid}-{proctree.identity(pid)}-{secrets.token_hex(4)}"
    path = folder / name
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        async with _registry(shared):
            await git(commands.add_detached(repo, path, sha), env={proctree.MARK_VARIABLE: name})
        yield Scratch(path=path, mark=name)
    finally:
        with anyio.CancelScope(shield=True):
            await remove_scratch(repo, path)


async def remove_scratch(repo: Path, path: Path) -> None:
    """Remove a scratch worktree: its processes, its folder and its registration."""
    await run_sync(proctree.kill_everything, None, path.name, None)
    await run_sync(remove_tree, path)
    async with _registry(await git_dir(repo)):
        await git(commands.forget_worktree(repo, path), check=False)


def _registry(shared: Path) -> contextlib.AbstractAsyncContextManager[None]:
    return locks.held(locks.lock_path(shared, "worktrees"), timeout_seconds=120, what=f"the worktrees of {shared}")


def is_stale(path: Path) -> bool:
    """Whether this is a scratch worktree's path whose maker is dead."""
    found = _NAME.fullmatch(path.name)
    return found is not None and not proctree.is_alive(int(found[1]), found[2])


async def stale_scratches(repo: Path, folder: Path) -> list[Path]:
    """The scratch worktrees below `folder` whose makers died: folders, and registrations of this repository."""
    place = await run_sync(folder.resolve)
    registered = [Path(each.path) for each in await list_worktrees(repo)]
    ours = [path for path in registered if path.parent in (folder, place)]
    present = await run_sync(_folders, folder)
    by_name = {path.name: path for path in (*ours, *present)}
    return [path for path in by_name.values() if is_stale(path)]


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


async def clean(repo: Path, folder: Path) -> list[Path]:
    """Remove what dead processes left; what it was."""
    stale = await stale_scratches(repo, folder)
    for path in stale:
        await remove_scratch(repo, path)
    return stale
