"""Looking at the fleet: lists, details, histories, logs, and waiting for changes. Changes nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.to_thread import run_sync

from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.fleet.collecting import Collecting
from quarterdeck.fleet.facts import AgentState, Gathered
from quarterdeck.fleet.model import (
    AgentDetail,
    AgentPage,
    AgentRecord,
    AgentSummary,
    LinkView,
    called_off_task,
    detail,
    summarize,
)
from quarterdeck.fleet.projects import Project, Role
from quarterdeck.fleet.roster import Changes
from quarterdeck.sidecar import offline
from quarterdeck.sidecar.client import SidecarClient
from quarterdeck.sidecar.model import STATUSES, LogEntry, Task

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_WAIT_SECONDS = 25.0
# Far beyond any page there is, and no offset of a page up to it is too large for a database.
MAX_PAGE = 1_000_000_000
_FRESH_SECONDS = 1.0
_NO_LINK = LinkView()


@dataclass(frozen=True, kw_only=True)
class TaskHistory:
    """A page of an agent's tasks, newest first; `notes` tell what happened beside them in their time."""

    agent: str
    tasks: list[Task]
    notes: list[LogEntry]
    page: int
    page_size: int
    total_count: int
    has_next_page: bool
    has_previous_page: bool


@dataclass(frozen=True, kw_only=True)
class LogHistory:
    """A page of an agent's log, newest first."""

    agent: str
    entries: list[LogEntry]
    page: int
    page_size: int
    total_count: int
    has_next_page: bool
    has_previous_page: bool


