"""An agent's work against the point where it left its base, with what it has not committed yet."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anyio.to_thread import run_sync

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.fleet.git import commands, parse, snapshot
from quarterdeck.fleet.git.repository import branch_sha, git_dir, own_git_dir
from quarterdeck.fleet.git.run import git, line, shown

FILES_LISTED = 1000
Form = Literal["stat", "patch"]


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """One changed file: git's status letter (A, M, D, R, C, T) and lines, None for a binary file."""

    path: str
    old_path: str | None
    status: str
    added: int | None
    deleted: int | None


@dataclass(frozen=True, kw_only=True)
class Diff:
    """What differs between `base` (the commit where the branch parted) and `head`.

    `head` is the branch's commit; `uncommitted` says that files beyond it are included. `files` is cut
    after `FILES_LISTED`, `files_total` is not. `text` is cut at a line end when `truncated`, of `total_bytes`.
    """

    base: str
    head: str
    uncommitted: bool
    files: list[FileChange]
    files_total: int
    added: int
    deleted: int
    text: str
    truncated: bool
    total_bytes: int


async def diff(
    folder: Path,
    base: str,
    branch: str,
    *,
    form: Form = "stat",
    max_bytes: int = 200_000,
    include_uncommitted: bool = True,
) -> Diff:
    """Compare a branch with its base, seen from the agent's worktree (or any other one of the repository).

    Uncommitted and untracked files count when the folder has the branch checked out, or is a linked
    worktree with a detached HEAD (a rebase under way); neither index nor object store is touched. `base`
    is a branch or a commit. Raises `NotFound` for an unknown branch or base.
    """
    if max_bytes < 0:
        raise InvalidInput(f"a size limit of {max_bytes} bytes cannot be", hint="give 0 or more")
    shared = await git_dir(folder)
    head = await branch_sha(folder, branch)
    start = await _start(folder, base, head)
    with tempfile.TemporaryDirectory(prefix="qd-diff-") as name:
        scratch = Path(name)
        env: dict[str, str] = {}
        end = head
        if include_uncommitted and (stands_on := await _worktree_head(folder, shared, branch)):
            env = await run_sync(_own_objects, scratch, shared)
            place = snapshot.Place(git_dir=own_git_dir(shared, folder) or shared, worktree=folder)
            end = (await snapshot.take(place, stands_on, scratch, exact=False, env=env)).tree
        committed = await line(commands.tree_sha(folder, head))
        changes = parse.compared((await git(commands.compare(folder, start, end), env=env)).stdout)
        output = scratch / "output"
        await git(commands.write_diff(folder, start, end, form, output), env=env)
        text, total = await run_sync(_beginning, output, max_bytes)
    return Diff(
        base=start,
        head=head,
        uncommitted=end not in (head, committed),
        files=[_change(each) for each in changes[:FILES_LISTED]],
        files_total=len(changes),
        added=sum(each.added or 0 for each in changes),
        deleted=sum(each.deleted or 0 for each in changes),
        text=text,
        truncated=total > max_bytes,
        total_bytes=total,
    )


async def _start(folder: Path, base: str, head: str) -> str:
    """The commit where the histories part; with nothing in common, the base itself."""
    sha = None if "\0" in base else await line(commands.commit_sha(folder, base))
    if sha is None:
        raise NotFound(f"there is no base {base!r} in {folder}", hint="name a branch or a commit (git branch --list)")
    return await line(commands.merge_base(folder, sha, head)) or sha


async def _worktree_head(folder: Path, shared: Path, branch: str) -> str | None:
    """The commit that the folder's files stand on, when they are this branch's work."""
    checked_out = await line(commands.checked_out(folder))
    is_linked = own_git_dir(shared, folder) not in (None, shared)
    if checked_out == branch or (checked_out is None and is_linked):
        return await line(commands.commit_sha(folder, "HEAD"))
    return None


def _own_objects(scratch: Path, shared: Path) -> dict[str, str]:
    """Send new objects to a temporary folder, so that looking leaves nothing in the repository."""
    objects = scratch / "objects"
    objects.mkdir()
    name = str(shared / "objects")
    if ":" in name or name.startswith('"'):
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        name = f'"{escaped}"'
    return {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_ALTERNATE_OBJECT_DIRECTORIES": name}


def _beginning(file: Path, max_bytes: int) -> tuple[str, int]:
    """The text of a file up to a limit, ending with a whole line where there is one; and the file's size."""
    total = file.stat().st_size
    with file.open("rb") as stream:
        data = stream.read(max_bytes)
    if total > max_bytes and b"\n" in data:
        data = data[: data.rindex(b"\n") + 1]
    return data.decode("utf-8", errors="replace"), total


def _change(counted: parse.Counted) -> FileChange:
    return FileChange(
        path=shown(counted.path),
        old_path=shown(counted.old_path) if counted.old_path is not None else None,
        status=counted.status,
        added=counted.added,
        deleted=counted.deleted,
    )
