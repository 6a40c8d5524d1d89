"""The fleet's use cases, one call each; every front door (MCP, HTTP) makes exactly these calls."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
from anyio.to_thread import run_sync

from quarterdeck.config import Budget, FileConfig, Permissions
from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, TooLarge, Unavailable
from quarterdeck.events import AgentCreated, Bus
from quarterdeck.fleet import admission, names
from quarterdeck.fleet.bringup import Crew
from quarterdeck.fleet.git import repository
from quarterdeck.fleet.model import (
    AgentDetail,
    AgentPage,
    AgentRecord,
    AgentSummary,
    LinkView,
    Restart,
    derive_status,
    detail,
    summarize,
)
from quarterdeck.fleet.ports import Backend
from quarterdeck.fleet.projects import DEFAULT_ROLE, Project, Projects, Role, instructions
from quarterdeck.fleet.queue import BusyLimit
from quarterdeck.fleet.records import Records
from quarterdeck.fleet.roster import Changes, Heard
from quarterdeck.sidecar import offline
from quarterdeck.sidecar.catalog import locate, resolve
from quarterdeck.sidecar.client import SidecarClient
from quarterdeck.sidecar.model import STATUSES, Attention, LogEntry, Task
from quarterdeck.sidecar.spec import LaunchSpec

log = logging.getLogger(__name__)
T = TypeVar("T")
MAX_WAIT_SECONDS = 25.0
MAX_SPEC_BYTES = 100_000
_FRESH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class TaskHistory:
    """A page of an agent's tasks, newest first."""

    agent: str
    tasks: list[Task]
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


