"""The limit of agents that are busy at once: beyond it tasks are held, first come, first served.

Held tasks lie in their own agents' queues; the hub only says when they may run, so that nothing is lost
when it dies. The order is that of the times at which they were queued.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import anyio

from quarterdeck.errors import QuarterdeckError
from quarterdeck.fleet.bringup import Crew
from quarterdeck.fleet.model import AgentSummary
from quarterdeck.sidecar.client import SidecarClient
from quarterdeck.sidecar.model import Task

log = logging.getLogger(__name__)
_CHECK_SECONDS = 2.0
# How long a place stays taken for an agent that does not show as busy yet.
_GRANT_SECONDS = 3.0


class BusyLimit:
    """Holds and releases tasks. `run` releases as agents become free."""

    def __init__(self, limit: int, crew: Crew, client: Callable[[str], Awaitable[SidecarClient]]) -> None:
        self._limit = limit
        self._crew = crew
        self._client = client
        self._granted: dict[str, tuple[float, float]] = {}  # until (monotonic), since (wall clock)

    def _busy(self) -> set[str]:
        found: set[str] = set()
        for name, link in self._crew.links.items():
            facts = link.view.facts
            if facts is None:
                continue
            waits_to_run = facts.next_task is not None and not facts.next_task.held
            if facts.current_task is not None or (waits_to_run and facts.session in ("starting", "running")):
                found.add(name)
                self._granted.pop(name, None)
        self._granted = {name: grant for name, grant in self._granted.items() if self._is_open(name, *grant)}
        return found | self._granted.keys()

    def _unknown(self) -> set[str]:
        """Agents that may be busy for all the hub knows: it has only begun to follow them."""
        views = {name: link.view for name, link in self._crew.links.items()}
        return {name for name, view in views.items() if view.facts is None and view.unreachable is None}

    def _is_open(self, name: str, until: float, since: float) -> bool:
        """Whether a granted place is still to be taken: not when its task was so short that nobody saw it run."""
        link = self._crew.links.get(name)
        last = link.view.facts.last_task if link is not None and link.view.facts is not None else None
        if last is not None and last.ended_at is not None and last.ended_at >= since:
            return False
        return until > time.monotonic()

    def _grant(self, name: str) -> None:
        self._granted[name] = (time.monotonic() + _GRANT_SECONDS, time.time())

    def _held(self) -> list[tuple[float, str, str]]:
        """(queued at, agent, task) of every held task, in the order in which they may run."""
        found: list[tuple[float, str, str]] = []
        for name, link in self._crew.links.items():
            facts = link.view.facts
            if (
                facts is not None
                and facts.current_task is None
                and facts.next_task is not None
                and facts.next_task.held
            ):
                found.append((facts.next_task.queued_at, name, facts.next_task.id))
        return sorted(found)

    def must_hold(self, name: str) -> bool:
        """Whether a new task of this agent has to wait for others; if not, its place is taken at once."""
        busy = self._busy()
        if name in busy:
            return False
        # Of the agent itself nothing is known yet when its first task is given.
        if len(busy | self._unknown() - {name}) >= self._limit or self._held():
            return True
        self._grant(name)
        return False

    @contextmanager
    def place_for(self, name: str) -> Iterator[bool]:
        """`must_hold`, for while a task is given: the place that was taken for it is given back if it is refused."""
        before = self._granted.get(name)
        hold = self.must_hold(name)
        taken = self._granted.get(name)
        try:
            yield hold
        except QuarterdeckError:
            # Only that very place: the agent may have had one already, or another since, for another task.
            if taken is not before and self._granted.get(name) is taken:
                self._granted.pop(name, None)
            raise

    def is_reached_without(self, name: str) -> bool:
        """Whether other agents take all places or wait for one, so that nothing of this agent may begin by itself."""
        return len((self._busy() | self._unknown()) - {name}) >= self._limit or bool(self._held())

    def with_position(self, name: str, task: Task) -> Task:
        """A held task with its place in the fleet's queue, from 1."""
        if not task.held:
            return task
        waiting = [each for _, _, each in self._held()]
        return replace(task, position=waiting.index(task.id) + 1 if task.id in waiting else len(waiting) + 1)

    def place(self, summary: AgentSummary) -> AgentSummary:
        """A line of the list with that place in it."""
        if summary.task is None or not summary.task.held:
            return summary
        return replace(summary, task=self.with_position(summary.name, summary.task))

    async def run(self) -> None:
        """Release the next held tasks whenever something changes."""
        roster = self._crew.roster
        cursor: str | None = roster.cursor
        while True:
            await self._release()
            cursor = (await roster.wait(None, cursor, _CHECK_SECONDS)).cursor

    async def _release(self) -> None:
        for _, name, task_id in self._held():
            # A hub that begins waits until it knows of everybody who is busy already.
            if self._unknown() or len(self._busy()) >= self._limit:
                return
            if self._crew.keeps_back(name):
                continue
            self._grant(name)
            try:
                client = await self._client(name)
                await client.release(task_id)
                with anyio.move_on_after(1):
                    await self._crew.links[name].refresh(1)
            except (QuarterdeckError, KeyError) as error:
                self._granted.pop(name, None)
                log.warning("task %s of %s could not be released: %s", task_id, name, error)
