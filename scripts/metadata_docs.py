"""Writes docs/metadata.md: each call with curl, and the answer of a run made here and now.

    python scripts/metadata_docs.py [--check]

Starts a sample repository, a scripted forge with one pull request, and `qd metadata serve`. With --check nothing is
written; exit code 1 shows where the page tells something else than the run, moments, figures and hashes apart.
"""
# ruff: noqa: E501 - the page is prose

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync

from quarterdeck.metadata.model import (
    MAX_DEPTH,
    MAX_DESCRIPTION_BYTES,
    MAX_KEY_CHARACTERS,
    MAX_TOTAL_BYTES,
    MAX_VALUE_BYTES,
)
from quarterdeck.metadata.store import ENTRY_BYTES
from quarterdeck.scripted.forge import scripted_forge

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metadata.md"
TOKEN = "this-is-the-token"
SHOWN = "http://127.0.0.1:7411"
LONGEST = 1300
# What differs from run to run, by the names that it stands behind, and what stands for it where two runs are compared.
PASSING = (
    (r"^(date|etag|content-length): .*", r"\1"), (r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", "TIME"),
    (r'"git_(head|merge_base)": "[0-9a-f]{40}"|[0-9a-f]{40}', "HASH"), (r"127\.0\.0\.1:\d+", "HOST"),
    (r'("(age_seconds|collected_in_ms|last_seconds|revision|reads|collections|started_at)": ?)[\d.e-]+', r"\1N"),
    (r"^id: \d+", "id: N"), (r"since=\d+", "since=N"), (r"^(qd_metadata_\S+) [\d.e+-]+$", r"\1 N"),
    (r"(revision|at) \d{7,}", r"\1 N"), (r'"\d{7,}"', '"N"'),
)  # fmt: skip

INTRODUCTION = """# Metadata

Every agent has its own metadata server: what is true of its workspace, **stored** by somebody or **collected** by a
collector. It comes with every sidecar, and runs alone for workspaces that are started by others:

```
qd metadata serve --workspace DIR --port 7411 --token-file FILE
```

Loopback only, unless `--host` says otherwise, and then only with a token; with `--host 0.0.0.0` it may be called by any
name. `/health`, `/health/live` and `/health/ready` need no token, but without it tell nothing but the status. Stored
facts lie in one JSON file that anybody can read (`metadata.json`, mode 0600) and a journal beside it; a write is on the
disk when it is answered.
`GET /openapi.json` is the document of the API, `/mcp` serves the MCP tools `get_metadata`, `set_metadata`,
`delete_metadata` and `report_task`. Through the hub the same calls are under `/api/agents/NAME/metadata`, and on the
command line `qd metadata get|set|rm|watch`.

Everything below was copied from a run by `scripts/metadata_docs.py`; long answers are cut.
"""

REFERENCE = f"""
## Rules and limits

| | |
|---|---|
| key | at most {MAX_KEY_CHARACTERS} characters, `[A-Za-z0-9][A-Za-z0-9._/-]*`; `watch` is taken |
| value | any JSON of at most {MAX_VALUE_BYTES:,} bytes and {MAX_DEPTH} levels (a string is measured by itself, anything else in its compact form) |
| all together | {MAX_TOTAL_BYTES:,} bytes per agent: keys, values, descriptions, and {ENTRY_BYTES} bytes for each fact |
| refused | control characters except tab and newline, ANSI escapes, NUL, half surrogates, duplicate JSON keys, NaN, numbers beyond a double (1e400) |
| description | at most {MAX_DESCRIPTION_BYTES:,} bytes |
| statuses | 400 not JSON, 404 unknown, 409 collected, 412 precondition, 413 too large, 422 against a rule, 503 not ready, 507 disk |

`ETag` is the revision of an entry's last change, in quotes. `If-Match: "1000003"` makes a write conditional,
`If-None-Match: *` makes it create only; without them the last write wins. `HEAD` is `GET` without the body. A revision never means two things:
each start of a server counts in a block of its own (where the disk refuses to note that, in one of that second).

What cannot be read at a start is kept beside it as `NAME.unreadable-TIME-N`; `/health` is degraded and names these files
until somebody removes them. It also names stored facts that a collected one of the same name hides, as when a field was
declared later: `DELETE` removes what is stored.

## Collectors

| source | keys | asked again |
|---|---|---|
| `git` | `git_state`, `git_branch`, `git_head`, `git_dirty`, `git_ahead`, ... | when files change; branch and commit at every read |
| `github`, `gitlab` | `pull_request_number`, `..._state`, `..._check_status`, `..._review_decision`, `..._failing_checks`, ..., and `fleet_mcp_pull_request_url`, `_status`, `_check_status` | when the branch or commit changes, and every `interval` (30 s; without a token 600 s) |
| `task` | `task_id`, `task_title`, `task_state`, `task_progress`, ... | when the agent says something (`report_task`; a stand-alone server keeps it as the fact `reported_task`, and asks for a `task_file` where there is none), every 2 s |
| `command` | the fields of `[metadata.fields.NAME]` | every `interval` |
| `taskfile` | tasks of `Taskfile.yml` with a `meta` key (`desc`, `include_in_list`, `timeout`, `interval`, `format`) | every `interval` |

A collector that fails leaves its last values with their age, `"stale": true` and the `error`; the others are not
touched by it, and the answer is 200. `?fresh=true` is answered after 30 s at the latest: what takes longer goes on, and
its facts say so under `error`. Facts of a branch's request go when another branch is checked out, also while the forge
cannot be asked: they are then null, with the error. Collectors never change the workspace. Answers of a forge are
shared by all agents of a machine, asked for with conditional requests, and a tenth of the quota is left alone. The
token of `github.com` or `gitlab.com` goes there and nowhere else, one that is configured for `hosts` to these. Of
reviews on GitHub only those of owners, members and collaborators count; a request that comes from somebody else's fork
is never taken for the branch's. Changes of `[metadata]` in `quarterdeck.toml` and of `Taskfile.yml` take effect without
a restart; what is wrong in them is told in `/health`, and what they said before stays in force. No declared field can
have a key of the first three rows. What `git status` runs is run: filters that the repository's configuration names
(Git LFS) decide whether a file differs.

Your own collector is a callable `workspace -> Collector` in the entry-point group `quarterdeck.metadata.collectors`;
the contract is in `src/quarterdeck/metadata/collector.py`.

## The fleet

`list_agents(metadata_filter="pull_request_number=123")` finds agents by their facts. Conditions are joined by commas:
`KEY=VALUE` (`*` stands for anything), `KEY!=VALUE`, `KEY>NUMBER` (also `>=`, `<`, `<=`), `KEY` (set, and neither null
nor false), `!KEY`.

`list_pull_requests` (`qd prs`) shows the fleet by request. With `[pull_requests] feedback = true` a failing check or a
request for changes becomes a task for the agent: failing checks once per head commit, a review once, for at most
`attempts` commits without success (then the event `PullRequestGivenUp` says so), never for a closed request. What was
told, and to whom, is remembered in the metadata of every agent on the request under `pull_request_feedback`, so that no
second agent is told while the first does not answer. All of it is in the agent's history (`qd agents history`): the
tasks with the request as their origin, and a note when it was given up, which stands in its log, too.
"""


def steady(text: str) -> str:
    """A text without what differs from run to run."""
    for pattern, name in PASSING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text


def shortened(answer: str) -> str:
    """As much of a long answer as is shown, cut at the same line in every run."""
    lines, used = answer.split("\n"), 0
    for number, line in enumerate(lines):
        used += len(steady(line)) + 1
        if used > LONGEST:
            return "\n".join([*lines[:number], "..."])
    return answer


class Page:
    """The page as it grows."""

    def __init__(self, real: str, folder: Path) -> None:
        self.real = real
        self._folder = folder
        self.text = INTRODUCTION

    def section(self, title: str, words: str = "") -> None:
        """A heading and what is to be said."""
        self.text += f"\n## {title}\n\n{words}\n" if words else f"\n## {title}\n"

    def curl(self, *arguments: str, pretty: bool = True, token: bool = True) -> None:
        """One call as one would type it, and what came back."""
        shown = " ".join(shlex.quote(a) if not a.startswith("$") else a for a in arguments)
        shown = shown if token else f"-H 'Authorization:' {shown}"
        shows = ["-H", f"Authorization: Bearer {TOKEN}"] if token else []
        command = ["curl", "-s", *shows, *arguments[:-1], self.real + arguments[-1]]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        answer = done.stdout.replace(self.real, SHOWN).replace(str(self._folder), "DIR").strip()
        if pretty:
            with contextlib.suppress(ValueError):
                answer = json.dumps(json.loads(answer), indent=2, ensure_ascii=False)
        answer = shortened(answer)
        head, _, path = shown.rpartition(" ")
        call = f"curl {head} $URL{path}" if head else f"curl $URL{path}"
        self.text += f"\n```\n$ {call}\n{answer}\n```\n"


def write(page: Page, workspace: Path) -> None:
    """All sections, in the order in which they make sense."""
    page.text += f'\nIn the calls, `URL={SHOWN}` and `~/.curlrc` holds `header = "Authorization: Bearer ..."`.\n'
    page.section("Read", "All of it, and then by `keys`, `prefix` and `source`:")
    page.curl("/metadata")
    page.curl("/metadata?keys=git_branch,git_dirty,pull_request_number")
    page.curl("/metadata?prefix=pull_request_check")
    page.text += "\nFresh, which means collected now:\n"
    page.curl("/metadata?source=git&keys=git_subject,git_ahead&fresh=true")
    page.curl("/metadata?source=stored", pretty=False)
    page.section("Write and delete")
    put = ("-X", "PUT", "-d", '{"value": "waiting for review", "description": "what I do", "include_in_list": true}')
    page.curl("-w", "%{http_code}\n", *put, "/metadata/mood")
    page.curl("-i", "/metadata/mood", pretty=False)
    page.text += "\nWhat has not changed since is not sent again, and what is there is not made a second time:\n"
    tag = asked(page, "/metadata/mood")["revision"]
    page.curl("-w", "%{http_code}", "-H", f'If-None-Match: "{tag}"', "/metadata/mood", pretty=False)
    page.curl("-X", "PUT", "-H", "If-None-Match: *", "-d", '{"value": "a second one"}', "/metadata/mood")
    page.curl("-X", "POST", "-d", '{"data": {"port": 8080, "urls/docs": ["http://localhost:8080"]}}', "/metadata")
    page.curl("-w", "%{http_code}", "-X", "DELETE", "/metadata/port", pretty=False)
    page.text += "\nThe same again, though it is gone, is no error:\n"
    page.curl("-w", "%{http_code}", "-X", "DELETE", "/metadata/port", pretty=False)
    page.curl("-X", "PUT", "-H", 'If-Match: "1"', "-d", '{"value": "lost race"}', "/metadata/mood")
    page.curl("-X", "PUT", "-d", '{"value": "other"}', "/metadata/git_branch")
    page.curl("-X", "PUT", "-d", '{"value": "' + "x" * 5000 + '"}', "/metadata/big")
    page.text = page.text.replace("x" * 5000, "xxx... (5,000 of them)")
    page.curl("/metadata/nothing")
    page.section(
        "Watch",
        "Server-sent events: the whole picture first, then each change. `?since=REVISION` or `Last-Event-ID` resumes.\n"
        "A `snapshot` is the whole picture: what it does not name is gone. It comes again to a reader that fell more than\n"
        "2,048 changes behind.",
    )
    revision = asked(page, "/metadata?keys=x")["meta"]["revision"]
    page_write(page, workspace)
    page.curl("-N", "--max-time", "1", f"/metadata/watch?since={revision}", pretty=False)
    page.section("Health and figures")
    page.curl("/health/live", pretty=False)
    page.curl("-i", "/health/ready", pretty=False)
    page.text += "\nWithout the token:\n"
    page.curl("/health/ready", pretty=False, token=False)
    page.text += "\n`/health` says the same:\n"
    page.curl("/health")
    page.curl("/metrics", pretty=False)
    page.section("The document, and MCP", "OpenAPI 3.1; and the same server for MCP clients, over streamable HTTP.")
    page.curl("/openapi.json")
    hello = (
        '{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", '
        '"capabilities": {}, "clientInfo": {"name": "curl", "version": "1"}}}'
    )
    page.curl("-X", "POST", "-H", "Accept: application/json, text/event-stream", "-H", "Content-Type: application/json",
              "-d", hello, "/mcp", pretty=False)  # fmt: skip


def asked(page: Page, path: str) -> dict[str, Any]:
    """An answer that is not shown."""
    command = ["curl", "-s", "-H", f"Authorization: Bearer {TOKEN}", page.real + path]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def until_collected(page: Page) -> None:
    """Wait for what the forge says, which comes last."""
    for _ in range(200):
        found = asked(page, "/metadata?keys=pull_request_check_status")["data"]
        if any(entry["value"] == "failing" for entry in found.values()):
            return
        time.sleep(0.1)
    raise SystemExit("the server has not collected the pull request within 20 s")


def page_write(page: Page, workspace: Path) -> None:
    """A change on disk, for the watch to show."""
    (workspace / "notes.txt").write_text("new\n")
    time.sleep(0.5)


async def main(check: bool) -> int:
    """The run; 1 when the page was to be checked, and tells something else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with scripted_forge() as forge:
            workspace = folder / "shop"
            await run_sync(prepare, folder, workspace, forge.remote("acme/shop"))
            sha = (workspace / ".git" / "refs" / "heads" / "qd" / "alice").read_text().strip()
            forge.open_pull("acme/shop", "qd/alice", sha=sha, title="Count faster")
            forge.check("acme/shop", sha, "unit tests", "failure")
            (workspace / "quarterdeck.toml").write_text(
                f'[metadata.github]\nhosts = ["{forge.url.partition("://")[2]}"]\napi = "{forge.url}"\n'
                'token_file = "../forge-token"\n'.replace("..", str(folder))
            )
            text = await run_sync(run, folder, workspace) + REFERENCE
    if not check:
        PAGE.write_text(text)
        return 0
    told, now = (steady(each).splitlines() for each in (PAGE.read_text(), text))
    differing = list(difflib.unified_diff(told, now, str(PAGE.name), "a run of now", lineterm=""))
    print(*differing, sep="\n", end="\n" if differing else "")
    return 1 if differing else 0


def prepare(folder: Path, workspace: Path, remote: str) -> None:
    """The sample repository on the branch of an agent."""
    workspace.mkdir()
    (workspace / "count.py").write_text("print(1)\n")
    (workspace / ".gitignore").write_text("quarterdeck.toml\n")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "forge-token").write_text("the-token-of-the-forge")
    who = ["-c", "user.name=Alice", "-c", "user.email=alice@example.invalid"]
    for arguments in (
        ["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "First"],
        ["checkout", "-q", "-b", "qd/alice"], [*who, "commit", "-q", "--allow-empty", "-m", "Count faster"],
        ["remote", "add", "origin", remote],
    ):  # fmt: skip
        subprocess.run(["git", *arguments], cwd=workspace, check=True)


def run(folder: Path, workspace: Path) -> str:
    """Start the server and make the calls; the page's text."""
    code = "import sys; from quarterdeck.cli.metadata import group; group(sys.argv[1:])"
    command = [sys.executable, "-c", code, "serve", "--workspace", str(workspace), "--port", "0", "--agent", "alice",
               "--token-file", str(folder / "token")]  # fmt: skip
    environment = {**os.environ, "QD_STATE_DIR": str(folder / "state"), "QD_LOG_LEVEL": "warning"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip().removesuffix("/metadata")
        try:
            page = Page(url, folder)
            until_collected(page)
            write(page, workspace)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
    return page.text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes docs/metadata.md from a run.")
    parser.add_argument("--check", action="store_true", help="only compare, exit code 1 tells that they differ")
    sys.exit(anyio.run(main, parser.parse_args().check))
