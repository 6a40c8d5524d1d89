"""The session of one agent: its lives one after the other, and what its program says in them.

When the program dies, the running task is lost with the exit code, and the next life takes up the same
session where the protocol can; the prompt is never given again by itself. After too many deaths in a
short time the session has failed and waits for a restart by hand.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.cgroup import Cgroup
from quarterdeck.errors import Conflict, QuarterdeckError, StorageRefused
from quarterdeck.sidecar import deeds, hearing, ports, sending, watchdog
from quarterdeck.sidecar.attention import Desk
from quarterdeck.sidecar.backlog import Backlog, Deed
from quarterdeck.sidecar.conversation import Conversation
from quarterdeck.sidecar.life import Life, MakeMcp, MakeProvider
from quarterdeck.sidecar.model import FINAL, Attention, LogEntry, Report, SessionState, Task, more_budget, over_budget
from quarterdeck.sidecar.pulse import Pulse
from quarterdeck.sidecar.spec import LaunchSpec
from quarterdeck.sidecar.store import Store
from quarterdeck.sidecar.turns import Turns

log = logging.getLogger(__name__)
MAX_DEATHS = 5
DEATH_WINDOW_SECONDS = 60.0
_FULL_DISK_SECONDS = 0.5
# What a full disk still keeps from being recorded when the sidecar has to end.
_LAST_RECORDS_SECONDS = 3.0


class Session:
    """Owns the agent's program. `run` lives until `stop`; everything else may be called meanwhile."""

    def __init__(
        self,
        spec: LaunchSpec,
        folder: Path,
        store: Store,
        make_provider: MakeProvider,
        *,
        make_mcp: MakeMcp | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.spec = spec
        self.store = store
        self.pulse = Pulse()
        self.state: SessionState = "starting"
        self.incarnation = store.last_incarnation()
        self.turns = Turns(store, self.pulse.beat, task_bytes=spec.task_bytes)
        self.desk = Desk(store, self.pulse.beat, clock)
        self.conversation = Conversation(store, self.incarnation)
        self.life: Life | None = None
        self.failure: str | None = None
        self.exit_code: int | None = None
        self.budget_reason: str | None = None
        self.retrying = False
        self.stuck_since: float | None = None
        self.last_event_at = clock()
        self.silence = watchdog.Silence()
        self.started_at: float | None = None
        self.stopped_at: float | None = None
        self.context: tuple[int | None, int | None] = (None, None)
        self.notes: deque[str] = deque(maxlen=20)
        self.workspace_changed: Callable[[], None] = lambda: None
        self.folder = folder
        self._make_provider = make_provider
        self._make_mcp = make_mcp
        self.clock = clock
        self.cgroup: Cgroup | None = None
        self.backlog = Backlog(store, partial(deeds.keep, self), self._refused)
        self.deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self.handed_over_ticks = 0
        self.sweeping = False
        self._pump_again = False
        self._recovered = self._numbered = False
        self._stop = anyio.Event()
        self.work: TaskGroup | None = None

    # -- the story ------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Put in order what an earlier process left, and number the first life: before anybody is served.

        Raises `StorageRefused`.
        """
        self._recovered = True
        self.cgroup = Cgroup.create(self.spec.id)
        if self.incarnation:
            await run_sync(proctree.kill_everything, None, self.spec.id, self.cgroup)
        self.store.forget_attention()
        self.turns.recover(self.incarnation)
        if self.spec.hold_waiting:
            self.store.hold_waiting()
        self.check_budget()
        if not self.budget_reason:
            await self._number()

    async def run(self) -> None:
        """Live until `stop`, after `recover`; nothing is left afterwards."""
        if not self._recovered:
            await self.recover()
        try:
            async with anyio.create_task_group() as self.work:
                self.work.start_soon(watchdog.keep_watch, self, name="watchdog")
                await self._lives()
                await self._stop.wait()
                with anyio.move_on_after(_LAST_RECORDS_SECONDS):
                    while len(self.backlog):
                        await self.pulse.wait(self.pulse.revision)  # the watchdog tries again and again
                self.work.cancel_scope.cancel()
        finally:
            if self.cgroup is not None:
                self.cgroup.remove()

    def stop(self, reason: str) -> None:
        """End the program for good; the running task is cancelled and recorded so."""
        self._stop.set()
        if self.state in ("starting", "running"):
            self.state = "stopping"
        self.record(partial(deeds.stopping, self, self.state, reason))
        if self.life is not None:
            self.life.end(grace_seconds=min(self.spec.cancel_seconds, 1))
        self.pulse.beat()

    async def _lives(self) -> None:
        while not self._stop.is_set():
            self.check_budget()
            if self.budget_reason:
                return self._rest("failed" if self.failure else "stopped")
            try:
                await self._live()
            except (QuarterdeckError, OSError) as error:
                self.failure = sending.with_hint(error)
                return self._rest("failed")
            if self._stop.is_set() or self.budget_reason:
                continue
            if self.life is None or not self.life.called_off:
                self.deaths.append(time.monotonic())
            if len(self.deaths) == MAX_DEATHS and self.deaths[-1] - self.deaths[0] < DEATH_WINDOW_SECONDS:
                ending = self.life.ending if self.life else ""
                self.failure = f"the agent's program died {MAX_DEATHS} times within a minute, last: {ending}"
                return self._rest("failed")
            await self._number()
            with anyio.move_on_after(0.05 * 2 ** len(self.deaths)):
                await self._stop.wait()
        return self._rest("stopped")

    async def _live(self) -> None:
        if not await self._number():
            return
        self._numbered, number = False, self.incarnation
        life = Life(number, self.spec, self.folder, self.store, self._make_provider, self._make_mcp, self.cgroup)
        self.life = life
        self._enter("starting")

        def emit(update: ports.Update) -> None:
            self._take(number, update)

        def ready(group: TaskGroup) -> None:
            if life.refused:
                self.note(life.refused)
            for note in life.opened.notes if life.opened else ():
                self.note(note)
            self.started_at = self.clock()
            self._enter("running", resumed=life.resumed)
            self.pump()

        if self._stop.is_set():
            life.end()
        try:
            await life.run(emit, ready)
        finally:
            self._bury(life)

    async def _number(self) -> bool:
        """Number the life that comes next, so that nobody takes it for the one that is over; False when stopped.

        Waits until the disk takes that and all that came before.
        """
        while not self._numbered:
            if self.backlog.drain():
                try:
                    self.incarnation = self.store.begin_incarnation(self.spec.kind)
                except StorageRefused as error:
                    self._refused(error)
                else:
                    self._numbered = True
                    self.conversation = Conversation(self.store, self.incarnation)
                    self.pulse.beat()
                    break
            with anyio.move_on_after(_FULL_DISK_SECONDS):
                await self._stop.wait()
                return False
        return True

    def refuse_stale(self, meant: int, *, to_run: bool) -> None:
        """Raise `Conflict` when `meant` is not the life that the call would reach.

        What is `to_run` would be run by the next life as soon as this one was asked to end.
        """
        life, goes_on = self.life, self.state in ("starting", "running")
        over = life is not None and life.number == meant and goes_on and (life.buried or (to_run and life.over))
        if meant == self.incarnation and not over:
            return
        what = f"incarnation {meant}" if over else f"this is incarnation {self.incarnation}"
        raise Conflict(
            f"{what} of the agent{' is over' if over else f', not {meant}'}; nothing was changed",
            hint="look at the agent again before you repeat it",
            details={"incarnation": self.incarnation, "meant": meant},
        )

    def _enter(self, state: SessionState, **data: Any) -> None:
        self.state = state
        self.heard()
        self.record(partial(deeds.entered, self, {"state": state, **data}, self.incarnation))

    def _bury(self, life: Life) -> None:
        """The program is gone: record how the running task ended and why the life did."""
        if self.state == "running":
            self.state = "starting"  # nobody may take an agent for idle whose program is dead
        self.exit_code = life.exited.returncode if life.exited else None
        self.retrying = False
        self.stuck_since = None
        life.buried = True
        self.record(partial(deeds.life_ended, self, life, stopped=self._stop.is_set()))
        self.workspace_changed()

    def _rest(self, state: SessionState) -> None:
        self.stopped_at = self.clock()
        detail = {"detail": self.failure or self.budget_reason} if self.failure or self.budget_reason else {}
        self._enter(state, **detail)

    # -- what must be recorded ------------------------------------------------------------------------

    def record(self, deed: Deed) -> None:
        """Record something that has happened: now, or as soon as the disk takes it, in its order."""
        self.backlog.add(deed)
        self.retry()

    def retry(self) -> None:
        """Record what a full disk refused; then hand over what waits for it."""
        waited = len(self.backlog) > 0 or self._pump_again
        if not self.backlog.drain():
            return
        self._pump_again = False
        if waited:
            self.pulse.beat()
            self.pump()

    def flush(self) -> None:
        """Record text that waits for more of it."""
        if self.conversation.pending and not len(self.backlog):
            self.record(self.conversation.flush)

    def _refused(self, error: StorageRefused) -> None:
        if not self.notes or self.notes[-1] != error.message:
            self.notes.append(error.message)
            log.error("%s", error.message)
            self.pulse.beat()

    # -- tasks ----------------------------------------------------------------------------------------

    def submit(self, description: str, *, key: str | None, queue: bool, origin: str, held: bool) -> tuple[Task, bool]:
        """Take a task; whether it is new.

        Raises as `Turns.submit`, and `Conflict` when the agent is stopped, failed or out of budget.
        """
        earlier = self.store.task_of_key(key)
        if earlier is None and self.state in ("stopping", "stopped", "failed"):
            why = self.failure or self.budget_reason or "it was stopped"
            raise Conflict(f"the agent takes no tasks: {why}", hint=self._way_back())
        result = self.turns.submit(
            description, key=key, queue=queue, origin=origin, held=held, incarnation=self.incarnation
        )
        self.pump()
        return result

    def _way_back(self) -> str:
        name, budget = self.spec.name, self.spec.budget
        if self.budget_reason:
            return more_budget(name, self.store.usage(), usd=budget.usd, tokens=budget.tokens)
        return f"qd agents restart {name}"

    def pump(self) -> None:
        """Hand over the next task, where one waits and the agent is free."""
        life = self.life
        if self.state != "running" or life is None or life.over or life.provider is None or self.work is None:
            return
        task = self.turns.next()
        if task is None or self.sweeping or len(self.backlog):
            return
        self.heard()
        self.handed_over_ticks = proctree.ticks_now()
        try:
            text = self.turns.hand_over(task, life.number)
        except StorageRefused as error:
            # Whoever gave the task was told that it waits, and so it does.
            self._pump_again = True
            self._refused(error)
            return
        self.work.start_soon(sending.send, self, life, life.provider, task.id, text, name=f"send-{task.id}")

    def cancel(self, task_id: str) -> Task:
        """Cancel a task, waiting or running; returns at once. Raises `NotFound`, `Conflict` when it is over."""
        if not self.turns.cancel_waiting(task_id, self.incarnation):
            life = self.life
            if self.turns.request_cancel(self.incarnation) and life is not None and self.work is not None:
                self.work.start_soon(sending.escalate, self, life, task_id, name=f"cancel-{task_id}")
        self.pump()
        return self.store.task(task_id)

    def withdraw(self, task_id: str, reason: str) -> Task:
        """Cancel a task that waits. Raises `NotFound`, `Conflict` when it runs or is over: it is left as it is."""
        detail = f"canceled before it was started{': ' if reason else ''}{reason[:200]}"
        if not self.turns.cancel_waiting(task_id, self.incarnation, detail=detail):
            raise Conflict(f"task {task_id} runs already", hint="cancel it, or wait for its end")
        self.pump()
        return self.store.task(task_id)

    def runs(self, task_id: str) -> bool:
        """Whether that is the task that runs."""
        return self.turns.current is not None and self.turns.current.id == task_id

    def release(self, task_id: str) -> Task:
        """Let a held task run. Raises `NotFound`, `Conflict` when it is over."""
        task = self.store.task(task_id)
        if task.state in FINAL:
            raise Conflict(f"task {task_id} is over already: {task.state}")
        self.store.release(task_id)
        self.pulse.beat()
        self.pump()
        return self.store.task(task_id)

    async def wait_for(self, task_id: str, seconds: float) -> Task:
        """The task once it is over, or as it is after that time. Raises `NotFound`."""
        with anyio.move_on_after(seconds):
            while self.store.task(task_id).state not in FINAL:
                await self.pulse.wait(self.pulse.revision)
        return self.turns.with_position(self.store.task(task_id))

    # -- attention and reports ------------------------------------------------------------------------

    async def answer(self, attention_id: str, text: str) -> Attention:
        """Answer a permission request or a question. Raises as `Desk.answer`."""
        asker = self.life.provider if self.life is not None else None
        attention = await self.desk.answer(attention_id, text, incarnation=self.incarnation, asker=asker)
        self.touch()
        return attention

    def report(self, report: Report) -> Report:
        """Keep the agent's own words about its work, durably; what was kept, with the task they are about."""
        task = self.turns.current
        kept = replace(report, task_id=task.id if task else None)
        self.store.save_report(kept, incarnation=self.incarnation)
        self.touch()
        return kept

    def note(self, text: str) -> None:
        """Tell the user something that happened beside the tasks."""
        self.notes.append(text)
        self.record(partial(deeds.noted, self, text, self.incarnation))

    def add_note(self, text: str, *, key: str) -> tuple[LogEntry, bool]:
        """Note for somebody else, once for each key, what happened beside the tasks; whether it is new.

        Raises `StorageRefused`.
        """
        entry, new = self.store.add_note(text, key=key, incarnation=self.incarnation)
        if new:
            self.notes.append(text)
            self.pulse.beat()
        return entry, new

    def heard(self) -> None:
        """Something happened with the agent: from here on its silence is counted."""
        self.last_event_at = self.clock()
        self.silence.broken()

    def touch(self) -> None:
        """The agent was heard of."""
        self.heard()
        self.stuck_since = None
        self.pulse.beat()

    # -- what the program says ------------------------------------------------------------------------

    def _take(self, number: int, update: ports.Update) -> None:
        """Every update of every life comes through here, in order; those of earlier lives are refused."""
        if number != self.incarnation:
            return
        if isinstance(update, ports.Exited) and self.life is not None:
            self.life.gone(update)
        else:
            self.touch()
            self.record(partial(hearing.take, self, update))

    def check_budget(self) -> None:
        """Look whether the agent has used up what it may."""
        budget = self.spec.budget
        self.budget_reason = over_budget(self.store.usage(), usd=budget.usd, tokens=budget.tokens)
