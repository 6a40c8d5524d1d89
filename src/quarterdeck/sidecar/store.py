"""The agent's SQLite file: incarnations, tasks, events, the log, attention. One writer, the sidecar.

Every transition is one short transaction, committed (WAL, synchronous=FULL) before anybody is told of
it. Calls are synchronous on purpose: a commit takes a fraction of a millisecond, and without an await
in between a transition cannot interleave with another.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from quarterdeck.errors import Conflict, NotFound
from quarterdeck.sidecar.journal import Journal, dumps
from quarterdeck.sidecar.model import FINAL, Attention, Report, Task, TaskPage, TaskState, UsageTotals

_TASK_COLUMNS = (
    "id, description, origin, state, held, queued_at, sent_at, accepted_at, started_at, ended_at,"
    " cancel_requested_at, incarnation, detail, exit_code, input_tokens, output_tokens, cost_usd"
)


class Store(Journal):
    """See the module's text; every change raises `StorageRefused` when the disk is full or read-only."""

    # -- incarnations ---------------------------------------------------------------------------------

    def begin_incarnation(self, provider: str) -> int:
        """A new life begins; its number."""
        with self.transaction():
            row = self.db.execute(
                "INSERT INTO incarnations (started_at, provider) VALUES (?, ?)", (self.clock(), provider)
            )
        assert row.lastrowid is not None
        return row.lastrowid

    def session_opened(
        self, incarnation: int, *, session_id: str, version: str, resumed: bool, pid: int | None
    ) -> None:
        """Its session is there; recorded before the first prompt, so that it can always be resumed."""
        with self.transaction():
            self.db.execute(
                "UPDATE incarnations SET session_id=?, version=?, resumed=?, pid=? WHERE id=?",
                (session_id, version, resumed, pid, incarnation),
            )

    def end_incarnation(self, incarnation: int, *, exit_code: int | None, reason: str) -> None:
        """It is over; the first word on why it ended stays."""
        with self.transaction():
            self.db.execute(
                "UPDATE incarnations SET ended_at=?, exit_code=?, end_reason=? WHERE id=? AND ended_at IS NULL",
                (self.clock(), exit_code, reason, incarnation),
            )

    def last_session(self, provider: str) -> str | None:
        """The newest session of this provider, for a resume."""
        row = self.db.execute(
            "SELECT session_id FROM incarnations WHERE provider=? AND session_id IS NOT NULL ORDER BY id DESC LIMIT 1",
            (provider,),
        ).fetchone()
        return row[0] if row else None

    def last_incarnation(self) -> int:
        """The newest number, 0 before the first life."""
        (number,) = self.db.execute("SELECT coalesce(max(id), 0) FROM incarnations").fetchone()
        return int(number)

    # -- tasks ----------------------------------------------------------------------------------------

    def add_task(
        self, task_id: str, description: str, *, key: str | None, origin: str, held: bool
    ) -> tuple[Task, bool]:
        """Queue a task, or find the one that this idempotency key made; whether it is new.

        Raises `Conflict` when the key was used for another description.
        """
        with self.transaction():
            found = self.task_of_key(key)
            if found is not None:
                if found.description != description:
                    raise Conflict(
                        f"the idempotency key {key!r} belongs to another task, {found.id}",
                        details={"idempotency_key": key, "task_id": found.id},
                    )
                return found, False
            self.db.execute(
                "INSERT INTO tasks (id, idempotency_key, description, origin, state, held, queued_at)"
                " VALUES (?, ?, ?, ?, 'queued', ?, ?)",
                (task_id, key, description, origin, held, self.clock()),
            )
            self.add_event("task", {"state": "queued"}, incarnation=self.last_incarnation(), task_id=task_id)
        return self.task(task_id), True

    def task_of_key(self, key: str | None) -> Task | None:
        """The task that an idempotency key made; None when there is none."""
        if key is None:
            return None
        row = self.db.execute(f"SELECT {_TASK_COLUMNS} FROM tasks WHERE idempotency_key=?", (key,)).fetchone()
        return _task(row) if row else None

    def step_task(
        self,
        task_id: str,
        state: TaskState,
        *,
        incarnation: int,
        detail: str = "",
        exit_code: int | None = None,
    ) -> bool:
        """Move a task on, with its time and its event; False when it was there or past it already.

        Receipts that a protocol gives only together are filled in: a task that ends was started.
        """
        now = self.clock()
        with self.transaction():
            task = self.task(task_id)
            if (
                task.state in FINAL
                or (state == "accepted" and task.accepted_at)
                or (state == "started" and task.started_at)
            ):
                return False
            if state in FINAL:
                self.db.execute(
                    "UPDATE tasks SET state=?, ended_at=?, detail=?, exit_code=?, held=0 WHERE id=?",
                    (state, now, detail, exit_code, task_id),
                )
            else:
                self.db.execute(f"UPDATE tasks SET state=?, {state}_at=? WHERE id=?", (state, now, task_id))
            data: dict[str, Any] = {"state": state}
            if detail:
                data["detail"] = detail[:2000]
            if exit_code is not None:
                data["exit_code"] = exit_code
            self.add_event("task", data, incarnation=incarnation, task_id=task_id)
        return True

    def mark_sent(self, task_id: str, incarnation: int) -> None:
        """The prompt is about to be handed over: from here on it must never be sent again."""
        with self.transaction():
            self.db.execute(
                "UPDATE tasks SET sent_at=?, incarnation=?, held=0 WHERE id=?", (self.clock(), incarnation, task_id)
            )

    def unsend(self, task_id: str) -> None:
        """The prompt was not handed over after all (the provider said so): it may be sent later."""
        with self.transaction():
            self.db.execute("UPDATE tasks SET sent_at=NULL, incarnation=NULL WHERE id=?", (task_id,))

    def mark_cancel(self, task_id: str, incarnation: int) -> None:
        """A cancel was asked for."""
        with self.transaction():
            self.db.execute(
                "UPDATE tasks SET cancel_requested_at=coalesce(cancel_requested_at, ?) WHERE id=?",
                (self.clock(), task_id),
            )
            self.add_event("task", {"state": "canceling"}, incarnation=incarnation, task_id=task_id)

    def hold_waiting(self) -> None:
        """Hold back every task that was not handed over yet."""
        with self.transaction():
            self.db.execute("UPDATE tasks SET held=1 WHERE sent_at IS NULL AND ended_at IS NULL")

    def release(self, task_id: str) -> None:
        """A task that was held back may run."""
        with self.transaction():
            self.db.execute("UPDATE tasks SET held=0 WHERE id=?", (task_id,))

    def task(self, task_id: str) -> Task:
        """One task. Raises `NotFound`."""
        row = self.db.execute(f"SELECT {_TASK_COLUMNS} FROM tasks WHERE id=?", (task_id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no task {task_id!r}")
        return _task(row)

    def tasks(self, *, offset: int, limit: int) -> TaskPage:
        """Tasks, newest first, how many there are in all, and the notes of their time."""
        (total,) = self.db.execute("SELECT count(*) FROM tasks").fetchone()
        # One more at the newer end: what was noted until that came belongs to this page.
        newer = min(offset, 1)
        rows = self.db.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks ORDER BY seq DESC LIMIT ? OFFSET ?", (limit + newer, offset - newer)
        )
        found = [_task(row) for row in rows]
        before, page = (found[0].queued_at if newer and found else None), found[newer:]
        if offset and not page:
            return TaskPage(tasks=[], total_count=total)
        since = page[-1].queued_at if offset + len(page) < total else 0.0
        return TaskPage(tasks=page, total_count=total, notes=self.notes(since=since, before=before))

    def open_tasks(self) -> list[Task]:
        """Those not ended, oldest first."""
        rows = self.db.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks WHERE state IN ('queued', 'accepted', 'started') ORDER BY seq"
        )
        return [_task(row) for row in rows]

    def last_ended_task(self) -> Task | None:
        """The task that ended last."""
        row = self.db.execute(
            f"SELECT {_TASK_COLUMNS} FROM tasks WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, seq DESC LIMIT 1"
        ).fetchone()
        return _task(row) if row else None

    def add_usage(self, task_id: str | None, *, input_tokens: int, output_tokens: int, cost_usd: float | None) -> None:
        """Count an increment for the task and for the agent."""
        with self.transaction():
            if task_id is not None:
                self.db.execute(
                    "UPDATE tasks SET input_tokens=input_tokens+:input, output_tokens=output_tokens+:output,"
                    " cost_usd=CASE WHEN :cost IS NULL THEN cost_usd ELSE coalesce(cost_usd, 0)+:cost END WHERE id=:id",
                    {"input": input_tokens, "output": output_tokens, "cost": cost_usd, "id": task_id},
                )
            total = self.usage()
            cost = total.cost_usd if cost_usd is None else (total.cost_usd or 0) + cost_usd
            self.put_fact(
                "usage",
                {
                    "input_tokens": total.input_tokens + input_tokens,
                    "output_tokens": total.output_tokens + output_tokens,
                    "cost_usd": cost,
                },
            )

    def usage(self) -> UsageTotals:
        """What the agent used in all its lives."""
        return UsageTotals(**(self.fact("usage") or {}))

    # -- attention, reports, facts --------------------------------------------------------------------

    def open_attention(self, attention: Attention, *, incarnation: int) -> None:
        """Somebody is asked."""
        with self.transaction():
            self.db.execute(
                "INSERT INTO attention (id, incarnation, task_id, kind, data, asked_at) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    attention.id,
                    incarnation,
                    attention.task_id,
                    attention.kind,
                    dumps(asdict(attention)),
                    attention.asked_at,
                ),
            )
            self.add_event("attention", {"id": attention.id, "kind": attention.kind, "title": attention.title},
                           incarnation=incarnation, task_id=attention.task_id)  # fmt: skip
            self.log(attention.kind, attention.title, incarnation=incarnation, task_id=attention.task_id,
                     ref=f"attention:{attention.id}", data={"detail": attention.detail})  # fmt: skip

    def close_attention(
        self, attention_id: str, *, answer: str | None = None, because: str | None = None, incarnation: int
    ) -> None:
        """It was answered, or is no longer asked `because` of something: nobody's answer."""
        with self.transaction():
            self.db.execute(
                "UPDATE attention SET closed_at=?, answer=?, closed_because=? WHERE id=? AND closed_at IS NULL",
                (self.clock(), answer, because, attention_id),
            )
            how = {"answer": answer} if because is None else {"closed_because": because}
            self.add_event("attention_closed", {"id": attention_id, **how}, incarnation=incarnation)
            self.log("", "", incarnation=incarnation, ref=f"attention:{attention_id}", data=how)

    def attention_end(self, attention_id: str) -> tuple[str | None, str | None]:
        """Its answer, and why it was closed without one; both None while it is open.

        Raises `NotFound` when it was never asked.
        """
        row = self.db.execute("SELECT answer, closed_because FROM attention WHERE id=?", (attention_id,)).fetchone()
        if row is None:
            raise NotFound(f"nothing is asked under {attention_id!r}")
        return row[0], row[1]

    def forget_attention(self) -> None:
        """Close what an earlier process of the sidecar left open: its askers are gone."""
        with self.transaction():
            self.db.execute(
                "UPDATE attention SET closed_at=?, closed_because='the agent was restarted' WHERE closed_at IS NULL",
                (self.clock(),),
            )

    def save_report(self, report: Report, *, incarnation: int) -> None:
        """Keep the agent's own words, durably, before it is told so."""
        with self.transaction():
            data = asdict(report)
            self.put_fact("report", data)
            self.add_event("report", data, incarnation=incarnation, task_id=report.task_id)
            self.log("report", report.summary, incarnation=incarnation, task_id=report.task_id, data=data)

    def report(self) -> Report | None:
        """The newest report."""
        data = self.fact("report")
        return Report(**data) if data else None

    def put_fact(self, key: str, value: Any) -> None:
        """Keep one small fact under a name."""
        with self.transaction():
            self.db.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, dumps(value)))

    def fact(self, key: str) -> Any:
        """A fact kept under a name, None where there is none."""
        row = self.db.execute("SELECT value FROM facts WHERE key=?", (key,)).fetchone()
        return msgspec.json.decode(row[0]) if row else None


def _task(row: tuple[Any, ...]) -> Task:
    (task_id, description, origin, state, held, queued, sent, accepted, started, ended, cancel, incarnation, detail,
     exit_code, tokens_in, tokens_out, cost) = row  # fmt: skip
    return Task(
        id=task_id, description=description, origin=origin, state=state, held=bool(held), queued_at=queued,
        sent_at=sent, accepted_at=accepted, started_at=started, ended_at=ended, cancel_requested_at=cancel,
        incarnation=incarnation, detail=detail, exit_code=exit_code,
        usage=UsageTotals(input_tokens=tokens_in, output_tokens=tokens_out, cost_usd=cost),
    )  # fmt: skip
