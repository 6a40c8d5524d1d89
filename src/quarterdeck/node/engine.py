"""How the node agent works inside: its parts put together, mutations begun, and what several calls share."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace

import anyio
import anyio.abc
import msgspec
from anyio.to_thread import run_sync

from quarterdeck.errors import Conflict, InternalError, QuarterdeckError, StorageRefused, Unavailable
from quarterdeck.node import interrupted, leftovers, lock, looking, recovery, takeover
from quarterdeck.node.context import Context, event, progress
from quarterdeck.node.deploy import Deploy
from quarterdeck.node.feed import Feed
from quarterdeck.node.files import Files
from quarterdeck.node.guarded import spawn
from quarterdeck.node.lease import Leased
from quarterdeck.node.lifecycle import Lifecycle
from quarterdeck.node.model import ComponentRecord, Mutation, ServiceDef
from quarterdeck.node.monitor import Monitor
from quarterdeck.node.operations import Live, Operations
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_api import PodmanApi, answers
from quarterdeck.node.podman_cli import PodmanCli
from quarterdeck.node.preparing import checked, prepare
from quarterdeck.node.registry import Registry
from quarterdeck.node.removal import remove
from quarterdeck.node.results import (
    AdoptResult,
    DeployProgress,
    HistoryEntry,
    PushedFile,
    PushRequest,
    ServiceResult,
    SyncItem,
    SyncSummary,
)
from quarterdeck.node.rollback import rollback_target
from quarterdeck.node.runtime import Runtime
from quarterdeck.node.store import Store
from quarterdeck.node.wholenode import META_ID, META_KEY, NODE, WholeNode

log = logging.getLogger(__name__)
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
            context = await _context(options, store, Leased(runtime, options))
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
        self._waits: QuarterdeckError = Unavailable("the node agent is just starting", hint="try again later")
        self.monitor = Monitor(context, self.operations, group, ready=self._recovered.is_set)
        self.operations.ended = self.monitor.review
        self.operations.settle = self._settle
        self.node = WholeNode(context, self.operations, self.monitor, group, self._bring_up)

    async def _come_up(self) -> None:
        """Clean up after a killed agent, or as soon as the runtime answers."""
        spawn(self._group, "leases", self.operations.keep_leases)
        await run_sync(leftovers.end_readers, self.context.options.state_dir)
        if not await self._recover():
            spawn(self._group, "recovery", self._keep_recovering)

    async def _recover(self) -> bool:
        try:
            await leftovers.sweep(self.context.runtime)
            await recovery.recover(self.context)
        except StorageRefused as error:
            self._waits = error
        except Unavailable as error:
            text = f"podman does not answer, and interrupted operations wait for it: {error.message}"
            self._waits = Unavailable(text, hint="try again later")
        except Exception as error:
            log.exception("recovery failed")
            # Not for the whole agent to end: it answers, and tells why nothing can be changed.
            self._waits = InternalError(f"interrupted operations wait: recovery failed: {error!r}", hint="see the log")
        else:
            self._recovered.set()
            return True
        log.error("recovery waits: %s", self._waits.message)
        return False

    async def _settle(self, services: Sequence[str], identity: str) -> None:
        await recovery.settle(self.context, {identity}, services)
        operation = await self.context.store.read(lambda registry: registry.operation(identity))
        if operation is None:
            return
        await interrupted.put_back_removed(self.context, operation)
        text = f"{operation.kind} was given up; what it left half-way is as before"
        told = [event(each, "", "recovered", text) for each in services]
        await self.context.store.write(lambda registry: [registry.add_event(each) for each in told])

    async def _keep_recovering(self) -> None:
        while not await self._recover():  # noqa: ASYNC110 - nobody could set an event: podman is polled
            await anyio.sleep(RECOVERY_SECONDS)
        self.monitor.poke()

    async def accepting(self, mutation: Mutation, *, draining_too: bool = True) -> None:
        """Whether changes are taken now. Raises `Conflict` (draining) and what recovery waits for."""
        identity = mutation.operation_id
        if identity and await self.context.store.read(lambda registry: registry.operation(identity)) is not None:
            # A retry changes nothing: it hears the first answer.
            return
        with anyio.move_on_after(mutation.wait_seconds):
            await self._recovered.wait()
        if not self._recovered.is_set():
            raise self._waits
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
        images: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[DeployProgress, None]:
        if plan_only:
            found = await prepare(self.context, definition, only, lambda _: None, pull=False, images=images)
            yield progress(name, "", "done", plan=found.plan)
            return
        await self.accepting(mutation)
        checked(definition, only)

        async def work(live: Live[ServiceResult]) -> ServiceResult:
            deploy = Deploy(
                self.context,
                definition,
                only=only,
                operation=live.id,
                actor=live.actor,
                kind=kind,
                emit=live.emit,
                images=images,
            )
            result = await deploy.run()
            live.emit(progress(name, "", "done", final=result))
            return result

        live = await self.operations.begin(kind, [name], mutation, asked, ServiceResult, work, checks=name)
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
        # A retry means what the first call meant, not what would be the generation before by now.
        first = await self.operations.asked(mutation.operation_id)
        if first is None:
            target = rollback_target(service, entries, current, generation)
            definition, images = target.definition, dict(target.images)
        else:
            definition, images = _asked(first)
        asked = {"definition": definition, "components": [], "generation": generation, "images": images}
        going = self.deploying("rollback", service, mutation, asked, definition, (), plan_only, images)
        async with aclosing(going) as steps:
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
        return await self.operations.run(kind, [service], mutation, asked, ServiceResult, work, checks=service)

    async def sync(
        self, services: Sequence[ServiceDef], mutation: Mutation, *, prune: bool, apply: bool, plan_only: bool
    ) -> SyncSummary:
        """See `NodeAgent.sync_desired_state`."""
        definitions = tuple(sorted(services, key=lambda each: each.name))
        if plan_only:
            return await self._sync_plan(definitions, prune=prune, apply=apply)
        await self.accepting(mutation, draining_too=apply)
        names = {each.name for each in definitions}
        if prune:
            there = await self.context.store.read(lambda registry: registry.services())
            names |= {each.name for each in there if each.managed}

        async def work(live: Live[SyncSummary]) -> SyncSummary:
            return await self._sync(definitions, live, prune=names if prune else (), apply=apply)

        asked = {"definitions": definitions, "prune": prune, "apply": apply}
        # A generation is one service's: of several nobody could say which was meant.
        checks = definitions[0].name if len(definitions) == 1 else ""
        held = sorted(names) or [NODE]
        return await self.operations.run("sync", held, mutation, asked, SyncSummary, work, checks=checks)

    async def _sync(
        self, definitions: Sequence[ServiceDef], live: Live[SyncSummary], *, prune: Collection[str], apply: bool
    ) -> SyncSummary:
        context = self.context
        synced = await takeover.sync(
            context, definitions, operation=live.id, plan_only=False, prune=bool(prune), apply=apply
        )
        summary = synced.summary
        # One that came while this waited for its services is not held: somebody may be deploying it just now.
        kept = tuple(name for name in synced.undefined if name not in prune)
        items = [await self._drop(each, synced.dropped, live.actor) for each in summary.items]
        for name in synced.undefined:
            if name in prune:
                purged = await Lifecycle(context, name, "", operation=live.id, actor=live.actor).purge(files=False)
                text = "; ".join(each.message for each in purged.components if not each.ok)
                items.append(SyncItem(name, "removed" if purged.ok else "failed", purged.generation, (), text))
        for service in definitions if apply else ():
            deploy = Deploy(
                context, service, only=(), operation=live.id, actor=live.actor, kind="sync", emit=live.emit,
                prune=bool(prune),
            )  # fmt: skip
            result = await deploy.run()
            items = [takeover.applied(each, result) if each.service == service.name else each for each in items]
        return replace(summary, items=tuple(items), undefined=(*summary.undefined, *kept))

    async def _drop(self, item: SyncItem, dropped: Sequence[ComponentRecord], actor: str) -> SyncItem:
        """Remove the components of a service that its definition has no more; its item of the summary."""
        for each in dropped:
            if each.service != item.service:
                continue
            try:
                await remove(self.context, each)
                told = event(each.service, each.name, "sync", "removed", actor=actor)
                await self.context.store.write(lambda registry, told=told: registry.add_event(told))  # type: ignore[misc]
            except QuarterdeckError as error:
                text = f"{each.name} was not removed: {error.message}"
                item = replace(item, outcome="failed", message=f"{item.message}; {text}")
        return item

    async def _sync_plan(self, definitions: Sequence[ServiceDef], *, prune: bool, apply: bool) -> SyncSummary:
        """What a sync with these flags would say; an image that would be pulled newer is not known."""
        context = self.context
        synced = await takeover.sync(context, definitions, operation="", plan_only=True, prune=prune, apply=apply)
        items = [*synced.summary.items, *synced.purged]
        for service in definitions if apply else ():
            begin = synced.begin[service.name]
            found = await prepare(context, service, (), lambda _: None, pull=False, begin=begin, prune=prune)
            items = [takeover.planned(each, found.plan) if each.service == service.name else each for each in items]
        return replace(synced.summary, items=tuple(items))

    async def adopt(self, service: str, mutation: Mutation) -> AdoptResult:
        """See `NodeAgent.adopt_containers`."""
        await self.accepting(mutation)

        async def work(live: Live[AdoptResult]) -> AdoptResult:
            return await takeover.adopt(self.context, service, operation=live.id, actor=live.actor)

        return await self.operations.run("adopt", [service], mutation, {}, AdoptResult, work, checks=service)

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
            live = await self.operations.begin("push", [key], mutation, asked, PushedFile, work, checks=request.service)
            async with anyio.create_task_group() as group:
                group.start_soon(feed.pump, name=f"feed {key}")
                await live.done.wait()
                group.cancel_scope.cancel()
        return live.answer()

    async def _bring_up(self, service: str, component: str) -> None:
        await self.change("start", service, component, Mutation(), lambda life: life.start())

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


def _asked(steps: str) -> tuple[ServiceDef, dict[str, str]]:
    """What an earlier call with the same id deployed, with which images. Raises `Conflict` when it deployed none."""
    asked = msgspec.json.decode(steps or "null")
    if not isinstance(asked, dict) or "definition" not in asked:
        raise Conflict("the operation id was used for another request", hint="use a new id for every new change")
    return msgspec.convert(asked["definition"], ServiceDef), msgspec.convert(asked.get("images", {}), dict[str, str])
