"""Taking over what is there: definitions into the registry (sync), containers into the registry (adopt)."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError
from quarterdeck.node import reconcile
from quarterdeck.node.context import NEW, OLD, Context, Made, event, seen
from quarterdeck.node.model import (
    NAME,
    ComponentRecord,
    ComponentSpec,
    Desired,
    Observed,
    ServiceDef,
    ServiceRecord,
    container_name,
    desired_of,
    image_version,
)
from quarterdeck.node.podman_json import LABEL_SPEC, observed
from quarterdeck.node.podman_real import real_spec
from quarterdeck.node.preparing import Known, checked, known
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import (
    AdoptedContainer,
    AdoptResult,
    DeployPlan,
    FieldChange,
    Outcome,
    ServiceResult,
    SyncItem,
    SyncSummary,
)
from quarterdeck.node.runtime import Container, Image


@dataclass(frozen=True)
class Synced:
    """What a sync did to the registry and what is left to do: services to purge and components to remove, each with
    its container. Of a plan also what would be purged, and what the registry would then say of every service."""

    summary: SyncSummary
    undefined: tuple[str, ...]
    dropped: tuple[ComponentRecord, ...]
    purged: tuple[SyncItem, ...]
    begin: Mapping[str, Known]


async def sync(
    context: Context,
    services: Sequence[ServiceDef],
    *,
    operation: str,
    plan_only: bool,
    prune: bool,
    apply: bool = False,
) -> Synced:
    """Make the registry say what the definitions say (of a plan: try what that would be, and leave it as it is).

    Containers are not touched here: the caller removes and, with `apply`, deploys next. Raises `InvalidInput` for
    definitions that cannot be right (nothing is changed then).
    """
    for service in services:
        checked(service)
    names = [each.name for each in services]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"defined more than once: {', '.join(doubled)}")
    asked_at = time.time()
    containers = {each.name: each for each in await context.runtime.list()}
    made = {each.name: [await _made(context, each.name, spec) for spec in each.components] for each in services}

    def work(registry: Registry) -> Synced:
        before = {each.name: each for each in registry.services()}
        items = [
            _sync_one(registry, service, made[service.name], before, containers, asked_at, prune=prune, apply=apply)
            for service in services
        ]
        undefined = tuple(name for name, each in before.items() if each.managed and name not in names)
        items += _unmanaged(registry, services, before, containers)
        summary = SyncSummary(operation, tuple(items), () if prune else undefined, plan_only)
        changed = [each for each, item in zip(services, items, strict=False) if item.outcome != "failed"]
        # With `apply` the deploys remove them.
        dropped = [c for e in changed if prune and not apply for c in _dropped(before.get(e.name), e)]
        purged: list[SyncItem] = []
        for name in undefined if prune and plan_only else ():
            there = [c.container_name for c in before[name].components if c.container_name in containers]
            purged.append(SyncItem(name, "removed", before[name].generation, (), ", ".join(there)))
            registry.remove_service(name)
        begin = {each.name: known(registry, each, rehearsed=True) for each in services if plan_only}
        return Synced(summary, undefined if prune else (), tuple(dropped), tuple(purged), begin)

    if plan_only:
        return await context.store.rehearse(work)
    return await context.store.write(work)


def _dropped(record: ServiceRecord | None, service: ServiceDef) -> list[ComponentRecord]:
    """The components that its definition has no more."""
    managed = record.components if record is not None and record.managed else ()
    return [each for each in managed if service.component(each.name) is None]


async def _made(context: Context, service: str, spec: ComponentSpec) -> Made:
    """A definition may come to the node before its env files do; the hash is then one that no container has."""
    try:
        return await context.made(service, spec)
    except QuarterdeckError:
        return Made(service, spec, {}, reconcile.spec_hash(spec))


def _sync_one(
    registry: Registry,
    service: ServiceDef,
    made: Sequence[Made],
    before: dict[str, ServiceRecord],
    containers: dict[str, Container],
    asked_at: float,
    *,
    prune: bool,
    apply: bool,
) -> SyncItem:
    record = before.get(service.name)
    if record is not None and not record.managed:
        registry.remove_service(service.name)
        record = None
    dropped = _dropped(record, service)
    names = ", ".join(each.name for each in dropped)
    kept = set[str]() if prune else {each.name for each in dropped}
    text = f"not defined, kept (remove with --prune): {names}" if kept else ""
    changes = _service_changes(record, service, kept)
    if record is not None and not changes:
        return SyncItem(service.name, "unchanged", record.generation, (), text)
    generation = (record.generation if record else 0) + 1
    taken = _taken(service, before)
    if taken:
        return SyncItem(service.name, "failed", message=f"container names are taken: {', '.join(taken)}")
    for name in list(before):
        # Containers that belonged to nobody until now.
        if not before[name].managed and name in {container_name(service.name, c.name) for c in service.components}:
            registry.remove_service(name)
    registry.put_service(
        ServiceRecord(service.name, generation, (), service.active, service.enforce, True,
                      record.paused if record else False, service.node, time.time())
    )  # fmt: skip
    rows = [_component_row(service, each_made, record, containers, asked_at, generation) for each_made in made]
    for row in rows:
        registry.put_component(row)
    # Those that are defined no more stay until their containers are gone: a row is all that knows of a container.
    registry.order_components(service.name, [each.name for each in (*service.components, *(d.spec for d in dropped))])
    registry.add_event(event(service.name, "", "sync", f"generation {generation}"))
    if all(reconcile.as_defined(each) for each in rows):
        # History is of what ran: a definition that only the registry has heard of is none to go back to.
        images = {each.name: each.observed.image_digest for each in rows if each.observed.image_digest}
        registry.add_history(service, generation, time.time(), "", ok=True, images=images)
    if dropped and prune and not apply:
        text = f"removed: {', '.join(each.container_name for each in dropped)}"
    return SyncItem(service.name, "created" if record is None else "updated", generation, changes, text)


def applied(item: SyncItem, result: ServiceResult) -> SyncItem:
    """A service's part of the summary once its definition was deployed too."""
    told = [each for each in result.components if each.outcome != "unchanged"]
    text = "; ".join(f"{each.component}: {each.message or each.outcome}" for each in told)
    if item.outcome == "failed" or not result.ok:
        return replace(item, outcome="failed", message="; ".join(filter(None, (item.message, text))))
    if not told:
        return item
    return replace(
        item,
        outcome="updated" if item.outcome == "unchanged" else item.outcome,
        generation=result.generation,
        message="; ".join(filter(None, (item.message, text))),
    )


