"""Mutations: done once, one at a time per service, not tied to the caller, answered again to a retry.

The intent is written before anything is done and the answer when it is over; what has an intent and no
answer when the agent starts was interrupted (`recovery.py`). A holder dies in two ways. The whole agent: its lock
of the state folder is gone with it, and the next agent finishes or undoes what it held. One operation that hangs:
its lease ends (`lease.py`), it is taken down, cleaned up after and answered, and its services are free.
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
    InvalidInput,
    PreconditionFailed,
    QuarterdeckError,
    Unavailable,
    error_from_json,
)
from quarterdeck.node.answers import decoded_answer, error_answer, result_answer
from quarterdeck.node.context import progress
from quarterdeck.node.guarded import first_of_ours, guarded
from quarterdeck.node.lease import HELD, Lease
from quarterdeck.node.model import Mutation, Operation
from quarterdeck.node.pushing import RESUMABLE
from quarterdeck.node.reconcile import canonical
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import DeployProgress
from quarterdeck.node.store import Store

T = TypeVar("T")
log = logging.getLogger(__name__)
# A push lives as long as its caller's connection; the registry's own work as long as the disk needs.
_UNLEASED = ("push", "snapshot", "restore")
_SETTLE_SECONDS = 60


@dataclass
class Live(Generic[T]):
    """An operation in progress (or just over): its progress so far and, once `done` is set, how it ended."""

    id: str
    kind: str
    services: tuple[str, ...]
    request: str
    actor: str
    started_at: float
    checks: str = ""
    alone: bool = False
    done: anyio.Event = field(default_factory=anyio.Event)
    progress: list[DeployProgress] = field(default_factory=list)
    moved: anyio.Event = field(default_factory=anyio.Event)
    asked_for: str = ""
    lease: Lease | None = None
    result: T | None = None
    error: QuarterdeckError | None = None

    def emit(self, step: DeployProgress) -> None:
        """Tell everybody who listens."""
        self.progress.append(step)
        if self.lease is not None:
            self.lease.renew()
        moved, self.moved = self.moved, anyio.Event()
        moved.set()

    def answer(self) -> T:
        """How it ended. Raises what it raised."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)


