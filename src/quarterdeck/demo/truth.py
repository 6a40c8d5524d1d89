"""What the agents really did: read from git and from the tests, not from what they say."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from quarterdeck import process
from quarterdeck.demo.sample import FILES, Work

_RAN = re.compile(r"^Ran (\d+) tests?", re.MULTILINE)
_IDENTITY = ("-c", "user.name=Demo", "-c", "user.email=demo@quarterdeck.invalid")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One agent's work as it is. `problems` is what is not as it must be; empty means that all is true."""

    agent: str
    branch: str
    commits: list[str]
    files: frozenset[str]
    tests_run: int
    tests_passed: bool
    metadata: dict[str, Any]
    report: str
    problems: list[str] = field(default_factory=list)


def git(folder: Path, *arguments: str) -> str:
    """What git answers. Raises `CommandFailed`."""
    return anyio.run(partial(process.run, ["git", "-C", str(folder), *arguments])).out


def make_sample(folder: Path, config: str, *, remote: str) -> None:
    """Make the sample repository, with one commit on `main` and a remote."""
    for name, text in {**FILES, "quarterdeck.toml": config}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, *_IDENTITY, "commit", "-q", "-m", "A small shop")
    git(folder, "remote", "add", "origin", remote)


def look(repo: Path, base_sha: str, work: Work, agent: dict[str, Any]) -> Outcome:
    """Compare an agent's branch with what its work must leave. `agent` is what the hub tells of it."""
    branch = f"qd/{work.agent}"
    commits = git(repo, "log", "--reverse", "--format=%h %s", f"{base_sha}..{branch}").splitlines()
    files = frozenset(git(repo, "diff", "--name-only", f"{base_sha}...{branch}").splitlines())
    workspace = Path(agent["workspace"])
    code, ran = _tests(workspace)
    metadata = {key: fact["value"] for key, fact in agent["metadata"].items() if fact.get("source") == "stored"}
    report = agent["report"] or {"summary": "", "state": ""}
    task = agent["last_task"] or {"state": "missing", "detail": ""}
    checks = {
        f"its task is {task['state']}: {task['detail']}": task["state"] == "succeeded",
        f"its branch starts from another commit than {base_sha[:7]}": agent["base_sha"] == base_sha,
        "it committed nothing": bool(commits),
        f"it changed {', '.join(sorted(files)) or 'no file'}": files == work.files,
        "its worktree has uncommitted files": not git(workspace, "status", "--porcelain"),
        "its worktree is not at the end of its branch": git(workspace, "rev-parse", "HEAD")
        == git(repo, "rev-parse", branch),
        f"{ran} tests ran, at least {work.tests} must": ran >= work.tests,
        "the tests fail on its branch": code == 0,
        f"it stored {metadata.get('tests')!r} of its tests": metadata.get("tests") == f"{ran} passed",
        f"it reports {report['state'] or 'nothing'}": report["state"] == "complete",
    }
    return Outcome(
        agent=work.agent,
        branch=branch,
        commits=commits,
        files=files,
        tests_run=ran,
        tests_passed=code == 0,
        metadata=metadata,
        report=report["summary"],
        problems=[problem for problem, holds in checks.items() if not holds],
    )


def _tests(workspace: Path) -> tuple[int, int]:
    """Run the sample's tests in an agent's worktree: the exit code, and how many ran."""
    command = [sys.executable, "-B", "-m", "unittest", "discover", "-t", ".", "-s", "tests"]
    done = anyio.run(partial(process.run, command, cwd=workspace, check=False))
    found = _RAN.search(done.err)
    return done.returncode, int(found[1]) if found else 0
