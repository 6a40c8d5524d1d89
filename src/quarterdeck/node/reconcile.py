"""What differs between desired and observed, and what to do about it. Pure: values in, values out."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from quarterdeck.node.model import (
    DEFAULT_STOP_SECONDS,
    ComponentRecord,
    ComponentSpec,
    Healthcheck,
    Observed,
    ServiceDef,
    ServiceRecord,
    container_name,
)
from quarterdeck.node.results import Action, DeployPlan, Drift, FieldChange, PlannedAction
from quarterdeck.node.validate import format_port, format_volume

# Fields that the agent itself acts on: a change of them needs no new container.
_AGENT_FIELDS = ("restart", "depends_on")
FOREIGN = "foreign"


def spec_hash(spec: ComponentSpec, *, key: str = "", hidden: Mapping[str, str] | None = None) -> str:
    """What a container is made from, as 16 hex digits: equal for equal containers, however they are written.

    `hidden` are the variables of its env files; they go in through an HMAC with the node's own `key`, so
    that nobody can guess them from the label.
    """
    body = msgspec.to_builtins(replace(spec, restart="no", depends_on=()))
    body["ports"] = sorted(body["ports"], key=repr)
    body["volumes"] = sorted(body["volumes"], key=repr)
    if hidden:
        body["hidden"] = hmac.new(key.encode(), canonical(dict(hidden)), hashlib.sha256).hexdigest()
    return hashlib.sha256(canonical(body)).hexdigest()[:16]


def canonical(value: Any) -> bytes:
    """JSON that is equal for equal values: sorted keys, and 1 for 1.0 (which one it is depends on the way it came)."""
    return msgspec.json.encode(_plain(msgspec.to_builtins(value)), order="deterministic")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def field_changes(before: ComponentSpec | None, after: ComponentSpec | None) -> tuple[FieldChange, ...]:
    """The fields in which two definitions of a component differ, in the definition's order."""
    old, new = shown(before), shown(after)
    names = dict.fromkeys((*old, *new))
    return tuple(
        FieldChange(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)
    )


def shown(spec: ComponentSpec | None) -> dict[str, str]:
    """A definition as text by field, as people write it; fields that are as by default are left out."""
    if spec is None:
        return {}
    limits, check = spec.limits, spec.healthcheck
    fields = {
        "image": spec.image,
        "ports": ", ".join(sorted(map(format_port, spec.ports))),
        "volumes": ", ".join(sorted(map(format_volume, spec.volumes))),
        "entrypoint": _words(spec.entrypoint),
        "cmd": _words(spec.cmd),
        **{f"env.{name}": value for name, value in sorted(spec.env.items())},
        "env_files": ", ".join(spec.env_files),
        "secrets": ", ".join(sorted(f"{s.name} as {s.kind} {s.target or s.name}" for s in spec.secrets)),
        "user": spec.user,
        "workdir": spec.workdir,
        "network": spec.network,
        "restart": spec.restart,
        "limits.memory": "" if limits.memory is None else str(limits.memory),
        "limits.cpus": "" if limits.cpus is None else f"{limits.cpus:g}",
        "limits.pids": "" if limits.pids is None else str(limits.pids),
        "healthcheck": "" if check is None else _words(check.command),
        "healthcheck.times": "" if check is None else _times(check),
        "depends_on": ", ".join(spec.depends_on),
        **{f"labels.{name}": value for name, value in sorted(spec.labels.items())},
        "stop_seconds": "" if spec.stop_seconds == DEFAULT_STOP_SECONDS else str(spec.stop_seconds),
    }
    return {name: value for name, value in fields.items() if value or name.startswith(("env.", "labels."))}


def _times(check: Healthcheck) -> str:
    after = f" after {check.start_period:g}" if check.start_period else ""
    return f"{check.interval:g}/{check.timeout:g}/{check.retries}{after}"


def _words(words: Sequence[str]) -> str:
    return canonical(list(words)).decode() if words else ""


def drift(record: ComponentRecord) -> tuple[Drift, ...]:
    """What the registry alone can tell: state, image digest and spec hash of what was last observed.

    Of what should be stopped nothing but that is asked: its container is made anew as defined when it is started.
    """
    seen, found = record.observed, list[Drift]()
    if record.desired == "ignore" or seen.state == "unknown":
        return ()
    if _actual(seen) != record.desired and not (record.desired == "running" and ended_well(record.spec, seen)):
        found.append(Drift(record.name, "state", "state", record.desired, seen.state))
    if seen.state == "missing" or record.desired == "stopped":
        return tuple(found)
    if record.image_digest and seen.image_digest and record.image_digest != seen.image_digest:
        found.append(Drift(record.name, "image", "image digest", record.image_digest, seen.image_digest))
    if seen.spec_hash != record.spec_hash:
        found.append(Drift(record.name, "spec", "spec hash", record.spec_hash, seen.spec_hash))
    return tuple(found)


def _actual(seen: Observed) -> str:
    return "running" if seen.state == "running" else "stopped"


