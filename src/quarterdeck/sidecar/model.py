"""The words of a sidecar as data: tasks, attention, facts; and the status that is derived from them.

Pure: no clock, no I/O. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

TaskState = Literal["queued", "accepted", "started", "succeeded", "failed", "canceled", "lost"]
FINAL: frozenset[TaskState] = frozenset({"succeeded", "failed", "canceled", "lost"})
MAX_LOG_TEXT = 64 * 1024
_CUT_NOTE = 40
# What a key that makes a retry safe may be: it travels in a header, which takes no more and drops spaces around it.
IDEMPOTENCY_KEY = r"[!-~](?:[ -~]{0,253}[!-~])?"
IDEMPOTENCY_MEANING = "the same key again returns the same task; 1 to 255 printable ASCII characters"
OPEN: tuple[TaskState, ...] = ("queued", "accepted", "started")

Status = Literal[
    "pending", "starting", "busy", "idle", "stopping", "stopped", "failed", "canceling", "canceled", "deleting",
    "deleted",
]  # fmt: skip
STATUSES: tuple[Status, ...] = (
    "pending", "starting", "busy", "idle", "stopping", "stopped", "failed", "canceling", "canceled", "deleting",
    "deleted",
)  # fmt: skip
Activity = Literal["working", "waiting_permission", "waiting_input", "retrying", "stuck"]
SessionState = Literal["starting", "running", "stopping", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class UsageTotals:
    """What was used in all. `cost_usd` is None as long as no program has told a price."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    context_used: int | None = None
    context_size: int | None = None

    @property
    def tokens(self) -> int:
        """Input and output together, which is what a budget counts."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of work, with the time of every step it took; a step not taken is None.

    `accepted_at` and `started_at` are receipts of the agent's own protocol. `sent_at` only says that the
    prompt was handed over. `detail` tells why it failed or was lost, or the agent's last words.
    `held` means that it waits for the fleet's limit of busy agents, not for its agent. `position` is its
    place in the queue it waits in (the agent's, or the fleet's when held), from 1.
    """

    id: str
    description: str
    state: TaskState
    queued_at: float
    sent_at: float | None = None
    accepted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    cancel_requested_at: float | None = None
    incarnation: int | None = None
    detail: str = ""
    exit_code: int | None = None
    position: int | None = None
    held: bool = False
    usage: UsageTotals = field(default_factory=UsageTotals)
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class AttentionOption:
    """One way to answer."""

    id: str
    name: str
    kind: str = "choice"


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Somebody is asked: a permission request, or a question of the agent (in its protocol or by `ask_human`).

    `free_text`: any words are an answer, also beside the options. `multiple`: several options may be chosen.
    """

    id: str
    kind: Literal["permission", "question"]
    title: str
    detail: str = ""
    options: list[AttentionOption] = field(default_factory=list)
    free_text: bool = False
    multiple: bool = False
    asked_at: float = 0
    task_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The agent's own words about its work: at most 160 characters, a state, a link, and the task that it had then."""

    summary: str
    state: Literal["working", "idle", "complete", "failure"] = "working"
    link: str | None = None
    reported_at: float = 0
    task_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class SidecarFacts:
    """What a sidecar knows of its agent: facts first, then the status derived from them at `observed_at`.

    `incarnation` is the number of this life of the agent; `queue` the number of waiting tasks and
    `next_task` the first of them;
    `revision` grows with every change, so that a reader can tell old facts from new ones.
    """

    agent: str
    incarnation: int
    revision: int
    observed_at: float
    session: SessionState
    status: Status
    activity: Activity | None
    needs_attention: list[Attention]
    sidecar_pid: int
    sidecar_started_at: float
    agent_pid: int | None = None
    session_id: str | None = None
    resumed: bool = False
    provider: str = ""
    provider_version: str = ""
    started_at: float | None = None
    stopped_at: float | None = None
    last_event_at: float | None = None
    last_event_seq: int = 0
    stuck_since: float | None = None
    failure: str | None = None
    exit_code: int | None = None
    current_task: Task | None = None
    last_task: Task | None = None
    queue: int = 0
    next_task: Task | None = None
    report: Report | None = None
    usage: UsageTotals = field(default_factory=UsageTotals)
    budget_exceeded: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened, in the order of `seq`."""

    seq: int
    at: float
    incarnation: int
    task_id: str | None
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """One entry of the conversation: prompt, text, thought, tool, plan, permission, question, answer, report, note."""

    id: int
    at: float
    updated_at: float
    incarnation: int
    task_id: str | None
    kind: str
    text: str
    data: dict[str, Any]


def cut(text: str, characters: int) -> str:
    """What the log keeps of a text that had so many characters; `text` may be cut already, with more behind it."""
    if characters <= MAX_LOG_TEXT:
        return text
    return text[: MAX_LOG_TEXT - _CUT_NOTE] + f"\n[cut: {characters} characters in all]"


@dataclass(frozen=True, kw_only=True)
class TaskPage:
    """Tasks, newest first. `notes` tell what happened beside them in their time, newest first: all that somebody else
    had noted, and the newest 100 of the sidecar's own.
    """

    tasks: list[Task]
    total_count: int
    notes: list[LogEntry] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """Log entries, newest first; `next_cursor` asks for older ones."""

    entries: list[LogEntry]
    total_count: int
    next_cursor: int | None


@dataclass(frozen=True, kw_only=True)
class StuckLimits:
    """Seconds of silence after which a busy agent is stuck: in general, with a tool open, with a question open."""

    silent: float = 300
    tool: float = 1800
    attention: float = 86400


def stuck_since(
    *,
    limits: StuckLimits,
    silence: float,
    now: float,
    tool_open: bool,
    attention_open: bool,
) -> float | None:
    """Since when a busy agent counts as stuck; None when it does not.

    The seconds of silence since the last event are the measure, since no agent reports being stuck
    (facts/agent-clis.md). An open question or permission request allows the longest silence, an open tool call a
    longer one.
    """
    limit = limits.attention if attention_open else limits.tool if tool_open else limits.silent
    return now - (silence - limit) if silence >= limit else None


def derive(
    *,
    session: SessionState,
    task: Task | None,
    attention: list[Attention],
    retrying: bool,
    stuck: bool,
) -> tuple[Status, Activity | None]:
    """Status and activity of a reachable agent, from its facts."""
    if session == "running":
        if task is None:
            return "idle", _waiting(attention)
        if task.cancel_requested_at is not None:
            return "canceling", None
        if stuck:
            return "busy", "stuck"
        return "busy", _waiting(attention) or ("retrying" if retrying else "working")
    return session, None


def _waiting(attention: list[Attention]) -> Activity | None:
    if any(a.kind == "permission" for a in attention):
        return "waiting_permission"
    return "waiting_input" if attention else None


def after_death(task: Task, *, deleted: bool = False) -> Task:
    """An open task as it is once its sidecar is certainly dead: what the next sidecar will record of it.

    What waits goes on waiting for that one, unless the agent is `deleted`.
    """
    if task.state in FINAL or (task.sent_at is None and not deleted):
        return task
    if task.sent_at is None:
        return replace(task, state="canceled", held=False, detail="the agent was deleted before it was started")
    if task.cancel_requested_at is not None:
        return replace(task, state="canceled", detail="the sidecar ended while the task was being cancelled")
    return replace(task, state="lost", detail="the sidecar ended in the middle of the task")


def over_budget(usage: UsageTotals, *, usd: float | None, tokens: int | None) -> str | None:
    """Why the budget is used up, with both figures; None while it is not."""
    if usd is not None and usage.cost_usd is not None and usage.cost_usd >= usd:
        return f"the budget of ${usd:.2f} is used up: ${usage.cost_usd:.2f} so far"
    if tokens is not None and usage.tokens >= tokens:
        return f"the budget of {tokens} tokens is used up: {usage.tokens} so far"
    return None


def more_budget(name: str, usage: UsageTotals, *, usd: float | None, tokens: int | None) -> str:
    """The command that brings an agent back whose budget is used up."""
    options = [
        "--budget-usd AMOUNT" if over_budget(usage, usd=usd, tokens=None) else "",
        "--budget-tokens NUMBER" if over_budget(usage, usd=None, tokens=tokens) else "",
    ]
    return f"give it more than it has used: qd agents restart {name} {' '.join(filter(None, options))}"