class Operations:
    """Runs the mutations of one agent. `ended` is told the services of each that is over; `settle` cleans up after
    one (by its services and id) that was given up."""

    def __init__(self, store: Store, group: anyio.abc.TaskGroup, *, holder: str, lease_seconds: float) -> None:
        self._store, self._group = store, group
        self._holder, self._lease = holder, lease_seconds
        self._live: dict[str, Live[Any]] = {}
        self._locks: dict[str, anyio.Lock] = {}
        self._holding: dict[str, Live[Any]] = {}
        self._unwritten: dict[str, Live[Any]] = {}
        self._inside: dict[str, Live[Any]] = {}
        self._alone: Live[Any] | None = None
        self.settle: Callable[[Sequence[str], str], Awaitable[object]] = _nothing_to_settle
        self.ended: Callable[[Sequence[str]], None] = lambda services: None

    def busy(self, service: str) -> bool:
        """Whether a mutation works on this service now."""
        return service in self._holding

    @property
    def running(self) -> int:
        """How many are in progress."""
        return len(self._live)

    def _known(self, identity: str) -> Live[Any] | None:
        return self._live.get(identity) or self._unwritten.get(identity)

    async def asked(self, identity: str) -> str | None:
        """What was asked for under this id, as JSON; None when nothing was."""
        if not identity:
            return None
        if (live := self._known(identity)) is not None:
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
        *,
        checks: str = "",
        alone: bool = False,
    ) -> T:
        """Do it and wait for its end; see `begin`."""
        live = await self.begin(kind, services, mutation, request, result, work, checks=checks, alone=alone)
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
        *,
        checks: str = "",
        alone: bool = False,
    ) -> Live[T]:
        """Start it in the agent's own task group, or find the one that was started with the same id.

        `request` is what makes two operations the same. `checks` is the service whose generation the caller may
        expect (empty: none). One that must be `alone` waits for all others, and all others for it. Raises
        `Conflict` for an id that was used for something else and `InvalidInput` for an expected generation
        without a meaning; what goes wrong later is in the answer.
        """
        asked = hashlib.sha256(canonical([kind, sorted(services), request])).hexdigest()
        identity = mutation.operation_id
        if identity:
            if (live := self._known(identity)) is not None:
                _same_request(identity, live.request, asked)
                return live
            stored = await self._store.read(lambda registry: registry.operation(identity))
            if stored is not None:
                _same_request(identity, stored.request, asked)
                return _from_store(stored, result)
            if (live := self._known(identity)) is not None:
                _same_request(identity, live.request, asked)
                return live
        if mutation.expected_generation is not None and not checks:
            raise InvalidInput(
                f"a generation is expected of one service, and {kind} is not of one; nothing was done",
                hint="leave the expected generation out",
            )
        identity = identity or new_id()
        live = Live(identity, kind, tuple(sorted(set(services))), asked, mutation.actor, time.time(), checks, alone)
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
                try:
                    live.result = await self._work(live, work)
                except Exception as error:  # noqa: BLE001 - the caller hears it, and a foreign one is logged
                    live.error = _tellable(live, error)
                await self._end(live)
        except Exception as error:  # noqa: BLE001 - as above: the agent's own group must not end for it
            live.error = _tellable(live, error)
        finally:
            # A cancelled one has no answer: the next start finds its intent and cleans up.
            if not live.done.is_set() and live.result is None and live.error is None:
                live.error = Conflict("the node agent is stopping; the next start finishes or undoes it")
            self._live.pop(live.id, None)
            live.done.set()
            live.moved.set()
            if begun:
                self.ended(live.services)

    async def _work(self, live: Live[T], work: Callable[[Live[T]], Awaitable[T]]) -> T:
        """Do it for as long as the lease holds."""
        lease = live.lease = Lease(self._lease)
        HELD.set(lease)
        try:
            with lease.scope:
                return await work(live)
        except QuarterdeckError:
            raise
        except Exception:
            # A bug, or several errors side by side: parts of it were canceled wherever they were.
            await self._clean_up(live)
            raise
        text = f"{live.kind} {live.id[:12]} gave no sign of life for {self._lease:g} s and was given up"
        log.error("%s", text)
        await self._clean_up(live)
        raise Unavailable(text, hint="look at what runs (qd service status), then try again")

    async def _clean_up(self, live: Live[Any]) -> None:
        """Bring its services back to order while they are still held: nobody is to meet what it left half-way."""
        HELD.set(None)
        if live.kind in _UNLEASED:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(_SETTLE_SECONDS):
            await guarded(f"cleaning up after {live.kind}", self.settle, live.services, live.id)

    async def _hold(self, live: Live[Any], wait_seconds: float, held: AsyncExitStack) -> None:
        """Take the services, in one order for all, or say who has them."""
        with anyio.move_on_after(wait_seconds) as scope:
            await self._enter(live, held)
        if scope.cancelled_caught:
            raise _held(next(iter(self._inside.values()), None) if live.alone else self._alone)
        for service in live.services:
            lock = self._locks.setdefault(service, anyio.Lock())
            try:
                lock.acquire_nowait()
            except anyio.WouldBlock:
                holder = self._holding.get(service)
                live.emit(progress(service, "", "waiting", _held_by(f"service {service!r}", holder)))
                with anyio.move_on_after(wait_seconds) as scope:
                    await lock.acquire()
                if scope.cancelled_caught:
                    raise _held(self._holding.get(service), service) from None
            held.callback(self._let_go, service, lock)
            self._holding[service] = live
            held.callback(self._holding.pop, service, None)

    def _let_go(self, service: str, lock: anyio.Lock) -> None:
        lock.release()
        if not lock.locked():  # nobody waited; a file's name may never come again
            self._locks.pop(service, None)

    async def _enter(self, live: Live[Any], held: AsyncExitStack) -> None:
        """Wait for one that must be alone; be that one, and wait for all others."""
        while self._alone is not None:
            await self._alone.done.wait()
        if live.alone:
            self._alone = live
            held.callback(self._leave_alone)
            # Nobody enters any more; those who are inside come to their end.
            while self._inside:
                await next(iter(self._inside.values())).done.wait()
        else:
            self._inside[live.id] = live
            held.callback(self._inside.pop, live.id, None)

    def _leave_alone(self) -> None:
        self._alone = None

    def _intend(self, registry: Registry, live: Live[Any], mutation: Mutation) -> None:
        expected = mutation.expected_generation
        if expected is not None:
            record = registry.find(live.checks)
            actual = record.generation if record else 0
            if actual != expected:
                raise PreconditionFailed(
                    f"service {live.checks!r} is at generation {actual}, not {expected}; nothing was done",
                    hint="look at what changed (qd service status), then try again",
                    details={"generation": actual},
                )
        self.write_intent(registry, live)

    def write_intent(self, registry: Registry, live: Live[Any]) -> None:
        """Write down that it is in progress."""
        now = time.time()
        registry.forget_operation(live.id)
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

    async def _end(self, live: Live[Any]) -> None:
        """Write the answer down; one that the registry does not take now is told all the same, and written later."""
        with anyio.CancelScope(shield=True):
            if not await guarded(f"writing down how {live.kind} {live.id} ended", self._write_end, live):
                self._unwritten[live.id] = live

    async def _write_end(self, live: Live[Any]) -> None:
        error, now = live.error, time.time()
        answer = error_answer(error) if error else result_answer(live.result)

        def write(registry: Registry) -> None:
            if error is not None and error.details.get(RESUMABLE):
                # Its connection broke, or it began where no part ends: the retry is to go on, not to hear that again.
                registry.forget_operation(live.id)
            else:
                registry.end_operation(live.id, "failed" if error else "done", answer, now)

        await self._store.write(write)

    async def _catch_up(self) -> None:
        """Write the answers that a full disk did not take."""
        for live in list(self._unwritten.values()):
            await self._write_end(live)
            self._unwritten.pop(live.id, None)

    async def keep_leases(self) -> None:
        """Say again and again that this holder lives, and take down operations that do not."""
        while True:
            await anyio.sleep(self._lease / 3)
            await guarded("writing down answers", self._catch_up)
            for live in list(self._live.values()):
                if live.lease is not None and live.lease.expired and live.kind not in _UNLEASED:
                    live.lease.scope.cancel()
            if self._live:
                await guarded("extending leases", self._extend)

    async def _extend(self) -> None:
        await self._store.write(lambda registry: registry.extend_leases(self._holder, time.time() + self._lease))

    async def drained(self) -> None:
        """Wait until nothing is in progress."""
        while self._live:
            await next(iter(self._live.values())).done.wait()
        # What cannot be written even now is found as interrupted by the next start.
        await guarded("writing down answers", self._catch_up)