def planned(item: SyncItem, plan: DeployPlan) -> SyncItem:
    """A service's part of the summary of a plan with `apply`: as `applied` would tell it."""
    told = [each for each in plan.actions if each.action != "keep"]
    text = "; ".join(f"{each.component}: {each.action}{f' ({each.reason})' * bool(each.reason)}" for each in told)
    if item.outcome == "failed" or any(each.action == "fail" for each in told):
        return replace(item, outcome="failed", message="; ".join(filter(None, (item.message, text))))
    if not told:
        return item
    outcome: Outcome = "updated" if item.outcome == "unchanged" else item.outcome
    message = "; ".join(filter(None, (item.message, text)))
    return replace(item, outcome=outcome, generation=plan.next_generation, message=message)


def _taken(service: ServiceDef, before: dict[str, ServiceRecord]) -> list[str]:
    """Container names that another managed service has (`a-b` + `c` and `a` + `b-c` are the same)."""
    wanted = {container_name(service.name, each.name) for each in service.components}
    others = [each for each in before.values() if each.managed and each.name != service.name]
    return sorted({c.container_name for each in others for c in each.components} & wanted)


def _service_changes(
    record: ServiceRecord | None, service: ServiceDef, kept: Collection[str]
) -> tuple[FieldChange, ...]:
    if record is None:
        return ()
    changes: list[FieldChange] = []
    for name, old, new in (("active", record.active, service.active), ("enforce", record.enforce, service.enforce)):
        if old != new:
            changes.append(FieldChange(name, str(old).lower(), str(new).lower()))
    desired = desired_of(service)
    for name in dict.fromkeys([*(c.name for c in record.components), *(c.name for c in service.components)]):
        if name in kept:
            continue
        old_component, new_spec = record.component(name), service.component(name)
        before = old_component.spec if old_component else None
        changes += [
            FieldChange(f"{name}.{each.field}", each.before, each.after)
            for each in reconcile.field_changes(before, new_spec)
        ]
        if old_component is not None and new_spec is not None and old_component.desired != desired:
            changes.append(FieldChange(f"{name}.desired", old_component.desired, desired))
    return tuple(changes)


def _component_row(
    service: ServiceDef,
    made: Made,
    record: ServiceRecord | None,
    containers: dict[str, Container],
    asked_at: float,
    generation: int,
) -> ComponentRecord:
    old = record.component(made.spec.name) if record else None
    name = container_name(service.name, made.spec.name)
    watched = seen(containers.get(name), old.observed if old else Observed(), at=asked_at)
    return ComponentRecord(
        service=service.name,
        spec=made.spec,
        container_name=name,
        desired=desired_of(service),
        generation=generation,
        spec_hash=made.spec_hash,
        version=image_version(made.spec.image),
        image_digest=old.image_digest if old else watched.image_digest,
        observed=watched,
    )