class Looking(Collecting):
    """The use cases that only read."""

    async def list_agents(
        self,
        *,
        status: str | None = None,
        project: str | None = None,
        metadata_filter: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> AgentPage:
        """The agents, oldest first. Answers from what is known; nobody that hangs delays the others.

        With `metadata_filter` (docs/metadata.md) all agents are asked for their facts, within a deadline.
        """
        if status is not None and status not in STATUSES:
            raise InvalidInput(f"{status!r} is no status", hint=f"one of: {', '.join(STATUSES)}")
        if project is not None:
            self.projects_or_recorded(project)
        if not 1 <= limit <= 1000:
            raise InvalidInput(f"limit is {limit}, 1 to 1000 is possible")
        records = self.records.deleted() if status == "deleted" else self.records.all()
        found = [summarize(r, self.crew.view(r.name) if r.deleted_at is None else _NO_LINK) for r in records]
        found = [
            s for s in found if (status is None or s.status == status) and (project is None or s.project == project)
        ]
        not_known: list[AgentState] = []
        if metadata_filter:
            matching, unknown = await self.matching(metadata_filter)
            listed = {s.name for s in found if s.status != "deleted"}
            not_known = [state for state in unknown if state.agent in listed]
            found = [s for s in found if s.name in matching]
        found = sorted((self._limit.place(s) for s in found), key=_order)
        start = _start(found, cursor)
        page = found[start : start + limit]
        more = start + limit < len(found)
        return AgentPage(
            agents=page,
            total_count=len(found),
            next_cursor=f"{page[-1].created_at:.6f}:{page[-1].name}" if more and page else None,
            not_known=not_known,
        )

    async def show(self, name: str) -> AgentDetail:
        """All of one agent, asked now where it can be asked. Raises `NotFound`."""
        record = self._record(name)
        link = self.crew.links.get(name)
        facts: Gathered | None = None
        disk: int | None = None

        async def ask() -> None:
            nonlocal facts
            if link is not None:
                await link.refresh(_FRESH_SECONDS)
            (facts,) = await self.gather_metadata([name])

        async def weigh() -> None:
            nonlocal disk
            disk = await self._backend.disk_use(record)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(weigh)
        found = detail(self._record(name), self.crew.view(name), gathered=facts, disk_bytes=disk)
        if found.next_task is not None:
            found = replace(found, next_task=self._limit.with_position(name, found.next_task))
        return found

    async def wait(self, names_: list[str] | None, cursor: str | None, timeout_seconds: float) -> Changes:
        """What changed since a cursor, waiting for it up to 25 s. Raises `InvalidInput`, `NotFound`."""
        if not 0 <= timeout_seconds <= MAX_WAIT_SECONDS:
            raise InvalidInput(f"timeout_seconds is {timeout_seconds:g}, at most {MAX_WAIT_SECONDS:g} is possible")
        if cursor is None:
            for name in names_ or ():
                self._record(name)
        return await self.crew.roster.wait(names_, cursor, timeout_seconds)

    async def list_projects(self) -> list[Project]:
        """The projects, with what is wrong with them."""
        used = [r.project for r in self.records.all()]
        return [await self.projects.describe(n, agents=used.count(n)) for n in self.projects.names()]

    def roles(self, project: str | None) -> list[Role]:
        """The roles of a project. Raises `NotFound`."""
        return self.projects.roles(project or self.projects.names()[0])

    async def history(self, name: str, *, page: int, page_size: int) -> TaskHistory:
        """An agent's tasks, newest first; read from its file when its sidecar does not run."""
        offset = _offset(page, page_size)
        found = await self._asked(name, lambda client: client.tasks(offset=offset, limit=page_size))
        if found is None:
            dead = name not in self.crew.links  # with a link, nobody knows: it may only be slow
            read = partial(offline.tasks, dead=dead, deleted=self.records.get(name) is None)
            found = await self._offline(name, read, offset, page_size)
            if not found.total_count and (called_off := called_off_task(self.record_or_grave(name))) is not None:
                found = replace(found, tasks=[called_off] if page == 1 else [], total_count=1)
        else:
            found = replace(found, tasks=[self._limit.with_position(name, t) for t in found.tasks])
        paging = _paging(page, page_size, found.total_count)
        return TaskHistory(agent=name, tasks=found.tasks, notes=found.notes, **paging)

    async def log(self, name: str, *, page: int, page_size: int) -> LogHistory:
        """An agent's conversation and tool calls, newest first; also when its sidecar does not run."""
        offset = _offset(page, page_size)
        found = await self._asked(name, lambda client: client.log(offset=offset, limit=page_size))
        if found is None:
            entries, total = await self._offline(name, offline.log_entries, offset, page_size)
        else:
            entries, total = found.entries, found.total_count
        return LogHistory(agent=name, entries=entries, **_paging(page, page_size, total))

    async def _asked(self, name: str, ask: Callable[[SidecarClient], Awaitable[T]]) -> T | None:
        """What the sidecar answers; None where nobody answers, so that its file is read instead."""
        link = self.crew.links.get(name)
        if link is None:
            return None
        try:
            return await ask(await link.client())
        except Unavailable as error:
            log.info("the history of %s is read from its file: %s", name, error.message)
            return None

    async def _offline(self, name: str, read: Callable[..., T], offset: int, limit: int) -> T:
        record = self.record_or_grave(name)
        living = record.deleted_at is None
        folder = self._backend.folder(record) if living else self.records.grave(record)
        return await run_sync(partial(read, folder, offset=offset, limit=limit))

    def record_or_grave(self, name: str) -> AgentRecord:
        """The agent of this name, else the one that was deleted last. Raises `NotFound`."""
        graves = [] if self.records.get(name) else [r for r in self.records.deleted() if r.name == name]
        return graves[0] if graves else self._record(name)


def _offset(page: int, page_size: int) -> int:
    if not 1 <= page <= MAX_PAGE or not 1 <= page_size <= 100:
        raise InvalidInput(f"page {page} of size {page_size}: pages go from 1 to {MAX_PAGE}, sizes from 1 to 100")
    return (page - 1) * page_size


def _paging(page: int, page_size: int, total: int) -> dict[str, Any]:
    return {
        "page": page,
        "page_size": page_size,
        "total_count": total,
        "has_next_page": page * page_size < total,
        "has_previous_page": page > 1,
    }


def _start(found: list[AgentSummary], cursor: str | None) -> int:
    """Where the page after a cursor begins; the cursor names the last agent of the page before."""
    if not cursor:
        return 0
    created, _, name = cursor.partition(":")
    try:
        last = (float(created), name)
    except ValueError:
        last = (math.nan, name)
    if not math.isfinite(last[0]):
        raise InvalidInput(f"{cursor!r} is no cursor", hint="pass the next_cursor of the page before")
    return sum(1 for s in found if _order(s) <= last)


def _order(line: AgentSummary) -> tuple[float, str]:
    """The order of every list of agents, the deleted ones' too, in the precision of a cursor."""
    return round(line.created_at, 6), line.name