def _tellable(live: Live[Any], error: Exception) -> QuarterdeckError:
    """The error as its caller hears it."""
    ours = first_of_ours(error)
    if ours is None:
        log.error("operation %s (%s) failed", live.id, live.kind, exc_info=error)
    return ours or InternalError(f"{live.kind} failed: {error!r}")


async def _nothing_to_settle(services: Sequence[str], identity: str) -> None:
    return None


def new_id() -> str:
    """An operation id for whoever gave none."""
    return uuid.uuid4().hex


def _from_store(operation: Operation, result: type[T]) -> Live[T]:
    """The first answer, for a retry."""
    live: Live[T] = Live(
        operation.id, operation.kind, (operation.service,), operation.request, "", operation.started_at
    )
    live.done.set()
    live.moved.set()
    if operation.state == "running":
        left = operation.lease_until - time.time()
        alive = f"for {left:.0f} s more" if left > 0 else "which is dead: it waits to be finished or undone"
        text = f"operation {operation.id} is still held by {operation.holder}, {alive}"
        live.error = Conflict(text, hint="try again later")
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


def _held(holder: Live[Any] | None, service: str = "") -> Conflict:
    what = f"service {service!r}" if service else "the node"
    return Conflict(_held_by(what, holder), hint="try again, or wait longer with --wait")


def _held_by(what: str, holder: Live[Any] | None) -> str:
    if holder is None:
        return f"{what} is held by another operation"
    who = f" by {holder.actor}" if holder.actor else ""
    seconds = max(0, round(time.time() - holder.started_at))
    return f"{what} is held by {holder.kind} {holder.id[:12]}{who}, for {seconds} s now"
