"""The exact commands, and the parsers of what git prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.fleet.git import commands, parse

R = Path("/r")
W = Path("/w")
COMMON = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false"]
READ = ["git", "--no-pager", "--no-optional-locks", *COMMON]
WRITE = [
    "git", "--no-pager", *COMMON, "-c", "core.filesRefLockTimeout=10000", "-c", "core.packedRefsTimeout=10000",
    "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "commit.gpgSign=false", "-c", "submodule.recurse=false",
]  # fmt: skip
DURABLE = [*WRITE, "-c", "core.fsync=all", "-c", "core.protectNTFS=false", "-c", "core.protectHFS=false"]
AT = [*DURABLE, "--git-dir=/g", "--work-tree=/w", "-C", "/w"]
G = Path("/g")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (commands.version(), ["git", "version"]),
        (
            commands.layout(R),
            [*READ, "-C", "/r", "rev-parse", "--path-format=absolute", "--is-bare-repository",
             "--is-shallow-repository", "--git-common-dir", "--absolute-git-dir"],
        ),
        (commands.toplevel(R), [*READ, "-C", "/r", "rev-parse", "--path-format=absolute", "--show-toplevel"]),
        (
            commands.commit_sha(R, "-x"),
            [*READ, "-C", "/r", "rev-parse", "--verify", "--quiet", "--end-of-options", "-x^{commit}"],
        ),
        (
            commands.tree_sha(R, "x"),
            [*READ, "-C", "/r", "rev-parse", "--verify", "--quiet", "--end-of-options", "x^{tree}"],
        ),
        (commands.branch_sha(R, "-x"), [*READ, "-C", "/r", "show-ref", "--verify", "--hash", "--", "refs/heads/-x"]),
        (commands.checked_out(R), [*READ, "-C", "/r", "symbolic-ref", "--quiet", "--short", "HEAD"]),
        (
            commands.refs(R, "refs/heads"),
            [*READ, "-C", "/r", "for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)",
             "refs/heads"],
        ),
        (
            commands.status(W),
            [*READ, "-C", "/w", "status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=none",
             "--no-renames"],
        ),
        (commands.worktrees(R), [*READ, "-C", "/r", "worktree", "list", "--porcelain", "-z"]),
        (
            commands.add_worktree(R, W, "qd/a", "1234"),
            [*WRITE, "-C", "/r", "worktree", "add", "--no-checkout", "--no-track", "--lock", "--reason",
             "quarterdeck: being made", "-B", "qd/a", "--", "/w", "1234"],
        ),
        (
            commands.add_detached(R, W, "1234"),
            [*WRITE, "-C", "/r", "worktree", "add", "--detach", "--", "/w", "1234"],
        ),
        (commands.fill_worktree(W), [*WRITE, "-C", "/w", "reset", "--hard", "--quiet", "HEAD"]),
        (commands.unlock_worktree(R, W), [*WRITE, "-C", "/r", "worktree", "unlock", "--", "/w"]),
        (
            commands.forget_worktree(R, W),
            [*WRITE, "-C", "/r", "worktree", "remove", "--force", "--force", "--", "/w"],
        ),
        (
            commands.delete_branch(R, "qd/a", "1234"),
            [*WRITE, "-C", "/r", "update-ref", "-d", "refs/heads/qd/a", "1234"],
        ),
        (
            commands.forget_branch_settings(R, "qd/a"),
            [*WRITE, "-C", "/r", "config", "--local", "--remove-section", "branch.qd/a"],
        ),
        (
            commands.move_ref(R, "refs/heads/main", "2", "1", "why"),
            [*DURABLE, "-C", "/r", "update-ref", "--create-reflog", "-m", "why", "refs/heads/main", "2", "1"],
        ),
        (
            commands.own_commits(R, "b", "a"),
            [*READ, "-C", "/r", "rev-list", "--count", "--right-only", "--cherry-pick", "a...b", "--"],
        ),
        (commands.commits_between(R, "1", "2"), [*READ, "-C", "/r", "rev-list", "--count", "1..2", "--"]),
        (
            commands.unheld(G, W, "1"),
            [*AT, "rev-list", "--max-count=1", "1", "--not", "--exclude=refs/bisect/*", "--exclude=refs/worktree/*",
             "--exclude=refs/rewritten/*", "--glob=refs/*", "--"],
        ),
        (commands.is_ancestor(R, "1", "2"), [*READ, "-C", "/r", "merge-base", "--is-ancestor", "1", "2"]),
        (commands.merge_base(R, "1", "2"), [*READ, "-C", "/r", "merge-base", "1", "2"]),
        (
            commands.compare(R, "1", "2"),
            [*READ, "-C", "/r", "diff-tree", "-r", "-z", "-M", "--raw", "--numstat", "--no-abbrev", "1", "2", "--"],
        ),
        (
            commands.write_diff(R, "1", "2", "patch", Path("/o")),
            [*READ, "-C", "/r", "diff-tree", "-r", "-M", "--patch", "--full-index", "--no-color", "--no-ext-diff",
             "--no-textconv", "--output=/o", "1", "2", "--"],
        ),
        (
            commands.write_diff(R, "1", "2", "stat", Path("/o")),
            [*READ, "-C", "/r", "diff-tree", "-r", "-M", "--stat=100", "--summary", "--no-color", "--no-ext-diff",
             "--no-textconv", "--output=/o", "1", "2", "--"],
        ),
        (
            commands.changed_paths(R, "1", "2"),
            [*READ, "-C", "/r", "diff-tree", "-r", "-z", "--name-only", "--no-renames", "1", "2", "--"],
        ),
        (
            commands.merge_into_head(W, "1", "text"),
            [*WRITE, "-c", "merge.verifySignatures=false", "-c", "rerere.enabled=false", "-C", "/w", "merge",
             "--no-ff", "--no-edit", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", "-m", "text", "1"],
        ),
        (
            commands.rebase_head(W, "1"),
            [*WRITE, "-c", "rebase.autoSquash=false", "-c", "rebase.autoStash=false", "-c", "rebase.updateRefs=false",
             "-c", "rerere.enabled=false", "-C", "/w", "rebase", "--merge", "--no-verify", "--no-gpg-sign", "--quiet",
             "1"],
        ),
        (
            commands.unmerged(W),
            [*READ, "-C", "/w", "diff", "--name-only", "--diff-filter=U", "-z", "--no-ext-diff"],
        ),
        (
            commands.bring_along(W, "1"),
            [*WRITE, "-c", "merge.autoStash=false", "-C", "/w", "merge", "--ff-only", "--no-autostash",
             "--no-overwrite-ignore", "--no-stat", "--quiet", "1"],
        ),
        (
            commands.identity(R),
            [*READ, "-C", "/r", "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT"],
        ),
        (commands.empty_tree(R), [*DURABLE, "-C", "/r", "mktree"]),
        (commands.commit_tree(G, W, "t", ["1", "2"]), [*AT, "commit-tree", "t", "-p", "1", "-p", "2", "-F", "-"]),
        (
            commands.hash_files(G, W, exact=True),
            [*AT, "hash-object", "-w", "-t", "blob", "--no-filters", "--stdin-paths"],
        ),
        (commands.hash_files(G, W, exact=False), [*AT, "hash-object", "-w", "-t", "blob", "--stdin-paths"]),
        (
            commands.connected(G, W, "2", ["1"]),
            [*AT, "rev-list", "--objects", "--quiet", "2", "--not", "1", "--"],
        ),
        (
            commands.fetch_history(G, W, Path("/n"), "refs/x"),
            [*AT, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--", "/n",
             "+HEAD:refs/x/HEAD", "+refs/heads/*:refs/x/heads/*"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_the_exact_list(command: list[str], expected: list[str]) -> None:
    assert command == expected


def test_worktrees_are_read() -> None:
    output = (
        b"worktree /a b\0HEAD 1111\0branch refs/heads/main\0\0"
        b"worktree /n\nl\0HEAD 2222\0detached\0locked why not\0\0"
        b"worktree /bare\0bare\0\0"
    )
    assert parse.worktrees(output) == [
        parse.Worktree(path="/a b", head="1111", branch="main"),
        parse.Worktree(path="/n\nl", head="2222", locked="why not"),
        parse.Worktree(path="/bare", bare=True),
    ]


def test_a_status_gives_every_kind_of_path() -> None:
    output = (
        b"1 .M N... 100644 100644 100644 aa bb with space\0"
        b"u UU N... 100644 100644 100644 100644 a b c in conflict\0"
        b"? new\nline\0"
    )
    assert parse.status_paths(output) == ["with space", "in conflict", "new\nline"]


def test_a_comparison_pairs_raw_records_with_counts() -> None:
    output = (
        b":100644 100644 a b M\0x\0:100644 100644 a b R090\0old\0new\0:000000 100644 a b A\0bin\0"
        b"1\t2\tx\0" + b"3\t0\t\0old\0new\0" + b"-\t-\tbin\0"
    )
    assert parse.compared(output) == [
        parse.Counted(path="x", old_path=None, status="M", added=1, deleted=2),
        parse.Counted(path="new", old_path="old", status="R", added=3, deleted=0),
        parse.Counted(path="bin", old_path=None, status="A", added=None, deleted=None),
    ]


@pytest.mark.parametrize(
    ("path", "line"),
    [("a b", b"a b"), ("a\nb", b'"a\\012b"'), ('"q"', b'"\\"q\\""'), ("a\r", b'"a\\015"'), ("b\\\t", b'"b\\\\\\011"')],
)
def test_paths_are_quoted_where_git_would_misread_them(path: str, line: bytes) -> None:
    assert parse.quoted(path) == line
