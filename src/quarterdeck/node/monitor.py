"""Watches what runs: events and pidfds for speed, a full listing now and then for the truth.

Subscribed before the first listing, so nothing falls between. A runtime that does not answer makes every
state *unknown*; nothing is restarted, enforced or called stopped on its account.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import anyio
import anyio.abc

from quarterdeck.errors import Conflict, NotFound, QuarterdeckError, StorageRefused, Unavailable
from quarterdeck.node import reconcile
from quarterdeck.node.alerts import Alert, judge, send
from quarterdeck.node.configdrift import described
from quarterdeck.node.context import NEW, OLD, Context, event, seen, transition
from quarterdeck.node.drifting import ConfigWatch
from quarterdeck.node.guarded import guarded, spawn
from quarterdeck.node.healing import PAUSED, Healer
from quarterdeck.node.model import ComponentRecord, Health, ServiceRecord
from quarterdeck.node.operations import Operations
from quarterdeck.node.probe import Alive
from quarterdeck.node.registry import Registry
from quarterdeck.node.runtime import Container

log = logging.getLogger(__name__)
_PRUNE_SECONDS = 3600
_HUNG_SECONDS = 600
_ABOUT = frozenset(("create", "start", "died", "stop", "remove", "rename", "pause", "unpause", "kill", "cleanup"))
# Between two looks whether podman has written a death down.
_UNTIL_WRITTEN = (0.002, 0.005, 0.01, *[0.015] * 20, *[0.1] * 5)


class Monitor:
    """Watches for one agent. Run with `running`."""

    def __init__(
        self, context: Context, operations: Operations, group: anyio.abc.TaskGroup, *, ready: Callable[[], bool]
    ) -> None:
        self._context, self._operations, self._group = context, operations, group
        self._options = context.options.monitor
        self._config = ConfigWatch(context)
        self._healer = Healer(context, operations, group, ready=ready, config=self._config)
        self._watched: dict[str, anyio.CancelScope] = {}
        self._checked: dict[str, float] = {}
        self._checking: set[str] = set()
        self._hung: dict[str, int] = {}
        self._checks = anyio.CapacityLimiter(context.options.parallel)
        self._answering: bool | None = None
        self._pruned = 0.0
        self._first = True
        self._poke = anyio.Event()
        self._looked = anyio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch until left."""
        since = time.time()
        async with anyio.create_task_group() as group:
            group.start_soon(_supervised, "runtime events", lambda: self._events(since), name="runtime events")
            group.start_soon(_supervised, "listings", self._listings, name="listings")
            group.start_soon(_supervised, "healthchecks", self._healthchecks, name="healthchecks")
            yield
            group.cancel_scope.cancel()

    def poke(self) -> None:
        """List now rather than later."""
        self._poke.set()

    async def looked(self) -> None:
        """Wait until all were listed once more."""
        looked = self._looked
        self.poke()
        await looked.wait()

    def review(self, services: Sequence[str]) -> None:
        """An operation on these is over: what happened meanwhile was left to it."""
        if self._options.enabled and self._answering is not None:
            spawn(self._group, "review", self._review, services)

    async def _review(self, services: Sequence[str]) -> None:
        records = await self._context.store.read(lambda registry: registry.services(services))
        asked_at = time.time()
        try:
            containers = {each.name: each for each in await self._context.runtime.list()} if records else {}
        except QuarterdeckError:
            # The next listing tells.
            return
        for service in records:
            for each in service.components if service.managed else ():
                await self._saw((service.name, each.name), containers.get(each.container_name), asked_at)

    # Events and deaths

    async def _events(self, since: float) -> None:
        wait = 1.0
        while True:
            try:
                async with aclosing(self._context.runtime.events(since=since)) as events:
                    async for each in events:
                        since, wait = max(since, each.at), 1.0
                        if each.action in _ABOUT:
                            await guarded(f"looking at {each.name}", self._look, each.name)
            except QuarterdeckError as error:
                log.info("the runtime's events are gone, trying again in %g s: %s", wait, error.message)
                self.poke()
            await anyio.sleep(wait)
            wait = min(wait * 2, self._options.list_seconds)

    async def _look(self, name: str) -> None:
        """Something happened to a container of this name."""
        if name.endswith((NEW, OLD)):
            return
        key = await self._context.store.read(lambda registry: registry.by_container(name))
        if key is None or self._operations.busy(key[0]):
            return
        asked_at = time.time()
        try:
            container: Container | None = (await self._context.runtime.inspect(name)).container
        except NotFound:
            container = None
        except QuarterdeckError:
            return
        await self._saw(key, container, asked_at)

    async def _saw(self, key: tuple[str, str], container: Container | None, asked_at: float) -> None:
        """Record one component as it is and do what follows from it."""

        def write(registry: Registry) -> tuple[ServiceRecord, ComponentRecord] | None:
            service = registry.find(key[0])
            record = service.component(key[1]) if service else None
            if service is None or record is None or self._operations.busy(key[0]):
                return None
            watched = seen(container, record.observed, at=asked_at)
            transition(registry, record, watched)
            return service, replace(record, observed=watched)

        if (found := await self._context.store.write(write)) is None:
            return
        service, record = found
        if container is not None:
            self._watch(container)
        await self._healer.consider(service, record, paused=await self._paused(), first=False)

    def _watch(self, container: Container) -> None:
        if container.state == "running" and container.pid > 0 and container.id not in self._watched:
            self._watched[container.id] = anyio.CancelScope()
            spawn(self._group, f"watch {container.name}", self._until_death, container)

    async def _until_death(self, container: Container) -> None:
        alive = Alive(container.pid)
        try:
            with self._watched[container.id]:
                await alive.ended()
                await self._died(container)
        finally:
            alive.close()
            self._watched.pop(container.id, None)

    async def _died(self, container: Container) -> None:
        """Its process is gone: podman writes that down some milliseconds later."""
        for wait in _UNTIL_WRITTEN:
            try:
                found = (await self._context.runtime.inspect(container.id)).container
            except QuarterdeckError:
                break
            if found.state != "running" or found.pid != container.pid:
                break
            await anyio.sleep(wait)
        await self._look(container.name)

    # Listings

    async def _listings(self) -> None:
        while True:
            self._poke = anyio.Event()
            await guarded("a listing", self._listing)
            looked, self._looked = self._looked, anyio.Event()
            looked.set()
            with anyio.move_on_after(self._options.list_seconds):
                await self._poke.wait()

    async def _listing(self) -> None:
        try:
            await self._list_all(first=self._first)
            self._first = False
        except StorageRefused:
            # The disk is full: podman is not to blame, and what it said is as true as before.
            raise
        except Unavailable as error:
            await self._silent(error.message)

    async def _list_all(self, *, first: bool) -> None:
        asked_at = time.time()
        containers = {each.name: each for each in await self._context.runtime.list()}
        paused = await self._paused()
        services, alerts = await self._context.store.write(
            lambda registry: self._compare(registry, containers, asked_at, paused)
        )
        there = {each.id for each in containers.values()}
        for scope in [self._watched[each] for each in set(self._watched) - there]:
            scope.cancel()
        self._hung = {each: count for each, count in self._hung.items() if each in there}
        for service in services:
            for record in service.components:
                if (container := containers.get(record.container_name)) is not None:
                    self._watch(container)
                if service.managed and not self._operations.busy(service.name):
                    await self._healer.consider(service, record, paused=paused, first=first)
        for alert in alerts:
            spawn(self._group, f"alert {alert.kind}", send, self._context, alert)
        # For the next listing to tell and to mend.
        await self._config.round([each for each in services if not self._operations.busy(each.name)])
        await self._prune()

    def _compare(
        self, registry: Registry, containers: dict[str, Container], asked_at: float, paused: bool
    ) -> tuple[list[ServiceRecord], list[Alert]]:
        """Record what a listing says, in one transaction; the services as they are now and what to tell."""
        now, alerts, found = time.time(), list[Alert](), list[ServiceRecord]()
        known = registry.alerts()
        attempts = registry.attempts()
        if self._answering is False:
            registry.add_event(event("", "", "runtime", "podman answers again"))
            alerts.append(Alert("runtime-over", "", "", "podman answers again"))
        self._answering = True
        for service in registry.services():
            if self._operations.busy(service.name):
                continue
            records: list[ComponentRecord] = []
            for record in service.components:
                watched = seen(containers.get(record.container_name), record.observed, at=asked_at)
                transition(registry, record, watched)
                now_is = replace(record, observed=watched)
                records.append(now_is)
                key = (service.name, record.name)
                if key in attempts and _settled(now_is, now, self._options.settled_seconds):
                    registry.reset_attempts(*key)
                if service.managed:
                    alerts += self._judge(registry, service, now_is, known, now, paused=paused)
            found.append(replace(service, components=tuple(records)))
        return found, alerts

    def _judge(
        self,
        registry: Registry,
        service: ServiceRecord,
        record: ComponentRecord,
        known: dict[tuple[str, str, str], tuple[float, float | None]],
        now: float,
        *,
        paused: bool,
    ) -> list[Alert]:
        options = self._options
        found = () if paused or service.paused else (*reconcile.drift(record), *self._config.of(record))
        text = described(found)
        count = registry.count_transitions(service.name, record.name, now - options.flap_seconds)
        state, desired = record.observed.state, record.desired
        flap = f"{count} changes of state within {options.flap_seconds:g} s"
        told = [
            judge(registry, Alert("drift", service.name, record.name, text, state, desired), known, holds=bool(found),
                  now=now, hold_seconds=options.drift_seconds, cooldown_seconds=options.cooldown_seconds),
            judge(registry, Alert("flap", service.name, record.name, flap, state, desired), known,
                  holds=count >= options.flap_count, now=now, hold_seconds=0,
                  cooldown_seconds=options.cooldown_seconds),
        ]  # fmt: skip
        return [each for each in told if each is not None]

    async def _silent(self, reason: str) -> None:
        """The runtime does not answer: nothing is known, and that is what is recorded."""
        if self._answering is False:
            return
        self._answering = False

        def write(registry: Registry) -> None:
            registry.add_event(event("", "", "runtime", reason))
            for service in registry.services():
                for record in service.components:
                    transition(registry, record, replace(record.observed, state="unknown", at=time.time()))

        await self._context.store.write(write)
        spawn(self._group, "alert runtime", send, self._context, Alert("runtime", "", "", reason))

    async def _paused(self) -> bool:
        return await self._context.store.read(lambda registry: registry.meta(PAUSED) == "1")

    async def _prune(self) -> None:
        if time.monotonic() - self._pruned < _PRUNE_SECONDS and self._pruned:
            return
        self._pruned = time.monotonic()
        options, now = self._options, time.time()

        def write(registry: Registry) -> None:
            registry.prune_events(before=now - options.keep_event_days * 86400, keep=options.keep_events)
            registry.prune_operations(now - self._context.options.keep_operations_days * 86400)

        await self._context.store.write(write)
        # It may walk a large tree: a listing does not wait for it.
        spawn(self._group, "prune pushes", self._context.files.prune)

    # Healthchecks (podman's own need systemd's timers)

    async def _healthchecks(self) -> None:
        while True:
            await anyio.sleep(1)
            if self._answering is not True:
                continue
            due = [
                (service.name, record)
                for service in await self._context.store.read(_with_checks)
                if service.managed and not self._operations.busy(service.name)
                for record in service.components
                if self._is_due(record)
            ]
            # Not waited for: one that hangs must not keep the others from being asked.
            for name, record in due:
                spawn(self._group, f"check {record.container_name}", self._check, name, record)

    def _is_due(self, record: ComponentRecord) -> bool:
        check = record.spec.healthcheck
        if check is None or record.observed.state != "running" or record.container_name in self._checking:
            return False
        if time.monotonic() < self._checked.get(record.container_name, 0):
            return False
        # Podman leaves a check that hangs running in the container: asking at the same pace would fill it up.
        wait = min(check.interval * 2 ** min(self._hung.get(record.observed.container_id, 0), 10), _HUNG_SECONDS)
        self._checked[record.container_name] = time.monotonic() + max(check.interval, wait)
        return True

    async def _check(self, service: str, record: ComponentRecord) -> None:
        self._checking.add(record.container_name)
        try:
            await self._check_once(service, record)
        finally:
            self._checking.discard(record.container_name)

    async def _check_once(self, service: str, record: ComponentRecord) -> None:
        check, identity = record.spec.healthcheck, record.observed.container_id
        assert check is not None
        health: Health | None = None
        try:
            async with self._checks:
                with anyio.move_on_after(check.timeout):
                    health = await self._context.runtime.healthcheck(record.container_name)
        except (Conflict, NotFound, Unavailable):
            return
        if health is None:
            hung = self._hung[identity] = self._hung.get(identity, 0) + 1
            if hung < check.retries:
                return
            health = "unhealthy"
        else:
            self._hung.pop(identity, None)
        if health == record.observed.health:
            return

        def write(registry: Registry) -> None:
            fresh = registry.find(service)
            now = fresh.component(record.name) if fresh else None
            if now is not None and now.observed.container_id == record.observed.container_id:
                registry.observe(service, record.name, replace(now.observed, health=health))
                registry.add_event(replace(event(service, record.name, "health"),
                                           from_state=now.observed.health, to_state=health))  # fmt: skip

        await self._context.store.write(write)


async def _supervised(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop for ever: a mistake in one round must not end the watch, let alone the agent."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("the monitor's %s failed", name)
        await anyio.sleep(1)


def _with_checks(registry: Registry) -> tuple[ServiceRecord, ...]:
    # Asked every second: most nodes have few of them, and reading all costs.
    names = sorted({service for service, _ in registry.checkable()})
    return registry.services(names) if names else ()


def _settled(record: ComponentRecord, now: float, seconds: float) -> bool:
    started = record.observed.started_at
    return record.observed.state == "running" and started is not None and now - started >= seconds
