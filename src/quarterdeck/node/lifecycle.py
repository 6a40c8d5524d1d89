"""Stop, start, restart and purge: desired state first, then the runtime, then what was observed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from quarterdeck.errors import InvalidInput, NotFound, QuarterdeckError
from quarterdeck.node import reconcile
from quarterdeck.node.context import NEW, OLD, Context, event, seen, transition
from quarterdeck.node.lease import step, turn
from quarterdeck.node.model import ComponentRecord, Desired, Observed, ServiceRecord
from quarterdeck.node.podman_real import anonymous_volumes
from quarterdeck.node.probe import trouble
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import ComponentResult, Outcome, ServiceResult
from quarterdeck.node.runtime import Image

_FOLDER_SECONDS = 3600
Work = Callable[[ComponentRecord], Awaitable[ComponentResult]]


class Lifecycle:
    """One change of one service, as the body of an operation."""

    def __init__(self, context: Context, service: str, component: str, *, operation: str, actor: str) -> None:
        self._context, self._runtime = context, context.runtime
        self._service, self._component = service, component
        self._operation, self._actor = operation, actor
        self._failed: set[str] = set()

    async def stop(self) -> ServiceResult:
        """Stop them, those that depend on others first."""
        record, chosen = await self._chosen()
        await self._wish(record, chosen, "stopped")
        return await self._each(record, chosen, "stop", self._stop, backwards=True)

    async def halt(self) -> ServiceResult:
        """Stop the containers alone: what is desired stays."""
        record, chosen = await self._chosen()
        return await self._each(record, chosen, "drain", self._stop, backwards=True)

    async def start(self) -> ServiceResult:
        """Start them, those that others depend on first."""
        record, chosen = await self._chosen()
        await self._wish(record, chosen, "running")
        return await self._each(record, chosen, "start", self._start)

    async def restart(self) -> ServiceResult:
        """Stop and start each."""
        record, chosen = await self._chosen()
        await self._wish(record, chosen, "running")
        return await self._each(record, chosen, "restart", self._restart)

    async def purge(self, *, files: bool) -> ServiceResult:
        """Remove the containers, then forget the service; with `files` its folder too."""
        record, chosen = await self._chosen()
        if record.managed:
            await self._wish(record, chosen, "stopped")
        result = await self._each(record, chosen, "purge", self._remove, backwards=True)
        if not result.ok:
            return result
        if files and record.managed:
            with step(_FOLDER_SECONDS):
                await self._context.files.remove_all(self._service)

        def forget(registry: Registry) -> None:
            registry.remove_service(self._service)
            registry.add_event(event(self._service, "", "purge", "removed" + (" with its files" if files else "")))

        await self._context.store.write(forget)
        return result

    async def _chosen(self) -> tuple[ServiceRecord, list[ComponentRecord]]:
        record = await self._context.store.read(lambda registry: registry.service(self._service))
        chosen = [each for each in record.components if not self._component or each.name == self._component]
        if not chosen and self._component:
            there = ", ".join(each.name for each in record.components) or "none"
            raise NotFound(f"service {self._service!r} has no component {self._component!r}", hint=f"it has {there}")
        return record, chosen

    async def _wish(self, record: ServiceRecord, chosen: Sequence[ComponentRecord], desired: Desired) -> None:
        if not record.managed:
            raise InvalidInput(
                f"{self._service!r} is a container that belongs to nobody; it is left alone",
                hint=f"take it over first: qd service adopt {self._service}",
            )
        names = [each.name for each in chosen]

        def write(registry: Registry) -> None:
            registry.set_desired(self._service, names, desired)
            after = registry.service(self._service)
            active = any(each.desired == "running" for each in after.components)
            if after.active != active:
                registry.put_service(_with_active(after, active=active))

        await self._context.store.write(write)

    async def _each(
        self,
        record: ServiceRecord,
        chosen: Sequence[ComponentRecord],
        kind: str,
        work: Work,
        *,
        backwards: bool = False,
    ) -> ServiceResult:
        """Work on them level by level, recording what is seen of each afterwards."""
        by_name = {each.name: each for each in chosen}
        results: dict[str, ComponentResult] = {}

        async def one(each: ComponentRecord) -> None:
            async with turn(self._context.work):
                try:
                    results[each.name] = await work(each)
                except QuarterdeckError as error:
                    results[each.name] = ComponentResult(each.name, "failed", error.message)
                    self._failed.add(each.name)
                await self._observed(each, kind, results[each.name])

        order = reconcile.levels([each.spec for each in chosen])
        for level in reversed(order) if backwards else order:
            async with anyio.create_task_group() as group:
                for spec in level:
                    group.start_soon(one, by_name[spec.name], name=f"{kind} {spec.name}")
        generation = (await self._context.store.read(lambda registry: registry.service(self._service))).generation
        return ServiceResult(self._service, self._operation, generation, tuple(results[each.name] for each in chosen))

    async def _observed(self, each: ComponentRecord, kind: str, result: ComponentResult) -> None:
        watched: Observed | None = None
        try:
            watched = await self._context.look(each.container_name, each.observed)
        except QuarterdeckError:
            watched = Observed(state="unknown", at=time.time())

        def write(registry: Registry) -> None:
            fresh = registry.find(self._service)
            now = fresh.component(each.name) if fresh else None
            if now is not None and watched is not None:
                transition(registry, now, watched, operation=self._operation)
            if result.outcome != "unchanged":
                text = f"{result.outcome} {result.message}".strip()
                registry.add_event(event(self._service, each.name, kind, text, actor=self._actor))

        await self._context.store.write(write)

    async def _stop(self, each: ComponentRecord) -> ComponentResult:
        try:
            state = (await self._runtime.inspect(each.container_name)).container.state
        except NotFound:
            return self._done(each, "unchanged", "it has no container")
        if state not in ("running", "paused"):
            return self._done(each, "unchanged", f"it is {state} already")
        await self._runtime.stop(each.container_name, grace_seconds=each.spec.stop_seconds)
        return self._done(each, "stopped")

    async def _start(self, each: ComponentRecord) -> ComponentResult:
        if any(name in self._failed for name in each.spec.depends_on):
            return self._done(each, "skipped", "one that it depends on did not start")
        watched = await self._context.look(each.container_name, each.observed)
        if watched.state == "running":
            return self._done(each, "unchanged", "it runs already")
        message = ""
        unseen = watched.ended_unseen
        stale = watched.spec_hash not in (each.spec_hash, reconcile.FOREIGN)
        if watched.state == "missing" or unseen or stale:
            message = "made anew: its container was gone" if watched.state == "missing" else "made anew as defined"
            message = await self._recreate(each, unseen=unseen) or message
        else:
            await self._runtime.start(each.container_name)
        return await self._well(each, "started", message)

    async def _restart(self, each: ComponentRecord) -> ComponentResult:
        watched = await self._context.look(each.container_name, each.observed)
        message = ""
        if watched.state == "missing" or watched.ended_unseen:
            message = await self._recreate(each, unseen=watched.ended_unseen)
        else:
            if watched.state == "running":
                await self._runtime.stop(each.container_name, grace_seconds=each.spec.stop_seconds)
            await self._runtime.start(each.container_name)
        return await self._well(each, "restarted", message)

    async def _well(self, each: ComponentRecord, outcome: Outcome, message: str) -> ComponentResult:
        seconds = self._context.options.probe_seconds
        reason, container = await trouble(self._runtime, each.container_name, each.spec, seconds=seconds)
        if reason:
            self._failed.add(each.name)
            return self._done(each, "failed", f"started, but not well: {reason}")
        return ComponentResult(each.name, outcome, message, container.id, f"sha256:{container.image_id}")

    async def _recreate(self, each: ComponentRecord, *, unseen: bool = False) -> str:
        """Make its container from the registry's definition, and let the registry know which one it is. Of one that
        `ended unseen` the anonymous volumes stay, since nobody thought of them: which ones is told."""
        made = await self._context.made(self._service, each.spec)
        image, by_id = await self._image(each)
        told = ""
        if unseen:
            kept = anonymous_volumes((await self._runtime.inspect(each.container_name)).raw)
            told = "made anew: podman had missed its end" + (f"; kept volumes {', '.join(kept)}" if kept else "")
        await self._runtime.remove(each.container_name, volumes=not unseen)
        request = self._context.request(
            made,
            name=each.container_name,
            generation=each.generation,
            operation=self._operation,
            image=image.id if by_id else "",
        )
        await self._runtime.create(request)
        await self._runtime.start(each.container_name)
        container = (await self._runtime.inspect(each.container_name)).container
        row = self._context.record(
            made, each.container_name, each.generation, f"sha256:{image.id}", seen(container, Observed())
        )
        await self._context.store.write(lambda registry: registry.put_component(row))
        return told

    async def _image(self, each: ComponentRecord) -> tuple[Image, bool]:
        """The image that its generation ran where it is still here, and whether only its id leads to it: the tag may
        mean another one by now. Otherwise what its name means."""
        named: Image | None = None
        with suppress(NotFound):
            named = await self._runtime.image(each.spec.image)
        entries = await self._context.store.read(lambda registry: registry.history(self._service))
        ran = next((e for e in entries if e.ok and e.definition.component(each.name) == each.spec), None)
        identity = ran.images.get(each.name, "").removeprefix("sha256:") if ran else ""
        if identity and (named is None or named.id != identity):
            with suppress(NotFound):
                return await self._runtime.image(identity), True
        return named or await self._context.image(each.spec.image), False

    async def _remove(self, each: ComponentRecord) -> ComponentResult:
        if each.desired == "ignore":
            return self._done(each, "ignored", "its container belongs to nobody and stays")
        for name in (each.container_name, each.container_name + NEW, each.container_name + OLD):
            with_grace = name == each.container_name
            try:
                if with_grace:
                    await self._runtime.stop(name, grace_seconds=each.spec.stop_seconds)
            except NotFound:
                continue
            await self._runtime.remove(name)
        return self._done(each, "removed")

    def _done(self, each: ComponentRecord, outcome: Outcome, message: str = "") -> ComponentResult:
        return ComponentResult(each.name, outcome, message)


def _with_active(record: ServiceRecord, *, active: bool) -> ServiceRecord:
    return ServiceRecord(
        record.name, record.generation, record.components, active, record.enforce, record.managed, record.paused,
        record.node, time.time(),
    )  # fmt: skip
