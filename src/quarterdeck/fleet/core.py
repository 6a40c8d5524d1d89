"""What every use case of the fleet stands on: the records, the links, the limits, and who may be asked."""

from __future__ import annotations

from pathlib import Path

import anyio

from quarterdeck.config import FileConfig
from quarterdeck.errors import Conflict, InvalidInput, NotFound, TooLarge, Unavailable
from quarterdeck.events import Bus
from quarterdeck.fleet import admission
from quarterdeck.fleet.bringup import Crew
from quarterdeck.fleet.errands import Errands
from quarterdeck.fleet.model import AgentRecord, AgentSummary, called_off_task, derive_status, summarize
from quarterdeck.fleet.ports import Backend
from quarterdeck.fleet.projects import Projects, instructions
from quarterdeck.fleet.queue import BusyLimit
from quarterdeck.fleet.records import Records
from quarterdeck.fleet.roster import Heard
from quarterdeck.sidecar.catalog import locate, resolve
from quarterdeck.sidecar.client import SidecarClient, Unreachable
from quarterdeck.sidecar.model import FINAL
from quarterdeck.sidecar.spec import LaunchSpec

_DELIVERIES = 4


class FleetCore:
    """The parts, put together; `Fleet` is the whole."""

    def __init__(
        self, config: FileConfig, folder: Path, records: Records, backend: Backend, bus: Bus, heard: Heard
    ) -> None:
        self.projects = Projects(config, folder)
        self.bus = bus
        self.records = records
        self.errands = Errands()
        self._config = config
        self._folder = folder
        self._backend = backend
        self.crew = Crew(
            records, {backend.name: backend}, bus, self._launch, heard, self._deliver_first_task, self._check_room
        )
        self._limit = BusyLimit(config.limits.busy_agents, self.crew, self.client)

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
            # A first task that was canceled may wait in there, and must not begin before it can be told so.
            hold_waiting=called_off_task(record) is not None or self._limit.is_reached_without(record.name),
        )

    async def _deliver_first_task(self, record: AgentRecord) -> None:
        """The task that the agent was created with; its key makes a second delivery harmless.

        One that was canceled is delivered as such: held, so that it never runs, for the history.
        """
        if record.task is None:
            return
        canceled = record.task_canceled_at is not None
        hold = canceled or self._limit.must_hold(record.name)
        for attempt in range(1, _DELIVERIES + 1):
            client = await self.client(record.name)
            try:
                key = f"create:{record.id}"
                task = await client.add_task(record.task, queue=True, key=key, origin="create", hold=hold)
                if canceled and task.state not in FINAL:
                    await client.cancel(task.id)
            except Unreachable:
                # A machine that is short of breath is no reason to give the agent up.
                if attempt == _DELIVERIES:
                    raise
                await anyio.sleep(attempt)
            else:
                return
