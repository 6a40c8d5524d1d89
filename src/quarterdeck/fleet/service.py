"""The fleet's use cases, one call each; every front door (MCP, HTTP) makes exactly these calls."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Self

import anyio
from anyio.to_thread import run_sync

from quarterdeck.config import Budget, FileConfig, Permissions
from quarterdeck.errors import Conflict, QuarterdeckError, TooLarge, Unavailable
from quarterdeck.events import AgentCreated, Bus
from quarterdeck.fleet import names
from quarterdeck.fleet.git import repository
from quarterdeck.fleet.looking import Looking
from quarterdeck.fleet.model import AgentRecord, AgentSummary, NewAgent, Restart
from quarterdeck.fleet.ports import Backend
from quarterdeck.fleet.projects import DEFAULT_ROLE
from quarterdeck.fleet.records import Records
from quarterdeck.fleet.roster import Heard
from quarterdeck.sidecar import offline
from quarterdeck.sidecar.catalog import locate, resolve
from quarterdeck.sidecar.model import UsageTotals, more_budget, over_budget

log = logging.getLogger(__name__)
MAX_SPEC_BYTES = 100_000
_DIRTY = "the repository has uncommitted changes; the agent starts from the last commit, without them"


class Fleet(Looking):
    """All agents of one state folder. Use `Fleet.open`; while it is open, agents are kept as they should be."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: FileConfig, folder: Path, state: Path, backend: Backend, bus: Bus, heard: Heard = lambda n, e: None
    ) -> AsyncIterator[Self]:
        """The fleet of `state`, with the projects of the configuration that was read in `folder`."""
        fleet = cls(config, folder, Records(state), backend, bus, heard)
        async with anyio.create_task_group() as tasks:
            fleet.errands.begin(tasks)
            fleet.crew.begin(tasks)
            tasks.start_soon(fleet._limit.run, name="busy-limit")
            if config.pull_requests.feedback:
                tasks.start_soon(fleet.follow_pull_requests, name="pull-requests")
            try:
                yield fleet
            finally:
                tasks.cancel_scope.cancel()

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
    ) -> NewAgent:
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
        if shared is not None:
            self._check_shared(shared, project)
        if shared is not None:
            # The work of both is the same, and goes home to where the host's began, whatever is checked out now.
            # (Nothing is waited for: the host's deletion would take the workspace away under the new agent.)
            repo, base, notes = shared.repo, shared.base, []
        else:
            facts = await repository.inspect(self.projects.repo(project))
            # Of the worktree that the project names (a linked one, perhaps), as it is told; not of the main one.
            base, _ = await repository.resolve_base(facts.worktree, table.base)
            repo, notes = str(facts.root), [_DIRTY] if facts.dirty else []
        self._check_room()
        record = AgentRecord(
            id=f"{name}-{uuid.uuid4().hex[:12]}",
            name=name,
            project=project,
            role=role,
            provider=provider,
            repo=repo,
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
            notes=notes,
        )
        self.records.create(record)
        self.bus.publish(AgentCreated(agent=name, project=project, role=role, provider=provider))
        self.crew.roster.look(name)
        self.crew.spawn(self.crew.bring_up, name)
        line = self._summary(name)
        told = {field.name: getattr(line, field.name) for field in fields(line)}
        return NewAgent(**{**told, "status": "starting" if line.status == "pending" else line.status}, notes=notes)

    @staticmethod
    def _check_shared(owner: AgentRecord, project: str) -> None:
        if owner.deleting_at is not None:
            raise Conflict(f"the workspace of {owner.name} cannot be shared: that agent is being deleted")
        if owner.project != project or owner.workspace is None:
            raise Conflict(f"the workspace of {owner.name} cannot be shared: it is not up, or of another project")

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

    async def restart(
        self, name: str, *, budget_usd: float | None = None, budget_tokens: int | None = None
    ) -> AgentSummary:
        """Bring an agent back in a new incarnation, with its history, and with a larger budget if one is given.

        Raises `NotFound`, `Unavailable`, and `Conflict`, also when it has used up its budget and could only stop
        again; nothing was changed then.
        """
        record = self._record(name)
        usage = await self._usage(record)
        record = self._record(name)
        if record.deleting_at is not None:
            raise Conflict(f"agent {name} is being deleted")
        budget = Budget(
            usd=record.budget.usd if budget_usd is None else budget_usd,
            tokens=record.budget.tokens if budget_tokens is None else budget_tokens,
        )
        if usage is not None and (reason := over_budget(usage, usd=budget.usd, tokens=budget.tokens)):
            raise Conflict(
                f"agent {name} would only stop again: {reason}; nothing was changed",
                hint=more_budget(name, usage, usd=budget.usd, tokens=budget.tokens),
            )
        locate(resolve(record.provider, self._config))
        self._check_room()
        # From here on it counts as starting, so that nobody takes what it was for what it is; and the hub that
        # comes after this one knows that what runs is not what was asked for.
        self.records.change(
            name, wanted="running", canceled_at=None, failed_at=None, failure=None, gone_at=None, gone_reason=None,
            started_at=None, task_given_at=record.task_given_at or record.started_at, budget=budget,
            restart_asked_at=time.time(),
        )  # fmt: skip
        self.crew.roster.look(name)
        self.crew.spawn(self.crew.restart, name)
        return self._summary(name)

    async def _usage(self, record: AgentRecord) -> UsageTotals | None:
        """What an agent has used; None where nobody knows."""
        facts = self.crew.view(record.name).facts
        if facts is not None:
            return facts.usage
        try:
            found = await run_sync(offline.facts, self._backend.folder(record), record.name, record.provider)
        except QuarterdeckError as error:
            log.warning("what agent %s has used is not known: %s", record.name, error.message)
            return None
        return found.usage if found is not None else None

    async def stop(self, name: str) -> AgentSummary:
        """End an agent but keep it: its workspace, its history, its session. Raises `NotFound`, `Conflict`."""
        record = self._record(name)
        if record.deleting_at is not None:
            raise Conflict(f"agent {name} is being deleted")
        self.records.change(name, wanted="stopped")
        self.crew.roster.look(name)
        self.crew.spawn(self.crew.stop, name)
        return self._summary(name)
