"""Changes of the node itself rather than of a service: drain, pause, snapshots and going back to one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import anyio.abc

from quarterdeck.errors import QuarterdeckError
from quarterdeck.node import looking
from quarterdeck.node.context import Context, event
from quarterdeck.node.guarded import spawn
from quarterdeck.node.healing import PAUSED
from quarterdeck.node.lifecycle import Lifecycle
from quarterdeck.node.model import Mutation
from quarterdeck.node.monitor import Monitor
from quarterdeck.node.operations import Live, Operations
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import ServiceResult, SnapshotInfo

# Service names under which changes of the node itself are held (no service can be called so).
NODE, SNAPSHOTS = "*", "*snapshots"
META_ID, META_KEY = "node-id", "node-key"
STOPPED = "stopped-by-drain"


class WholeNode:
    """The changes of one agent's node. `start` starts a component of a service."""

    def __init__(
        self,
        context: Context,
        operations: Operations,
        monitor: Monitor,
        group: anyio.abc.TaskGroup,
        start: Callable[[str, str], Awaitable[object]],
    ) -> None:
        self._context, self._operations, self._monitor, self._group = context, operations, monitor, group
        self._start = start

    async def drain(self, mutation: Mutation, *, stop: bool) -> tuple[ServiceResult, ...]:
        """See `NodeAgent.drain`."""
        context = self._context
        services = await context.store.read(lambda registry: registry.services())
        names = [each.name for each in services if each.managed] if stop else []

        def write(registry: Registry) -> None:
            registry.set_meta(looking.DRAINING, "1")
            if stop:
                registry.set_meta(PAUSED, "1")
                registry.set_meta(STOPPED, "1")
            registry.add_event(event("", "", "drain", "no more deploys until resume", actor=mutation.actor))

        async def work(live: Live[tuple[ServiceResult, ...]]) -> tuple[ServiceResult, ...]:
            await context.store.write(write)
            # What is desired stays, so that a resume brings them back.
            return tuple(
                [await Lifecycle(context, name, "", operation=live.id, actor=live.actor).halt() for name in names]
            )

        kind: type[tuple[ServiceResult, ...]] = tuple[ServiceResult, ...]
        return await self._operations.run("drain", [*names, NODE], mutation, {"stop": stop}, kind, work)

    async def set_paused(self, mutation: Mutation, service: str, *, paused: bool) -> None:
        """Pause or resume a service, or (empty) the node; a node that `drain` had stopped comes back."""
        kind = "pause" if paused else "resume"

        def write(registry: Registry) -> bool:
            registry.add_event(event(service, "", kind, actor=mutation.actor))
            if service:
                registry.put_service(replace(registry.service(service), paused=paused))
                return False
            registry.set_meta(PAUSED, "1" if paused else "")
            stopped = registry.meta(STOPPED) == "1"
            if not paused:
                registry.set_meta(looking.DRAINING, "")
                registry.set_meta(STOPPED, "")
            return stopped and not paused

        async def work(live: Live[str]) -> str:
            if await self._context.store.write(write):
                spawn(self._group, "bring back", self._bring_back)
            return ""

        asked = {"service": service}
        await self._operations.run(kind, [NODE], mutation, asked, str, work, checks=service)

    async def _bring_back(self) -> None:
        """Start what is desired to run, also what no restart policy would."""
        for service in await self._context.store.read(lambda registry: registry.services()):
            for each in service.components if service.managed else ():
                if each.desired == "running":
                    with suppress(QuarterdeckError):
                        await self._start(service.name, each.name)

    async def snapshot(self, mutation: Mutation) -> SnapshotInfo:
        """See `NodeAgent.snapshot`."""

        async def work(live: Live[SnapshotInfo]) -> SnapshotInfo:
            return await self._context.store.take_snapshot()

        return await self._operations.run("snapshot", [SNAPSHOTS], mutation, {}, SnapshotInfo, work)

    async def restore(self, path: str, mutation: Mutation) -> SnapshotInfo:
        """See `NodeAgent.restore`."""
        context = self._context

        async def work(live: Live[SnapshotInfo]) -> SnapshotInfo:
            restored = await context.store.restore(path)

            def write(registry: Registry) -> None:
                # Nothing of then is in progress, and the labels of now must go on being ours.
                registry.abandon_operations(time.time())
                registry.set_meta(META_ID, context.node_id)
                registry.set_meta(META_KEY, context.key)
                registry.add_event(event("", "", "recovered", f"restored {restored.path}", actor=mutation.actor))
                # The restored registry knows nothing of its own restore: a retry is to hear its answer.
                self._operations.write_intent(registry, live)

            await context.store.write(write)
            return restored

        asked = {"path": path}
        restored = await self._operations.run("restore", [NODE], mutation, asked, SnapshotInfo, work, alone=True)
        self._monitor.poke()
        return restored
