"""What takes long, carried out whatever becomes of the client or of the hub: bringing up, restarting, deleting.

Each step is recorded before the next one, and each may be repeated: a hub that starts goes on where the
one before it was killed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import anyio
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.events import AgentDeleted, AgentFailed, Bus, SidecarDied
from quarterdeck.fleet.link import Link
from quarterdeck.fleet.model import AgentRecord, LinkView, called_off_task
from quarterdeck.fleet.ports import Backend
from quarterdeck.fleet.records import Records
from quarterdeck.fleet.roster import Heard, Roster
from quarterdeck.sidecar import offline
from quarterdeck.sidecar.spec import LaunchSpec

log = logging.getLogger(__name__)
STOP_SECONDS = 8.0
_RESTART_SECONDS = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
_SETTLED_SECONDS = 120.0
_WRITE_AGAIN_SECONDS = 2.0
_NO_ROOM = "; it is restarted when there is room: "
MakeLaunch = Callable[[AgentRecord], LaunchSpec]


class Crew:
    """Keeps every agent where its record says it should be; owns the links."""

    def __init__(
        self,
        records: Records,
        backends: dict[str, Backend],
        bus: Bus,
        make_launch: MakeLaunch,
        heard: Heard,
        deliver: Callable[[AgentRecord], Awaitable[None]],
        check_room: Callable[[], None],
    ) -> None:
        self.links: dict[str, Link] = {}
        self.roster = Roster(bus, self.view, records.get)
        self._records = records
        self._backends = backends
        self._bus = bus
        self._make_launch = make_launch
        self._heard = heard
        self._deliver = deliver
        self._check_room = check_room
        self._locks: dict[str, anyio.Lock] = {}
        self._jobs: dict[str, anyio.CancelScope] = {}
        self._restarts: dict[str, tuple[int, float]] = {}
        self._tasks: TaskGroup | None = None
        self._last: dict[str, LinkView] = {}
        self._restarting: set[str] = set()

    def backend(self, record: AgentRecord) -> Backend:
        """The backend of an agent."""
        return self._backends[record.backend]

    def view(self, name: str) -> LinkView:
        """What the link to an agent knows; nothing where there is none."""
        link = self.links.get(name)
        return link.view if link else self._last.get(name, LinkView())

    def keeps_back(self, name: str) -> bool:
        """Whether nothing that waits in an agent may begin: its first task was called off, and it may not know yet."""
        record = self._records.get(name)
        return record is not None and called_off_task(record) is not None

    def begin(self, tasks: TaskGroup) -> None:
        """Take up every agent where it was left."""
        self._tasks = tasks
        tasks.start_soon(self._write_noted, name="write-noted")
        for record in self._records.load():
            if record.deleting_at is not None:
                self.spawn(self.delete, record.name)
            elif record.canceled_at is not None or record.failed_at is not None or record.wanted == "stopped":
                # The hub before this one may have been killed before it had ended them.
                self.spawn(self.stop, record.name)
            elif record.restart_asked_at is not None:
                self.spawn(self.restart, record.name)
            elif record.gone_at is not None and _is_kept_up(record):
                self.spawn(self.stop, record.name)
                self._keep_up(record.name, record.gone_reason or "")
            elif record.provisioned_at is None or (record.started_at is None and record.gone_at is None):
                self.spawn(self.bring_up, record.name)
            else:
                self._follow(record)
            self.roster.look(record.name)

    def spawn(self, job: Callable[[str], Awaitable[None]], name: str) -> None:
        """Run a job of an agent in the hub's own task group, not the client's."""
        assert self._tasks is not None
        self._tasks.start_soon(self._guarded, job, name, name=f"{getattr(job, '__name__', 'job')}-{name}")

    async def _guarded(self, job: Callable[[str], Awaitable[None]], name: str) -> None:
        lock = self._locks.setdefault(name, anyio.Lock())
        async with lock:
            scope = anyio.CancelScope()
            self._jobs[name] = scope
            try:
                with scope:
                    await job(name)
                if scope.cancel_called:
                    await self._end_called_off(name)
            except QuarterdeckError as error:
                await self._fail(name, error)
            except Exception as error:
                log.exception("a job of agent %s failed", name)
                await self._fail(name, QuarterdeckError(f"an error inside Quarterdeck: {error!r}"))
            finally:
                self._jobs.pop(name, None)
        if self._records.get(name) is None:
            self._locks.pop(name, None)
        self.roster.look(name)

    async def _end_called_off(self, name: str) -> None:
        """What was called off may have started its sidecar already; a deletion ends that itself."""
        record = self._records.get(name)
        if record is not None and record.deleting_at is None and record.canceled_at is not None:
            await self.stop(name)

    async def _fail(self, name: str, error: QuarterdeckError) -> None:
        """Record why an agent is not where it should be, and leave no process of it."""
        record = self._records.get(name)
        if record is None:
            return
        reason = f"{error.message} ({error.hint})" if error.hint else error.message
        log.warning("agent %s: %s", name, reason)
        # One that was up before is tried again, by the next hub, too: it is gone, not failed for good.
        again = _is_kept_up(record) and record.failed_at is None and record.task_given_at is not None
        now = time.time()
        # Not to be refused by the disk, which may be what failed: nobody stands behind this.
        if again:
            self._records.note(name, gone_at=now, gone_reason=reason)
        else:
            self._records.note(name, failed_at=now, failure=reason, deleting_at=None, deleted_at=None)
        self._bus.publish(AgentFailed(agent=name, reason=reason))
        try:
            await self.stop(name)
        except Exception:
            log.exception("agent %s could not be ended", name)
        if again:
            self._keep_up(name, reason)

    async def _write_noted(self) -> None:
        while True:
            await anyio.sleep(_WRITE_AGAIN_SECONDS)
            self._records.write_noted()

    # -- jobs -----------------------------------------------------------------------------------------

    async def bring_up(self, name: str) -> None:
        """Workspace, sidecar, link, first task; each recorded."""
        record = self._records.get(name)
        if record is None or record.deleting_at is not None or record.canceled_at is not None:
            return
        backend = self.backend(record)
        if await backend.gone(record) is not None:
            # One that runs already takes no more room.
            self._check_room()
        if record.provisioned_at is None:
            made = await backend.provision(record)
            record = self._records.change(
                name,
                workspace=made.workspace,
                branch=made.branch,
                base_sha=made.base_sha,
                notes=[*record.notes, *made.notes],
                provisioned_at=time.time(),
            )
            self.roster.look(name)
        await backend.start(record, self._make_launch(record))
        self._follow(record)
        # Before it counts as started: a hub that is killed in between delivers it again, to the same key.
        if record.task_given_at is None:
            await self._deliver(record)
        now = time.time()
        self._records.change(name, started_at=now, task_given_at=record.task_given_at or now)

    async def restart(self, name: str) -> None:
        """End what runs, start the sidecar anew: a new incarnation with the same history."""
        record = self._records.get(name)
        if record is None or record.deleting_at is not None:
            return
        await self._unfollow(name)
        await self.backend(record).stop(record, grace_seconds=STOP_SECONDS)
        now = self._records.get(name)
        if now is None or now.wanted == "stopped":
            return  # The operator wants it stopped since; that job comes next.
        self._records.change(
            name,
            failed_at=None,
            failure=None,
            canceled_at=None,
            gone_at=None,
            gone_reason=None,
            restart_asked_at=None,
            started_at=None,
            task_given_at=now.task_given_at or now.started_at,
        )
        self.roster.look(name)
        await self.bring_up(name)

    async def stop(self, name: str) -> None:
        """End the agent and its sidecar; everything else of it stays."""
        record = self._records.get(name)
        if record is None:
            return
        await self.backend(record).stop(record, grace_seconds=STOP_SECONDS)
        await self._unfollow(name)
        last = self._last.get(name)
        if last is not None and last.facts is not None and last.facts.session not in ("stopped", "failed"):
            # It had no time to tell of its end; the backend is certain of it.
            ended = replace(last.facts, session="stopped", status="stopped", activity=None, current_task=None)
            self._last[name] = LinkView(facts=ended)
        elif last is None:
            await self._recall_all(record)

    async def delete(self, name: str) -> None:
        """End the agent, save its unsaved work, remove its workspace and its folder."""
        record = self._records.get(name)
        if record is None:
            return
        backend = self.backend(record)
        await self._unfollow(name)
        await backend.stop(record, grace_seconds=STOP_SECONDS)
        removed = await backend.remove(record)
        # Known whatever the disk says: the next attempt finds nothing any more that it could save.
        self._records.note(
            name,
            rescue_ref=removed.rescue_ref,
            branch_kept=removed.branch_kept,
            removal_notes=[*record.removal_notes, *removed.notes],
        )
        self._records.bury(self._records.change(name, deleted_at=time.time()))
        self._restarts.pop(name, None)
        self._last.pop(name, None)
        self.roster.removed(name)
        self._bus.publish(AgentDeleted(agent=name, rescue_ref=removed.rescue_ref))

    def call_off(self, name: str, *, deleting: bool = False) -> bool:
        """Cancel the bringing up of an agent; False when none goes on."""
        scope = self._jobs.get(name)
        if scope is None:
            return False
        if not deleting:
            now, record = time.time(), self._records.get(name)
            waits = record is not None and record.task is not None and record.task_given_at is None
            # Its first task with it; the sidecar may know of that already, and is told at the next start.
            self._records.change(
                name, canceled_at=now, wanted="stopped", **({"task_canceled_at": now} if waits else {})
            )
        scope.cancel()
        return True

    # -- links ----------------------------------------------------------------------------------------

    def _follow(self, record: AgentRecord) -> None:
        if record.name in self.links or self._tasks is None:
            return
        link = Link(record, self.backend(record), changed=self.roster.look, gone=self._gone, heard=self._heard)
        self.links[record.name] = link
        self._tasks.start_soon(link.run, name=f"link-{record.name}")

    async def _unfollow(self, name: str) -> None:
        link = self.links.pop(name, None)
        if link is not None:
            self._remember(link)
            await link.close()

    def _remember(self, link: Link) -> None:
        """What was known last; but nobody is there to take an answer any more."""
        facts = link.view.facts
        self._last[link.name] = LinkView(facts=replace(facts, needs_attention=[]) if facts else None)

    async def _gone(self, name: str, reason: str) -> None:
        """The sidecar is certainly dead: say so, leave no process of it, and restart it where that is wanted."""
        link = self.links.pop(name, None)
        if link is not None:
            self._remember(link)
        record = self._records.get(name)
        if (
            record is None
            or record.deleting_at is not None
            or record.failed_at is not None
            or record.wanted == "stopped"
        ):
            self.roster.look(name)
            return
        restart = record.restart == "always"
        if record.gone_at is None:
            self._records.note(name, gone_at=time.time(), gone_reason=reason)
            self._bus.publish(SidecarDied(agent=name, reason=reason, restart=restart))
        self.roster.look(name)
        async with self._locks.setdefault(name, anyio.Lock()):
            now = self._records.get(name)
            if now is None or now.gone_at is None or name in self.links:
                return  # somebody brought it back, or deleted it, meanwhile
            try:
                await self.backend(now).stop(now, grace_seconds=0)
                await self._recall(now)
            except Exception:
                log.exception("what agent %s left behind could not be cleared", name)
        if restart:
            self._keep_up(name, reason)

    async def _recall(self, record: AgentRecord) -> None:
        """What became of the task that a dead sidecar was at, from its file: it may have ended unheard."""
        facts = self._last.get(record.name, LinkView()).facts
        if facts is None:
            await self._recall_all(record)
            return
        if facts.current_task is None:
            return
        try:
            folder = self.backend(record).folder(record)
            page = await run_sync(partial(offline.tasks, folder, offset=0, limit=50, dead=True))
        except QuarterdeckError as error:
            log.warning("what agent %s was at is not known: %s", record.name, error.message)
            return
        last = next((task for task in page.tasks if task.id == facts.current_task.id), None)
        if last is not None and self._last.get(record.name, LinkView()).facts is facts:
            self._last[record.name] = LinkView(facts=replace(facts, current_task=None, last_task=last))
            self.roster.look(record.name)

    async def _recall_all(self, record: AgentRecord) -> None:
        """What an agent did that this hub has never met alive."""
        folder = self.backend(record).folder(record)
        try:
            found = await run_sync(offline.facts, folder, record.name, record.provider)
        except QuarterdeckError as error:
            log.warning("what agent %s did is not known: %s", record.name, error.message)
            return
        if found is not None and self.view(record.name).facts is None:
            self._last[record.name] = LinkView(facts=found)
            self.roster.look(record.name)

    def _keep_up(self, name: str, died: str) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(self._restart_later, name, died, name=f"keep-up-{name}")

    async def _restart_later(self, name: str, died: str) -> None:
        """Restart a dead one, after a while that grows, until it is up or a person wants it otherwise.

        As long as nothing helps it stays failed and says why. Who comes second finds that it is being done.
        """
        record = self._records.get(name)
        if record is None or record.id in self._restarting:
            return
        identity = record.id
        self._restarting.add(identity)
        try:
            while await self._waited(name, identity):
                try:
                    self._check_room()
                except Unavailable as error:
                    self._records.note(name, gone_reason=f"{died.partition(_NO_ROOM)[0]}{_NO_ROOM}{error.message}")
                    self.roster.look(name)
                    continue
                await self._guarded(partial(self._bring_back, identity), name)
                record = self._records.get(name) or record
                died = record.gone_reason or died
        finally:
            self._restarting.discard(identity)

    async def _waited(self, name: str, identity: str) -> bool:
        """Whether a dead one is still to be restarted; if so, after the pause that is due."""
        if not self._is_to_be_brought_back(name, identity):
            return False
        count, last = self._restarts.get(name, (0, 0.0))
        count = 0 if time.time() - last > _SETTLED_SECONDS else count
        self._restarts[name] = (count + 1, time.time())
        await anyio.sleep(_RESTART_SECONDS[min(count, len(_RESTART_SECONDS) - 1)])
        return self._is_to_be_brought_back(name, identity)

    def _is_to_be_brought_back(self, name: str, identity: str) -> bool:
        record = self._records.get(name)
        return record is not None and record.id == identity and record.gone_at is not None and _is_kept_up(record)

    async def _bring_back(self, identity: str, name: str) -> None:
        """Restart a dead one that nobody has brought back, or stopped, meanwhile."""
        if self._is_to_be_brought_back(name, identity):
            await self.restart(name)


def _is_kept_up(record: AgentRecord) -> bool:
    """Whether the agent is to be brought back by itself whenever it is gone."""
    ended = record.deleting_at is not None or record.canceled_at is not None or record.wanted == "stopped"
    return record.restart == "always" and not ended