class Fleet:
    """All agents of one state folder. Use `Fleet.open`; while it is open, agents are kept as they should be."""

    def __init__(
        self, config: FileConfig, folder: Path, records: Records, backend: Backend, bus: Bus, heard: Heard
    ) -> None:
        self.projects = Projects(config, folder)
        self.bus = bus
        self.records = records
        self._config = config
        self._folder = folder
        self._backend = backend
        self.crew = Crew(records, {backend.name: backend}, bus, self._launch, heard, self._deliver_first_task)
        self._limit = BusyLimit(config.limits.busy_agents, self.crew, self.client)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: FileConfig, folder: Path, state: Path, backend: Backend, bus: Bus, heard: Heard = lambda n, e: None
    ) -> AsyncIterator[Self]:
        """The fleet of `state`, with the projects of the configuration that was read in `folder`."""
        fleet = cls(config, folder, Records(state), backend, bus, heard)
        async with anyio.create_task_group() as tasks:
            fleet.crew.begin(tasks)
            tasks.start_soon(fleet._limit.run, name="busy-limit")
            try:
                yield fleet
            finally:
                tasks.cancel_scope.cancel()

    # -- creating and ending --------------------------------------------------------------------------

    async def create(
        self,
        *,
        name: str | None = None,
        project: str | None = None,
        role: str = DEFAULT_ROLE,
        spec: str = "",
        task: str | None = None,
        provider: str | None = None,
        workspace: str | None = None,
        permissions: Permissions | None = None,
        restart: Restart | None = None,
        budget: Budget | None = None,
    ) -> AgentSummary:
        """Record a new agent and begin to bring it up; returns at once.

        Raises `InvalidInput`, `NotFound`, `Conflict` (name taken), `TooLarge`, `Unavailable` (no room, or
        the provider's program is missing); nothing was changed then.
        """
        defaults = self._config.agents
        name = names.check_name(name) if name is not None else names.make_name([r.name for r in self.records.all()])
        shared = self._record(workspace) if workspace else None
        project = project or (shared.project if shared else self.projects.names()[0])
        table = self.projects.table(project)
        self.projects.role(project, role)
        if task is not None:
            self._check_task(task)
        if len(spec.encode()) > MAX_SPEC_BYTES:
            raise TooLarge(f"the spec has {len(spec.encode())} bytes, at most {MAX_SPEC_BYTES} are taken")
        provider = provider or self.projects.provider(project)
        locate(resolve(provider, self._config))
        if shared is not None and (shared.project != project or shared.workspace is None):
            raise Conflict(f"the workspace of {shared.name} cannot be shared: it is not up, or of another project")
        repo = self.projects.repo(project)
        facts = await repository.inspect(repo)
        base, _ = await repository.resolve_base(facts.root, table.base)
        self._check_room()
        record = AgentRecord(
            id=f"{name}-{uuid.uuid4().hex[:12]}",
            name=name,
            project=project,
            role=role,
            provider=provider,
            repo=str(facts.root),
            base=base,
            created_at=time.time(),
            spec=spec,
            task=task,
            shares=(shared.shares or shared.name) if shared else None,
            workspace=shared.workspace if shared else None,
            branch=shared.branch if shared else None,
            base_sha=shared.base_sha if shared else None,
            permissions=permissions or self.projects.permissions(project),
            restart=restart or defaults.restart,
            budget=budget or defaults.budget,
        )
        self.records.create(record)
        self.bus.publish(AgentCreated(agent=name, project=project, role=role, provider=provider))
        self.crew.roster.look(name)
        self.crew.spawn(self.crew.bring_up, name)
        summary = self._summary(name)
        return replace(summary, status="starting") if summary.status == "pending" else summary

    async def delete(self, name: str) -> AgentRecord:
        """Begin to delete an agent, busy or not; unsaved work is saved first. Returns at once.

        `deletion` waits for the end. Raises `NotFound`, `Conflict` when others share its workspace.
        """
        record = self._record(name)
        sharing = [r.name for r in self.records.all() if r.shares == name]
        if sharing:
            raise Conflict(
                f"other agents work in the workspace of {name}: {', '.join(sharing)}", hint="delete those first"
            )
        if record.deleting_at is None:
            record = self.records.change(name, deleting_at=time.time(), wanted="stopped")
            self.crew.roster.look(name)
            self.crew.call_off(name, deleting=True)
            self.crew.spawn(self.crew.delete, name)
        return record

    async def deletion(self, record: AgentRecord, timeout_seconds: float) -> AgentRecord:
        """What became of a deletion: the record with `deleted_at`, or as it is after that time."""
        with anyio.move_on_after(timeout_seconds):
            cursor: str | None = self.crew.roster.cursor
            while (now := self.records.get(record.name)) is not None and now.id == record.id:
                if now.deleting_at is None:
                    raise Unavailable(f"agent {record.name} was not deleted: {now.failure}", hint="nothing was lost")
                cursor = (await self.crew.roster.wait([record.name], cursor, timeout_seconds)).cursor
        return next((r for r in self.records.deleted() if r.id == record.id), record)

    async def restart(self, name: str) -> AgentSummary:
        """Bring an agent back in a new incarnation, with its history. Raises `NotFound`, `Conflict`, `Unavailable`."""
        record = self._record(name)
        if record.deleting_at is not None:
            raise Conflict(f"agent {name} is being deleted")
        locate(resolve(record.provider, self._config))
        self._check_room()
        self.records.change(name, wanted="running", canceled_at=None, failed_at=None, failure=None)
        self.crew.spawn(self.crew.restart, name)
        return replace(self._summary(name), status="starting", activity=None)

    async def stop(self, name: str) -> AgentSummary:
        """End an agent but keep it: its workspace, its history, its session. Raises `NotFound`, `Conflict`."""
        record = self._record(name)
        if record.deleting_at is not None:
            raise Conflict(f"agent {name} is being deleted")
        self.records.change(name, wanted="stopped")
        self.crew.roster.look(name)
        self.crew.spawn(self.crew.stop, name)
        return self._summary(name)

    # -- tasks ----------------------------------------------------------------------------------------

    async def start_task(
        self, name: str, description: str, *, queue: bool = False, idempotency_key: str | None = None, origin: str = ""
    ) -> Task:
        """Give a task; it is queued, held (fleet limit) or handed over at once. A retry with the key is safe."""
        record = self._record(name)
        self._check_task(description)
        if record.deleting_at is not None or record.canceled_at is not None or record.failed_at is not None:
            status, _ = derive_status(record, self.crew.view(name))
            raise Conflict(
                f"agent {name} is {status}" + (f": {record.failure}" if record.failure else ""),
                hint=f"qd agents restart {name}",
            )
        client = await self.client(name)
        task = await client.add_task(
            description, queue=queue, key=idempotency_key, origin=origin, hold=self._limit.must_hold(name)
        )
        return self._limit.with_position(name, task)

    async def cancel_task(self, name: str, task_id: str | None = None) -> Task | None:
        """Cancel the running task (or that one); an agent that is still coming up is called off (None then)."""
        record = self._record(name)
        if record.started_at is None and self.crew.call_off(name):
            self.crew.roster.look(name)
            return None
        client = await self.client(name)
        facts = await client.facts()
        if task_id is None:
            running = facts.current_task or facts.next_task
            if running is None:
                raise Conflict(f"agent {name} has no task to cancel")
            task_id = running.id
        return await client.cancel(task_id, incarnation=facts.incarnation)

    async def answer(self, name: str, attention_id: str, answer: str) -> Attention:
        """Answer what an agent asks. Raises `NotFound`, `Conflict` (answered before), `InvalidInput`."""
        return await (await self.client(name)).answer(attention_id, answer)

    async def history(self, name: str, *, page: int, page_size: int) -> TaskHistory:
        """An agent's tasks, newest first; read from its file when its sidecar does not run."""
        offset = _offset(page, page_size)
        client = await self._client_or_none(name)
        if client is None:
            tasks, total = await self._offline(name, offline.tasks, offset, page_size)
        else:
            found = await client.tasks(offset=offset, limit=page_size)
            tasks, total = [self._limit.with_position(name, t) for t in found.tasks], found.total_count
        return TaskHistory(agent=name, tasks=tasks, **_paging(page, page_size, total))

    async def log(self, name: str, *, page: int, page_size: int) -> LogHistory:
        """An agent's conversation and tool calls, newest first; also when its sidecar does not run."""
        offset = _offset(page, page_size)
        client = await self._client_or_none(name)
        if client is None:
            entries, total = await self._offline(name, offline.log_entries, offset, page_size)
        else:
            found = await client.log(offset=offset, limit=page_size)
            entries, total = found.entries, found.total_count
        return LogHistory(agent=name, entries=entries, **_paging(page, page_size, total))

    async def _client_or_none(self, name: str) -> SidecarClient | None:
        link = self.crew.links.get(name)
        return await link.client() if link is not None else None

    async def _offline(
        self, name: str, read: Callable[..., tuple[list[T], int]], offset: int, limit: int
    ) -> tuple[list[T], int]:
        record = self.records.get(name)
        if record is not None:
            folder = self._backend.folder(record)
        else:
            graves = [r for r in self.records.deleted() if r.name == name]
            if not graves:
                self._record(name)
            folder = self.records.grave(graves[0])
        return await run_sync(partial(read, folder, offset=offset, limit=limit))

    # -- looking --------------------------------------------------------------------------------------

    async def list_agents(
        self,
        *,
        status: str | None = None,
        project: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> AgentPage:
        """The agents, oldest first. Answers from what is known; nobody that hangs delays the others."""
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
        found = [self._limit.place(s) for s in found]
        start = _start(found, cursor)
        page = found[start : start + limit]
        more = start + limit < len(found)
        return AgentPage(
            agents=page,
            total_count=len(found),
            next_cursor=f"{page[-1].created_at:.6f}:{page[-1].name}" if more and page else None,
        )

    async def show(self, name: str) -> AgentDetail:
        """All of one agent, asked now where it can be asked. Raises `NotFound`."""
        record = self._record(name)
        link = self.crew.links.get(name)
        metadata: dict[str, Any] = {}
        disk: int | None = None

        async def ask() -> None:
            if link is None:
                return
            await link.refresh(_FRESH_SECONDS)
            try:
                answer = await (await link.client()).call(dict, "GET", "/metadata", deadline=_FRESH_SECONDS)
                metadata.update(answer.get("data", {}))
            except QuarterdeckError as error:
                log.info("metadata of %s: %s", name, error.message)

        async def weigh() -> None:
            nonlocal disk
            disk = await self._backend.disk_use(record)

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(weigh)
        return detail(self._record(name), self.crew.view(name), metadata=metadata, disk_bytes=disk)

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

    # -- inside ---------------------------------------------------------------------------------------

    async def client(self, name: str) -> SidecarClient:
        """A client of the agent's sidecar. Raises `NotFound`, `Unavailable` with the reason."""
        record = self._record(name)
        link = self.crew.links.get(name)
        if link is None:
            status, _ = derive_status(record, self.crew.view(name))
            why = record.gone_reason or record.failure
            if status in ("pending", "starting"):
                raise Conflict(
                    f"agent {name} is {status}",
                    hint="wait for it (wait_for_agents), or give the task with create_agent",
                )
            raise Unavailable(
                f"agent {name} cannot be asked, it is {status}" + (f": {why}" if why else ""),
                hint=f"qd agents restart {name}",
            )
        return await link.client()

    def _record(self, name: str) -> AgentRecord:
        record = self.records.get(name)
        if record is None:
            known = ", ".join(r.name for r in self.records.all()[:20])
            raise NotFound(f"there is no agent {name!r}", hint=f"agents: {known}" if known else "there is none yet")
        return record

    def projects_or_recorded(self, project: str) -> None:
        """Raise `NotFound` for a project that is neither configured nor the one of an agent."""
        if not any(r.project == project for r in self.records.all()):
            self.projects.table(project)

    def _summary(self, name: str) -> AgentSummary:
        return summarize(self._record(name), self.crew.view(name))

    def _check_task(self, description: str) -> None:
        size, limit = len(description.encode(errors="surrogatepass")), self._config.limits.task_bytes
        if not description.strip():
            raise InvalidInput("the task is empty", hint="say what is to be done")
        if size > limit:
            raise TooLarge(
                f"the task has {size} bytes, at most {limit} are taken",
                hint="put long material into a file of the repository and name it in the task",
                details={"bytes": size, "limit": limit},
            )

    def _check_room(self) -> None:
        limits = self._config.limits
        room = admission.measure(self.records.folder("x").parent)
        admission.check(room, free_memory_mb=limits.free_memory_mb, free_disk_mb=limits.free_disk_mb)

    def _launch(self, record: AgentRecord) -> LaunchSpec:
        provider = resolve(record.provider, self._config)
        program = locate(provider)
        agents = self._config.agents
        known = record.project in self.projects.names()
        role = self.projects.role(record.project, record.role) if known else None
        return LaunchSpec(
            id=record.id,
            name=record.name,
            workspace=record.workspace or "",
            kind=provider.kind,
            provider=record.provider,
            command=[program, *provider.command[1:]],
            output=provider.output,
            env={**provider.env, **(self.projects.table(record.project).env if known else {})},
            pass_env=provider.pass_env,
            instructions=instructions(role, record.spec) if role else record.spec,
            permissions=record.permissions,
            start_seconds=agents.start_seconds,
            cancel_seconds=agents.cancel_seconds,
            budget=record.budget,
            watchdog=agents.watchdog,
            metadata=self._config.metadata,
            config_folder=str(self._folder),
            base=record.base,
            task_bytes=self._config.limits.task_bytes,
        )

    async def _deliver_first_task(self, record: AgentRecord) -> None:
        """The task that the agent was created with; its key makes a second delivery harmless."""
        if record.task is None:
            return
        client = await self.client(record.name)
        await client.add_task(
            record.task, queue=True, key=f"create:{record.id}", origin="create", hold=self._limit.must_hold(record.name)
        )


_NO_LINK = LinkView()


def _offset(page: int, page_size: int) -> int:
    if page < 1 or not 1 <= page_size <= 100:
        raise InvalidInput(f"page {page} of size {page_size}: pages count from 1, sizes go from 1 to 100")
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
        raise InvalidInput(f"{cursor!r} is no cursor", hint="pass the next_cursor of the page before") from None
    return sum(1 for s in found if (round(s.created_at, 6), s.name) <= last)
