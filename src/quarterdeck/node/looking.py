"""What the node agent tells: live checks, status with drift, logs, events and facts about the node."""

from __future__ import annotations

import heapq
import logging
import os
import platform
import shutil
import socket
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

import anyio
import psutil

from quarterdeck import __version__
from quarterdeck.errors import Conflict, NotFound, QuarterdeckError, Unavailable
from quarterdeck.node import reconcile
from quarterdeck.node.context import NEW, OLD, Context, seen, transition
from quarterdeck.node.drifting import examined
from quarterdeck.node.healing import PAUSED
from quarterdeck.node.model import ComponentRecord, Event, Observed, ServiceRecord, State
from quarterdeck.node.operations import Operations
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import (
    Drift,
    ExecOutput,
    LiveCheck,
    LiveComponent,
    LogLine,
    NodeInfo,
    RuntimeInfo,
    ServiceStatus,
    Usage,
)
from quarterdeck.node.schema import SCHEMA

log = logging.getLogger(__name__)
DRAINING = "draining"


async def live_check(context: Context, operations: Operations, *, service: str, usage: bool) -> LiveCheck:
    """Ask the runtime and record what it says."""
    names = [service] if service else []
    if service:
        await context.store.read(lambda registry: registry.service(service))
    used: dict[str, Usage] = {}
    asked_at = time.time()
    try:
        containers = {each.name: each for each in await context.runtime.list()}
    except Unavailable as error:
        return await _unknown(context, names, error.message)
    if usage:
        try:
            used = dict(await context.runtime.usage())
        except QuarterdeckError as error:
            # Figures are an extra: what runs is known without them.
            log.warning("podman does not tell what the containers use: %s", error.message)

    def write(registry: Registry) -> LiveCheck:
        found: list[LiveComponent] = []
        owned: set[str] = set()
        for record in registry.services(names):
            # A service that is being changed shows states that nobody should remember.
            busy = operations.busy(record.name)
            for each in record.components:
                watched = seen(containers.get(each.container_name), each.observed, at=asked_at)
                if not busy:
                    transition(registry, each, watched)
                if record.managed or service:
                    owned.add(each.container_name)
                    found.append(_live(each, watched, used.get(watched.container_id)))
        strangers = () if service else tuple(n for n in containers if n not in owned and not n.endswith((NEW, OLD)))
        return LiveCheck(time.time(), tuple(found), strangers)

    return await context.store.write(write)


def _live(each: ComponentRecord, watched: Observed, usage: Usage | None) -> LiveComponent:
    previous: State = each.observed.state
    return LiveComponent(
        each.service, each.name, each.container_name, each.desired, watched, each.version,
        watched.state != previous, previous, usage, reconcile.ended_well(each.spec, watched),
    )  # fmt: skip


async def _unknown(context: Context, names: Sequence[str], reason: str) -> LiveCheck:
    services = await context.store.read(lambda registry: registry.services(names))
    now = time.time()
    found = [
        _live(each, replace(each.observed, state="unknown", at=now), None)
        for record in services
        if record.managed or names
        for each in record.components
    ]
    return LiveCheck(now, tuple(found), (), reason)


async def status(context: Context, operations: Operations, name: str, *, events: int) -> ServiceStatus:
    """A service with every difference between what should be and what is."""
    record = await context.store.read(lambda registry: registry.service(name))
    latest = await context.store.read(lambda registry: registry.events(service=name, limit=events))
    found: list[Drift] = []
    components: list[ComponentRecord] = []
    error = ""
    for each in record.components:
        try:
            now, drift = await _examined(context, each)
            found += drift
        except Unavailable as failure:
            now, error = (
                replace(each, observed=replace(each.observed, state="unknown", at=time.time())),
                failure.message,
            )
        components.append(now)

    def write(registry: Registry) -> None:
        fresh = registry.find(name)
        for each in components:
            before = fresh.component(each.name) if fresh else None
            # What was recorded while podman was asked is newer than its answer.
            if before is not None and before.observed.at <= each.observed.at and not operations.busy(name):
                transition(registry, before, each.observed)

    await context.store.write(write)
    return ServiceStatus(replace(record, components=tuple(components)), tuple(found), latest[::-1], error)


async def _examined(context: Context, each: ComponentRecord) -> tuple[ComponentRecord, list[Drift]]:
    """A component as it is now and how it differs from what is registered."""
    asked_at = time.time()
    try:
        details = await context.runtime.inspect(each.container_name)
    except NotFound:
        now = replace(each, observed=Observed(state="missing", at=asked_at))
        return now, list(reconcile.drift(now))
    now = replace(each, observed=seen(details.container, each.observed, at=asked_at))
    found = list(reconcile.drift(now))
    if each.desired != "running":
        return now, found
    return now, [*found, *await examined(context, each, details)]


async def merged_logs(
    context: Context, service: str, *, component: str, tail: int | None, since: float, follow: bool
) -> AsyncGenerator[LogLine, None]:
    """The lines of every component: by time what is there, as it comes what follows."""
    chosen = await _components(context, service, component)
    sources = {each.name: each.container_name for each in chosen}
    if not follow:
        async for line in _by_time(context, service, sources, tail, since):
            yield line
        return
    send, receive = anyio.create_memory_object_stream[LogLine](256)
    leaving: GeneratorExit | None = None
    async with anyio.create_task_group() as group:
        for name, container in sources.items():
            group.start_soon(_pump, context, service, name, container, tail, since, send.clone(), name=f"logs {name}")
        send.close()
        async with receive:
            try:
                async for line in receive:
                    yield line
            except GeneratorExit as error:
                # A reader that goes away early is no failure: a task group would wrap it as one.
                leaving = error
        group.cancel_scope.cancel()
    if leaving is not None:
        raise leaving


