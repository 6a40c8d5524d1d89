"""The JSON bodies that libpod REST takes. Pure; the counterpart of `podman_args`."""

from __future__ import annotations

from typing import Any

from quarterdeck.node.model import ComponentSpec, Volume
from quarterdeck.node.runtime import CreateRequest


def create(request: CreateRequest) -> dict[str, Any]:
    """The specification of a container (libpod's SpecGenerator)."""
    spec = request.spec
    body: dict[str, Any] = {
        "name": request.name,
        "image": spec.image,
        "image_volume_mode": "anonymous",
        "labels": {**spec.labels, **request.labels},
        "env": {**request.hidden_env, **spec.env},
        "stop_timeout": spec.stop_seconds,
        "portmappings": [
            {"host_ip": p.host_ip, "host_port": p.host, "container_port": p.container, "protocol": p.protocol}
            for p in spec.ports
        ],
        "mounts": [_bind(each) for each in spec.volumes if each.is_bind],
        "volumes": [
            {"Name": each.source, "Dest": each.target, "Options": list(each.options)}
            for each in spec.volumes
            if not each.is_bind
        ],
        # A file's mode is 0 unless told: unreadable for all but root.
        "secrets": [
            {"Source": each.name, "Target": each.target or each.name, "Mode": 0o444}
            for each in spec.secrets
            if each.kind == "file"
        ],
        "secret_env": {each.target or each.name: each.name for each in spec.secrets if each.kind == "env"},
    }
    body |= _network(spec)
    optional = {
        "command": list(spec.cmd),
        "entrypoint": list(spec.entrypoint),
        "user": spec.user,
        "work_dir": spec.workdir,
        "resource_limits": _limits(spec),
        "healthconfig": _healthcheck(spec),
    }
    return body | {key: value for key, value in optional.items() if value}


def _bind(volume: Volume) -> dict[str, Any]:
    # Without rbind a mount below the source is not seen, unlike with the command.
    options = [*volume.options, *([] if {"bind", "rbind"} & set(volume.options) else ["rbind"])]
    return {"type": "bind", "source": volume.source, "destination": volume.target, "options": options}


def _network(spec: ComponentSpec) -> dict[str, Any]:
    if spec.network in ("host", "none"):
        return {"netns": {"nsmode": spec.network}}
    return {"netns": {"nsmode": "bridge"}, **({"networks": {spec.network: {}}} if spec.network else {})}


def _limits(spec: ComponentSpec) -> dict[str, Any]:
    limits = spec.limits
    found: dict[str, Any] = {}
    if limits.memory is not None:
        # Twice the memory with swap: what the command gives when only --memory is told.
        found["memory"] = {"limit": limits.memory, "swap": 2 * limits.memory}
    if limits.cpus is not None:
        found["cpu"] = {"quota": round(limits.cpus * 100_000), "period": 100_000}
    if limits.pids is not None:
        found["pids"] = {"limit": limits.pids}
    return found


def _healthcheck(spec: ComponentSpec) -> dict[str, Any]:
    check = spec.healthcheck
    if check is None:
        return {}
    # Interval 0 switches podman's own timer off: the node agent runs the check itself.
    return {
        "Test": ["CMD", *check.command],
        "Interval": 0,
        "Timeout": round(check.timeout * 1e9),
        "Retries": check.retries,
        "StartPeriod": round(check.start_period * 1e9),
    }
