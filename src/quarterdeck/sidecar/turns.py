"""The life of tasks in one agent: queue, hand over, receipts, end, cancel.

Every step is recorded in the store before anything else happens. What was handed to the agent's program
once (`sent_at`) is never handed over again.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace

from quarterdeck.errors import Conflict, InvalidInput, TooLarge
from quarterdeck.sidecar.model import FINAL, Task, TaskState, after_death
from quarterdeck.sidecar.store import Store

log = logging.getLogger(__name__)


class Turns:
    """The tasks of one agent and which of them runs. Synchronous: transitions cannot interleave."""

    def __init__(self, store: Store, changed: Callable[[], None], *, task_bytes: int) -> None:
        self._store = store
        self._changed = changed
        self._task_bytes = task_bytes
        self.current: Task | None = None
        self._lost_before: str | None = None

    def keep(self) -> Callable[[], None]:
        """What puts the running task back, for a transaction that fails."""
        current, lost_before = self.current, self._lost_before

        def restore() -> None:
            self.current, self._lost_before = current, lost_before

        return restore

    # -- asked for from outside -----------------------------------------------------------------------

    def submit(
        self, description: str, *, key: str | None, queue: bool, origin: str, held: bool, incarnation: int
    ) -> tuple[Task, bool]:
        """Queue a task; whether it is new (False: this idempotency key made it before).

        Raises `InvalidInput` (empty), `TooLarge`, `Conflict` when the agent is busy and `queue` is off.
        """
        size = len(description.encode())
        if not description.strip():
            raise InvalidInput("the task is empty", hint="say what is to be done")
        if size > self._task_bytes:
            raise TooLarge(
                f"the task has {size} bytes, at most {self._task_bytes} are taken",
                hint="put long material into a file of the workspace and name it in the task",
                details={"bytes": size, "limit": self._task_bytes},
            )
        with self._store.transaction():
            task, new = self._store.add_task(uuid.uuid4().hex[:16], description, key=key, origin=origin, held=held)
            waiting = [t for t in self._store.open_tasks() if t.id != task.id]
            if new and waiting and not queue:
                running = self.current or waiting[0]
                raise Conflict(
                    f"the agent is busy with task {running.id}",
                    hint="wait for it, cancel it, or queue this one behind it (queue=true)",
                    details={"task_id": running.id, "state": running.state},
                )
            if new:
                self._store.log("prompt", description, incarnation=incarnation, task_id=task.id)
        if new:
            self._changed()
        return self.with_position(task), new

    def cancel_waiting(self, task_id: str, incarnation: int, *, detail: str = "canceled before it was started") -> bool:
        """Cancel a task that was not handed over; False when it was. Raises `NotFound`, `Conflict` (ended)."""
        task = self._store.task(task_id)
        if task.state in FINAL:
            raise Conflict(f"task {task_id} is over already: {task.state}")
        if self.current is not None and self.current.id == task_id:
            return False
        self._store.step_task(task_id, "canceled", incarnation=incarnation, detail=detail)
        self._changed()
        return True

    def request_cancel(self, incarnation: int) -> bool:
        """Note that the running task is to be cancelled; False when that was asked for before."""
        assert self.current is not None
        if self.current.cancel_requested_at is not None:
            return False
        self._store.mark_cancel(self.current.id, incarnation)
        self._reload()
        return True

    # -- what the session does ------------------------------------------------------------------------

    def next(self) -> Task | None:
        """The task to hand over now; None when one runs or none may."""
        if self.current is not None:
            return None
        return next((t for t in self._store.open_tasks() if t.sent_at is None and not t.held), None)

    def hand_over(self, task: Task, incarnation: int) -> str:
        """Record that the prompt goes out now; the text to send."""
        self._store.mark_sent(task.id, incarnation)
        self.current = self._store.task(task.id)
        self._changed()
        note, self._lost_before = self._lost_before, None
        return f"{note}\n\n{task.description}" if note else task.description

    def not_handed_over(self) -> None:
        """The program could not be reached: the task waits again."""
        if self.current is not None:
            self._store.unsend(self.current.id)
            self.current = None
            self._changed()

    def receipt(self, turn_id: str, state: TaskState, incarnation: int) -> None:
        """*accepted* or *started*, by the agent's own protocol."""
        if self.current is None or self.current.id != turn_id:
            return
        with self._store.transaction():
            if state == "started" and self.current.accepted_at is None:
                self._store.step_task(turn_id, "accepted", incarnation=incarnation)
            self._store.step_task(turn_id, state, incarnation=incarnation)
        self._reload()

    def end(self, state: TaskState, incarnation: int, *, detail: str = "", exit_code: int | None = None) -> None:
        """The running task is over."""
        if self.current is None:
            return
        self._store.step_task(self.current.id, state, incarnation=incarnation, detail=detail, exit_code=exit_code)
        if state == "lost":
            first_line = self.current.description.strip().splitlines()[0][:120]
            self._lost_before = (
                f"[Quarterdeck: your process was ended in the middle of an earlier task ({first_line!r}). "
                "It was not given to you again. Check what of it took effect before you go on.]"
            )
        self.current = None
        self._changed()

    def recover(self, incarnation: int) -> list[Task]:
        """After a death of the sidecar: what had been handed over is lost, what had not still waits."""
        lost = [t for t in self._store.open_tasks() if t.sent_at is not None]
        for task in lost:
            self.current = task
            ended = after_death(task)
            self.end(ended.state, incarnation, detail=ended.detail)
        return lost

    def with_position(self, task: Task) -> Task:
        """The task with its place in the agent's queue (1 is next), while it waits behind others."""
        if task.state != "queued" or task.sent_at is not None:
            return task
        waiting = [t.id for t in self._store.open_tasks() if t.sent_at is None]
        if self.current is None and not task.held and waiting[:1] == [task.id]:
            return task  # nothing is before it: it begins as soon as the agent takes it
        return replace(task, position=waiting.index(task.id) + 1) if task.id in waiting else task

    def waiting(self) -> list[Task]:
        """Tasks that were not handed over, oldest first."""
        return [t for t in self._store.open_tasks() if t.sent_at is None]

    def _reload(self) -> None:
        if self.current is not None:
            self.current = self._store.task(self.current.id)
        self._changed()
