"""How the node agent works inside: its parts put together, mutations begun, and what several calls share."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace

import anyio
import anyio.abc
import msgspec
from anyio.to_thread import run_sync

from quarterdeck.errors import Conflict, QuarterdeckError, Unavailable
from quarterdeck.node import leftovers, lock, looking, recovery, takeover
from quarterdeck.node.context import Context, event, progress
from quarterdeck.node.deploy import Deploy, checked, prepare
from quarterdeck.node.feed import Feed
from quarterdeck.node.files import Files
from quarterdeck.node.lifecycle import Lifecycle
from quarterdeck.node.model import Mutation, Operation, ServiceDef
from quarterdeck.node.monitor import PAUSED, Monitor
from quarterdeck.node.operations import Live, Operations
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_api import PodmanApi, answers
from quarterdeck.node.podman_cli import PodmanCli
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import (
    AdoptResult,
    DeployProgress,
    HistoryEntry,
    PushedFile,
    PushRequest,
    ServiceResult,
    SnapshotInfo,
    SyncItem,
    SyncSummary,
)
from quarterdeck.node.rollback import rollback_target
from quarterdeck.node.runtime import Runtime
from quarterdeck.node.store import Store

log = logging.getLogger(__name__)
# The service name under which changes of the node itself are held (no service can be called so).
NODE = "*"
META_ID, META_KEY = "node-id", "node-key"
STOPPED = "stopped-by-drain"
STOP_SECONDS = 60
RECOVERY_SECONDS = 5


class Engine:
    """The parts of a running agent. Made by `Engine.open`."""

    @classmethod
    @asynccontextmanager
    async def open(cls, options: AgentOptions) -> AsyncIterator[Engine]:
        """See `NodeAgent.open`."""
        async with AsyncExitStack() as stack:
            stack.enter_context(lock.held(options.state_dir))
            store = await stack.enter_async_context(
                Store.open(options.database, snapshots=options.snapshots, keep=options.keep_snapshots)
            )
            runtime = await choose_runtime(options)
            stack.push_async_callback(runtime.aclose)
            context = await _context(options, store, runtime)
            failure: Exception | None = None
            async with anyio.create_task_group() as group:
                engine = cls(context, group)
                await engine._come_up()
                async with AsyncExitStack() as watch:
                    if options.monitor.enabled:
                        await watch.enter_async_context(engine.monitor.running())
                    try:
                        yield engine
                    except Exception as error:  # noqa: BLE001 - raised below: a task group would wrap it
                        failure = error
                    finally:
                        # Calls in progress end as they would have; what takes longer is found by the next start.
                        with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_SECONDS):
                            await engine.operations.drained()
                group.cancel_scope.cancel()
            if failure is not None:
                raise failure

    def __init__(self, context: Context, group: anyio.abc.TaskGroup) -> None:
        self.context = context
        self.started_at = time.time()
        holder = f"{socket.gethostname()}:{os.getpid()}"
        self.operations = Operations(context.store, group, holder=holder, lease_seconds=context.options.lease_seconds)
        self._group = group
        self._recovered = anyio.Event()
        self.monitor = Monitor(context, self.operations, group, ready=self._recovered.is_set)
        self.operations.ended = self.monitor.review

    async def _come_up(self) -> None:
        """Clean up after a killed agent, or as soon as the runtime answers."""
        self._group.start_soon(self.operations.keep_leases, name="leases")
        await run_sync(leftovers.end_readers, self.context.options.state_dir)
        if not await self._recover():
            self._group.start_soon(self._keep_recovering, name="recovery")

    async def _recover(self) -> bool:
        try:
            await leftovers.sweep(self.context.runtime)
            await recovery.recover(self.context)
        except Unavailable as error:
            log.error("the runtime does not answer, recovery waits: %s", error.message)
            return False
        self._recovered.set()
        return True

    async def _keep_recovering(self) -> None:
        while not await self._recover():  # noqa: ASYNC110 - nobody could set an event: podman is polled
            await anyio.sleep(RECOVERY_SECONDS)
        self.monitor.poke()

    async def accepting(self, mutation: Mutation, *, draining_too: bool = True) -> None:
        """Whether changes are taken now. Raises `Conflict` (draining) and `Unavailable` (recovery waits)."""
        identity = mutation.operation_id
        if identity and await self.context.store.read(lambda registry: registry.operation(identity)) is not None:
            # A retry changes nothing: it hears the first answer.
            return
        with anyio.move_on_after(mutation.wait_seconds):
            await self._recovered.wait()
        if not self._recovered.is_set():
            raise Unavailable("podman does not answer, and interrupted operations wait for it", hint="try again later")
        if draining_too and await self.context.store.read(lambda registry: registry.meta(looking.DRAINING)) == "1":
            raise Conflict("the node drains: it takes no more deploys", hint="qd node resume")

    async def deploying(
        self,
        kind: str,
        name: str,
        mutation: Mutation,
        asked: object,
        definition: ServiceDef,
        only: tuple[str, ...],
        plan_only: bool,
    ) -> AsyncGenerator[DeployProgress, None]:
        if plan_only:
            yield progress(
                name, "", "done", plan=(await prepare(self.context, definition, only, lambda _: None, pull=False)).plan
            )
            return
        await self.accepting(mutation)
        checked(definition, only)

        async def work(live: Live[ServiceResult]) -> ServiceResult:
            deploy = Deploy(
                self.context, definition, only=only, operation=live.id, actor=live.actor, kind=kind, emit=live.emit
            )
            result = await deploy.run()
            live.emit(progress(name, "", "done", final=result))
            return result

        live = await self.operations.begin(kind, [name], mutation, asked, ServiceResult, work)
        told = 0
        while True:
            moved = live.moved
            while told < len(live.progress):
                told += 1
                yield live.progress[told - 1]
            if live.done.is_set():
                break
            await moved.wait()
        result = live.answer()
        if not live.progress or live.progress[-1].final is None:
            yield progress(name, "", "done", final=result)

    async def rolling_back(
        self, service: str, mutation: Mutation, generation: int | None, plan_only: bool
    ) -> AsyncGenerator[DeployProgress, None]:
        entries = await self.context.store.read(lambda registry: _history(registry, service))
        current = next((each.generation for each in entries if each.current), None)
        stored = None
        if mutation.operation_id:
            stored = await self.context.store.read(lambda registry: registry.operation(mutation.operation_id))
        definition = rollback_target(service, entries, current, generation) if stored is None else _asked(stored)
        asked = {"definition": definition, "components": [], "generation": generation}
        async with aclosing(self.deploying("rollback", service, mutation, asked, definition, (), plan_only)) as steps:
            async for each in steps:
                yield each

    async def change(
        self,
        kind: str,
        service: str,
        component: str,
        mutation: Mutation,
        change: Callable[[Lifecycle], Awaitable[ServiceResult]],
        **more: object,
    ) -> ServiceResult:
        await self.accepting(mutation, draining_too=kind in ("start", "restart"))

        async def work(live: Live[ServiceResult]) -> ServiceResult:
            return await change(Lifecycle(self.context, service, component, operation=live.id, actor=live.actor))

        asked = {"component": component, **more}
        return await self.operations.run(kind, [service], mutation, asked, ServiceResult, work)

    async def sync(
        self, services: Sequence[ServiceDef], mutation: Mutation, *, prune: bool, apply: bool, plan_only: bool
    ) -> SyncSummary:
        """See `NodeAgent.sync_desired_state`."""
        definitions = tuple(sorted(services, key=lambda each: each.name))
        if plan_only:
            summary, _ = await takeover.sync(self.context, definitions, operation="", plan_only=True, prune=prune)
            return summary
        await self.accepting(mutation, draining_too=apply)
        names = {each.name for each in definitions}
        if prune:
            there = await self.context.store.read(lambda registry: registry.services())
            names |= {each.name for each in there if each.managed}

        async def work(live: Live[SyncSummary]) -> SyncSummary:
            return await self._sync(definitions, live, prune=prune, apply=apply)

        asked = {"definitions": definitions, "prune": prune, "apply": apply}
        return await self.operations.run("sync", sorted(names) or [NODE], mutation, asked, SyncSummary, work)

    async def _sync(
        self, definitions: Sequence[ServiceDef], live: Live[SyncSummary], *, prune: bool, apply: bool
    ) -> SyncSummary:
        context = self.context
        summary, undefined = await takeover.sync(context, definitions, operation=live.id, plan_only=False, prune=prune)
        items = list(summary.items)
        for name in undefined:
            purged = await Lifecycle(context, name, "", operation=live.id, actor=live.actor).purge(files=False)
            text = "; ".join(each.message for each in purged.components if not each.ok)
            items.append(SyncItem(name, "removed" if purged.ok else "failed", purged.generation, (), text))
        for service in definitions if apply else ():
            deploy = Deploy(context, service, only=(), operation=live.id, actor=live.actor, kind="sync", emit=live.emit)
            result = await deploy.run()
            if not result.ok:
                text = "; ".join(f"{each.component}: {each.message}" for each in result.components if not each.ok)
                items = [replace(i, outcome="failed", message=text) if i.service == service.name else i for i in items]
        return replace(summary, items=tuple(items))

    async def adopt(self, service: str, mutation: Mutation) -> AdoptResult:
        """See `NodeAgent.adopt_containers`."""
        await self.accepting(mutation)

        async def work(live: Live[AdoptResult]) -> AdoptResult:
            return await takeover.adopt(self.context, service, operation=live.id, actor=live.actor)

        return await self.operations.run("adopt", [service], mutation, {}, AdoptResult, work)

    async def push(self, request: PushRequest, chunks: AsyncIterator[bytes], mutation: Mutation) -> PushedFile:
        """See `NodeAgent.push_file`."""
        await self.accepting(mutation, draining_too=False)

        # The caller feeds, the operation writes: a caller that goes away ends the feed, and so the operation.
        feed = Feed(chunks)

        async def work(live: Live[PushedFile]) -> PushedFile:
            async with aclosing(feed.content()) as content:
                done = replace(await self.context.files.push(request, content), operation_id=live.id)
            told = event(request.service, "", "push", f"{request.path} ({request.size} bytes)", actor=live.actor)
            await self.context.store.write(lambda registry: registry.add_event(told))
            return done

        # Held by file, not by service: a long push does not hold up a deploy.
        key = f"{request.service}/{request.path}"
        asked = replace(request, offset=0)
        with feed:
            live = await self.operations.begin("push", [key], mutation, asked, PushedFile, work)
            async with anyio.create_task_group() as group:
                group.start_soon(feed.pump, name=f"feed {key}")
                await live.done.wait()
                group.cancel_scope.cancel()
        return live.answer()

    async def drain(self, mutation: Mutation, *, stop: bool) -> tuple[ServiceResult, ...]:
        """See `NodeAgent.drain`."""
        services = await self.context.store.read(lambda registry: registry.services())
        names = [each.name for each in services if each.managed] if stop else []

        def write(registry: Registry) -> None:
            registry.set_meta(looking.DRAINING, "1")
            if stop:
                registry.set_meta(PAUSED, "1")
                registry.set_meta(STOPPED, "1")
            registry.add_event(event("", "", "drain", "no more deploys until resume", actor=mutation.actor))

        async def work(live: Live[tuple[ServiceResult, ...]]) -> tuple[ServiceResult, ...]:
            await self.context.store.write(write)
            # What is desired stays, so that a resume brings them back.
            return tuple(
                [await Lifecycle(self.context, name, "", operation=live.id, actor=live.actor).halt() for name in names]
            )

        kind: type[tuple[ServiceResult, ...]] = tuple[ServiceResult, ...]
        return await self.operations.run("drain", [*names, NODE], mutation, {"stop": stop}, kind, work)

    async def restore(self, path: str, mutation: Mutation) -> SnapshotInfo:
        """See `NodeAgent.restore`."""
        if self.operations.running:
            raise Conflict("operations are in progress; a restore would lose them", hint="try again when they are done")
        restored = await self.context.store.restore(path)

        def write(registry: Registry) -> None:
            # Nothing of then is in progress, and the labels of now must go on being ours.
            registry.abandon_operations(time.time())
            registry.set_meta(META_ID, self.context.node_id)
            registry.set_meta(META_KEY, self.context.key)
            registry.add_event(event("", "", "recovered", f"restored {restored.path}", actor=mutation.actor))

        await self.context.store.write(write)
        self.monitor.poke()
        return restored

    async def simply(self, kind: str, mutation: Mutation, asked: object, do: Callable[[], Awaitable[None]]) -> None:
        async def work(live: Live[str]) -> str:
            await do()
            return ""

        await self.operations.run(kind, [NODE], mutation, asked, str, work)

    def removing_secret(self, name: str) -> Callable[[], Awaitable[None]]:
        """The work of `NodeAgent.remove_secret`."""

        async def work() -> None:
            users = [
                f"{service.name}/{each.name}"
                for service in await self.context.store.read(lambda registry: registry.services())
                for each in service.components
                if any(secret.name == name for secret in each.spec.secrets)
            ]
            if users:
                raise Conflict(f"secret {name!r} is used by {', '.join(users)}", hint="take it out of them first")
            await self.context.runtime.remove_secret(name)

        return work

    async def set_paused(self, service: str, *, paused: bool) -> None:
        """Pause or resume a service, or (empty) the node; a node that `drain` had stopped comes back."""

        def write(registry: Registry) -> bool:
            registry.add_event(event(service, "", "pause" if paused else "resume"))
            if service:
                registry.put_service(replace(registry.service(service), paused=paused))
                return False
            registry.set_meta(PAUSED, "1" if paused else "")
            stopped = registry.meta(STOPPED) == "1"
            if not paused:
                registry.set_meta(looking.DRAINING, "")
                registry.set_meta(STOPPED, "")
            return stopped and not paused

        if await self.context.store.write(write):
            self._group.start_soon(self._bring_back, name="bring back")

    async def _bring_back(self) -> None:
        """Start what is desired to run, also what no restart policy would."""
        for service in await self.context.store.read(lambda registry: registry.services()):
            for each in service.components if service.managed else ():
                if each.desired == "running":
                    with suppress(QuarterdeckError):
                        await self.change("start", service.name, each.name, Mutation(), lambda life: life.start())


async def choose_runtime(options: AgentOptions) -> Runtime:
    """The runtime that the options name; *auto* takes the socket where it answers."""
    if options.runtime == "api" or (options.runtime == "auto" and await answers(options.socket)):
        return PodmanApi(options)
    return PodmanCli(options)


async def _context(options: AgentOptions, store: Store, runtime: Runtime) -> Context:
    def identity(registry: Registry) -> tuple[str, str]:
        if not registry.meta(META_ID):
            registry.set_meta(META_ID, uuid.uuid4().hex)
            registry.set_meta(META_KEY, secrets.token_hex(32))
        return registry.meta(META_ID), registry.meta(META_KEY)

    node_id, key = await store.write(identity)
    named = replace(options, node_name=options.node_name or socket.gethostname())
    context = Context(named, store, runtime, Files(options.files_root), node_id, key)
    context.work = anyio.CapacityLimiter(options.parallel)
    return context


def _history(registry: Registry, service: str) -> tuple[HistoryEntry, ...]:
    registry.service(service)
    return registry.history(service)


def _asked(operation: Operation) -> ServiceDef:
    """The definition that an earlier call with the same id deployed."""
    return msgspec.convert(msgspec.json.decode(operation.steps)["definition"], ServiceDef)
