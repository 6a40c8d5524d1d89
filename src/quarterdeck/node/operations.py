"""Mutations: done once, one at a time per service, not tied to the caller, answered again to a retry.

The intent is written before anything is done and the answer when it is over; what has an intent and no
answer when the agent starts was interrupted (`recovery.py`). The holder's lease is in the same row: it is
extended while the holder lives, and a dead one's is void as soon as another agent has the state folder.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.abc
import msgspec

from quarterdeck.errors import (
    Conflict,
    InternalError,
    PreconditionFailed,
    QuarterdeckError,
    error_from_json,
)
from quarterdeck.node.context import progress
from quarterdeck.node.files import RESUMABLE
from quarterdeck.node.model import Mutation, Operation
from quarterdeck.node.reconcile import canonical
from quarterdeck.node.registry import Registry, decoded_answer
from quarterdeck.node.results import DeployProgress
from quarterdeck.node.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass
class Live(Generic[T]):
    """An operation in progress (or just over): its progress so far and, once `done` is set, how it ended."""

    id: str
    kind: str
    services: tuple[str, ...]
    request: str
    actor: str
    started_at: float
    done: anyio.Event = field(default_factory=anyio.Event)
    progress: list[DeployProgress] = field(default_factory=list)
    moved: anyio.Event = field(default_factory=anyio.Event)
    asked_for: str = ""
    result: T | None = None
    error: BaseException | None = None

    def emit(self, step: DeployProgress) -> None:
        """Tell everybody who listens."""
        self.progress.append(step)
        moved, self.moved = self.moved, anyio.Event()
        moved.set()

    def answer(self) -> T:
        """How it ended. Raises what it raised."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)


