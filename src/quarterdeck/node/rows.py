"""Components to rows and back: the one place that knows which field stands in which column. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from quarterdeck.node.model import (
    ComponentRecord,
    ComponentSpec,
    Event,
    Healthcheck,
    Limits,
    Observed,
    Operation,
    Planned,
    Port,
    Secret,
    Volume,
)

Row = Mapping[str, Any]
Children = Mapping[tuple[str, str], Sequence[Sequence[Any]]]


def text(value: Any) -> str:
    """A value as JSON in a column."""
    return msgspec.json.encode(value, order="deterministic").decode()


def component_columns(record: ComponentRecord, position: int) -> dict[str, Any]:
    """The row of `components`, what was observed apart."""
    spec = record.spec
    return {
        "service": record.service, "name": spec.name, "position": position, "container_name": record.container_name,
        "image": spec.image, "version": record.version, "desired": record.desired, "generation": record.generation,
        "spec_hash": record.spec_hash, "image_digest": record.image_digest, "restart": spec.restart,
        "user": spec.user, "workdir": spec.workdir, "network": spec.network, "memory": spec.limits.memory,
        "cpus": spec.limits.cpus, "pids": spec.limits.pids, "stop_seconds": spec.stop_seconds,
        "entrypoint": text(spec.entrypoint), "env_files": text(spec.env_files), "secrets": text(spec.secrets),
        "depends_on": text(spec.depends_on), "labels": text(spec.labels),
        "healthcheck": text(spec.healthcheck) if spec.healthcheck else None,
    }  # fmt: skip


def observed_columns(observed: Observed) -> dict[str, Any]:
    """The columns of `components` that say what was seen."""
    return {
        "state": observed.state, "observed_at": observed.at, "container_id": observed.container_id,
        "pid": observed.pid, "observed_image": observed.image, "observed_digest": observed.image_digest,
        "observed_spec": observed.spec_hash, "observed_generation": observed.generation,
        "started_at": observed.started_at, "finished_at": observed.finished_at, "exit_code": observed.exit_code,
        "health": observed.health, "message": observed.message,
    }  # fmt: skip


def child_rows(spec: ComponentSpec) -> dict[str, list[dict[str, Any]]]:
    """The rows of the tables below a component, by table."""
    return {
        "component_ports": [
            {"host": p.host, "container": p.container, "protocol": p.protocol, "host_ip": p.host_ip} for p in spec.ports
        ],
        "component_volumes": [
            {"source": v.source, "target": v.target, "options": text(v.options)} for v in spec.volumes
        ],
        "component_env": [{"name": name, "value": value} for name, value in spec.env.items()],
        "component_cmd": [{"argument": each} for each in spec.cmd],
    }


# The order in which `component` takes a row apart: by position, since a lookup by name costs twice the time.
COMPONENT_COLUMNS = (
    "service", "name", "container_name", "desired", "generation", "spec_hash", "version", "image_digest", "restarts",
    "image", "entrypoint", "env_files", "secrets", "user", "workdir", "network", "restart", "memory", "cpus", "pids",
    "healthcheck", "depends_on", "labels", "stop_seconds",
    "state", "observed_at", "container_id", "pid", "observed_image", "observed_digest", "observed_spec",
    "observed_generation", "started_at", "finished_at", "exit_code", "health", "message",
)  # fmt: skip
CHILD_COLUMNS = {
    "component_ports": "host, container, protocol, host_ip",
    "component_volumes": "source, target, options",
    "component_env": "name, value",
    "component_cmd": "argument",
}


def component(row: Sequence[Any], children: Mapping[str, Children]) -> ComponentRecord:
    """A component from its row (`COMPONENT_COLUMNS`) and those below it (`CHILD_COLUMNS`)."""
    (
        service, name, container_name, desired, generation, spec_hash, version, image_digest, restarts,
        image, entrypoint, env_files, secrets, user, workdir, network, restart, memory, cpus, pids,
        healthcheck, depends_on, labels, stop_seconds, *seen,
    ) = row  # fmt: skip
    key = (service, name)
    spec = ComponentSpec(
        name,
        image,
        tuple([Port(*each) for each in children["component_ports"].get(key, ())]),
        tuple([Volume(s, t, _list(o, tuple[str, ...])) for s, t, o in children["component_volumes"].get(key, ())]),
        _list(entrypoint, tuple[str, ...]),
        tuple([each[0] for each in children["component_cmd"].get(key, ())]),
        {each[0]: each[1] for each in children["component_env"].get(key, ())},
        _list(env_files, tuple[str, ...]),
        _list(secrets, tuple[Secret, ...]),
        user,
        workdir,
        network,
        restart,
        Limits(memory, cpus, pids),
        msgspec.json.decode(healthcheck, type=Healthcheck) if healthcheck else None,
        _list(depends_on, tuple[str, ...]),
        {} if labels == "{}" else msgspec.json.decode(labels, type=dict[str, str]),
        stop_seconds,
    )
    return ComponentRecord(
        service, spec, container_name, desired, generation, spec_hash, version, image_digest, Observed(*seen), restarts
    )


def _list(value: str, kind: Any) -> Any:
    # Most are empty: not decoding those halves the time of a listing.
    return () if value == "[]" else msgspec.json.decode(value, type=kind)


def grouped(rows: Iterable[Sequence[Any]]) -> dict[tuple[str, str], list[Sequence[Any]]]:
    """Rows below components by (service, component), which are their first two columns."""
    found: dict[tuple[str, str], list[Sequence[Any]]] = {}
    for service, component_name, *rest in rows:
        found.setdefault((service, component_name), []).append(rest)
    return found


def event(row: Row) -> Event:
    """An event from its row."""
    return Event(
        row["id"], row["at"], row["service"], row["component"], row["kind"], row["message"],
        row["from_state"], row["to_state"], msgspec.json.decode(row["details"]),
    )  # fmt: skip


def operation(row: Row) -> Operation:
    """An operation from its row."""
    return Operation(
        row["id"], row["kind"], row["service"], row["request"], row["state"], row["started_at"], row["holder"],
        row["lease_until"], row["finished_at"], row["answer"], row["steps"],
        msgspec.json.decode(row["plan"], type=dict[str, dict[str, Planned]]),
    )  # fmt: skip
