"""Deploying a definition: pull everything, then component after component in the order of `depends_on`.

What goes wrong with one component stays with it: the others go on, and its old container runs again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio

from quarterdeck.node import reconcile
from quarterdeck.node.context import Context, Emit, event, progress, seen
from quarterdeck.node.guarded import told
from quarterdeck.node.lease import turn
from quarterdeck.node.model import (
    ComponentRecord,
    ComponentSpec,
    Observed,
    Planned,
    ServiceDef,
    ServiceRecord,
    container_name,
    desired_of,
    image_version,
)
from quarterdeck.node.preparing import Prepared, prepare
from quarterdeck.node.probe import trouble
from quarterdeck.node.registry import Registry
from quarterdeck.node.removal import Removals
from quarterdeck.node.results import ComponentResult, PlannedAction, ServiceResult, Step
from quarterdeck.node.swap import Swap


def with_head(service: ServiceDef, before: ServiceRecord | None, generation: int) -> ServiceRecord:
    """The service's own row as a definition asks for it; what people say about it otherwise stays."""
    return ServiceRecord(
        service.name, generation, (), service.active, service.enforce, True,
        before.paused if before else False, service.node, time.time(),
    )  # fmt: skip


class Deploy:
    """One deploy of one service, as the body of an operation."""

    def __init__(
        self,
        context: Context,
        service: ServiceDef,
        *,
        only: Sequence[str],
        operation: str,
        actor: str,
        kind: str,
        emit: Emit,
        images: Mapping[str, str] | None = None,
        prune: bool = True,
    ) -> None:
        self._context, self._service, self._only = context, service, tuple(only)
        self._operation, self._actor, self._kind, self._emit = operation, actor, kind, emit
        # Whether components that are defined no more go.
        self._prune = prune
        # The image ids that a rollback goes back to, by component.
        self._pinned = dict(images or {})
        self._results: dict[str, ComponentResult] = {}
        self._generation = 0

    async def run(self) -> ServiceResult:
        """The whole of it."""
        found = await prepare(
            self._context, self._service, self._only, self._emit, pull=True, images=self._pinned, prune=self._prune
        )
        self._generation = found.plan.next_generation
        if found.plan.next_generation != found.plan.generation:
            await self._begin(found)
        self._removals = Removals(self._context, found.plan.actions, found.current, self._emit)
        actions = {each.component: each for each in found.plan.actions}
        for level in reconcile.levels(self._service.components):
            async with anyio.create_task_group() as group:
                for spec in level:
                    if spec.name in actions:
                        group.start_soon(self._component, spec, actions[spec.name], found, name=f"deploy {spec.name}")
        well = all(each.ok and each.outcome != "skipped" for each in self._results.values())
        for result in await self._removals.finish(well=well):
            self._results[result.component] = result
            self._tell(result.component, "component-done", result.message, result)
        return await self._finish(found)

    async def _begin(self, found: Prepared) -> None:
        """Write the intent: the service with its next generation, and the definition in the history."""
        definition = self._definition(found)
        planned, images, now = _planned(found), self._images(found, definition), time.time()

        def write(registry: Registry) -> None:
            before = registry.find(self._service.name)
            # What the service as a whole is to do changes with the last step: until then an undoing finds it as it was.
            head = before or with_head(self._service, None, self._generation)
            registry.put_service(replace(head, generation=self._generation, managed=True, updated_at=now))
            registry.add_history(definition, self._generation, now, self._actor, ok=False, images=images)
            registry.plan_operation(self._operation, self._service.name, planned)

        await self._context.store.write(write)

    def _definition(self, found: Prepared) -> ServiceDef:
        """What the node runs after this: of a deploy of some components, the others as they are; with what is kept."""
        if found.current is None or (self._prune and not self._only):
            return self._service
        if not self._only:
            kept = (e.spec for e in found.current.components if self._service.component(e.name) is None)
            return replace(self._service, components=(*self._service.components, *kept))
        merged = {each.name: each.spec for each in found.current.components}
        merged |= {each.name: each for each in self._service.components if each.name in self._only}
        return replace(self._service, components=tuple(merged.values()))

    def _images(self, found: Prepared, definition: ServiceDef) -> dict[str, str]:
        """The image ids that the definition's components run after this, as far as they are known."""
        there = {each.name: each.image_digest for each in (found.current.components if found.current else ())}
        there |= {name: f"sha256:{image.id}" for name, image in found.images.items()}
        return {each.name: there[each.name] for each in definition.components if there.get(each.name)}

    async def _component(self, spec: ComponentSpec, action: PlannedAction, found: Prepared) -> None:
        async with turn(self._context.work):
            result = await self._act(spec, action, found)
        self._results[spec.name] = result
        if result.outcome != "unchanged":
            self._tell(spec.name, "component-done", result.message, result)

    def _tell(self, component: str, step: Step, message: str, result: ComponentResult) -> None:
        self._emit(progress(self._service.name, component, step, message, result=result))

    async def _act(self, spec: ComponentSpec, action: PlannedAction, found: Prepared) -> ComponentResult:
        record = found.current.component(spec.name) if found.current else None
        try:
            if spec.name in found.failed:
                await self._keep_wish(spec, record, action, found)
                return ComponentResult(spec.name, "failed", found.failed[spec.name])
            if missing := self._down(spec):
                await self._keep_wish(spec, record, action, found)
                return ComponentResult(spec.name, "skipped", f"{missing} does not run, which it depends on")
            match action.action:
                case "create" | "replace":
                    return await self._swap(spec, action, record, found)
                case "start":
                    return await self._start(spec, record, found)
                case "stop":
                    return await self._stop(spec, record, found)
                case _:
                    return await self._keep(spec, record, action, found)
        except Exception as error:  # noqa: BLE001 - one component's failure must not end the others half-way
            made = found.made.get(spec.name)
            return ComponentResult(spec.name, "failed", made.masked(told(error)) if made else told(error))

    def _down(self, spec: ComponentSpec) -> str:
        """A dependency that failed here and has no old container running instead."""
        for name in spec.depends_on:
            result = self._results.get(name)
            if result is not None and result.outcome in ("failed", "skipped"):
                return name
        return ""

    async def _swap(
        self, spec: ComponentSpec, action: PlannedAction, record: ComponentRecord | None, found: Prepared
    ) -> ComponentResult:
        swap = Swap(
            self._context,
            found.made[spec.name],
            found.images[spec.name],
            name=action.container_name,
            generation=self._generation,
            operation=self._operation,
            old=record,
            emit=self._emit,
            make_way=self._removals.make_way,
            by_id=spec.name in found.by_id,
        )
        result = await swap.run()
        if not result.ok and (wrong := await self._removals.put_back(spec)):
            result = replace(result, message=result.message + wrong)
        if not result.ok and result.outcome == "failed":
            await self._keep_wish(spec, record, action, found)
        return result

    async def _keep_wish(
        self, spec: ComponentSpec, record: ComponentRecord | None, action: PlannedAction, found: Prepared
    ) -> None:
        """A new component that could not be made is still wanted: list it as missing. An old one stays as it was."""
        if record is not None:
            watched = await self._context.look(record.container_name, record.observed)
            await self._context.store.write(lambda registry: registry.observe(record.service, record.name, watched))
            return
        made = found.made.get(spec.name)
        wish = ComponentRecord(
            self._service.name, spec, action.container_name, desired_of(self._service), self._generation,
            made.spec_hash if made else "", image_version(spec.image),
            observed=Observed(state="missing", at=time.time()),
        )  # fmt: skip
        registered = await self._context.store.read(lambda registry: registry.by_container(action.container_name))
        if registered is None:
            await self._context.store.write(lambda registry: registry.put_component(wish))

    def _row(
        self, spec: ComponentSpec, record: ComponentRecord | None, found: Prepared, watched: Observed
    ) -> ComponentRecord:
        made = found.made[spec.name]
        return ComponentRecord(
            self._service.name,
            spec,
            container_name(self._service.name, spec.name),
            desired_of(self._service),
            self._generation,
            made.spec_hash,
            image_version(spec.image),
            watched.image_digest or (record.image_digest if record else ""),
            watched,
        )

    async def _start(self, spec: ComponentSpec, record: ComponentRecord | None, found: Prepared) -> ComponentResult:
        assert record is not None
        context, name = self._context, record.container_name
        try:
            await self._removals.make_way(spec)
            self._emit(progress(self._service.name, spec.name, "starting"))
            await context.runtime.start(name)
        except Exception as error:  # noqa: BLE001 - told in the result
            return ComponentResult(spec.name, "failed", told(error) + await self._removals.put_back(spec))
        self._emit(progress(self._service.name, spec.name, "probing"))
        reason, container = await trouble(context.runtime, name, spec, seconds=context.options.probe_seconds)
        watched = seen(container, record.observed)
        row = self._row(spec, record, found, watched)
        await context.store.write(lambda registry: registry.put_component(row))
        if reason:
            text = f"started, but not well: {found.made[spec.name].masked(reason)}"
            return ComponentResult(spec.name, "failed", text)
        return ComponentResult(spec.name, "started", "", watched.container_id, watched.image_digest)

    async def _stop(self, spec: ComponentSpec, record: ComponentRecord | None, found: Prepared) -> ComponentResult:
        assert record is not None
        await self._context.runtime.stop(record.container_name, grace_seconds=record.spec.stop_seconds)
        watched = await self._context.look(record.container_name, record.observed)
        row = self._row(spec, record, found, watched)
        await self._context.store.write(lambda registry: registry.put_component(row))
        return ComponentResult(spec.name, "stopped", "", watched.container_id, watched.image_digest)

    async def _keep(
        self, spec: ComponentSpec, record: ComponentRecord | None, action: PlannedAction, found: Prepared
    ) -> ComponentResult:
        watched = record.observed if record else Observed(state="missing", at=time.time())
        row = self._row(spec, record, found, watched)
        same = record is not None and (record.spec, record.desired) == (spec, row.desired)
        if not same:
            await self._context.store.write(lambda registry: registry.put_component(row))
        outcome = "unchanged" if same else "updated"
        message = "" if same else action.reason or "only what the node agent itself acts on changed"
        return ComponentResult(spec.name, outcome, message, watched.container_id, watched.image_digest)  # type: ignore[arg-type]

    async def _finish(self, found: Prepared) -> ServiceResult:
        names = [each.component for each in found.plan.actions]
        result = ServiceResult(
            self._service.name, self._operation, self._generation, tuple(self._results[name] for name in names)
        )
        definition = self._definition(found)
        changed = found.plan.next_generation != found.plan.generation
        images = self._images(found, definition)

        def write(registry: Registry) -> None:
            if changed:
                registry.put_service(with_head(self._service, registry.find(self._service.name), self._generation))
                registry.add_history(
                    definition, self._generation, time.time(), self._actor, ok=result.ok, images=images
                )
                registry.order_components(self._service.name, [each.name for each in definition.components])
                registry.prune_history(self._service.name, self._context.options.keep_history)
            for each in result.components:
                if each.outcome == "unchanged":
                    continue
                registry.add_event(
                    event(self._service.name, each.component, self._kind, f"{each.outcome} {each.message}".strip(),
                          generation=self._generation, actor=self._actor)
                )  # fmt: skip

        await self._context.store.write(write)
        return result


def _planned(found: Prepared) -> dict[str, Planned]:
    """What the operation's intent says of each component: recovery compares it with what is there."""
    planned: dict[str, Planned] = {}
    for each in found.plan.actions:
        made, image = found.made.get(each.component), found.images.get(each.component)
        record = found.current.component(each.component) if found.current else None
        planned[each.component] = Planned(
            each.action,
            made.spec_hash if made else "",
            f"sha256:{image.id}" if image else "",
            record is not None and record.observed.state == "running",
        )
    return planned
