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
    Port,
    Secret,
    Volume,
)

Row = Mapping[str, Any]
Children = Mapping[tuple[str, str], Sequence[Row]]


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


def component(row: Row, children: Mapping[str, Children]) -> ComponentRecord:
    """A component from its row and those below it."""
    key = (row["service"], row["name"])

    def below(table: str) -> Sequence[Row]:
        return children[table].get(key, ())

    spec = ComponentSpec(
        name=row["name"],
        image=row["image"],
        ports=tuple(Port(p["host"], p["container"], p["protocol"], p["host_ip"]) for p in below("component_ports")),
        volumes=tuple(
            Volume(v["source"], v["target"], _list(v["options"], tuple[str, ...])) for v in below("component_volumes")
        ),
        entrypoint=_list(row["entrypoint"], tuple[str, ...]),
        cmd=tuple(each["argument"] for each in below("component_cmd")),
        env={each["name"]: each["value"] for each in below("component_env")},
        env_files=_list(row["env_files"], tuple[str, ...]),
        secrets=_list(row["secrets"], tuple[Secret, ...]),
        user=row["user"],
        workdir=row["workdir"],
        network=row["network"],
        restart=row["restart"],
        limits=Limits(row["memory"], row["cpus"], row["pids"]),
        healthcheck=msgspec.json.decode(row["healthcheck"], type=Healthcheck) if row["healthcheck"] else None,
        depends_on=_list(row["depends_on"], tuple[str, ...]),
        labels={} if row["labels"] == "{}" else msgspec.json.decode(row["labels"], type=dict[str, str]),
        stop_seconds=row["stop_seconds"],
    )
    seen = Observed(
        state=row["state"], at=row["observed_at"], container_id=row["container_id"], pid=row["pid"],
        image=row["observed_image"], image_digest=row["observed_digest"], spec_hash=row["observed_spec"],
        generation=row["observed_generation"], started_at=row["started_at"], finished_at=row["finished_at"],
        exit_code=row["exit_code"], health=row["health"], message=row["message"],
    )  # fmt: skip
    return ComponentRecord(
        service=row["service"],
        spec=spec,
        container_name=row["container_name"],
        desired=row["desired"],
        generation=row["generation"],
        spec_hash=row["spec_hash"],
        version=row["version"],
        image_digest=row["image_digest"],
        observed=seen,
        restarts=row["restarts"],
    )


def _list(value: str, kind: Any) -> Any:
    # Most are empty: not decoding those halves the time of a listing.
    return () if value == "[]" else msgspec.json.decode(value, type=kind)


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows below components by (service, component)."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["service"], row["component"]), []).append(row)
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
    )  # fmt: skip
