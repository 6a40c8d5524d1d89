"""Nothing is lost when an agent's worktree goes: what no branch holds is committed to a ref of its own.

The ref is `refs/quarterdeck/rescue/NAME-TIME`. Its commit has the worktree's files as they were, byte for
byte, on top of the worktree's HEAD; further parents keep what was staged and a merge under way.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from quarterdeck.errors import NotFound, Unavailable
from quarterdeck.fleet.git import commands, parse, snapshot
from quarterdeck.fleet.git.repository import git_dir, identity, own_git_dir
from quarterdeck.fleet.git.run import git, line, shown

RESCUE_PREFIX = "refs/quarterdeck/rescue/"
NESTED_PREFIX = "refs/quarterdeck/rescue-nested/"
_PENDING = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")


@dataclass(frozen=True, kw_only=True)
class Rescued:
    """Where the work is: `git show REF`, `git checkout -b NAME REF`.

    `files` counts those that differ from `head`, the commit the worktree stood on (None: no commit).
    `nested` are repositories inside of the worktree whose files were kept as plain files; the history that
    only they had is below `nested_refs`. `not_kept` tells, path and reason, what could not be kept.
    """

    ref: str
    sha: str
    head: str | None
    files: int
    nested: list[str]
    nested_refs: list[str]
    not_kept: list[str]


async def rescue(repo: Path, worktree: Path, name: str, at: float) -> Rescued | None:
    """Commit what is unsaved in a worktree to a rescue ref; None when all is on branches already.

    Unsaved is: changed, staged and untracked (not ignored) files, and commits that only the worktree's HEAD
    holds. `at` is the time (seconds since the epoch) that names the ref. The ref has been read again when
    this returns. The worktree itself is not changed. Raises `NotFound` when the folder is not there, `Unavailable`
    when something could not be saved (a full disk): then nothing may be deleted.
    """
    if not _is_folder(worktree):
        raise NotFound(f"there is no worktree {worktree}", hint="nothing can be rescued from it")
    shared = await git_dir(repo)
    own = own_git_dir(shared, worktree)
    place = snapshot.Place(git_dir=own or shared, worktree=worktree)
    # A worktree that git has forgotten has no HEAD any more; its branch is the best that is left.
    head = await line(commands.commit_sha(repo, f"refs/heads/qd/{name}")) if own is None else await _head(place)
    with tempfile.TemporaryDirectory(prefix="qd-rescue-") as folder:
        taken = await snapshot.take(place, head, Path(folder), exact=True)
    ref = await _free_ref(repo, f"{name}-{_stamp(at)}")
    nested_refs, lost_history = await _keep_nested_history(place, taken, ref)
    not_kept = [shown(text) for text in (*taken.not_kept, *lost_history)]

    head_tree = await line(commands.tree_sha(repo, head)) if head else (await git(commands.empty_tree(repo))).out
    staged = taken.staged_tree if own and taken.staged_tree not in (head_tree, taken.tree) else None
    pending = await _unheld_pending(place) if own else []
    loose_head = bool(own and head and await _is_unheld(place, head))
    if taken.tree == head_tree and not (staged or pending or loose_head or nested_refs or not_kept):
        return None

    who = await identity(repo)
    files = len(parse.fields((await git(commands.changed_paths(repo, head_tree or "", taken.tree))).stdout))
    parents = [*([head] if head else []), *pending]
    if staged:
        parents.append(await _commit(place, staged, parents[:1], f"What {name} had staged\n", who))
    text = _message(name, files, [shown(path) for path in taken.nested], not_kept)
    sha = await _commit(place, taken.tree, parents, text, who)
    await git(commands.move_ref(repo, ref, sha, commands.NO_SHA, f"quarterdeck: rescue of {name}"))
    await _verify(place, repo, ref, sha, taken.tree)
    return Rescued(
        ref=ref,
        sha=sha,
        head=head,
        files=files,
        nested=[shown(path) for path in taken.nested],
        nested_refs=nested_refs,
        not_kept=not_kept,
    )


async def find_rescue(repo: Path, name: str, since: float) -> str | None:
    """The newest rescue ref of this name that was made since then (seconds since the epoch); None without one.

    For a deletion that was interrupted before anybody wrote down where the work went.
    """
    made = re.compile(rf"{re.escape(RESCUE_PREFIX + name)}-(\d{{8}}T\d{{6}}Z)(?:-(\d+))?")
    refs = parse.refs((await git(commands.refs(repo, RESCUE_PREFIX))).out)
    found = [(m[1], int(m[2] or 1), ref) for ref in refs if (m := made.fullmatch(ref)) and m[1] >= _stamp(since)]
    return max(found)[2] if found else None


def _stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}"


def _is_folder(path: Path) -> bool:
    return path.is_dir()


async def _head(place: snapshot.Place) -> str | None:
    return await line(place.command("rev-parse", "--verify", "--quiet", "HEAD^{commit}"))


async def _free_ref(repo: Path, stem: str) -> str:
    """A ref that is not there yet: two rescues may fall into one second."""
    known = parse.refs((await git(commands.refs(repo, RESCUE_PREFIX))).out)
    number, ref = 1, RESCUE_PREFIX + stem
    while ref in known:
        number += 1
        ref = f"{RESCUE_PREFIX}{stem}-{number}"
    return ref


async def _is_unheld(place: snapshot.Place, sha: str) -> bool:
    return bool((await git(commands.unheld(place.git_dir, place.worktree, sha))).stdout)


async def _unheld_pending(place: snapshot.Place) -> list[str]:
    """The commits that an unfinished merge or cherry-pick names and that no ref holds."""
    kept: list[str] = []
    for file in _PENDING:
        try:
            shas = (place.git_dir / file).read_text().split()
        except OSError:
            continue
        kept += [sha for sha in shas if sha not in kept and await _is_unheld(place, sha)]
    return kept


async def _keep_nested_history(
    place: snapshot.Place, taken: snapshot.Snapshot, ref: str
) -> tuple[list[str], list[str]]:
    """Take over the commits that only repositories inside of the worktree have: the refs, and what failed."""
    refs: list[str] = []
    failed: list[str] = []
    for number, path in enumerate(await _repositories_inside(place, taken), 1):
        folder = place.worktree / path
        if await line(commands.read(folder, "rev-parse", "--verify", "--quiet", "HEAD")) is None:
            continue
        own = await git(
            commands.read(folder, "rev-list", "--max-count=1", "HEAD", "--branches", "--not", "--remotes", "--"),
            check=False,
        )
        if own.returncode == 0 and not own.stdout:
            continue
        under = f"{NESTED_PREFIX}{ref.removeprefix(RESCUE_PREFIX)}/{number}"
        done = await git(commands.fetch_history(place.git_dir, place.worktree, folder, under), check=False)
        if done.returncode == 0:
            refs.append(under)
        else:
            failed.append(f"{path}: the history of this repository ({done.err[-300:]})")
    return refs, failed


async def _repositories_inside(place: snapshot.Place, taken: snapshot.Snapshot) -> list[str]:
    """Nested repositories: those found by the snapshot, clean submodules, and one that replaced the worktree's own."""
    listed = await git(place.command("ls-tree", "-r", "-z", taken.tree))
    modules = [entry.split("\t", 1)[1] for entry in parse.fields(listed.stdout) if entry.startswith("160000 ")]
    present = [path for path in modules if _is_repository(place.worktree / path)]
    replaced = ["."] if place.git_dir != place.worktree / ".git" and _is_folder(place.worktree / ".git") else []
    return [*replaced, *dict.fromkeys((*taken.nested, *present))]