def as_defined(record: ComponentRecord) -> bool:
    """Whether what is there, running or not, was made from the definition; also when nothing is there."""
    return not drift(record) and record.observed.spec_hash in ("", record.spec_hash)


def ended_well(spec: ComponentSpec, seen: Observed) -> bool:
    """Whether it is a job that has done its work: nothing to start again, and nothing wrong."""
    return seen.state == "exited" and seen.exit_code == 0 and spec.restart != "always"


def recognised(seen: Observed, before: Observed) -> Observed:
    """What was seen of a component's container, with the spec hash of one that carries no label of ours.

    An adopted container keeps the hash that it was adopted with as long as it is the same one; any other
    was made by somebody else and is nothing that a definition describes.
    """
    if seen.spec_hash or not seen.container_id:
        return seen
    same = seen.container_id == before.container_id
    return replace(
        seen,
        spec_hash=before.spec_hash if same else FOREIGN,
        generation=before.generation if same else 0,
    )


def differs(seen: Observed, before: Observed) -> bool:
    """Whether an observation says anything new (its time apart)."""
    # The common case first: asked for every container at every look.
    return seen != before and replace(seen, at=before.at, message=before.message) != before


def plan(
    service: ServiceDef,
    current: ServiceRecord | None,
    *,
    hashes: Mapping[str, str],
    digests: Mapping[str, str],
    altered: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
    prune: bool = True,
) -> DeployPlan:
    """What a deploy must do, in the order of `depends_on`; without `prune` what is defined no more is left alone.

    `hashes` are the spec hashes of the definition's components, `digests` the image ids that their images
    now have on the node (a component missing there is not compared), `altered` says of those whose container
    somebody changed what is different. `current` must have been observed just now.
    """
    actions: list[PlannedAction] = []
    for spec in ordered(service.components):
        if only and spec.name not in only:
            continue
        record = current.component(spec.name) if current else None
        action = _action(service, spec, record, hashes[spec.name], digests.get(spec.name, ""))
        if action.action == "keep" and (differs_in := (altered or {}).get(spec.name)):
            action = replace(action, action="replace", reason=f"its container was changed: {differs_in}")
        actions.append(action)
    wanted = {each.name for each in service.components}
    actions.extend(
        PlannedAction(record.name, record.container_name, "remove", reason="the definition has it no more")
        for record in (current.components if current and prune and not only else ())
        if record.name not in wanted
    )
    generation = current.generation if current else 0
    changed = any(each.action != "keep" or each.changes for each in actions) or _head_changed(service, current)
    return DeployPlan(service.name, generation, generation + 1 if changed else generation, tuple(actions))


def _head_changed(service: ServiceDef, current: ServiceRecord | None) -> bool:
    if current is None:
        return True
    return (current.active, current.enforce, current.managed) != (service.active, service.enforce, True)


def _action(
    service: ServiceDef, spec: ComponentSpec, record: ComponentRecord | None, digest_of_spec: str, image_digest: str
) -> PlannedAction:
    def planned(action: Action, reason: str) -> PlannedAction:
        changes = field_changes(record.spec if record else None, spec) if record else ()
        return PlannedAction(spec.name, container_name(service.name, spec.name), action, changes, reason)

    if record is None:
        return planned("create" if service.active else "keep", "it is new" if service.active else "not active")
    seen = record.observed
    there = seen.state not in ("missing", "unknown")
    same = seen.spec_hash == digest_of_spec
    moved = bool(image_digest and seen.image_digest and image_digest != seen.image_digest)
    if not service.active:
        return planned("stop", "not active") if seen.state == "running" else planned("keep", "not active")
    if not there:
        return planned("create", "its container is gone")
    if not same:
        return planned("replace", "the definition changed")
    if moved:
        return planned("replace", f"the image {spec.image} is now another one")
    if seen.ended_unseen:
        return planned("replace", "podman missed its end and cannot start it again")
    # One that was stopped by a person's word is none that has done its work.
    done = record.desired == "running" and ended_well(spec, seen)
    return planned("keep", "") if seen.state == "running" or done else planned("start", f"it is {seen.state}")


def ordered(components: Sequence[ComponentSpec]) -> tuple[ComponentSpec, ...]:
    """Components so that each comes after those it depends on, otherwise as written."""
    return tuple(spec for level in levels(components) for spec in level)


def levels(components: Sequence[ComponentSpec]) -> tuple[tuple[ComponentSpec, ...], ...]:
    """Components in groups that may be worked on at once, each after the groups it depends on."""
    names = {each.name for each in components}
    left, done, found = list(components), set[str](), list[tuple[ComponentSpec, ...]]()
    while left:
        ready = tuple(each for each in left if all(name in done or name not in names for name in each.depends_on))
        # A circle is refused before; should one come here, its members go at once rather than never.
        level = ready or tuple(left)
        found.append(level)
        done |= {each.name for each in level}
        left = [each for each in left if each.name not in done]
    return tuple(found)
