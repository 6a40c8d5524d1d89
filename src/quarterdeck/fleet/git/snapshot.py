"""What lies in a worktree right now, as a git tree, without touching the worktree's index.

A copy of the index is brought to HEAD; what then differs on the disk is stored and entered there. So it
works beside an `index.lock`, in the midst of a merge or rebase, and with a broken index.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anyio.to_thread import run_sync

from quarterdeck.errors import Unavailable
from quarterdeck.fleet.git import commands, parse
from quarterdeck.fleet.git.run import git

_RETRIES = 5
_SUBMODULE = "160000"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A worktree and the git folder to look at it with (its own, so that its HEAD and index are meant)."""

    git_dir: Path
    worktree: Path

    def command(self, *arguments: str) -> list[str]:
        """A git command about this worktree."""
        return commands.at(self.git_dir, self.worktree, *arguments)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The tree of a worktree, and of its index where that holds something else.

    `nested` are the repositories in it whose files are in the tree as plain files; `not_kept` says, path
    and reason, what could not be stored.
    """

    tree: str
    staged_tree: str | None
    nested: list[str]
    not_kept: list[str]


@dataclass
class _Found:
    """What differs from HEAD on the disk, sorted by how it is stored; the values are modes."""

    gone: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, bytes] = field(default_factory=dict)
    nested: list[str] = field(default_factory=list)
    not_kept: list[str] = field(default_factory=list)


async def take(
    place: Place, head: str | None, scratch: Path, *, exact: bool, env: Mapping[str, str] | None = None
) -> Snapshot:
    """Store the worktree's files and give the tree; `head` is the commit it stands on, None for none.

    `scratch` is an empty folder for temporary files. With `exact`, files are stored byte for byte and those of
    nested repositories too; without, as `git add` would (filters, line ends) and nested ones are left out.
    `env` can send the objects elsewhere. Raises `CommandFailed` when git cannot store.
    """
    environment = {**(env or {}), "GIT_INDEX_FILE": str(scratch / "index")}
    own_index = await run_sync(_copy_index, place.git_dir / "index", scratch / "index")
    staged_tree, staged_paths = None, set[str]()
    if own_index:
        written = await git(place.command("write-tree"), env=environment, check=False)
        staged_tree = written.out if written.returncode == 0 else None
        listed = await git(place.command("ls-files", "-z"), env=environment, check=False)
        staged_paths = set(parse.fields(listed.stdout))
    await _reset_copy(place, head, scratch / "index", environment)

    entries = parse.staged((await git(place.command("ls-files", "--stage", "-z"), env=environment)).stdout)
    modules = {entry.path for entry in entries if entry.mode == _SUBMODULE}
    tracked = {entry.path for entry in entries}
    changed = await git(
        place.command("diff-files", "-z", "--name-only", "--no-renames", "--ignore-submodules=none"), env=environment
    )
    untracked = await git(place.command("ls-files", "-z", "--others", "--exclude-standard"), env=environment)
    candidates = {*parse.fields(changed.stdout), *parse.fields(untracked.stdout), *(staged_paths - tracked)}
    found = await run_sync(_classify, place.worktree, sorted(candidates), tracked, modules)
    if exact:
        for path in list(found.nested):
            await _enter_nested(place.worktree, path, found)
    await _store(place, found, scratch, exact=exact, environment=environment)
    tree = (await git(place.command("write-tree"), env=environment)).out
    return Snapshot(
        tree=tree,
        staged_tree=staged_tree,
        nested=found.nested if exact else [],
        not_kept=found.not_kept,
    )


def _copy_index(index: Path, copy: Path) -> bool:
    try:
        # With its times: by them git knows which entries are too young to be trusted without a look at the file.
        shutil.copy2(index, copy)
    except OSError:
        return False
    return True


async def _reset_copy(place: Place, head: str | None, index: Path, environment: Mapping[str, str]) -> None:
    """Bring the copied index to HEAD, keeping what it knows about unchanged files, so that few are read again."""
    target = [head] if head else ["--empty"]
    done = await git(place.command("read-tree", *(["--reset"] if head else []), *target), env=environment, check=False)
    if done.returncode != 0:
        # The index is broken, which the files are not: begin without it.
        await run_sync(_unlink, index)
        await git(place.command("read-tree", *target), env=environment)
    # "Really": files that were declared unchanged (`update-index --assume-unchanged`) are looked at as well.
    await git(place.command("update-index", "-q", "--really-refresh"), env=environment, check=False)


def _unlink(file: Path) -> None:
    file.unlink(missing_ok=True)


def _classify(top: Path, paths: Sequence[str], tracked: set[str], modules: set[str]) -> _Found:
    found = _Found()
    for path in paths:
        name = path.rstrip("/")
        try:
            facts = os.lstat(top / name)
        except OSError:
            found.gone.append(name)
            continue
        if _is_refused(name, facts.st_mode):
            found.not_kept.append(f"{name}: git takes no such name")
        elif stat.S_ISREG(facts.st_mode):
            found.files[name] = "100755" if facts.st_mode & stat.S_IXUSR else "100644"
        elif stat.S_ISLNK(facts.st_mode):
            found.links[name] = os.fsencode(os.readlink(top / name))  # noqa: PTH115 (a Path drops a "/" at the end)
        elif stat.S_ISDIR(facts.st_mode):
            if os.path.lexists(top / name / ".git"):
                found.nested.append(name)
            elif name not in modules:
                found.gone.append(name)
        else:
            found.not_kept.append(f"{name}: neither a file nor a link")
    found.gone = [name for name in found.gone if name in tracked]
    return found


def _is_refused(path: str, mode: int) -> bool:
    """Whether git would refuse the entry, and with it all others: `.GIT` as a part, `.gitmodules` as a link."""
    parts = path.lower().split("/")
    return ".git" in parts or (stat.S_ISLNK(mode) and parts[-1] == ".gitmodules")


async def _enter_nested(top: Path, path: str, found: _Found) -> None:
    """Add the files of a repository inside of the worktree, and of those inside of it."""
    folder = top / path
    listed = await git(
        commands.read(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"),
        check=False,
    )
    names = parse.fields(listed.stdout) if listed.returncode == 0 else await run_sync(_walk, folder)
    inside = await run_sync(_classify, top, [f"{path}/{name}" for name in names], set[str](), set[str]())
    found.gone.append(path)
    found.files.update(inside.files)
    found.links.update(inside.links)
    found.not_kept.extend(inside.not_kept)
    for deeper in inside.nested:
        found.nested.append(deeper)
        await _enter_nested(top, deeper, found)


def _walk(folder: Path) -> list[str]:
    names: list[str] = []
    for here, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        names += [os.path.relpath(Path(here) / name, folder) for name in (*files, *links) if name != ".git"]
    return names


async def _store(place: Place, found: _Found, scratch: Path, *, exact: bool, environment: Mapping[str, str]) -> None:
    """Put the objects into the store and the entries into the copied index."""
    nothing = "0" * len((await git(commands.empty_tree(place.git_dir), env=environment)).out)
    records = [f"0 {nothing}\t{path}" for path in found.gone]
    files = list(found.files)
    for path, sha in zip(files, await _hash(place, files, exact=exact, environment=environment), strict=True):
        if sha is None:
            _note_unread(place.worktree, path, found)
        else:
            records.append(f"{found.files[path]} {sha}\t{path}")
    if found.links:
        targets = await run_sync(_write_targets, scratch / "links", list(found.links.values()))
        for path, sha in zip(
            found.links, await _hash(place, targets, exact=True, environment=environment), strict=True
        ):
            if sha is None:
                raise Unavailable("git could not store the links of the worktree", hint="is there room on the disk?")
            records.append(f"120000 {sha}\t{path}")
    if records:
        await git(
            place.command("update-index", "-z", "--add", "--replace", "--index-info"),
            env=environment,
            stdin=b"".join(os.fsencode(record) + b"\0" for record in records),
        )


def _note_unread(top: Path, path: str, found: _Found) -> None:
    # A file that is gone by now was somebody's temporary one; one that is there and cannot be read is told.
    if os.path.lexists(top / path):
        found.not_kept.append(f"{path}: cannot be read")


def _write_targets(folder: Path, targets: Sequence[bytes]) -> list[str]:
    folder.mkdir()
    paths = []
    for number, target in enumerate(targets):
        (folder / str(number)).write_bytes(target)
        paths.append(str(folder / str(number)))
    return paths


async def _hash(place: Place, paths: Sequence[str], *, exact: bool, environment: Mapping[str, str]) -> list[str | None]:
    """Store files, one sha for each; None for one that cannot be read.

    One file that vanishes or shrinks while git reads it ends the whole git process: what it had done
    counts, the rest is tried again in halves, and a single file a few times.
    """
    if not paths:
        return []
    for _ in range(_RETRIES if len(paths) == 1 else 1):
        done = await git(
            commands.hash_files(place.git_dir, place.worktree, exact=exact),
            env=environment,
            stdin=b"".join(parse.quoted(path) + b"\n" for path in paths),
            check=False,
        )
        shas: list[str | None] = [*done.out.split()]
        if done.returncode == 0 and len(shas) == len(paths):
            return shas
    if len(paths) == 1:
        return [None]
    rest = paths[len(shas) :]
    middle = max(1, len(rest) // 2)
    for part in (rest[:middle], rest[middle:]):
        shas += await _hash(place, part, exact=exact, environment=environment)
    return shas
