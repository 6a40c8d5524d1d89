"""Agents as the fleet knows them: the record on disk, what is told of them, the status that follows.

Pure: no clock, no I/O. Times are seconds since the epoch, sizes bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from quarterdeck.config import Budget, Permissions
from quarterdeck.fleet.facts import AgentState
from quarterdeck.sidecar.model import Activity, Attention, Report, SidecarFacts, Status, Task, UsageTotals

if TYPE_CHECKING:
    from quarterdeck.fleet.facts import Gathered

RECORD_SCHEMA = 1
Restart = Literal["never", "always"]


@dataclass(frozen=True, kw_only=True)
class MergeOutcome:
    """What became of bringing an agent's work home: the base is at `after` now, or why it stayed where it was."""

    at: float
    base: str
    commits: int = 0
    after: str | None = None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class AgentRecord:
    """`agent.json`: what was asked for and what was done about it. Facts only; the status is derived.

    `id` is unique for ever, `name` among the living. `shares` names the agent whose workspace this one
    works in. `wanted` is what the operator wants of its sidecar. `started_at` is when the backend last
    started that, `gone_at` when the hub saw it gone without having been told to go, or last failed to bring
    it back by itself. `task_given_at` is when the first task (if there is one) was known to be with the
    sidecar, which is not given it again then; `task_canceled_at` when it was canceled before.
    `restart_asked_at` is set until what ran before a restart has ended. `removal_notes` tell of the
    deletion, `notes` of the rest.
    """

    id: str
    name: str
    project: str
    role: str
    provider: str
    repo: str
    base: str
    created_at: float
    backend: str = "local"
    schema: int = RECORD_SCHEMA
    spec: str = ""
    task: str | None = None
    task_given_at: float | None = None
    task_canceled_at: float | None = None
    shares: str | None = None
    base_sha: str | None = None
    branch: str | None = None
    workspace: str | None = None
    permissions: Permissions = "ask"
    restart: Restart = "never"
    budget: Budget = field(default_factory=Budget)
    wanted: Literal["running", "stopped"] = "running"
    provisioned_at: float | None = None
    started_at: float | None = None
    failed_at: float | None = None
    failure: str | None = None
    canceled_at: float | None = None
    gone_at: float | None = None
    gone_reason: str | None = None
    restart_asked_at: float | None = None
    deleting_at: float | None = None
    deleted_at: float | None = None
    rescue_ref: str | None = None
    branch_kept: str | None = None
    last_merge: MergeOutcome | None = None
    notes: list[str] = field(default_factory=list)
    removal_notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Unreachable:
    """Why an agent cannot be asked, and since when. It says nothing of what the agent does."""

    reason: str
    since: float


@dataclass(frozen=True, kw_only=True)
class LinkView:
    """What the hub's connection to a sidecar knows: the newest facts, and whether they still come."""

    facts: SidecarFacts | None = None
    unreachable: Unreachable | None = None


@dataclass(frozen=True, kw_only=True)
class AgentSummary:
    """One line of the list of agents."""

    name: str
    status: Status
    activity: Activity | None
    needs_attention: int
    role: str
    project: str
    provider: str
    branch: str | None
    task: Task | None
    created_at: float
    started_at: float | None
    last_event_at: float | None
    unreachable: Unreachable | None
    failure: str | None
    report: Report | None
    usage: UsageTotals
    metadata: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class NewAgent(AgentSummary):
    """An agent that was just created, and what whoever created it should know (`notes`)."""

    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class BudgetShown:
    """What an agent may use, as it is told; None is no limit."""

    usd: float | None
    tokens: int | None


@dataclass(frozen=True, kw_only=True)
class AgentDetail:
    """All that is known of one agent. `metadata` holds every key with its value, source, age and error.

    `next_task` is the first of the `queue` tasks that wait, with its position.
    `metadata_state` says whether that could be asked: known, none (it has no metadata server), starting or
    unreachable (`metadata_error` says why). `clock_off_seconds` is set when its clock is off.
    """

    name: str
    status: Status
    activity: Activity | None
    needs_attention: list[Attention]
    role: str
    project: str
    provider: str
    provider_version: str
    backend: str
    workspace: str | None
    shares_workspace_of: str | None
    repo: str
    branch: str | None
    base: str
    base_sha: str | None
    spec: str
    incarnation: int
    session_id: str | None
    resumed: bool
    agent_pid: int | None
    sidecar_pid: int | None
    current_task: Task | None
    next_task: Task | None
    last_task: Task | None
    queue: int
    created_at: float
    started_at: float | None
    last_event_at: float | None
    stuck_since: float | None
    unreachable: Unreachable | None
    failure: str | None
    exit_code: int | None
    report: Report | None
    usage: UsageTotals
    budget: BudgetShown
    permissions: Permissions
    restart: Restart
    disk_bytes: int | None
    last_merge: MergeOutcome | None
    metadata: dict[str, Any]
    metadata_state: str
    metadata_error: str | None
    clock_off_seconds: float | None
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class AgentPage:
    """A part of the list of agents; `next_cursor` asks for the rest. With a filter by facts, `not_known` names the
    agents of which nobody knows whether they belong to it.
    """

    agents: list[AgentSummary]
    total_count: int
    next_cursor: str | None
    not_known: list[AgentState] = field(default_factory=list)


