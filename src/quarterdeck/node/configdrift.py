"""How a container's real configuration differs from its definition. Pure: values in, values out.

Both sides are brought into one form first, by a function that knows the image: what only repeats the image, or
what podman does anyway, is no difference, whoever wrote it down.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from quarterdeck.node.model import ComponentSpec, Limits, Port, Volume
from quarterdeck.node.reconcile import shown
from quarterdeck.node.results import Drift
from quarterdeck.node.runtime import Image

# What `podman run` allows without being asked; 0 and -1 say that there is no limit.
DEFAULT_PIDS = (0, -1, 2048)
DEFAULT_NETWORK = "podman"
EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - all of them say the same
OWN_LABELS = "io.quarterdeck."
# Podman takes a share of a core as whole microseconds in each tenth of a second, cut or rounded as its door likes.
_CPU_STEP = 2e-5

# The fields that a container's real configuration tells; the others are the agent's, or are never shown.
_REAL = ("image", "ports", "volumes", "entrypoint", "cmd", "user", "workdir", "network", "limits.", "env.", "labels.",
         "healthcheck", "stop_seconds", "secrets")  # fmt: skip


def plain(spec: ComponentSpec, image: Image) -> ComponentSpec:
    """The same container in its shortest form: without what its image brings and what podman does anyway."""
    entrypoint = spec.entrypoint
    if entrypoint == image.entrypoint or not any(entrypoint):
        entrypoint = ()
    check = spec.healthcheck
    return replace(
        spec,
        ports=tuple(sorted((_plain_port(each) for each in spec.ports), key=repr)),
        volumes=tuple(sorted((_plain_volume(each) for each in spec.volumes), key=lambda each: each.target)),
        entrypoint=entrypoint,
        cmd=() if spec.cmd == image.cmd and not entrypoint else spec.cmd,
        env={name: value for name, value in spec.env.items() if f"{name}={value}" not in image.env},
        user="" if spec.user == image.user else spec.user,
        workdir="" if _path(spec.workdir) in ("", _path(image.workdir) or "/") else _path(spec.workdir),
        network="" if spec.network in (DEFAULT_NETWORK, "bridge") else spec.network,
        limits=replace(spec.limits, pids=None if spec.limits.pids in DEFAULT_PIDS else spec.limits.pids),
        healthcheck=None if check is not None and check.command == image.healthcheck else check,
        labels={
            name: value
            for name, value in spec.labels.items()
            if image.labels.get(name) != value and not name.startswith(OWN_LABELS)
        },
    )


def _plain_port(port: Port) -> Port:
    try:
        address = "" if port.host_ip in EVERY_ADDRESS else str(ip_address(port.host_ip))
    except ValueError:
        address = port.host_ip
    return replace(port, host_ip="" if address in EVERY_ADDRESS else address)


def _plain_volume(volume: Volume) -> Volume:
    """Mount options but read-only are podman's own business."""
    source = _path(volume.source) if volume.is_bind else volume.source
    return Volume(source, _path(volume.target), ("ro",) if volume.read_only else ())


def _path(path: str) -> str:
    """A path as podman writes it down: without what leads nowhere."""
    return "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path


def config_drift(
    desired: ComponentSpec,
    real: ComponentSpec,
    *,
    image: Image | None = None,
    hidden: Iterable[str] = (),
    labelled: Iterable[str] = (),
) -> tuple[Drift, ...]:
    """The fields in which a container's real configuration differs from its definition.

    `image` is the one that the container runs. Values of variables in `hidden` are never compared and never shown.
    `labelled` are the variables that the container's own label says come from secrets and env files (podman does
    not tell them). How often a healthcheck is run is the agent's business.
    """
    base = image or Image("", "")
    unseen = frozenset(hidden)
    desired, real = plain(desired, base), plain(real, base)
    if desired.healthcheck is not None and real.healthcheck is not None:
        real = replace(real, healthcheck=replace(real.healthcheck, interval=desired.healthcheck.interval))
    real = replace(real, limits=_same_share(desired.limits, real.limits))
    wanted = shown(replace(desired, env=_without(desired.env, unseen)))
    actual = shown(replace(real, env=_without(real.env, unseen)))
    if _same_image(desired.image, real.image):
        actual["image"] = wanted.get("image", "")
    targets = _env_secrets(desired)
    _put(wanted, "secrets", _secrets(desired, targets))
    _put(actual, "secrets", _secrets(real, _env_secrets(real) | targets & frozenset(labelled)))
    names = [name for name in dict.fromkeys((*wanted, *actual)) if name.startswith(_REAL)]
    return tuple(
        Drift(desired.name, "config", name, wanted.get(name, ""), actual.get(name, ""))
        for name in names
        if wanted.get(name) != actual.get(name)
    )


def described(found: Collection[Drift]) -> str:
    """Differences as a person reads them in an alert or a plan."""
    return "; ".join(
        f"{each.field}: {each.actual or 'nothing'} instead of {each.desired or 'the default'}"
        if each.kind == "config"
        else f"{each.field}: {each.actual} instead of {each.desired}"
        for each in found
    )


def _same_share(desired: Limits, real: Limits) -> Limits:
    if desired.cpus is None or real.cpus is None or abs(desired.cpus - real.cpus) > _CPU_STEP:
        return real
    return replace(real, cpus=desired.cpus)


def _put(fields: dict[str, str], name: str, value: str) -> None:
    fields.pop(name, None)
    if value:
        fields[name] = value


def _env_secrets(spec: ComponentSpec) -> frozenset[str]:
    return frozenset(each.target or each.name for each in spec.secrets if each.kind == "env")


def _secrets(spec: ComponentSpec, variables: Iterable[str]) -> str:
    """As far as a container tells: the variables, and which secrets are files (not where)."""
    files = {each.name for each in spec.secrets if each.kind == "file"}
    return ", ".join(
        [*(f"variable {each}" for each in sorted(variables)), *(f"file of {each}" for each in sorted(files))]
    )


def _without(env: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in env.items() if name not in names}


def _same_image(wanted: str, real: str) -> bool:
    """Podman completes short names (`nginx` is told as `docker.io/library/nginx:latest`)."""

    def full(name: str) -> str:
        path, _, last = name.rpartition("/")
        before, at, digest = last.partition("@")
        if at:
            # Of a tag and a digest, only the digest says which image it is.
            last = f"{before.partition(':')[0]}@{digest}"
        elif ":" not in last:
            last = f"{last}:latest"
        return f"{path}/{last}" if path else last

    return full(real) == full(wanted) or full(real).endswith("/" + full(wanted))
