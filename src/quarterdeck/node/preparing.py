"""What a deploy finds out before it changes anything: what is there, env files, images, and so the plan."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError
from quarterdeck.node import reconcile
from quarterdeck.node.configdrift import described
from quarterdeck.node.context import Context, Emit, Made, progress, seen, transition
from quarterdeck.node.drifting import examined
from quarterdeck.node.model import (
    ComponentRecord,
    ComponentSpec,
    ServiceDef,
    ServiceRecord,
    container_name,
)
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import DeployPlan, HistoryEntry, PlannedAction, Step
from quarterdeck.node.runtime import Container, Image
from quarterdeck.node.validate import problems


@dataclass
class Prepared:
    """What a deploy knows before it changes anything."""

    current: ServiceRecord | None
    plan: DeployPlan
    made: dict[str, Made] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    # Whose image its name does not lead to any more.
    by_id: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Known:
    """What the registry says of a service, its latest generation, and whose the wanted container names are."""

    stored: ServiceRecord | None
    latest: HistoryEntry | None
    owners: Mapping[str, str]
    rehearsed: bool = False


def known(registry: Registry, service: ServiceDef, *, rehearsed: bool = False) -> Known:
    """What a deploy of it begins from; `rehearsed` when that is about to be undone, and is never written."""
    names = {spec.name: container_name(service.name, spec.name) for spec in service.components}
    owners = {name: owner[0] for name, each in names.items() if (owner := registry.by_container(each))}
    latest = next(iter(registry.history(service.name)), None)
    return Known(registry.find(service.name), latest, owners, rehearsed)


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


async def observe(
    context: Context, record: ServiceRecord, *, rehearsed: bool = False
) -> tuple[ServiceRecord, dict[str, Container]]:
    """A service as it is now, recorded (unless `rehearsed`); and every container of the node by name.

    Raises `Unavailable`.
    """
    asked_at = time.time()
    containers = {each.name: each for each in await context.runtime.list()}

    if rehearsed:
        looks = [replace(e, observed=seen(containers.get(e.container_name), e.observed)) for e in record.components]
        return replace(record, components=tuple(looks)), containers

    def write(registry: Registry) -> ServiceRecord:
        fresh = registry.find(record.name) or record
        looked: list[ComponentRecord] = []
        for each in fresh.components:
            watched = seen(containers.get(each.container_name), each.observed, at=asked_at)
            transition(registry, each, watched)
            looked.append(replace(each, observed=watched))
        return replace(fresh, components=tuple(looked))

    return await context.store.write(write), containers


async def prepare(
    context: Context,
    service: ServiceDef,
    only: Sequence[str],
    emit: Emit,
    *,
    pull: bool,
    images: Mapping[str, str] | None = None,
    begin: Known | None = None,
    prune: bool = True,
) -> Prepared:
    """Look, read env files, pull, and plan. Changes nothing but the images and what was observed.

    `images` are the image ids that components must run (a rollback's); `begin` is what the registry would say,
    where that is not what it says; without `prune` components that are defined no more are kept.
    """
    checked(service, only)
    if begin is None:
        begin = await context.store.read(lambda registry: known(registry, service))
    stored, owners = begin.stored, begin.owners
    if stored is not None and not stored.managed:
        raise Conflict(
            f"a container named {service.name!r} runs here that belongs to nobody",
            hint=f"take it over with `qd service adopt {service.name}`, or rename it",
        )
    record = stored or ServiceRecord(service.name, 0, ())
    current, containers = await observe(context, record, rehearsed=begin.rehearsed)
    wanted = [spec for spec in service.components if not only or spec.name in only]
    found = Prepared(None if stored is None else current, DeployPlan(service.name, 0, 0, ()))
    for spec in wanted:
        await _made(context, service, spec, found)
        if owners.get(spec.name, service.name) != service.name:
            name = container_name(service.name, spec.name)
            taken = f"the container name {name!r} belongs to service {owners[spec.name]!r}"
            found.failed[spec.name] = f"{taken}; adopt or rename one of them"
        _refuse_foreign(context, service, spec, current, containers, found)
    if service.active:
        pinned = {each.name: (images or {})[each.name] for each in wanted if each.name in (images or {})}
        await _images(context, wanted, service.name, found, emit, pull=pull, pinned=pinned)
    found.plan = reconcile.plan(
        service,
        found.current,
        altered=await _altered(context, wanted, found) if service.active else {},
        hashes={name: each.spec_hash for name, each in found.made.items()}
        | {spec.name: "" for spec in wanted if spec.name not in found.made},
        digests={name: f"sha256:{image.id}" for name, image in found.images.items()},
        only=only,
        prune=prune,
    )
    if found.failed:
        found.plan = replace(found.plan, actions=tuple(_stumbling(each, found) for each in found.plan.actions))
    if begin.latest and not begin.latest.ok and found.plan.next_generation == found.plan.generation:
        # The last deploy failed: to have come back to what runs is a generation of its own.
        found.plan = replace(found.plan, next_generation=found.plan.generation + 1)
    return found


async def _altered(context: Context, wanted: Sequence[ComponentSpec], found: Prepared) -> dict[str, str]:
    """Of the components that the plan would else keep: what somebody changed on their containers."""
    told: dict[str, str] = {}
    images: dict[str, Image | None] = {}
    for spec in wanted:
        record = found.current.component(spec.name) if found.current else None
        made = found.made.get(spec.name)
        if record is None or made is None or record.observed.state != "running":
            continue
        if record.observed.spec_hash != made.spec_hash:
            continue
        try:
            details = await context.runtime.inspect(record.container_name)
        except NotFound:
            continue
        if differs := await examined(context, replace(record, spec=spec), details, images):
            told[spec.name] = described(differs)
    return told


def _stumbling(action: PlannedAction, found: Prepared) -> PlannedAction:
    reason = found.failed.get(action.component)
    return action if reason is None else replace(action, action="fail", reason=reason)


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
    """A container of the wanted name that is not this component's own is left alone: it is somebody else's, or one
    of ours that the registry has lost. Nobody knows what depends on either, so a person decides."""
    name = container_name(service.name, spec.name)
    if name in containers and current.component(spec.name) is None:
        found.failed.setdefault(spec.name, f"a container named {name!r} is there already; adopt, rename or remove it")


async def _images(
    context: Context,
    wanted: Sequence[ComponentSpec],
    service: str,
    found: Prepared,
    emit: Emit,
    *,
    pull: bool,
    pinned: Mapping[str, str],
) -> None:
    users: dict[str, list[str]] = {}
    for spec in wanted:
        if spec.name not in found.failed and spec.name not in pinned:
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

    for spec in wanted:
        if spec.name in pinned and spec.name not in found.failed:
            await _pinned_image(context, spec, pinned[spec.name], found, pull=pull)
    async with anyio.create_task_group() as group:
        for reference, names in users.items():
            group.start_soon(fetch, reference, names, name=f"pull {reference}")


async def _pinned_image(context: Context, spec: ComponentSpec, identity: str, found: Prepared, *, pull: bool) -> None:
    """The very image that a component ran: the one here, else what its name leads to if that is the same."""
    try:
        try:
            image = await context.runtime.image(identity.removeprefix("sha256:"))
        except NotFound:
            if not pull:
                return
            image = await context.image(spec.image)
            if f"sha256:{image.id}" != identity:
                found.failed[spec.name] = (
                    f"the image {identity[:19]} that ran then is not on the node any more, and {spec.image} is now"
                    f" {f'sha256:{image.id}'[:19]}; deploy what you want to run instead"
                )
                return
        try:
            named = (await context.runtime.image(spec.image)).id
        except NotFound:
            named = ""
    except QuarterdeckError as error:
        found.failed[spec.name] = f"the image {identity[:19]} that ran then cannot be had: {error.message}"
        return
    found.images[spec.name] = image
    if named != image.id:
        found.by_id.add(spec.name)
