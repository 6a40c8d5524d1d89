"""Pull requests across the fleet: the agents grouped by request, and what happens there told to its agent.

The hub has no state, so everything durable lies with the agent: tasks are given with an idempotency key
made of request and event, and what was given is remembered under one key of the metadata of every agent on
the request: one that was told may not answer for a moment, and no other is to be told meanwhile. A crash
between the two repeats the same task, which the agent's sidecar then recognises.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import anyio

from quarterdeck.errors import Conflict, NotFound, QuarterdeckError
from quarterdeck.fleet.facts import Gathered
from quarterdeck.fleet.pull_request_memory import MEMORY_KEY, REMEMBERED, Memory, read_memory, request_name, short

log = logging.getLogger(__name__)
REPORTED = 10_000
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


@dataclass(frozen=True)
class _Request:
    """One request: how it is shown, the agent that knows it best, and all agents on it, by name."""

    view: PullRequestView
    freshest: Gathered
    on_it: list[Gathered]


def grouped(fleet: Sequence[Gathered]) -> list[PullRequestView]:
    """The fleet by request: open ones first, newest numbers first. The freshest agent's facts are shown."""
    return [request.view for request in _requests(fleet)]


def _requests(fleet: Sequence[Gathered]) -> list[_Request]:
    agents: dict[tuple[str, int], list[Gathered]] = {}
    for gathered in fleet:
        number = gathered.value("pull_request_number")
        if isinstance(number, int):
            agents.setdefault((_text(gathered, "repository"), number), []).append(gathered)
    found = [_request(repository, number, on_it) for (repository, number), on_it in agents.items()]
    return sorted(found, key=lambda r: (r.view.state != "open", r.view.repository, -r.view.number))


def _request(repository: str, number: int, on_it: list[Gathered]) -> _Request:
    on_it = sorted(on_it, key=lambda g: g.agent)
    freshest = min(on_it, key=lambda g: age if (age := _entry(g).get("age_seconds")) is not None else float("inf"))
    entry = _entry(freshest)
    failing = freshest.value("pull_request_failing_checks") or []
    view = PullRequestView(
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
        agents=[g.agent for g in on_it],
        updated_at=freshest.value("pull_request_updated_at"),
        age_seconds=entry.get("age_seconds"),
        stale=bool(entry.get("stale")),
        error=entry.get("error"),
    )
    return _Request(view, freshest, on_it)


def _entry(gathered: Gathered) -> Mapping[str, Any]:
    entry = gathered.data.get("pull_request_number")
    return entry if isinstance(entry, Mapping) else {}


def _text(gathered: Gathered, name: str) -> str:
    value = gathered.value(f"pull_request_{name}")
    return value if isinstance(value, str) else ""


# -------------------------------------------------------------------- feedback: what to tell, decided purely


@dataclass(frozen=True)
class Feedback:
    """One task to give: the key makes it one for ever, `event` is what is remembered of it."""

    agent: str
    kind: Kind
    key: str
    event: str
    title: str
    prompt: str


@dataclass(frozen=True)
class Withdrawal:
    """A task of ours that nobody needs any more, should it still wait. `counted`: it is among the attempts."""

    event: str
    agent: str
    task_id: str
    reason: str
    counted: bool


@dataclass(frozen=True)
class Decision:
    """What to do about one request: tasks to take back where they still wait, tasks to give, then what to remember
    (None: nothing changed) and where, and the kinds of events that are given up on with it.
    """

    agent: str
    tasks: tuple[Feedback, ...] = ()
    remember: Memory | None = None
    keepers: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    withdrawals: tuple[Withdrawal, ...] = ()


def decide(fleet: Sequence[Gathered], *, attempts: int) -> list[Decision]:
    """Which agents are to be told what: each event once, at most for `attempts` commits without success, never
    about a request that is closed, and one agent per request; and what waits to be done for nothing.
    """
    silent = {gathered.agent for gathered in fleet if gathered.state != "known" and not gathered.ended}
    decisions = []
    for request in _requests(fleet):
        view = request.view
        if view.stale and view.error:
            continue
        before = _remembered(request)
        if view.state != "open":
            if before.waiting:
                decisions.append(_remembering(request, before, replace(before, waiting={}), before.agent, ()))
            continue
        # Who was told before and does not answer right now is still at it: telling another would have two do it.
        if before.agent in silent:
            continue
        decision = _decision(request, before, _addressee(request, before), attempts)
        if decision.tasks or decision.withdrawals or decision.remember is not None:
            decisions.append(decision)
    return decisions


def _remembered(request: _Request) -> Memory:
    """What all agents on it remember, since one that was told may not answer, or be gone."""
    name = request_name(request.view.repository, request.view.number)
    found = [read_memory(g.value(MEMORY_KEY), name) for g in request.on_it]
    fullest = max(found, key=lambda memory: len(memory.sent))
    sent = dict.fromkeys(event for memory in (fullest, *found) for event in memory.sent)
    waiting = {event: task for memory in (*found, fullest) for event, task in memory.waiting.items()}
    return replace(fullest, sent=tuple(sent)[-REMEMBERED:], waiting=waiting)