async def _components(context: Context, service: str, component: str) -> list[ComponentRecord]:
    record = await context.store.read(lambda registry: registry.service(service))
    chosen = [each for each in record.components if not component or each.name == component]
    if not chosen:
        there = ", ".join(each.name for each in record.components) or "none"
        raise NotFound(f"service {service!r} has no component {component!r}", hint=f"it has {there}")
    return chosen


async def _pump(
    context: Context,
    service: str,
    name: str,
    container: str,
    tail: int | None,
    since: float,
    sink: anyio.abc.ObjectSendStream[LogLine],
) -> None:
    """Follow one component, also when its container is made anew."""
    begun = time.time()
    async with sink:
        while True:
            last = since
            try:
                lines = context.runtime.logs(container, tail=tail, since=last, follow=True)
                async with aclosing(lines):
                    async for each in lines:
                        last = max(last, each.at)
                        await sink.send(LogLine(service, name, each.at, each.stream, each.text))
            except (NotFound, Unavailable, Conflict):
                pass
            # The time of the last line is told again by `since`: the next one begins after it. Without any line,
            # what is older than the call was not asked for where `tail` said how much of it.
            since = last + 1e-6 if last > since else since if tail is None else max(since, begun)
            tail = None
            await anyio.sleep(1)


async def _by_time(
    context: Context, service: str, sources: dict[str, str], tail: int | None, since: float
) -> AsyncGenerator[LogLine, None]:
    """A merge that holds one line per component in memory."""
    async with AsyncExitStack() as stack:
        heads: list[tuple[float, int, LogLine]] = []
        streams = []
        for name, container in sources.items():
            lines = context.runtime.logs(container, tail=tail, since=since)
            await stack.enter_async_context(aclosing(lines))
            streams.append((name, lines))

        async def advance(index: int) -> None:
            name, lines = streams[index]
            try:
                each = await anext(lines)
            except (StopAsyncIteration, NotFound):
                return
            heapq.heappush(heads, (each.at, index, LogLine(service, name, each.at, each.stream, each.text)))

        for index in range(len(streams)):
            await advance(index)
        while heads:
            _, index, line = heapq.heappop(heads)
            yield line
            await advance(index)


async def event_stream(
    context: Context, *, service: str, component: str, since: float, limit: int, follow: bool
) -> AsyncGenerator[Event, None]:
    """What happened, then what happens."""
    waiter = context.store.news

    def begin(registry: Registry) -> tuple[int, tuple[Event, ...]]:
        # What was there before is told as far as was asked for, and never later.
        latest = registry.events(limit=1)
        told = registry.events(service=service, component=component, since=since, limit=limit)
        return latest[-1].id if latest else 0, told

    last, found = await context.store.read(begin)
    while True:
        for each in found:
            last = max(last, each.id)
            yield each
        if not follow:
            return
        # A second between looks at most: an event added between the read and the wait is not missed for long.
        with anyio.move_on_after(1):
            await waiter()
        after = last
        found = await context.store.read(
            lambda registry, after=after: registry.events(  # type: ignore[misc]
                service=service, component=component, since=since, after_id=after, limit=10_000
            )
        )


async def execute(
    context: Context, service: str, component: str, command: Sequence[str], *, stdin: bytes, user: str
) -> AsyncGenerator[ExecOutput, None]:
    """Run a command in a component's container."""
    chosen = await _components(context, service, component)
    if len(chosen) > 1:
        names = ", ".join(each.name for each in chosen)
        raise NotFound(f"service {service!r} has several components", hint=f"say which: {names}")
    async with aclosing(context.runtime.exec(chosen[0].container_name, command, stdin=stdin, user=user)) as output:
        async for each in output:
            yield each


async def node_info(context: Context, *, started_at: float) -> NodeInfo:
    """Facts about the node."""
    runtime: RuntimeInfo | None = None
    error = ""
    try:
        runtime = await context.runtime.info()
    except QuarterdeckError as failure:
        error = failure.message

    def read(registry: Registry) -> tuple[tuple[ServiceRecord, ...], bool, bool]:
        return registry.services(), registry.meta(PAUSED) == "1", registry.meta(DRAINING) == "1"

    services, paused, draining = await context.store.read(read)
    components = [each for service in services if service.managed for each in service.components]
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(context.options.state_dir)
    return NodeInfo(
        name=context.options.node_name or socket.gethostname(),
        hostname=socket.gethostname(),
        version=__version__,
        started_at=started_at,
        os=_os_name(),
        kernel=platform.release(),
        cpus=os.cpu_count() or 1,
        memory_total=memory.total,
        memory_available=memory.available,
        disk_total=disk.total,
        disk_free=disk.free,
        services=sum(each.managed for each in services),
        containers_running=sum(each.observed.state == "running" for each in components),
        containers_desired=sum(each.desired == "running" for each in components),
        paused=paused,
        draining=draining,
        schema=SCHEMA,
        runtime=runtime,
        runtime_error=error,
        labels=context.options.labels,
    )


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
