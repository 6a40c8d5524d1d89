"""Giving agents work: tasks, cancels, answers, and facts written about their workspaces."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from quarterdeck.errors import Conflict, InvalidInput, NotFound, Unavailable
from quarterdeck.fleet.core import FleetCore
from quarterdeck.fleet.model import derive_status
from quarterdeck.metadata.model import check_key, encode_value
from quarterdeck.sidecar.client import answered_error
from quarterdeck.sidecar.model import IDEMPOTENCY_KEY, IDEMPOTENCY_MEANING, Attention, Task

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Tasking(FleetCore):
    """The use cases that change what an agent does."""

    async def start_task(
        self, name: str, description: str, *, queue: bool = False, idempotency_key: str | None = None, origin: str = ""
    ) -> Task:
        """Give a task; it is queued, held (fleet limit) or handed over at once. A retry with the key is safe."""
        record = self._record(name)
        self._check_task(description)
        if idempotency_key is not None and not re.fullmatch(IDEMPOTENCY_KEY, idempotency_key):
            raise InvalidInput(f"{idempotency_key[:300]!r} cannot be an idempotency key", hint=IDEMPOTENCY_MEANING)
        if record.deleting_at is not None or record.canceled_at is not None or record.failed_at is not None:
            status, _ = derive_status(record, self.crew.view(name))
            raise Conflict(
                f"agent {name} is {status}" + (f": {record.failure}" if record.failure else ""),
                hint=f"qd agents restart {name}",
            )
        client = await self.client(name)
        with self._limit.place_for(name) as hold:
            task = await client.add_task(description, queue=queue, key=idempotency_key, origin=origin, hold=hold)
        return self._limit.with_position(name, task)

    async def cancel_task(self, name: str, task_id: str | None = None) -> Task | None:
        """Cancel the running task (or that one); an agent that is still coming up is called off (None then)."""
        record = self._record(name)
        if task_id is not None:
            _check_id(name, "task", task_id, f"qd agents history {name}")
        if record.deleting_at is not None:
            raise Conflict(f"agent {name} is being deleted")
        if record.started_at is None and self.crew.call_off(name):
            self.crew.roster.look(name)
            return None
        facts = await (await self.client(name)).facts()
        if task_id is None:
            running = facts.current_task or facts.next_task
            if running is None:
                raise Conflict(f"agent {name} has no task to cancel")
            task_id = running.id
        # Asked for anew: the link may have been dropped, and its client closed, since the first answer.
        return await (await self.client(name)).cancel(task_id, incarnation=facts.incarnation)

    async def withdraw_task(self, name: str, task_id: str, reason: str) -> Task:
        """Cancel a task that waits. Raises `Conflict` when it runs or is over, `NotFound`, `Unavailable`."""
        try:
            client = await self.client(name)
        except Conflict as error:  # it comes up: what waits there is not known yet
            raise Unavailable(error.message, hint=error.hint) from error
        return await client.withdraw(task_id, reason)

    async def answer(self, name: str, attention_id: str, answer: str) -> Attention:
        """Answer what an agent asks. Raises `NotFound`, `Conflict` (answered before), `InvalidInput`."""
        self._record(name)
        _check_id(name, "question", attention_id, f"qd agents show {name}")
        return await (await self.client(name)).answer(attention_id, answer)

    async def set_metadata(self, name: str, key: str, value: Any) -> bool:
        """Store a fact about an agent's workspace, durably; whether it is new. Raises as the metadata server does."""
        status, _, data = await (await self.client(name)).forward(
            "PUT",
            f"/metadata/{quote(check_key(key), safe='')}",
            headers={"content-type": "application/json"},
            # Ours, not msgspec's: that makes null of a number that JSON does not know.
            body=b'{"value":%s}' % encode_value(key, value),
        )
        _raise_for(status, data)
        return status == 201

    async def delete_metadata(self, name: str, key: str) -> None:
        """Delete a stored fact; fine when it was not there. Raises as the metadata server does."""
        client = await self.client(name)
        path = f"/metadata/{quote(check_key(key), safe='')}"
        status, _, data = await client.forward("DELETE", path, headers={}, body=b"")
        _raise_for(status, data)


def _check_id(name: str, kind: str, given: str, hint: str) -> None:
    """Raise `NotFound` for what cannot be an id of ours, before anybody makes a path of it."""
    if not _ID.fullmatch(given):
        raise NotFound(f"agent {name} has no {kind} {given[:100]!r}", hint=hint)


def _raise_for(status: int, data: bytes) -> None:
    if status >= 400:
        raise answered_error(status, data)