def _addressee(request: _Request, before: Memory) -> Gathered:
    """The agent that was told before, else one that has the request's commit, else the first by name."""
    told = [g for g in request.on_it if g.agent == before.agent]
    at_head = [g for g in request.on_it if g.value("git_head") == request.view.head]
    return (told or at_head or request.on_it)[0]


def _decision(request: _Request, before: Memory, agent: Gathered, limit: int) -> Decision:
    view, at = request.view, request.view.head[:12]
    sent, counts, heads = list(before.sent), dict(before.attempts), dict(before.heads)
    gave_up = set(before.gave_up)
    for kind, well in (("checks", view.checks == "passing"), ("review", view.reviews == "approved")):
        if well:
            counts.pop(kind, None)
            heads.pop(kind, None)
            gave_up.discard(kind)
    tasks = []
    for feedback in _events(request, agent.agent, before.request):
        if feedback.event in sent:
            continue
        # Several reviews of one commit are one attempt: the agent answers them with one more commit.
        if heads.get(feedback.kind) != at:
            if counts.get(feedback.kind, 0) >= limit:
                gave_up.add(feedback.kind)
                continue
            counts[feedback.kind] = counts.get(feedback.kind, 0) + 1
            heads[feedback.kind] = at
        sent.append(feedback.event)
        tasks.append(feedback)
    told = agent.agent if tasks else before.agent
    after = Memory(before.request, told, tuple(sent[-REMEMBERED:]), counts, heads, tuple(sorted(gave_up)))
    needed = {event: task for event, task in before.waiting.items() if _why_not_any_more(view, event, sent) is None}
    return _remembering(request, before, replace(after, waiting=needed), agent.agent, tuple(tasks))


def _remembering(request: _Request, before: Memory, after: Memory, agent: str, tasks: tuple[Feedback, ...]) -> Decision:
    """The decision that leads from one memory to the other: what is no longer waited for is taken back."""
    value, empty = after.to_value(), Memory(before.request).to_value()
    keepers = tuple(
        g.agent for g in request.on_it if read_memory(g.value(MEMORY_KEY), before.request).to_value() != value
    )
    remember = after if keepers and value != empty else None
    given_up = tuple(sorted(set(after.gave_up) - set(before.gave_up)))
    withdrawals = tuple(
        Withdrawal(event, *task, _why_not_any_more(request.view, event, after.sent) or "", "checks" in before.attempts)
        for event, task in before.waiting.items()
        if event not in after.waiting
    )
    return Decision(agent, tasks, remember, keepers if remember else (), given_up, withdrawals)


def _why_not_any_more(view: PullRequestView, event: str, told: Sequence[str]) -> str | None:
    """Why a task that was given for an event is for nothing by now; None: it is still to be done."""
    at = view.head[:12]
    if view.state != "open":
        return f"pull request {view.number} is {view.state}"
    if event.startswith("review:"):
        return None if view.reviews == "changes_requested" else "nobody asks for changes any more"
    if event == f"{at}:checks" or not at:
        return None
    # Where the newer commit fails, too, its own task takes the place of this one.
    if view.checks == "failing" and f"{at}:checks" not in told:
        return None
    return f"pull request {view.number} has a newer commit, {at}"


def _events(request: _Request, agent: str, name: str) -> list[Feedback]:
    """What stands against the request, as its freshest agent knows it: commit, checks and reviews of one moment."""
    view, events = request.view, []
    at = view.head[:12]
    if view.checks == "failing":
        checks = request.freshest.value("pull_request_failing_checks") or []
        lines = "\n".join(f"- {c.get('name')}: {c.get('url')}" for c in checks if isinstance(c, Mapping))
        prompt = (
            f"Checks fail on your pull request {view.url} at commit {view.head}:\n{lines}\n\n"
            "Find out why, repair it, run the checks that you can run here, commit, and push the branch."
        )
        title = f"Failing checks on pull request {view.number}"
        events.append(Feedback(agent, "checks", f"{name}@{at}:checks", f"{at}:checks", title, prompt))
    for review in request.freshest.value("pull_request_change_requests") or []:
        if not isinstance(review, Mapping):
            continue
        quoted = "\n".join(f"> {line}" for line in str(review.get("text", "")).splitlines()) or "> (no text)"
        prompt = (
            f"{review.get('author')} asks for changes on your pull request {view.url} ({review.get('url')}):\n\n"
            f"{quoted}\n\nThe quoted text comes from the forge. Make the changes that it asks for where they fit "
            "your task, commit, push the branch, and say what you did and what you did not."
        )
        title = f"Changes wanted on pull request {view.number}"
        # By the review, not the commit: it stands until its author looks again, however often is pushed.
        event = f"review:{short(str(review.get('id')), 60)}"
        events.append(Feedback(agent, "review", f"{name}:{event}", event, title, prompt))
    return events


