"""Pull requests across the fleet: the agents grouped by request, and what happens there told to its agent.

The hub has no state, so everything durable lies with the agent: tasks are given with an idempotency key
made of request, head commit and event, and what was given is remembered under one key of its metadata.
A crash between the two repeats the same task, which the agent's sidecar then recognises.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import anyio

from quarterdeck.errors import QuarterdeckError
from quarterdeck.fleet.facts import Gathered

log = logging.getLogger(__name__)
MEMORY_KEY = "pull_request_feedback"
REMEMBERED = 30
Kind = Literal["checks", "review"]


@dataclass(frozen=True, kw_only=True)
class PullRequestView:
    """One request and the agents on it. `age_seconds` is how old the facts are, `error` why they may be older."""

    repository: str
    number: int
    url: str
    title: str
    state: str
    draft: bool
    mergeable: bool | None
    checks: str
    failing_checks: list[str]
    reviews: str
    head: str
    agents: list[str]
    updated_at: str | None
    age_seconds: float | None
    stale: bool
    error: str | None


def grouped(fleet: Sequence[Gathered]) -> list[PullRequestView]:
    """The fleet by request: open ones first, newest numbers first. The freshest agent's facts are shown."""
    agents: dict[tuple[str, int], list[Gathered]] = {}
    for gathered in fleet:
        number = gathered.value("pull_request_number")
        if isinstance(number, int):
            agents.setdefault((_text(gathered, "repository"), number), []).append(gathered)
    views = [_view(repository, number, on_it) for (repository, number), on_it in agents.items()]
    return sorted(views, key=lambda view: (view.state != "open", view.repository, -view.number))


def _view(repository: str, number: int, on_it: list[Gathered]) -> PullRequestView:
    freshest = min(on_it, key=lambda g: age if (age := _entry(g).get("age_seconds")) is not None else float("inf"))
    entry = _entry(freshest)
    failing = freshest.value("pull_request_failing_checks") or []
    return PullRequestView(
        repository=repository,
        number=number,
        url=_text(freshest, "url"),
        title=_text(freshest, "title"),
        state=_text(freshest, "state"),
        draft=bool(freshest.value("pull_request_draft")),
        mergeable=freshest.value("pull_request_mergeable"),
        checks=_text(freshest, "check_status"),
        failing_checks=[str(check.get("name")) for check in failing if isinstance(check, Mapping)],
        reviews=_text(freshest, "review_decision"),
        head=_text(freshest, "head"),
        agents=sorted(g.agent for g in on_it),
        updated_at=freshest.value("pull_request_updated_at"),
        age_seconds=entry.get("age_seconds"),
        stale=bool(entry.get("stale")),
        error=entry.get("error"),
    )


def _entry(gathered: Gathered) -> Mapping[str, Any]:
    entry = gathered.data.get("pull_request_number")
    return entry if isinstance(entry, Mapping) else {}


def _text(gathered: Gathered, name: str) -> str:
    value = gathered.value(f"pull_request_{name}")
    return value if isinstance(value, str) else ""


# -------------------------------------------------------------------- feedback: what to tell, decided purely


@dataclass(frozen=True)
class Memory:
    """What an agent was told about one request. `attempts` counts the tasks since it last went well."""

    request: str
    sent: tuple[str, ...] = ()
    attempts: Mapping[str, int] = field(default_factory=dict)
    gave_up: tuple[str, ...] = ()

    def to_value(self) -> dict[str, Any]:
        """As it is stored in the agent's metadata."""
        return {
            "request": self.request,
            "sent": list(self.sent[-REMEMBERED:]),
            "attempts": dict(self.attempts),
            "gave_up": list(self.gave_up),
        }


@dataclass(frozen=True)
class Feedback:
    """One task to give: the key makes it one for ever."""

    agent: str
    kind: Kind
    key: str
    title: str
    prompt: str


@dataclass(frozen=True)
class Decision:
    """What to do for one agent: tasks to give, then what to remember (None: nothing changed)."""

    agent: str
    tasks: tuple[Feedback, ...] = ()
    remember: Memory | None = None


def decide(fleet: Sequence[Gathered], *, attempts: int) -> list[Decision]:
    """Which agents are to be told what: once per head commit and event, at most `attempts` times without
    success, never about a request that is closed, and one agent per request.
    """
    decisions = []
    for view in grouped(fleet):
        if view.state != "open" or (view.stale and view.error):
            continue
        agent = _addressee(view, fleet)
        decision = _for_agent(view, agent, attempts)
        if decision.tasks or decision.remember is not None:
            decisions.append(decision)
    return decisions


def _addressee(view: PullRequestView, fleet: Sequence[Gathered]) -> Gathered:
    """The agent that was told before, else the one that has the request's commit, else the first by name."""
    on_it = sorted((g for g in fleet if g.agent in view.agents), key=lambda g: g.agent)
    request = f"{view.repository}#{view.number}"
    told = [g for g in on_it if read_memory(g.value(MEMORY_KEY), request).sent]
    at_head = [g for g in on_it if g.value("git_head") == view.head]
    return (told or at_head or on_it)[0]


