"""What a folder is to git: is it a repository that agents can work in, and from which branch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from quarterdeck.errors import InvalidInput, NotFound, Unavailable
from quarterdeck.fleet.git import commands, parse
from quarterdeck.fleet.git.run import READ_SECONDS, git, line, some

MIN_GIT = (2, 36)


@dataclass(frozen=True, kw_only=True)
class RepoFacts:
    """A repository, seen from a folder in it.

    `root` is the top of the main worktree, `worktree` that of the one the folder lies in, `git_dir` the
    git folder that all worktrees share. `branch` (None: detached), `head` and `dirty` (changed or
    untracked files) are those of `worktree`.
    """

    root: Path
    worktree: Path
    git_dir: Path
    branch: str | None
    head: str
    dirty: bool
    shallow: bool


async def git_version() -> str:
    """The version of the installed git. Raises `Unavailable` when it is missing or older than `MIN_GIT`."""
    done = await git(commands.version(), timeout_seconds=READ_SECONDS)
    found = re.search(r"(\d+)\.(\d+)[\w.]*", done.out)
    if found is None or (int(found[1]), int(found[2])) < MIN_GIT:
        wanted = ".".join(map(str, MIN_GIT))
        raise Unavailable(f"{done.out!r} is too old", hint=f"install git {wanted} or later")
    return found[0]


async def inspect(path: Path) -> RepoFacts:
    """Look at the repository in which a folder lies; nothing is changed.

    Raises `InvalidInput` for a missing folder, one that is in no repository, a bare repository, and one
    without a commit.
    """
    _must_be_folder(path)
    done = await git(commands.layout(path), check=False, timeout_seconds=READ_SECONDS)
    if done.returncode != 0:
        raise InvalidInput(
            f"{path} is not in a git repository: {done.err}",
            hint=f"make one: git -C {path} init && git -C {path} add -A && git -C {path} commit -m first",
        )
    bare, shallow, common, own = parse.fields(done.stdout.replace(b"\n", b"\0"))
    top = await line(commands.toplevel(path)) if bare == "false" else None
    if not top:
        raise InvalidInput(
            f"{path} is a bare repository (or inside of a git folder), without files to work on",
            hint=f"clone it (git clone {path} FOLDER) or add a worktree, and name that folder",
        )
    worktree = Path(top)
    head = await line(commands.commit_sha(worktree, "HEAD"))
    if head is None:
        raise InvalidInput(
            f"{worktree} has no commit yet on the branch that is checked out, so there is nothing to start from",
            hint=f"git -C {worktree} add -A && git -C {worktree} commit -m first",
        )
    root = worktree
    if own != common:
        main = (await list_worktrees(worktree))[0]
        root = worktree if main.bare else Path(main.path)
    status = await git(commands.status(worktree), timeout_seconds=READ_SECONDS)
    return RepoFacts(
        root=root,
        worktree=worktree,
        git_dir=Path(common),
        branch=await line(commands.checked_out(worktree)),
        head=head,
        dirty=bool(status.stdout),
        shallow=shallow == "true",
    )


async def git_dir(repo: Path) -> Path:
    """The git folder that all worktrees of a repository share. Raises `InvalidInput` when it is none."""
    _must_be_folder(repo)
    done = await git(commands.layout(repo), check=False, timeout_seconds=READ_SECONDS)
    if done.returncode != 0:
        raise InvalidInput(f"{repo} is not a git repository", hint="name the folder of a git repository")
    return Path(parse.fields(done.stdout.replace(b"\n", b"\0"))[2])


def _must_be_folder(path: Path) -> None:
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise InvalidInput(f"{path} {what}", hint="name the folder of a git repository")


async def list_worktrees(repo: Path) -> list[parse.Worktree]:
    """Every worktree of a repository, the main one first."""
    return parse.worktrees((await git(commands.worktrees(repo), timeout_seconds=READ_SECONDS)).stdout)


async def resolve_base(repo: Path, base: str | None) -> tuple[str, str]:
    """The local branch that work starts from and goes home to, and its commit.

    None means the branch that is checked out. Raises `NotFound` when there is no such branch,
    `InvalidInput` when none is given and none is checked out.
    """
    if base is None:
        base = await line(commands.checked_out(repo))
        if base is None:
            raise InvalidInput(
                f"no branch is checked out in {repo} (detached HEAD), so the base is not known",
                hint=f"name a base branch; there are: {await _branches(repo)}",
            )
    return base, await branch_sha(repo, base)


async def branch_sha(repo: Path, branch: str) -> str:
    """The commit of a local branch. Raises `NotFound` with the branches that there are."""
    # A NUL cannot even be handed to git.
    sha = None if "\0" in branch else await line(commands.branch_sha(repo, branch))
    if sha is None:
        raise NotFound(
            f"there is no local branch {branch!r} in {repo}",
            hint=f"the branches are: {await _branches(repo)}; a remote one needs `git branch NAME REMOTE/NAME` first",
        )
    return sha


async def _branches(repo: Path) -> str:
    found = parse.refs((await git(commands.refs(repo, "refs/heads"))).out)
    return some([name.removeprefix("refs/heads/") for name in found]) or "none"


async def identity(repo: Path) -> dict[str, str]:
    """The environment that lets git commit: nothing when the user is known, else an identity of ours."""
    known = await line(commands.identity(repo)) is not None
    return {} if known else dict(commands.FALLBACK_IDENTITY)


def busy_with(worktree_git_dir: Path) -> tuple[str, str | None] | None:
    """The operation that was left unfinished in a worktree, and the branch it will move; None when none."""
    for folder in ("rebase-merge", "rebase-apply"):
        if (worktree_git_dir / folder).is_dir():
            try:
                ref = (worktree_git_dir / folder / "head-name").read_text(errors="surrogateescape").strip()
            except OSError:
                ref = ""
            return "a rebase", ref.removeprefix("refs/heads/") or None
    for file, what in (("MERGE_HEAD", "a merge"), ("CHERRY_PICK_HEAD", "a cherry-pick"), ("REVERT_HEAD", "a revert")):
        if (worktree_git_dir / file).exists():
            return what, None
    return None


def own_git_dir(common: Path, worktree: Path) -> Path | None:
    """The git folder of one worktree's own, found from the repository's side; None when not registered."""
    wanted = worktree.resolve() / ".git"
    for file in sorted(common.glob("worktrees/*/gitdir")):
        try:
            named = Path(file.read_text(errors="surrogateescape").rstrip("\n"))
        except OSError:
            continue
        # git may write the path relative to its own folder (extensions.relativeWorktrees).
        if (file.parent / named).parent.resolve() / ".git" == wanted:
            return file.parent
    if common.parent.resolve() == worktree.resolve():
        return common
    return None