# -------------------------------------------------------------------- feedback: done


class FeedbackPort(Protocol):
    """How feedback reaches an agent."""

    async def give_task(self, agent: str, prompt: str, *, title: str, idempotency_key: str) -> str:
        """Queue a task for the agent, or find the one with this key; its id. Raises `QuarterdeckError`."""
        ...

    async def withdraw_task(self, agent: str, task_id: str, reason: str) -> None:
        """Cancel a task that waits. Raises `Conflict` (it runs or is over), `NotFound`, else `QuarterdeckError`."""
        ...

    async def note(self, agent: str, text: str, *, idempotency_key: str) -> None:
        """Note something in the agent's history, once for each key. Raises `QuarterdeckError`."""
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


@dataclass(frozen=True)
class GivenUp:
    """So many attempts did not help: a person has to look."""

    agent: str
    kind: str
    request: str


class FeedbackRounds:
    """One round after the other: decide, give the tasks, remember. What an agent cannot be told now, it is told
    the next round. Each task and each giving up is reported once, also where remembering it goes on failing.
    """

    def __init__(self, port: FeedbackPort, *, attempts: int) -> None:
        self._port = port
        self._attempts = attempts
        self._reported: dict[Given | GivenUp, None] = {}

    async def round(self, fleet: Sequence[Gathered]) -> list[Given | GivenUp]:
        """One round over the fleet's facts; what is new in it."""
        done: list[Given | GivenUp] = []
        async with anyio.create_task_group() as group:
            for decision in decide(fleet, attempts=self._attempts):
                group.start_soon(self._carry_out, decision, done)
        news = [item for item in done if item not in self._reported]
        self._reported.update(dict.fromkeys(news))
        for old in list(self._reported)[:-REPORTED]:
            del self._reported[old]
        return news

    async def _carry_out(self, decision: Decision, done: list[Given | GivenUp]) -> None:
        waiting, taken_back = await self._withdrawn(decision)
        if len(waiting) == len(decision.withdrawals) and not decision.tasks and not decision.given_up and waiting:
            return
        try:
            for task in decision.tasks:
                task_id = await self._port.give_task(
                    decision.agent, task.prompt, title=task.title, idempotency_key=task.key
                )
                done.append(Given(decision.agent, task_id, task.kind, task.key))
                waiting[task.event] = (decision.agent, task_id)
            if decision.remember is None:
                return
            for kind in decision.given_up:
                await self._note_given_up(decision.agent, kind, decision.remember)
                done.append(GivenUp(decision.agent, kind, decision.remember.request))
            memory = decision.remember.without(taken_back)
            memory = replace(memory, waiting={**memory.waiting, **waiting})
            # The one that is told first: it is the one that decides when only one of them was reached.
            for agent in sorted(decision.keepers, key=lambda name: name != decision.agent):
                await self._port.set_metadata(agent, {MEMORY_KEY: memory.to_value()})
        except QuarterdeckError as error:
            log.warning("feedback for %s waits: %s", decision.agent, error.message)

    async def _note_given_up(self, agent: str, kind: str, memory: Memory) -> None:
        count = memory.attempts.get(kind, 0)
        commits = "1 commit" if count == 1 else f"{count} commits"
        what = "its checks failed" if kind == "checks" else "changes were asked for"
        until = "its checks pass" if kind == "checks" else "it is approved"
        await self._port.note(
            agent,
            f"Pull request {memory.request}: {what} again after tasks for {commits}; no more are given for that"
            f" until {until}. A person has to look.",
            idempotency_key=f"{memory.request}@{memory.heads.get(kind, '')}:{kind}:given-up",
        )

    async def _withdrawn(self, decision: Decision) -> tuple[dict[str, tuple[str, str]], list[str]]:
        """Take tasks back; those whose agent could not be asked, to be asked the next round, and the events of those
        that waited indeed and were counted.
        """
        unknown: dict[str, tuple[str, str]] = {}
        taken_back: list[str] = []
        for task in decision.withdrawals:
            try:
                await self._port.withdraw_task(task.agent, task.task_id, task.reason)
                if task.counted:
                    taken_back.append(task.event)
                log.info("task %s of %s was taken back: %s", task.task_id, task.agent, task.reason)
            except (Conflict, NotFound):
                pass  # it runs or is over, or its agent is gone: nothing waits
            except QuarterdeckError as error:
                unknown[task.event] = (task.agent, task.task_id)
                log.info("task %s of %s waits for nothing: %s", task.task_id, task.agent, error.message)
        return unknown, taken_back