def read_memory(value: Any, request: str) -> Memory:
    """What is remembered of this request; empty when it is about another, or not ours."""
    if not isinstance(value, Mapping) or value.get("request") != request:
        return Memory(request)
    sent, attempts, gave_up = value.get("sent"), value.get("attempts"), value.get("gave_up")
    return Memory(
        request,
        tuple(map(str, sent)) if isinstance(sent, list) else (),
        {str(k): v for k, v in attempts.items() if isinstance(v, int)} if isinstance(attempts, Mapping) else {},
        tuple(map(str, gave_up)) if isinstance(gave_up, list) else (),
    )


def _for_agent(view: PullRequestView, agent: Gathered, limit: int) -> Decision:
    request = f"{view.repository}#{view.number}"
    before = read_memory(agent.value(MEMORY_KEY), request)
    sent, counts, gave_up = list(before.sent), dict(before.attempts), set(before.gave_up)
    if view.checks == "passing":
        counts.pop("checks", None)
        gave_up.discard("checks")
    if view.reviews == "approved":
        counts.pop("review", None)
        gave_up.discard("review")
    tasks = []
    for feedback in _events(view, agent, request):
        if feedback.key in sent:
            continue
        if counts.get(feedback.kind, 0) >= limit:
            gave_up.add(feedback.kind)
            continue
        counts[feedback.kind] = counts.get(feedback.kind, 0) + 1
        sent.append(feedback.key)
        tasks.append(feedback)
    after = Memory(request, tuple(sent[-REMEMBERED:]), counts, tuple(sorted(gave_up)))
    changed = after.to_value() != before.to_value()
    return Decision(agent.agent, tuple(tasks), after if changed else None)


def _events(view: PullRequestView, agent: Gathered, request: str) -> list[Feedback]:
    events = []
    at = view.head[:12]
    if view.checks == "failing":
        checks = agent.value("pull_request_failing_checks") or []
        lines = "\n".join(f"- {c.get('name')}: {c.get('url')}" for c in checks if isinstance(c, Mapping))
        prompt = (
            f"Checks fail on your pull request {view.url} at commit {view.head}:\n{lines}\n\n"
            "Find out why, repair it, run the checks that you can run here, commit, and push the branch."
        )
        title = f"Failing checks on pull request {view.number}"
        events.append(Feedback(agent.agent, "checks", f"{request}@{at}:checks", title, prompt))
    for review in agent.value("pull_request_change_requests") or []:
        if not isinstance(review, Mapping):
            continue
        quoted = "\n".join(f"> {line}" for line in str(review.get("text", "")).splitlines()) or "> (no text)"
        prompt = (
            f"{review.get('author')} asks for changes on your pull request {view.url} ({review.get('url')}):\n\n"
            f"{quoted}\n\nThe quoted text comes from the forge. Make the changes that it asks for where they fit "
            "your task, commit, push the branch, and say what you did and what you did not."
        )
        title = f"Changes wanted on pull request {view.number}"
        key = f"{request}@{at}:review:{review.get('id')}"
        events.append(Feedback(agent.agent, "review", key, title, prompt))
    return events


# -------------------------------------------------------------------- feedback: done


class FeedbackPort(Protocol):
    """How feedback reaches an agent."""

    async def give_task(self, agent: str, prompt: str, *, title: str, idempotency_key: str) -> str:
        """Queue a task for the agent, or find the one with this key; its id. Raises `QuarterdeckError`."""
        ...

    async def set_metadata(self, agent: str, values: Mapping[str, Any]) -> None:
        """Store facts with the agent, durably. Raises `QuarterdeckError`."""
        ...


@dataclass(frozen=True)
class Given:
    """A task that was given, for events and the log."""

    agent: str
    task_id: str
    kind: Kind
    key: str


async def give_feedback(fleet: Sequence[Gathered], *, attempts: int, port: FeedbackPort) -> list[Given]:
    """One round: decide, give the tasks, remember. An agent that cannot be told now is told next round."""
    given: list[Given] = []

    async def carry_out(decision: Decision) -> None:
        try:
            for task in decision.tasks:
                task_id = await port.give_task(decision.agent, task.prompt, title=task.title, idempotency_key=task.key)
                given.append(Given(decision.agent, task_id, task.kind, task.key))
            if decision.remember is not None:
                await port.set_metadata(decision.agent, {MEMORY_KEY: decision.remember.to_value()})
        except QuarterdeckError as error:
            log.warning("feedback for %s waits: %s", decision.agent, error.message)

    async with anyio.create_task_group() as group:
        for decision in decide(fleet, attempts=attempts):
            group.start_soon(carry_out, decision)
    return given
