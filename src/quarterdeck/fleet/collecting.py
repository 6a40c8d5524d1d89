"""The facts of all agents' workspaces together: gathered, searched, and pull requests followed by themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from quarterdeck.errors import Conflict, NotFound, Unavailable
from quarterdeck.events import Event, PullRequestFeedback, PullRequestGivenUp
from quarterdeck.fleet.core import FleetCore
from quarterdeck.fleet.facts import AgentState, Gathered, not_known, parse_filter
from quarterdeck.fleet.metadata import Ended, Starting, gather
from quarterdeck.fleet.model import AgentRecord, derive_status
from quarterdeck.fleet.pull_requests import FeedbackRounds, Given, GivenUp, PullRequestView, grouped
from quarterdeck.fleet.tasking import Tasking

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PullRequests:
    """The fleet by pull request; `not_known` names the agents of which nobody knows whether they have one."""

    pull_requests: list[PullRequestView]
    not_known: list[AgentState]


class _Source:
    """One agent that can be asked for its facts."""

    def __init__(self, fleet: FleetCore, record: AgentRecord) -> None:
        self.name = record.name
        self._fleet = fleet
        self._record = record

    async def metadata(self) -> Mapping[str, Any]:
        """The body of its `GET /metadata`."""
        status, _ = derive_status(self._record, self._fleet.crew.view(self.name))
        if self.name not in self._fleet.crew.links:
            if status in ("pending", "starting"):
                raise Starting(f"the agent is {status}")
            if status in ("stopped", "failed"):
                raise Ended(f"the agent is {status}")
            raise Unavailable(f"the agent is {status}")
        try:
            client = await self._fleet.client(self.name)
            answer: Mapping[str, Any] = await client.call(dict[str, Any], "GET", "/metadata")
        except Unavailable:
            if status in ("pending", "starting"):
                raise Starting(f"the agent is {status}") from None
            raise
        return answer


class Collecting(Tasking):
    """The use cases over the metadata of the whole fleet."""

    async def gather_metadata(self, names: list[str] | None = None) -> list[Gathered]:
        """What every agent (or each of these) says of its workspace. Raises `NotFound` for an unknown name."""
        if names is not None and (unknown := [n for n in names if self.records.get(n) is None]):
            raise NotFound(f"there is no agent {unknown[0]!r}")
        records = [r for r in self.records.all() if names is None or r.name in names]
        return await gather([_Source(self, r) for r in records])

    async def matching(self, metadata_filter: str) -> tuple[set[str], list[AgentState]]:
        """The names of the agents whose facts pass a filter, and the agents that may do so. Raises `InvalidInput`."""
        wanted = parse_filter(metadata_filter)
        return wanted.split(await self.gather_metadata())

    async def list_pull_requests(self) -> PullRequests:
        """The fleet by pull request: agents on it, checks, reviews, age."""
        fleet = await self.gather_metadata()
        return PullRequests(
            pull_requests=grouped(fleet),
            not_known=[state for g in fleet if (state := not_known(g, ["pull_request_number"])) is not None],
        )

    async def give_task(self, agent: str, prompt: str, *, title: str, idempotency_key: str) -> str:
        """Queue a feedback task, or find the one with this key, whatever its words were then; its id."""
        try:
            task = await self.start_task(
                agent, prompt, queue=True, idempotency_key=idempotency_key, origin=f"pull request: {title}"
            )
        except Conflict as error:
            # Another check failed, or a comment was edited, since it was given to an agent whose memory was lost.
            before = error.details.get("task_id")
            if error.details.get("idempotency_key") != idempotency_key or not isinstance(before, str):
                raise
            return before
        return task.id

    async def store_metadata(self, agent: str, values: Mapping[str, Any]) -> None:
        """Store several facts of one agent."""
        for key, value in values.items():
            await self.set_metadata(agent, key, value)

    async def follow_pull_requests(self) -> None:
        """For ever: what fails or is asked for on a pull request becomes a task for its agent."""
        settings = self._config.pull_requests
        rounds = FeedbackRounds(_Port(self), attempts=settings.attempts)
        while True:
            try:
                for news in await rounds.round(await self.gather_metadata()):
                    self.bus.publish(_event(news))
            except Exception:
                # One bad answer must not end the following of all others.
                log.exception("a round of pull-request feedback failed")
            await anyio.sleep(settings.interval)


def _event(news: Given | GivenUp) -> Event:
    if isinstance(news, Given):
        return PullRequestFeedback(agent=news.agent, task_id=news.task_id, kind=news.kind, key=news.key)
    return PullRequestGivenUp(agent=news.agent, kind=news.kind, request=news.request)


class _Port:
    def __init__(self, fleet: Collecting) -> None:
        self._fleet = fleet

    async def give_task(self, agent: str, prompt: str, *, title: str, idempotency_key: str) -> str:
        return await self._fleet.give_task(agent, prompt, title=title, idempotency_key=idempotency_key)

    async def withdraw_task(self, agent: str, task_id: str, reason: str) -> None:
        await self._fleet.withdraw_task(agent, task_id, reason)

    async def note(self, agent: str, text: str, *, idempotency_key: str) -> None:
        client = await self._fleet.client(agent)
        try:
            await client.add_note(text, key=idempotency_key)
        except NotFound:
            # A sidecar of an earlier Quarterdeck; what it cannot keep must not hold back the rest of the feedback.
            log.warning("agent %s keeps no notes until it is restarted: %s", agent, text)

    async def set_metadata(self, agent: str, values: Mapping[str, Any]) -> None:
        await self._fleet.store_metadata(agent, values)