def called_off_task(record: AgentRecord) -> Task | None:
    """The first task of an agent that was called off with it, while no sidecar knows of that; else None."""
    if record.task is None or record.task_canceled_at is None or record.task_given_at is not None:
        return None
    return Task(
        id=f"create-{record.id}",
        description=record.task,
        state="canceled",
        queued_at=record.created_at,
        ended_at=record.task_canceled_at,
        cancel_requested_at=record.task_canceled_at,
        detail="canceled while the agent came up, before it was started",
        origin="create",
    )


def derive_status(record: AgentRecord, link: LinkView) -> tuple[Status, Activity | None]:
    """The status of an agent, from its record and the newest facts of its sidecar.

    When it cannot be reached this is what was known last; `unreachable` beside it tells so.
    """
    facts = link.facts
    if record.deleted_at is not None:
        return "deleted", None
    if record.deleting_at is not None:
        return "deleting", None
    if record.canceled_at is not None:
        return "canceled", None
    if record.failed_at is not None or record.gone_at is not None:
        return "failed", None
    if record.provisioned_at is None:
        return ("starting" if record.started_at or record.branch else "pending"), None
    if record.wanted == "stopped":
        stopped = facts is None or facts.session in ("stopped", "failed")
        return ("stopped" if stopped else "stopping"), None
    if facts is None or record.started_at is None:
        return "starting", None
    return facts.status, facts.activity


def failure_of(record: AgentRecord, facts: SidecarFacts | None) -> str | None:
    """Why the agent is where it is, when that is not where it should be."""
    if record.failure or record.gone_reason:
        return record.failure or record.gone_reason
    if facts is not None:
        return facts.failure or facts.budget_exceeded
    return None


def summarize(record: AgentRecord, link: LinkView) -> AgentSummary:
    """The line of one agent."""
    status, activity = derive_status(record, link)
    facts = link.facts
    return AgentSummary(
        name=record.name,
        status=status,
        activity=activity,
        needs_attention=len(facts.needs_attention) if facts else 0,
        role=record.role,
        project=record.project,
        provider=record.provider,
        branch=record.branch,
        task=current_or_last(facts),
        created_at=record.created_at,
        started_at=facts.started_at if facts else record.started_at,
        last_event_at=facts.last_event_at if facts else None,
        unreachable=link.unreachable,
        failure=failure_of(record, facts),
        report=facts.report if facts else None,
        usage=facts.usage if facts else UsageTotals(),
        metadata=facts.metadata if facts else {},
    )


def current_or_last(facts: SidecarFacts | None) -> Task | None:
    """The task to show for an agent: the running one, else the waiting one, else the one that ended last."""
    if facts is None:
        return None
    return facts.current_task or facts.next_task or facts.last_task


def detail(record: AgentRecord, link: LinkView, *, gathered: Gathered | None, disk_bytes: int | None) -> AgentDetail:
    """All of one agent."""
    status, activity = derive_status(record, link)
    facts = link.facts
    return AgentDetail(
        name=record.name,
        status=status,
        activity=activity,
        needs_attention=facts.needs_attention if facts else [],
        role=record.role,
        project=record.project,
        provider=record.provider,
        provider_version=facts.provider_version if facts else "",
        backend=record.backend,
        workspace=record.workspace,
        shares_workspace_of=record.shares,
        repo=record.repo,
        branch=record.branch,
        base=record.base,
        base_sha=record.base_sha,
        spec=record.spec,
        incarnation=facts.incarnation if facts else 0,
        session_id=facts.session_id if facts else None,
        resumed=facts.resumed if facts else False,
        agent_pid=facts.agent_pid if facts else None,
        sidecar_pid=facts.sidecar_pid if facts else None,
        current_task=facts.current_task if facts else None,
        next_task=facts.next_task if facts else None,
        last_task=facts.last_task if facts else None,
        queue=facts.queue if facts else 0,
        created_at=record.created_at,
        started_at=facts.started_at if facts else record.started_at,
        last_event_at=facts.last_event_at if facts else None,
        stuck_since=facts.stuck_since if facts else None,
        unreachable=link.unreachable,
        failure=failure_of(record, facts),
        exit_code=facts.exit_code if facts else None,
        report=facts.report if facts else None,
        usage=facts.usage if facts else UsageTotals(),
        budget=BudgetShown(usd=record.budget.usd, tokens=record.budget.tokens),
        permissions=record.permissions,
        restart=record.restart,
        disk_bytes=disk_bytes,
        last_merge=record.last_merge,
        metadata=dict(gathered.data) if gathered else {},
        metadata_state=gathered.state if gathered else "unreachable",
        metadata_error=gathered.error if gathered else None,
        clock_off_seconds=gathered.clock_off_seconds if gathered else None,
        notes=[*record.notes, *(facts.notes if facts else [])],
    )