def _is_repository(folder: Path) -> bool:
    return os.path.lexists(folder / ".git")


async def _commit(place: snapshot.Place, tree: str, parents: list[str], text: str, who: dict[str, str]) -> str:
    command = commands.commit_tree(place.git_dir, place.worktree, tree, parents)
    return (await git(command, env=who, stdin=os.fsencode(text))).out


def _message(name: str, files: int, nested: list[str], not_kept: list[str]) -> str:
    rows = [f"Rescue of {name}: {files} files", ""]
    rows += [f"Kept as plain files, was a repository: {path}" for path in nested]
    rows += [f"Not kept: {text}" for text in not_kept]
    return "\n".join(rows) + "\n"


async def _verify(place: snapshot.Place, repo: Path, ref: str, sha: str, tree: str) -> None:
    """Read it back. Raises `Unavailable` when the ref or one of its objects is not there."""
    found = await line(commands.commit_sha(repo, ref)), await line(commands.tree_sha(repo, ref))
    known = [parent] if (parent := await line(commands.commit_sha(repo, f"{ref}~1"))) else []
    complete = await git(commands.connected(place.git_dir, place.worktree, sha, known), check=False)
    if found != (sha, tree) or complete.returncode != 0:
        raise Unavailable(
            f"the rescue {ref} cannot be read back: {complete.err}; the worktree {place.worktree} was not touched",
            hint=f"check the repository with git -C {repo} fsck, then try again",
        )
