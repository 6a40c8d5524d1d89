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
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.errors import Conflict, NotFound, QuarterdeckError, StorageRefused, Unavailable
from quarterdeck.sidecar import ports, watchdog
from quarterdeck.sidecar.attention import Desk
from quarterdeck.sidecar.conversation import Conversation
from quarterdeck.sidecar.life import Life, MakeMcp, MakeProvider
from quarterdeck.sidecar.model import (
    FINAL,
    Attention,
    Report,
    SessionState,
    Task,
    over_budget,
)
from quarterdeck.sidecar.pulse import Pulse
from quarterdeck.sidecar.spec import LaunchSpec
from quarterdeck.sidecar.store import Store
from quarterdeck.sidecar.turns import Turns

log = logging.getLogger(__name__)
MAX_DEATHS = 5
DEATH_WINDOW_SECONDS = 60.0


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
        self.started_at: float | None = None
        self.stopped_at: float | None = None
        self.context: tuple[int | None, int | None] = (None, None)
        self.notes: deque[str] = deque(maxlen=20)
        self.workspace_changed: Callable[[], None] = lambda: None
        self._folder = folder
        self._make_provider = make_provider
        self._make_mcp = make_mcp
        self.clock = clock
        self._cgroup: proctree.Cgroup | None = None
        self._unsaved: deque[ports.Update] = deque()
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._stop = anyio.Event()
        self._work: TaskGroup | None = None

    # -- the story ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Recover from what an earlier process left, then live until `stop`; nothing is left afterwards."""
        self._cgroup = proctree.Cgroup.create(self.spec.id)
        if self.incarnation:
            await run_sync(proctree.kill_everything, None, self.spec.id, self._cgroup)
        self.store.forget_attention()
        self.turns.recover(self.incarnation)
        try:
            async with anyio.create_task_group() as self._work:
                self._work.start_soon(watchdog.keep_watch, self, name="watchdog")
                await self._lives()
                await self._stop.wait()
                self._work.cancel_scope.cancel()
        finally:
            if self._cgroup is not None:
                self._cgroup.remove()

    def stop(self, reason: str) -> None:
        """End the program for good; the running task is cancelled and recorded so."""
        self._stop.set()
        if self.turns.current is not None:
            self.turns.request_cancel(self.incarnation)
        if self.state in ("starting", "running"):
            self.state = "stopping"
        self.store.add_event("state", {"state": self.state, "detail": reason}, incarnation=self.incarnation)
        if self.life is not None:
            self.life.end(grace_seconds=min(self.spec.cancel_seconds, 1))
        self.pulse.beat()

    async def _lives(self) -> None:
        while not self._stop.is_set():
            self._check_budget()
            if self.budget_reason:
                return self._rest("failed" if self.failure else "stopped")
            try:
                await self._live()
            except (QuarterdeckError, OSError) as error:
                hint = error.hint if isinstance(error, QuarterdeckError) else ""
                self.failure = f"{error} ({hint})" if hint else str(error)
                return self._rest("failed")
            if self._stop.is_set() or self.budget_reason:
                continue
            self._deaths.append(self.clock())
            if len(self._deaths) == MAX_DEATHS and self._deaths[-1] - self._deaths[0] < DEATH_WINDOW_SECONDS:
                ending = self.life.ending if self.life else ""
                self.failure = f"the agent's program died {MAX_DEATHS} times within a minute, last: {ending}"
                return self._rest("failed")
            with anyio.move_on_after(0.05 * 2 ** len(self._deaths)):
                await self._stop.wait()
        return self._rest("stopped")

    async def _live(self) -> None:
        number = self.store.begin_incarnation(self.spec.kind)
        self.incarnation = number
        self.conversation = Conversation(self.store, number)
        life = Life(number, self.spec, self._folder, self.store, self._make_provider, self._make_mcp, self._cgroup)
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

    def _enter(self, state: SessionState, **data: Any) -> None:
        self.state = state
        self.last_event_at = self.clock()
        self.store.add_event("state", {"state": state, **data}, incarnation=self.incarnation)
        self.pulse.beat()

    def _bury(self, life: Life) -> None:
        """The program is gone: record how the running task ended and why the life did."""
        if self.state == "running":
            self.state = "starting"  # nobody may take an agent for idle whose program is dead
        self._drain()
        self.conversation.turn_over()
        self.exit_code = life.exited.returncode if life.exited else None
        self.desk.close_all("the agent's program ended", incarnation=life.number)
        task = self.turns.current
        if task is not None:
            if task.cancel_requested_at is not None or self._stop.is_set():
                detail = self.budget_reason or "canceled; the agent's program was ended for it"
                self.turns.end("canceled", life.number, detail=detail, exit_code=self.exit_code)
            else:
                self.turns.end("lost", life.number, detail=life.ending, exit_code=self.exit_code)
        reason = "stopped" if self._stop.is_set() else self.budget_reason or life.ending
        self.store.end_incarnation(life.number, exit_code=self.exit_code, reason=reason)
        self.store.add_event("life_ended", {"exit_code": self.exit_code, "reason": reason}, incarnation=life.number)
        self.retrying = False
        self.stuck_since = None
        self.workspace_changed()
        self.pulse.beat()

    def _rest(self, state: SessionState) -> None:
        self.stopped_at = self.clock()
        detail = {"detail": self.failure or self.budget_reason} if self.failure or self.budget_reason else {}
        self._enter(state, **detail)

    # -- tasks ----------------------------------------------------------------------------------------

    def submit(self, description: str, *, key: str | None, queue: bool, origin: str, held: bool) -> tuple[Task, bool]:
        """Take a task; whether it is new.

        Raises as `Turns.submit`, and `Conflict` when the agent is stopped, failed or out of budget.
        """
        earlier = self.store.task_of_key(key)
        if earlier is None and self.state in ("stopping", "stopped", "failed"):
            why = self.failure or self.budget_reason or "it was stopped"
            raise Conflict(f"the agent takes no tasks: {why}", hint=f"qd agents restart {self.spec.name}")
        result = self.turns.submit(
            description, key=key, queue=queue, origin=origin, held=held, incarnation=self.incarnation
        )
        self.pump()
        return result

    def pump(self) -> None:
        """Hand over the next task, where one waits and the agent is free."""
        life = self.life
        if self.state != "running" or life is None or life.over or life.provider is None or self._work is None:
            return
        task = self.turns.next()
        if task is None:
            return
        self.last_event_at = self.clock()
        text = self.turns.hand_over(task, life.number)
        self._work.start_soon(self._send, life, life.provider, task.id, text, name=f"send-{task.id}")

    async def _send(self, life: Life, provider: ports.Provider, task_id: str, text: str) -> None:
        try:
            await provider.prompt(task_id, text)
        except Unavailable as error:
            log.warning("task %s was not handed over: %s", task_id, error)
            if self.turns.current is not None and self.turns.current.id == task_id and not life.exited:
                self.turns.not_handed_over()
            life.end()

    def cancel(self, task_id: str) -> Task:
        """Cancel a task, waiting or running; returns at once. Raises `NotFound`, `Conflict` when it is over."""
        if not self.turns.cancel_waiting(task_id, self.incarnation):
            life = self.life
            if self.turns.request_cancel(self.incarnation) and life is not None and self._work is not None:
                self._work.start_soon(self._escalate, life, task_id, name=f"cancel-{task_id}")
        self.pump()
        return self.store.task(task_id)

    async def _escalate(self, life: Life, task_id: str) -> None:
        """Interrupt in the protocol; when that is not obeyed in time, end the whole tree."""
        if life.provider is not None:
            try:
                await life.provider.cancel()
            except QuarterdeckError as error:
                log.warning("cancel of %s: %s", task_id, error)
        with anyio.move_on_after(self.spec.cancel_seconds):
            while self._runs(task_id):
                await self.pulse.wait(self.pulse.revision)
        if self._runs(task_id) and self.life is life:
            self.note(
                f"task {task_id} did not obey the cancel within {self.spec.cancel_seconds:g} s: its program is ended"
            )
            life.end(grace_seconds=min(self.spec.cancel_seconds, 2))

    def _runs(self, task_id: str) -> bool:
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

        async def reply(request_id: str, answer: ports.Answer) -> None:
            if self.life is None or self.life.provider is None:
                raise NotFound("the agent's program is gone")
            await self.life.provider.answer(request_id, answer)

        attention = await self.desk.answer(attention_id, text, incarnation=self.incarnation, reply=reply)
        self._touch()
        return attention

    def report(self, report: Report) -> None:
        """Keep the agent's own words about its work, durably."""
        task = self.turns.current
        self.store.save_report(report, incarnation=self.incarnation, task_id=task.id if task else None)
        self._touch()

    def note(self, text: str) -> None:
        """Tell the user something that happened beside the tasks."""
        self.notes.append(text)
        self.store.log("note", text, incarnation=self.incarnation)
        self.store.add_event("note", {"text": text}, incarnation=self.incarnation)
        self.pulse.beat()

    def _touch(self) -> None:
        self.last_event_at = self.clock()
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
            self._unsaved.append(update)
        self._drain()

    def retry(self) -> None:
        """Record what a full disk refused, and text that waits for more of it."""
        if self._unsaved:
            self._drain()
        if self.conversation.pending:
            try:
                self.conversation.flush()
                self.pulse.beat()
            except StorageRefused as error:
                log.error("%s", error.message)

    def _drain(self) -> None:
        """Record what waits. With a full disk it goes on waiting: nothing that was said is lost."""
        while self._unsaved:
            update = self._unsaved[0]
            restores = (self.conversation.keep(), self.turns.keep(), self.desk.keep())
            try:
                with self.store.transaction():
                    self._apply(update)
            except StorageRefused as error:
                for restore in restores:
                    restore()
                if not self.notes or self.notes[-1] != error.message:
                    self.notes.append(error.message)
                    log.error("%s", error.message)
                return
            except QuarterdeckError:
                log.exception("an update could not be recorded: %s", type(update).__name__)
            self._unsaved.popleft()
        self.pump()

    def _apply(self, update: ports.Update) -> None:
        self.last_event_at = self.clock()
        self.stuck_since = None
        task = self.turns.current
        task_id = task.id if task else None
        self.retrying = isinstance(update, ports.State) and update.activity == "retrying"
        match update:
            case ports.Accepted(turn_id):
                self.turns.receipt(turn_id, "accepted", self.incarnation)
            case ports.Started(turn_id):
                self.turns.receipt(turn_id, "started", self.incarnation)
            case ports.Permission() | ports.Question():
                self.conversation.flush()
                self.desk.asked(update, incarnation=self.incarnation, task_id=task_id)
            case ports.Withdrawn(request_id):
                self.desk.withdrawn(request_id, incarnation=self.incarnation)
            case ports.TurnEnded():
                self._turn_ended(update)
            case _:
                self.conversation.record(update, task_id)
                if isinstance(update, ports.Usage):
                    self._used(update, task_id)
                elif isinstance(update, ports.ToolCall) and update.status in ("completed", "failed"):
                    self.workspace_changed()
        self.pulse.beat()

    def _turn_ended(self, update: ports.TurnEnded) -> None:
        self.conversation.turn_over()
        task = self.turns.current
        if task is None or task.id != update.turn_id:
            return
        self.desk.close_all("the turn ended", incarnation=self.incarnation)
        if update.outcome == "succeeded":
            # A turn that ended was started, and began with the prompt being taken.
            self.turns.receipt(update.turn_id, "started", self.incarnation)
        self.turns.end(update.outcome, self.incarnation, detail=update.detail, exit_code=update.exit_code)
        self._deaths.clear()
        self.workspace_changed()
        if update.outcome == "canceled" and self._work is not None:
            self._work.start_soon(self._sweep, task.sent_at or 0, self.clock(), name="sweep")

    async def _sweep(self, since: float, until: float) -> None:
        """End commands of a cancelled turn that the program left running (facts: codex-acp does)."""
        await anyio.sleep(1)
        pid = self.life.opened.pid if self.life and self.life.opened else None
        killed = await run_sync(proctree.kill_started_between, self.spec.id, since, until, pid)
        if killed:
            self.note(f"{killed} process(es) of the cancelled task were still running and were ended")

    def _used(self, update: ports.Usage, task_id: str | None) -> None:
        self.store.add_usage(
            task_id, input_tokens=update.input_tokens, output_tokens=update.output_tokens, cost_usd=update.cost_usd
        )
        used, size = self.context
        self.context = (
            update.context_used if update.context_used is not None else used,
            update.context_size if update.context_size is not None else size,
        )
        self._check_budget()
        if self.budget_reason and self.life is not None and not self.life.over:
            if self.turns.current is not None:
                self.turns.request_cancel(self.incarnation)
            self.note(self.budget_reason)
            self.life.end(grace_seconds=1)

    def _check_budget(self) -> None:
        budget = self.spec.budget
        self.budget_reason = over_budget(self.store.usage(), usd=budget.usd, tokens=budget.tokens)
