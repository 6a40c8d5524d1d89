"""An agent's work against its base: look at it, and bring it home."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.fleet.git.diff import Diff, FileChange, Form, diff
from quarterdeck.fleet.git.merge import Merged, Method, merge
from quarterdeck.fleet.model import AgentRecord
from quarterdeck.fleet.projects import Projects

MAX_DIFF_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class AgentDiff:
    """An agent's work against its base; `text` is cut at a line end when `truncated`."""

    agent: str
    branch: str
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


@dataclass(frozen=True, kw_only=True)
class AgentMerge:
    """What a merge did; with nothing to merge `commits` is 0 and the base stayed where it was."""

    agent: str
    branch: str
    base: str
    method: Method
    before: str
    after: str
    commits: int
    files: list[str]
    worktree: str | None
    checked: bool
    check_output: str


async def agent_diff(record: AgentRecord, form: Form, max_bytes: int) -> AgentDiff:
    """The diff of an agent's branch and uncommitted files. Raises `InvalidInput`, `Conflict`, `NotFound`."""
    if not 1 <= max_bytes <= MAX_DIFF_BYTES:
        raise InvalidInput(f"max_bytes is {max_bytes}, 1 to {MAX_DIFF_BYTES} is possible")
    branch = _branch(record)
    folder = Path(record.workspace or record.repo)
    found: Diff = await diff(folder, record.base, branch, form=form, max_bytes=max_bytes)
    known = {key: value for key, value in asdict(found).items() if key in AgentDiff.__dataclass_fields__}
    return AgentDiff(**{**known, "files": found.files}, agent=record.name, branch=branch)


async def agent_merge(
    record: AgentRecord, projects: Projects, *, method: Method, message: str, scratch: Path
) -> AgentMerge:
    """Bring an agent's commits home, checked by the project's check command where one is configured.

    Raises `Conflict` (conflicting files, a failing check with its output, uncommitted work, a dirty base)
    with everything as it was.
    """
    branch = _branch(record)
    known = record.project in projects.names()
    table = projects.table(record.project) if known else None
    merged: Merged = await merge(
        Path(record.repo),
        branch,
        record.base,
        method=method,
        check=table.check if table else (),
        check_seconds=table.check_seconds if table else 600,
        message=message or f"Merge the work of agent {record.name} ({branch})",
        scratch_folder=scratch,
        env=table.env if table else {},
    )
    wanted = {key: value for key, value in asdict(merged).items() if key in AgentMerge.__dataclass_fields__}
    return AgentMerge(**{**wanted, "agent": record.name})


def _branch(record: AgentRecord) -> str:
    if record.branch is None:
        raise Conflict(f"agent {record.name} has no branch yet", hint="wait until it is up")
    return record.branch