def _unmanaged(
    registry: Registry,
    services: Sequence[ServiceDef],
    before: dict[str, ServiceRecord],
    containers: dict[str, Container],
) -> list[SyncItem]:
    """Containers that belong to nobody, newly found or gone since."""
    owned = {c.container_name for each in before.values() if each.managed for c in each.components}
    owned |= {container_name(each.name, c.name) for each in services for c in each.components}
    names = {each.name for each in before.values() if each.managed} | {each.name for each in services}
    items: list[SyncItem] = []
    for name, container in containers.items():
        if name in owned or name.endswith((NEW, OLD)):
            continue
        found = before.get(name)
        if found is not None and not found.managed:
            registry.observe(name, name, seen(container, found.components[0].observed))
            continue
        if name in names:
            items.append(
                SyncItem(name, "ignored", message="a container with a service's bare name; adopt or rename it")
            )
            continue
        registry.put_service(ServiceRecord(name, 0, (), managed=False, updated_at=time.time()))
        registry.put_component(
            ComponentRecord(name, ComponentSpec(name, container.image or "unknown"), name, "ignore", 0, "",
                            image_version(container.image), observed=observed(container, now=time.time()))
        )  # fmt: skip
        items.append(SyncItem(name, "ignored", message=f"{container.image}, {container.state}"))
    for name, gone in before.items():
        if not gone.managed and name not in containers:
            registry.remove_service(name)
            items.append(SyncItem(name, "removed", message="a container of nobody's that is gone"))
    return items


@dataclass(frozen=True)
class _Found:
    container: Container
    component: str
    spec: ComponentSpec
    warnings: tuple[str, ...]


async def adopt(context: Context, service: str, *, operation: str, actor: str) -> AdoptResult:
    """Take the containers named `SERVICE` and `SERVICE-*` as components; they go on as they are.

    Raises `NotFound` when none matches.
    """
    if not NAME.fullmatch(service):
        raise InvalidInput(f"{service!r} is not a service's name")
    services = {each.name: each for each in await context.store.read(lambda registry: registry.services())}
    matching = [
        each
        for each in await context.runtime.list()
        if (each.name == service or each.name.startswith(f"{service}-")) and not each.name.endswith((NEW, OLD))
    ]
    if not matching:
        raise NotFound(f"no container is named {service!r} or {service}-*", hint="podman ps -a shows what there is")
    results: list[AdoptedContainer] = []
    found: list[_Found] = []
    for container in matching:
        outcome = await _examine(context, service, container, services)
        if isinstance(outcome, AdoptedContainer):
            results.append(outcome)
        else:
            found.append(outcome)
    generation = await context.store.write(lambda registry: _take(registry, context, service, found, actor))
    results += [
        AdoptedContainer(each.container.name, each.component, "adopted", _desired(each.container), "", each.warnings)
        for each in found
    ]
    return AdoptResult(service, operation, generation, tuple(sorted(results, key=lambda each: each.container_name)))


async def _examine(
    context: Context, service: str, container: Container, services: dict[str, ServiceRecord]
) -> AdoptedContainer | _Found:
    component = container.name if container.name == service else container.name.removeprefix(f"{service}-")
    for other in services.values():
        for each in other.components if other.managed else ():
            if each.container_name == container.name:
                same = other.name == service
                return AdoptedContainer(
                    container.name, component, "unchanged" if same else "skipped", each.desired,
                    "" if same else f"it belongs to service {other.name!r}",
                )  # fmt: skip
    if not NAME.fullmatch(component):
        return AdoptedContainer(
            container.name, component, "failed", message=f"{component!r} is no component's name; rename the container"
        )
    try:
        details = await context.runtime.inspect(container.name)
        try:
            image: Image | None = await context.runtime.image(details.container.image_id)
        except NotFound:
            image = None
        spec, warnings = real_spec(details.raw, image, component=component)
    except QuarterdeckError as error:
        return AdoptedContainer(container.name, component, "failed", message=error.message)
    return _Found(details.container, component, spec, warnings)


def _desired(container: Container) -> Desired:
    return "running" if container.state in ("running", "paused") else "stopped"


def _take(registry: Registry, context: Context, service: str, found: Sequence[_Found], actor: str) -> int:
    """Write what was found, in one transaction."""
    before = registry.find(service)
    if not found:
        return before.generation if before else 0
    for each in found:
        if (owner := registry.by_container(each.container.name)) is not None:
            record = registry.service(owner[0])
            if record.managed:
                raise Conflict(f"container {each.container.name!r} was just taken by service {owner[0]!r}")
            registry.remove_service(owner[0])
    before = registry.find(service)
    running = any(_desired(each.container) == "running" for each in found)
    generation = (before.generation if before else 0) + 1
    active = running or bool(before and before.managed and before.active)
    registry.put_service(
        ServiceRecord(service, generation, (), active, before.enforce if before else False, True,
                      before.paused if before else False,
                      before.node if before else context.options.node_name, time.time())
    )  # fmt: skip
    for each in found:
        # One that carries a label of ours (made by an agent whose registry is lost) goes on under that hash.
        spec_hash = each.container.labels.get(LABEL_SPEC) or reconcile.spec_hash(each.spec)
        watched = replace(observed(each.container, now=time.time()), spec_hash=spec_hash, generation=generation)
        registry.put_component(
            ComponentRecord(service, each.spec, each.container.name, _desired(each.container), generation, spec_hash,
                            image_version(each.spec.image), watched.image_digest, watched)
        )  # fmt: skip
        registry.add_event(event(service, each.component, "adopt", "; ".join(each.warnings), actor=actor))
    record = registry.service(service)
    images = {each.name: each.image_digest for each in record.components if each.image_digest}
    registry.add_history(record.definition(), generation, time.time(), actor, ok=True, images=images)
    return generation
