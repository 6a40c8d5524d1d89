"""What is known of every agent now, and what of it changed since a reader looked last."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from quarterdeck.errors import InvalidInput
from quarterdeck.events import AgentChanged, Bus
from quarterdeck.fleet.model import AgentRecord, AgentSummary, LinkView, summarize
from quarterdeck.sidecar.client import ServerEvent
from quarterdeck.sidecar.model import SidecarFacts


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What `wait` gives: the agents that changed, those that are gone, and the cursor to go on from."""

    changed: list[AgentSummary]
    deleted: list[str]
    cursor: str
    timed_out: bool


class Roster:
    """Numbers every visible change of an agent, so that a reader with a cursor misses none.

    A cursor is `EPOCH-NUMBER`; one of another hub's life, or none, gets everything.
    """

    def __init__(self, bus: Bus, view: Callable[[str], LinkView], record: Callable[[str], AgentRecord | None]) -> None:
        self._bus = bus
        self._view = view
        self._record = record
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._changed_at: dict[str, int] = {}
        self._deleted_at: dict[str, int] = {}
        self._shown: dict[str, tuple[object, ...]] = {}
        self._event = anyio.Event()

    @property
    def cursor(self) -> str:
        """Where a reader that knows everything goes on from."""
        return f"{self._epoch}-{self._number}"

    def look(self, name: str) -> None:
        """Something about an agent may have changed: number it where a list would show it."""
        record = self._record(name)
        if record is None:
            self.removed(name)
            return
        summary = summarize(record, self._view(name))
        shown = _visible(summary, self._view(name).facts)
        if self._shown.get(name) == shown:
            return
        self._shown[name] = shown
        self._number += 1
        self._changed_at[name] = self._number
        self._deleted_at.pop(name, None)
        self._wake()
        self._bus.publish(
            AgentChanged(
                agent=name,
                revision=self._number,
                status=summary.status,
                activity=summary.activity,
                task_id=summary.task.id if summary.task else None,
                task_state=summary.task.state if summary.task else None,
                needs_attention=summary.needs_attention,
                unreachable=summary.unreachable.reason if summary.unreachable else None,
            )
        )

    def removed(self, name: str) -> None:
        """An agent is gone."""
        if self._shown.pop(name, None) is None and name not in self._changed_at:
            return
        self._changed_at.pop(name, None)
        self._number += 1
        self._deleted_at[name] = self._number
        self._wake()

    def _wake(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    async def wait(self, names: list[str] | None, cursor: str | None, timeout_seconds: float) -> Changes:
        """What changed after a cursor; waits for something to change when nothing has. Raises `InvalidInput`."""
        since = self._parse(cursor)
        timed_out = True
        with anyio.move_on_after(timeout_seconds):
            while not self._newer(names, since):
                await self._event.wait()
            timed_out = False
        changed, deleted = self._newer_names(names, since)
        records = [record for name in changed if (record := self._record(name)) is not None]
        return Changes(
            changed=[summarize(r, self._view(r.name)) for r in records],
            deleted=deleted,
            cursor=self.cursor,
            timed_out=timed_out,
        )

    def _parse(self, cursor: str | None) -> int:
        if not cursor:
            return -1
        epoch, _, number = cursor.partition("-")
        if not (number.isascii() and number.isdigit() and len(number) < 16):
            raise InvalidInput(
                f"{cursor!r} is no cursor", hint="leave it out to begin, then pass the one you were given"
            )
        return int(number) if epoch == self._epoch and int(number) <= self._number else -1

    def _newer(self, names: list[str] | None, since: int) -> bool:
        # Without a cursor the answer is what there is, at once.
        changed, deleted = self._newer_names(names, since)
        return bool(since < 0 or changed or deleted)

    def _newer_names(self, names: list[str] | None, since: int) -> tuple[list[str], list[str]]:
        wanted = None if names is None else set(names)
        changed = [n for n, at in self._changed_at.items() if at > since and (wanted is None or n in wanted)]
        deleted = [
            n
            for n, at in self._deleted_at.items()
            if at > max(since, 0) and (wanted is None or n in wanted) and since >= 0
        ]
        return changed, deleted


def _visible(summary: AgentSummary, facts: SidecarFacts | None) -> tuple[object, ...]:
    task = summary.task
    return (
        summary.status,
        summary.activity,
        tuple(a.id for a in facts.needs_attention) if facts else (),
        (task.id, task.state, task.cancel_requested_at, task.position) if task else None,
        facts.queue if facts else 0,
        facts.incarnation if facts else 0,
        summary.unreachable.reason if summary.unreachable else None,
        summary.failure,
        summary.report,
        summary.branch,
        tuple(sorted((k, str(v)) for k, v in summary.metadata.items())),
    )


Heard = Callable[[str, ServerEvent], None]
