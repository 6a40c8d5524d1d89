"""What the hub adds to the fleet: where its state lies, looking at work, merging, cleaning up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from quarterdeck import __version__
from quarterdeck.errors import InvalidInput, NotFound, QuarterdeckError
from quarterdeck.events import MergeFailed, WorkMerged
from quarterdeck.fleet.git.leftover_plan import Leftover
from quarterdeck.fleet.git.merge import Method
from quarterdeck.fleet.model import AgentRecord, MergeOutcome
from quarterdeck.fleet.service import Fleet
from quarterdeck.fleet.tidy import collect
from quarterdeck.fleet.work import AgentDiff, AgentMerge, agent_diff, agent_merge


@dataclass(frozen=True, kw_only=True)
class HubFacts:
    """Which hub answers: its version, its folder, where its state lies, how many agents it has."""

    version: str
    folder: str
    state: str
    agents: int
    unreadable: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """What a deletion did so far: done or still going on, and where work that was not saved went."""

    name: str
    done: bool
    rescue_ref: str | None
    branch_kept: str | None
    notes: list[str] = field(default_factory=list)


class Hub:
    """One call for each thing that the front doors offer beyond `Fleet`."""

    def __init__(self, fleet: Fleet, folder: Path, state: Path) -> None:
        self.fleet = fleet
        self._folder = folder
        self._state = state

    def facts(self) -> HubFacts:
        """Which hub this is."""
        records = self.fleet.records
        return HubFacts(
            version=__version__,
            folder=str(self._folder),
            state=str(self._state),
            agents=len(records.all()),
            unreadable=records.unreadable,
        )

    async def delete(self, name: str, wait_seconds: float) -> Deleted:
        """Delete an agent and wait some time for the end; for one that is deleted already, what became of its work.

        Raises as `Fleet.delete` and `Fleet.deletion`; `NotFound` only where no agent of the name is remembered.
        """
        record = self.fleet.record_or_grave(name)
        if record.deleted_at is None:
            record = await self.fleet.deletion(await self.fleet.delete(name), wait_seconds)
        return Deleted(
            name=name,
            done=record.deleted_at is not None,
            rescue_ref=record.rescue_ref,
            branch_kept=record.branch_kept,
            notes=record.removal_notes,
        )

    async def diff(self, name: str, form: str, max_bytes: int) -> AgentDiff:
        """An agent's work against its base. Raises `InvalidInput`, `NotFound`, `Conflict`."""
        if form == "stat":
            return await agent_diff(self._record(name), "stat", max_bytes)
        if form == "patch":
            return await agent_diff(self._record(name), "patch", max_bytes)
        raise InvalidInput(f"form is {form!r}, it is stat or patch")

    async def merge(self, name: str, method: str, message: str) -> AgentMerge:
        """Bring an agent's work home, and keep the outcome; it goes on when the client is gone.

        Raises `Conflict` with everything as it was (also while a merge of this agent goes on), `InvalidInput`,
        `NotFound`.
        """
        if method not in ("merge", "rebase"):
            raise InvalidInput(f"method is {method!r}, it is merge or rebase")
        record = self._record(name)
        return await self.fleet.errands.carry_out(
            f"merge-{name}",
            partial(self._merge, record, "merge" if method == "merge" else "rebase", message),
            twice=f"the work of agent {name} is being merged already; `qd agents show {name}` will tell the outcome",
        )

    async def _merge(self, record: AgentRecord, method: Method, message: str) -> AgentMerge:
        fleet, name, base = self.fleet, record.name, record.base
        try:
            done = await agent_merge(
                record, fleet.projects, method=method, message=message, scratch=self._state / "scratch"
            )
        except QuarterdeckError as error:
            self._keep(record, MergeOutcome(at=time.time(), base=base, failure=error.message))
            fleet.bus.publish(MergeFailed(agent=name, base=base, reason=error.message))
            raise
        self._keep(record, MergeOutcome(at=time.time(), base=base, commits=done.commits, after=done.after))
        fleet.bus.publish(WorkMerged(agent=name, base=base, after=done.after, commits=done.commits))
        return done

    def _keep(self, record: AgentRecord, outcome: MergeOutcome) -> None:
        now = self.fleet.records.get(record.name)
        if now is not None and now.id == record.id:
            self.fleet.records.note(record.name, last_merge=outcome)

    async def gc(self, *, dry_run: bool) -> list[Leftover]:
        """What is left over, removed unless `dry_run`; never what holds unsaved work."""
        return await collect(self.fleet, self._state, dry_run=dry_run)

    def _record(self, name: str) -> AgentRecord:
        record = self.fleet.records.get(name)
        if record is None:
            raise NotFound(f"there is no agent {name!r}", hint="qd agents list")
        return record