class Operations:
    """Runs the mutations of one agent. `ended` is told the services of each that is over."""

    def __init__(self, store: Store, group: anyio.abc.TaskGroup, *, holder: str, lease_seconds: float) -> None:
        self._store, self._group = store, group
        self._holder, self._lease = holder, lease_seconds
        self._live: dict[str, Live[Any]] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._holding: dict[str, Live[Any]] = {}
        self.ended: Callable[[Sequence[str]], None] = lambda services: None

    def busy(self, service: str) -> bool:
        """Whether a mutation works on this service now."""
        return service in self._holding

    @property
    def running(self) -> int:
        """How many are in progress."""
        return len(self._live)

    async def asked(self, identity: str) -> str | None:
        """What was asked for under this id, as JSON; None when nothing was."""
        if not identity:
            return None
        if (live := self._live.get(identity)) is not None:
            return live.asked_for
        stored = await self._store.read(lambda registry: registry.operation(identity))
        return None if stored is None else stored.steps

    async def run(
        self,
        kind: str,
        services: Sequence[str],
        mutation: Mutation,
        request: Any,
        result: type[T],
        work: Callable[[Live[T]], Awaitable[T]],
    ) -> T:
        """Do it and wait for its end; see `begin`."""
        live = await self.begin(kind, services, mutation, request, result, work)
        await live.done.wait()
        return live.answer()

    async def begin(
        self,
        kind: str,
        services: Sequence[str],
        mutation: Mutation,
        request: Any,
        result: type[T],
        work: Callable[[Live[T]], Awaitable[T]],
    ) -> Live[T]:
        """Start it in the agent's own task group, or find the one that was started with the same id.

        `request` is what makes two operations the same. Raises `Conflict` for an id that was used for
        something else; what goes wrong later is in the answer.
        """
        asked = hashlib.sha256(canonical([kind, sorted(services), request])).hexdigest()
        identity = mutation.operation_id
        if identity:
            if (live := self._live.get(identity)) is not None:
                _same_request(identity, live.request, asked)
                return live
            stored = await self._store.read(lambda registry: registry.operation(identity))
            if stored is not None:
                _same_request(identity, stored.request, asked)
                return _from_store(stored, result)
            if (live := self._live.get(identity)) is not None:
                return live
        identity = identity or new_id()
        live = Live(identity, kind, tuple(sorted(set(services))), asked, mutation.actor, time.time())
        live.asked_for = msgspec.json.encode(request).decode()
        self._live[identity] = live
        self._group.start_soon(self._perform, live, mutation, work, name=f"{kind} {' '.join(services)}")
        return live

    async def _perform(self, live: Live[T], mutation: Mutation, work: Callable[[Live[T]], Awaitable[T]]) -> None:
        begun = False
        try:
            async with AsyncExitStack() as held:
                await self._hold(live, mutation.wait_seconds, held)
                await self._store.write(lambda registry: self._intend(registry, live, mutation))
                begun = True
                live.result = await work(live)
                await self._end(live, None)
        except Exception as error:
            live.error = (
                error if isinstance(error, QuarterdeckError) else InternalError(f"{live.kind} failed: {error!r}")
            )
            if live.error is not error:
                log.exception("operation %s (%s) failed", live.id, live.kind)
            if begun:
                await self._end(live, live.error)
        finally:
            # A cancelled one has no answer: the next start finds its intent and cleans up.
            if not live.done.is_set() and live.result is None and live.error is None:
                live.error = Conflict("the node agent is stopping; the next start finishes or undoes it")
            self._live.pop(live.id, None)
            live.done.set()
            live.moved.set()
            if begun:
                self.ended(live.services)

    async def _hold(self, live: Live[Any], wait_seconds: float, held: AsyncExitStack) -> None:
        """Take the services, in one order for all, or say who has them."""
        for service in live.services:
            lock = self._locks.setdefault(service, anyio.Lock())
            try:
                lock.acquire_nowait()
            except anyio.WouldBlock:
                live.emit(progress(service, "", "waiting", _held_by(service, self._holding.get(service))))
                with anyio.move_on_after(wait_seconds) as scope:
                    await lock.acquire()
                if scope.cancelled_caught:
                    holder = self._holding.get(service)
                    hint = "try again, or wait longer with --wait"
                    raise Conflict(_held_by(service, holder), hint=hint) from None
            held.callback(lock.release)
            self._holding[service] = live
            held.callback(self._holding.pop, service, None)

    def _intend(self, registry: Registry, live: Live[Any], mutation: Mutation) -> None:
        expected = mutation.expected_generation
        if expected is not None and len(live.services) == 1:
            record = registry.find(live.services[0])
            actual = record.generation if record else 0
            if actual != expected:
                raise PreconditionFailed(
                    f"service {live.services[0]!r} is at generation {actual}, not {expected}; nothing was done",
                    hint="look at what changed (qd service status), then try again",
                    details={"generation": actual},
                )
        now = time.time()
        registry.begin_operation(
            Operation(
                live.id,
                live.kind,
                " ".join(live.services),
                live.request,
                "running",
                now,
                self._holder,
                now + self._lease,
                steps=live.asked_for,
            ),
            live.actor,
        )

    async def _end(self, live: Live[Any], error: QuarterdeckError | None) -> None:
        answer = error_answer(error) if error else result_answer(live.result)

        def write(registry: Registry) -> None:
            if error is not None and error.details.get(RESUMABLE):
                # The caller's connection broke: the retry is to go on, not to hear that it broke.
                registry.forget_operation(live.id)
            else:
                registry.end_operation(live.id, "failed" if error else "done", answer, time.time())

        with anyio.CancelScope(shield=True):
            await self._store.write(write)

    async def keep_leases(self) -> None:
        """Say again and again that this holder lives."""
        while True:
            await anyio.sleep(self._lease / 3)
            if self._live:
                await self._store.write(
                    lambda registry: registry.extend_leases(self._holder, time.time() + self._lease)
                )

    async def drained(self) -> None:
        """Wait until nothing is in progress."""
        while self._live:
            await next(iter(self._live.values())).done.wait()


def new_id() -> str:
    """An operation id for whoever gave none."""
    return uuid.uuid4().hex


def result_answer(result: Any) -> str:
    """A result as it is stored."""
    return msgspec.json.encode({"result": result}).decode()


def error_answer(error: QuarterdeckError) -> str:
    """An error as it is stored."""
    return msgspec.json.encode({**error.to_json(), "status": error.http_status}).decode()


def _from_store(operation: Operation, result: type[T]) -> Live[T]:
    """The first answer, for a retry."""
    live: Live[T] = Live(
        operation.id, operation.kind, (operation.service,), operation.request, "", operation.started_at
    )
    live.done.set()
    live.moved.set()
    if operation.state == "running":
        live.error = Conflict(f"operation {operation.id} is still held by {operation.holder}", hint="try again later")
        return live
    answer = decoded_answer(operation)
    if "error" in answer:
        live.error = error_from_json(answer, status=int(answer.get("status", 500)))
    else:
        live.result = msgspec.convert(answer["result"], result)
    return live


def _same_request(identity: str, first: str, asked: str) -> None:
    if first != asked:
        raise Conflict(
            f"operation id {identity} was used for another request", hint="use a new id for every new change"
        )


def _held_by(service: str, holder: Live[Any] | None) -> str:
    if holder is None:
        return f"service {service!r} is held by another operation"
    who = f" by {holder.actor}" if holder.actor else ""
    seconds = max(0, round(time.time() - holder.started_at))
    return f"service {service!r} is held by {holder.kind} {holder.id[:12]}{who}, for {seconds} s now"
