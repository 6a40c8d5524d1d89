"""The git commands, as lists: pure, so that the exact list can be tested.

Every command runs without pager, hooks and file-system monitor. What only reads takes no optional lock,
so it never stands in the way of an agent that commits. Values that come from outside stand behind
`--end-of-options` or `--`, or are part of a full ref name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_COMMON = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.quotePath=false",
)  # fmt: skip
READ = ("git", "--no-pager", "--no-optional-locks", *_COMMON)
WRITE = (
    "git", "--no-pager", *_COMMON,
    "-c", "core.filesRefLockTimeout=10000",
    "-c", "core.packedRefsTimeout=10000",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "commit.gpgSign=false",
    "-c", "submodule.recurse=false",
)  # fmt: skip
# What a rescue writes must be on the disk before the worktree goes; and names that only another system
# could not have (`git~1`) are names here.
DURABLE = (*WRITE, "-c", "core.fsync=all", "-c", "core.protectNTFS=false", "-c", "core.protectHFS=false")

ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
    "GIT_ADVICE": "0",
}
FALLBACK_IDENTITY = {
    "GIT_AUTHOR_NAME": "Quarterdeck",
    "GIT_AUTHOR_EMAIL": "quarterdeck@localhost",
    "GIT_COMMITTER_NAME": "Quarterdeck",
    "GIT_COMMITTER_EMAIL": "quarterdeck@localhost",
}
NO_SHA = ""  # as the expected value of `update-ref`: the ref must not exist
BEING_MADE = "quarterdeck: being made"


def read(folder: Path, *arguments: str) -> list[str]:
    """A command that changes nothing, run in a folder."""
    return [*READ, "-C", str(folder), *arguments]


def write(folder: Path, *arguments: str) -> list[str]:
    """A command that changes the repository, run in a folder."""
    return [*WRITE, "-C", str(folder), *arguments]


def at(git_dir: Path, worktree: Path, *arguments: str) -> list[str]:
    """A durable command that names both folders, so that a broken `.git` file does not matter."""
    return [*DURABLE, f"--git-dir={git_dir}", f"--work-tree={worktree}", "-C", str(worktree), *arguments]


def empty_tree(folder: Path) -> list[str]:
    """Store and name the tree without files (its sha depends on the repository's hash)."""
    return [*DURABLE, "-C", str(folder), "mktree"]


def version() -> list[str]:
    """`git version ...`."""
    return ["git", "version"]


def layout(folder: Path) -> list[str]:
    """Four lines: bare?, shallow?, the shared git folder, this worktree's own git folder."""
    return read(
        folder,
        "rev-parse",
        "--path-format=absolute",
        "--is-bare-repository",
        "--is-shallow-repository",
        "--git-common-dir",
        "--absolute-git-dir",
    )


def toplevel(folder: Path) -> list[str]:
    """The top of the worktree in which a folder lies."""
    return read(folder, "rev-parse", "--path-format=absolute", "--show-toplevel")


def commit_sha(folder: Path, revision: str) -> list[str]:
    """The commit that a revision names; exit 1 when there is none."""
    return read(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")


def tree_sha(folder: Path, revision: str) -> list[str]:
    """The tree of a revision."""
    return read(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{tree}}")


def branch_sha(folder: Path, branch: str) -> list[str]:
    """The commit of exactly this local branch (`x~1` is no branch); exit 1 when there is none."""
    return read(folder, "show-ref", "--verify", "--hash", "--", f"refs/heads/{branch}")


def checked_out(folder: Path) -> list[str]:
    """The branch that is checked out; exit 1 for a detached HEAD."""
    return read(folder, "symbolic-ref", "--quiet", "--short", "HEAD")


def refs(folder: Path, *prefixes: str) -> list[str]:
    """`sha refname` lines of the refs below the prefixes, newest commits first."""
    return read(folder, "for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", *prefixes)


def status(folder: Path) -> list[str]:
    """What differs from HEAD, NUL-separated, untracked files one by one."""
    return read(
        folder,
        "status",
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        "--ignore-submodules=none",
        "--no-renames",
    )


def worktrees(folder: Path) -> list[str]:
    """Every worktree of the repository (git 2.36 or later)."""
    return read(folder, "worktree", "list", "--porcelain", "-z")


def add_worktree(repo: Path, path: Path, branch: str, sha: str) -> list[str]:
    """Register a worktree on a branch made at `sha`, empty, locked until it is complete."""
    return write(
        repo, "worktree", "add", "--no-checkout", "--no-track", "--lock", "--reason", BEING_MADE,
        "-B", branch, "--", str(path), sha,
    )  # fmt: skip


def add_detached(repo: Path, path: Path, sha: str) -> list[str]:
    """A worktree without a branch, filled with the files of a commit."""
    return write(repo, "worktree", "add", "--detach", "--", str(path), sha)


def fill_worktree(path: Path) -> list[str]:
    """Check out the files of HEAD."""
    return write(path, "reset", "--hard", "--quiet", "HEAD")


def unlock_worktree(repo: Path, path: Path) -> list[str]:
    """Say that a worktree is complete."""
    return write(repo, "worktree", "unlock", "--", str(path))


def forget_worktree(repo: Path, path: Path) -> list[str]:
    """Remove a worktree's registration, locked or not, and its folder if it is still there."""
    return write(repo, "worktree", "remove", "--force", "--force", "--", str(path))


def delete_branch(repo: Path, branch: str, expected: str) -> list[str]:
    """Delete a branch if it still is at the expected commit."""
    return write(repo, "update-ref", "-d", f"refs/heads/{branch}", expected)


def forget_branch_settings(repo: Path, branch: str) -> list[str]:
    """Remove what `git push -u` wrote about a branch; exit 128 when there is nothing."""
    return write(repo, "config", "--local", "--remove-section", f"branch.{branch}")


def move_ref(repo: Path, ref: str, new: str, old: str, reason: str) -> list[str]:
    """Compare-and-swap of a ref; `NO_SHA` as `old` means that it must not be there."""
    return [*DURABLE, "-C", str(repo), "update-ref", "--create-reflog", "-m", reason, ref, new, old]


def own_commits(repo: Path, branch: str, base: str) -> list[str]:
    """How many commits of a branch are not in base, neither as they are nor as the same change."""
    return read(repo, "rev-list", "--count", "--right-only", "--cherry-pick", f"{base}...{branch}", "--")


def commits_between(repo: Path, old: str, new: str) -> list[str]:
    """How many commits `new` has that `old` has not."""
    return read(repo, "rev-list", "--count", f"{old}..{new}", "--")


def unheld(git_dir: Path, worktree: Path, sha: str) -> list[str]:
    """Prints something when a commit is reachable from no ref that outlives the worktree."""
    return at(
        git_dir, worktree, "rev-list", "--max-count=1", sha, "--not",
        "--exclude=refs/bisect/*", "--exclude=refs/worktree/*", "--exclude=refs/rewritten/*", "--glob=refs/*", "--",
    )  # fmt: skip


def is_ancestor(repo: Path, old: str, new: str) -> list[str]:
    """Exit 0 when `old` is in the history of `new`, 1 when not."""
    return read(repo, "merge-base", "--is-ancestor", old, new)


def merge_base(repo: Path, one: str, other: str) -> list[str]:
    """The commit at which two histories part; exit 1 when they have nothing in common."""
    return read(repo, "merge-base", one, other)


def compare(folder: Path, old: str, new: str) -> list[str]:
    """The files that differ between two trees: status and counted lines, NUL-separated."""
    return read(folder, "diff-tree", "-r", "-z", "-M", "--raw", "--numstat", "--no-abbrev", old, new, "--")


def write_diff(folder: Path, old: str, new: str, form: str, output: Path) -> list[str]:
    """Write the difference of two trees to a file, as a patch or as statistics."""
    shape = ["--patch", "--full-index"] if form == "patch" else ["--stat=100", "--summary"]
    return read(
        folder, "diff-tree", "-r", "-M", *shape, "--no-color", "--no-ext-diff", "--no-textconv",
        f"--output={output}", old, new, "--",
    )  # fmt: skip


def changed_paths(folder: Path, old: str, new: str) -> list[str]:
    """The paths that differ between two commits, NUL-separated, a rename as both of its paths."""
    return read(folder, "diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new, "--")


def merge_into_head(scratch: Path, sha: str, message: str) -> list[str]:
    """Merge a commit into the detached HEAD, always with a merge commit."""
    return [
        *WRITE, "-c", "merge.verifySignatures=false", "-c", "rerere.enabled=false", "-C", str(scratch),
        "merge", "--no-ff", "--no-edit", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", "-m", message, sha,
    ]  # fmt: skip


def rebase_head(scratch: Path, onto: str) -> list[str]:
    """Put the commits of the detached HEAD on top of another commit; no branch is moved."""
    return [
        *WRITE, "-c", "rebase.autoSquash=false", "-c", "rebase.autoStash=false", "-c", "rebase.updateRefs=false",
        "-c", "rerere.enabled=false", "-C", str(scratch),
        "rebase", "--merge", "--no-verify", "--no-gpg-sign", "--quiet", onto,
    ]  # fmt: skip


def unmerged(folder: Path) -> list[str]:
    """The files in conflict, NUL-separated."""
    return read(folder, "diff", "--name-only", "--diff-filter=U", "-z", "--no-ext-diff")


def bring_along(worktree: Path, sha: str) -> list[str]:
    """Move the checked-out branch and its files forward; git refuses where a local change would be lost."""
    return [
        *WRITE, "-c", "merge.autoStash=false", "-C", str(worktree),
        "merge", "--ff-only", "--no-autostash", "--no-overwrite-ignore", "--no-stat", "--quiet", sha,
    ]  # fmt: skip


def identity(folder: Path) -> list[str]:
    """Exit 0 when the user has told git who they are."""
    return read(folder, "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")


def commit_tree(git_dir: Path, worktree: Path, tree: str, parents: Sequence[str]) -> list[str]:
    """A commit of a tree, message on standard input."""
    return at(git_dir, worktree, "commit-tree", tree, *(word for sha in parents for word in ("-p", sha)), "-F", "-")


def hash_files(git_dir: Path, worktree: Path, *, exact: bool) -> list[str]:
    """Store the files named on standard input; `exact` byte for byte, else as `git add` would."""
    flags = ("--no-filters",) if exact else ()
    return at(git_dir, worktree, "hash-object", "-w", "-t", "blob", *flags, "--stdin-paths")


def connected(git_dir: Path, worktree: Path, sha: str, known: Sequence[str]) -> list[str]:
    """Exit 0 when every object of a commit, beyond the known ones, is there."""
    return at(git_dir, worktree, "rev-list", "--objects", "--quiet", sha, "--not", *known, "--")


def fetch_history(git_dir: Path, worktree: Path, source: Path, under: str) -> list[str]:
    """Take over HEAD and the branches of a repository on this machine, below a ref prefix."""
    return at(
        git_dir, worktree, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
        "--", str(source), f"+HEAD:{under}/HEAD", f"+refs/heads/*:{under}/heads/*",
    )  # fmt: skip
