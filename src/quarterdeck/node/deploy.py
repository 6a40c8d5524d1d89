"""Deploying a definition: pull everything, then component after component in the order of `depends_on`.

What goes wrong with one component stays with it: the others go on, and its old container runs again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError
from quarterdeck.node import reconcile
from quarterdeck.node.context import Context, Emit, Made, event, progress, seen, transition
from quarterdeck.node.model import (
    ComponentRecord,
    ComponentSpec,
    Observed,
    ServiceDef,
    ServiceRecord,
    container_name,
    desired_of,
    image_version,
)
from quarterdeck.node.podman_json import LABEL_NODE
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import ComponentResult, DeployPlan, HistoryEntry, PlannedAction, ServiceResult, Step
from quarterdeck.node.runtime import Container, Image
from quarterdeck.node.swap import Swap
from quarterdeck.node.validate import problems


@dataclass
class Prepared:
    """What a deploy knows before it changes anything."""

    current: ServiceRecord | None
    plan: DeployPlan
    made: dict[str, Made] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def checked(service: ServiceDef, only: Sequence[str] = ()) -> None:
    """Refuse a definition that cannot be right. Raises `InvalidInput` with every problem."""
    found = problems(service)
    if found:
        raise InvalidInput(
            f"service {service.name!r} cannot be deployed: " + "; ".join(f"{p.key}: {p.message}" for p in found),
            details={"problems": [{"key": p.key, "message": p.message} for p in found]},
        )
    unknown = [name for name in only if service.component(name) is None]
    if unknown:
        there = ", ".join(each.name for each in service.components)
        raise NotFound(f"service {service.name!r} has no component {', '.join(unknown)}", hint=f"it has {there}")


async def observe(context: Context, record: ServiceRecord) -> tuple[ServiceRecord, dict[str, Container]]:
    """A service as it is now, recorded; and every container of the node by name. Raises `Unavailable`."""
    asked_at = time.time()
    containers = {each.name: each for each in await context.runtime.list()}

    def write(registry: Registry) -> ServiceRecord:
        fresh = registry.find(record.name) or record
        looked: list[ComponentRecord] = []
        for each in fresh.components:
            watched = seen(containers.get(each.container_name), each.observed, at=asked_at)
            transition(registry, each, watched)
            looked.append(replace(each, observed=watched))
        return replace(fresh, components=tuple(looked))

    return await context.store.write(write), containers


async def prepare(context: Context, service: ServiceDef, only: Sequence[str], emit: Emit, *, pull: bool) -> Prepared:
    """Look, read env files, pull, and plan. Changes nothing but the images and what was observed."""
    checked(service, only)
    names = {spec.name: container_name(service.name, spec.name) for spec in service.components}

    def read(registry: Registry) -> tuple[ServiceRecord | None, tuple[HistoryEntry, ...], dict[str, str]]:
        owners = {name: owner[0] for name, each in names.items() if (owner := registry.by_container(each))}
        return registry.find(service.name), registry.history(service.name)[:1], owners

    stored, latest, owners = await context.store.read(read)
    if stored is not None and not stored.managed:
        raise Conflict(
            f"a container named {service.name!r} runs here that belongs to nobody",
            hint=f"take it over with `qd service adopt {service.name}`, or rename it",
        )
    record = stored or ServiceRecord(service.name, 0, ())
    current, containers = await observe(context, record)
    wanted = [spec for spec in service.components if not only or spec.name in only]
    found = Prepared(None if stored is None else current, DeployPlan(service.name, 0, 0, ()))
    for spec in wanted:
        await _made(context, service, spec, found)
        if owners.get(spec.name, service.name) != service.name:
            taken = f"the container name {names[spec.name]!r} belongs to service {owners[spec.name]!r}"
            found.failed[spec.name] = f"{taken}; adopt or rename one of them"
        _refuse_foreign(context, service, spec, current, containers, found)
    if service.active:
        await _images(context, wanted, service.name, found, emit, pull=pull)
    found.plan = reconcile.plan(
        service,
        found.current,
        hashes={name: each.spec_hash for name, each in found.made.items()}
        | {spec.name: "" for spec in wanted if spec.name not in found.made},
        digests={name: f"sha256:{image.id}" for name, image in found.images.items()},
        only=only,
    )
    if latest and not latest[0].ok and found.plan.next_generation == found.plan.generation:
        # The last deploy failed: to have come back to what runs is a generation of its own.
        found.plan = replace(found.plan, next_generation=found.plan.generation + 1)
    return found


async def _made(context: Context, service: ServiceDef, spec: ComponentSpec, found: Prepared) -> None:
    try:
        found.made[spec.name] = await context.made(service.name, spec)
    except QuarterdeckError as error:
        found.failed[spec.name] = error.message


def _refuse_foreign(
    context: Context,
    service: ServiceDef,
    spec: ComponentSpec,
    current: ServiceRecord,
    containers: dict[str, Container],
    found: Prepared,
) -> None:
    """A container of the wanted name that is not this component's own is somebody else's: leave it alone."""
    name = container_name(service.name, spec.name)
    there = containers.get(name)
    if there is not None and current.component(spec.name) is None and there.labels.get(LABEL_NODE) != context.node_id:
        found.failed.setdefault(spec.name, f"a container named {name!r} is there already; adopt, rename or remove it")


async def _images(
    context: Context, wanted: Sequence[ComponentSpec], service: str, found: Prepared, emit: Emit, *, pull: bool
) -> None:
    users: dict[str, list[str]] = {}
    for spec in wanted:
        if spec.name not in found.failed:
            users.setdefault(spec.image, []).append(spec.name)

    def tell(names: Sequence[str], step: Step, message: str) -> None:
        for name in names:
            emit(progress(service, name, step, message))

    async def fetch(reference: str, names: Sequence[str]) -> None:
        try:
            if pull:
                tell(names, "pulling", reference)
            image = await (context.image(reference) if pull else context.runtime.image(reference))
            found.images.update(dict.fromkeys(names, image))
            if pull:
                tell(names, "pulled", f"sha256:{image.id[:12]}")
        except QuarterdeckError as error:
            # A plan pulls nothing: an image that is not here yet is no failure of it.
            if pull or not isinstance(error, NotFound):
                for name in names:
                    found.failed.setdefault(name, error.message)

    async with anyio.create_task_group() as group:
        for reference, names in users.items():
            group.start_soon(fetch, reference, names, name=f"pull {reference}")


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
    ) -> None:
        self._context, self._service, self._only = context, service, tuple(only)
        self._operation, self._actor, self._kind, self._emit = operation, actor, kind, emit
        self._results: dict[str, ComponentResult] = {}
        self._generation = 0

    async def run(self) -> ServiceResult:
        """The whole of it."""
        found = await prepare(self._context, self._service, self._only, self._emit, pull=True)
        self._generation = found.plan.next_generation
        if found.plan.next_generation != found.plan.generation:
            await self._begin(found)
        actions = {each.component: each for each in found.plan.actions}
        for level in reconcile.levels(self._service.components):
            async with anyio.create_task_group() as group:
                for spec in level:
                    if spec.name in actions:
                        group.start_soon(self._component, spec, actions[spec.name], found, name=f"deploy {spec.name}")
        for action in found.plan.actions:
            if action.action == "remove":
                await self._remove(action)
        return await self._finish(found)

    async def _begin(self, found: Prepared) -> None:
        """Write the intent: the service with its next generation, and the definition in the history."""
        service = self._service
        definition = self._definition(found)
        now = time.time()
        record = ServiceRecord(
            service.name, self._generation, (), service.active, service.enforce, True,
            found.current.paused if found.current else False, service.node, now,
        )  # fmt: skip

        def write(registry: Registry) -> None:
            registry.put_service(record)
            registry.add_history(definition, self._generation, now, self._actor, ok=False)

        await self._context.store.write(write)

    def _definition(self, found: Prepared) -> ServiceDef:
        """What the node runs after this: of a deploy of some components, the others as they are."""
        if not self._only or found.current is None:
            return self._service
        merged = {each.name: each.spec for each in found.current.components}
        merged |= {each.name: each for each in self._service.components if each.name in self._only}
        return replace(self._service, components=tuple(merged.values()))

    async def _component(self, spec: ComponentSpec, action: PlannedAction, found: Prepared) -> None:
        async with self._context.work:
            result = await self._act(spec, action, found)
        self._results[spec.name] = result
        if result.outcome != "unchanged":
            self._tell(spec.name, "component-done", result.message, result)

    def _tell(self, component: str, step: Step, message: str, result: ComponentResult) -> None:
        self._emit(progress(self._service.name, component, step, message, result=result))

    async def _act(self, spec: ComponentSpec, action: PlannedAction, found: Prepared) -> ComponentResult:
        record = found.current.component(spec.name) if found.current else None
        if spec.name in found.failed:
            await self._keep_wish(spec, record, action, found)
            return ComponentResult(spec.name, "failed", found.failed[spec.name])
        if missing := self._down(spec):
            await self._keep_wish(spec, record, action, found)
            return ComponentResult(spec.name, "skipped", f"{missing} does not run, which it depends on")
        try:
            match action.action:
                case "create" | "replace":
                    return await self._swap(spec, action, record, found)
                case "start":
                    return await self._start(spec, record, found)
                case "stop":
                    return await self._stop(spec, record, found)
                case _:
                    return await self._keep(spec, record, action, found)
        except QuarterdeckError as error:
            return ComponentResult(spec.name, "failed", found.made[spec.name].masked(error.message))

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
        )
        result = await swap.run()
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
        await self._context.runtime.start(record.container_name)
        watched = await self._context.look(record.container_name, record.observed)
        row = self._row(spec, record, found, watched)
        await self._context.store.write(lambda registry: registry.put_component(row))
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

    async def _remove(self, action: PlannedAction) -> None:
        name = action.component
        self._emit(progress(self._service.name, name, "removing"))
        try:
            await self._context.runtime.remove(action.container_name)
            await self._context.store.write(lambda registry: registry.remove_component(self._service.name, name))
            result = ComponentResult(name, "removed", action.reason)
        except QuarterdeckError as error:
            result = ComponentResult(name, "failed", error.message)
        self._results[name] = result
        self._tell(name, "component-done", result.message, result)

    async def _finish(self, found: Prepared) -> ServiceResult:
        names = [each.component for each in found.plan.actions]
        result = ServiceResult(
            self._service.name, self._operation, self._generation, tuple(self._results[name] for name in names)
        )
        definition = self._definition(found)
        changed = found.plan.next_generation != found.plan.generation

        def write(registry: Registry) -> None:
            if changed:
                registry.add_history(definition, self._generation, time.time(), self._actor, ok=result.ok)
                registry.order_components(self._service.name, [each.name for each in definition.components])
                registry.prune_history(self._service.name, self._context.options.keep_history)
            told = [each for each in result.components if each.outcome != "unchanged"]
            for each in told:
                registry.add_event(
                    event(self._service.name, each.component, self._kind, f"{each.outcome} {each.message}".strip(),
                          generation=self._generation, actor=self._actor)
                )  # fmt: skip

        await self._context.store.write(write)
        return result
