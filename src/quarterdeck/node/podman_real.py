"""The configuration that a container really has, read from podman's inspect as a `ComponentSpec`. Pure.

What its image brings is taken away, so that the result reads as a person would have written it, and what no
definition can hold is told. Values of secrets and of private env files are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from quarterdeck.node.configdrift import DEFAULT_NETWORK, DEFAULT_PIDS, EVERY_ADDRESS
from quarterdeck.node.model import ComponentSpec, Healthcheck, Limits, Port, Restart, Secret, Volume
from quarterdeck.node.podman_beyond import beyond, networks, options
from quarterdeck.node.podman_json import LABEL, LABEL_HIDDEN, LABEL_NODE, check_command
from quarterdeck.node.runtime import Image
from quarterdeck.node.validate import parse_volume

# Variables that podman sets by itself, the proxies' from its own environment.
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
_OWN_ENV = frozenset(("container", "HOSTNAME", "TERM", "HOME", "PATH", *_PROXIES, *map(str.upper, _PROXIES)))
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


def real_spec(
    raw: Mapping[str, Any], base: Image | None, *, component: str, defined: Collection[str] | None = None
) -> tuple[ComponentSpec, tuple[str, ...]]:
    """The configuration that a container really has, less what its image brings, and what of it no definition
    can hold. Values of secrets and of private env files are left out.

    `defined` are the variables of the definition that it is to be compared with: of those that podman sets by
    itself, just these are told. None is for an adoption, which tells those that differ from podman's own.
    """
    config, host = raw.get("Config") or {}, raw.get("HostConfig") or {}
    image_ = base or Image("", "")
    hidden, secrets, warnings = _hidden(config)
    entrypoint, cmd = _command(raw, config, image_)
    network = _network(raw, host)
    spec = ComponentSpec(
        name=component,
        image=str(raw.get("ImageName") or config.get("Image") or ""),
        ports=ports(host),
        volumes=_volumes(raw, image_),
        entrypoint=entrypoint,
        cmd=cmd,
        env=_env(config, image_, hidden, defined),
        secrets=secrets,
        user="" if config.get("User") == image_.user else str(config.get("User") or ""),
        workdir=_workdir(config, image_),
        network=network,
        restart=_restart(host),
        limits=_limits(host),
        healthcheck=_healthcheck(config),
        labels=_labels(config, image_),
        stop_seconds=int(config.get("StopTimeout") or 0),
    )
    return spec, (*warnings, *beyond(raw))


def hidden_names(labels: Mapping[str, str]) -> frozenset[str]:
    """The variables of a container of ours whose values must not be shown."""
    return frozenset(filter(None, labels.get(LABEL_HIDDEN, "").split(",")))


def _hidden(config: Mapping[str, Any]) -> tuple[frozenset[str], tuple[Secret, ...], tuple[str, ...]]:
    """Variables to hide, the secrets as far as they can be known, and warnings about the rest.

    Inspect shows the values of secret variables among the others and does not say which they are, only the
    command that made the container does.
    """
    hidden = set(hidden_names(config.get("Labels") or {}))
    secrets: dict[tuple[str, str], Secret] = {}
    warnings: list[str] = []
    words = [str(each) for each in config.get("CreateCommand") or ()]
    given: set[str] = set()
    for option, value in _given(config):
        if option == "--secret":
            name, *rest = value.split(",")
            fields = dict(each.partition("=")[::2] for each in rest)
            if fields.get("type") == "env":
                target = fields.get("target", name)
                hidden.add(target)
                secrets[name, target] = Secret(name, "env", "" if target == name else target)
            else:
                target = fields.get("target", "")
                secrets[name, target] = Secret(name, "file", target)
        elif option == "--env":
            given.add(value.partition("=")[0])
        elif option == "--env-file" and LABEL_NODE not in (config.get("Labels") or {}):
            warnings.append("env-file: its variables are left out; put them into env_files or secrets")
    if any(option == "--env-file" for option, _ in _given(config)):
        hidden |= {str(each).partition("=")[0] for each in config.get("Env") or ()} - given
    labelled = hidden_names(config.get("Labels") or {})
    found = {each.target or each.name for each in secrets.values() if each.kind == "env"}
    warnings += [
        f"env.{name}: it came from a secret or an env file and is left out; put it into either"
        for name in sorted(labelled - found)
    ]
    if not words and LABEL_NODE not in (config.get("Labels") or {}):
        warnings.append("no create command: podman does not tell which variables came from secrets; look at env")
    known = {secret.name for secret in secrets.values()}
    for each in config.get("Secrets") or ():
        if each.get("Name") not in known:
            secrets[str(each.get("Name")), ""] = Secret(str(each.get("Name")), "file")
    return frozenset(hidden), tuple(secrets.values()), tuple(dict.fromkeys(warnings))


def _command(raw: Mapping[str, Any], config: Mapping[str, Any], base: Image) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and arguments where they differ from the image's own."""
    cmd = tuple(str(each) for each in config.get("Cmd") or ())
    whole = tuple(str(each) for each in (raw.get("Path"), *(raw.get("Args") or ())) if each)
    # Podman 4 joins the entrypoint with spaces; the real words are the command less its arguments.
    entrypoint = whole[: len(whole) - len(cmd)] if cmd and whole[-len(cmd) :] == cmd else whole if not cmd else ()
    if not config.get("Entrypoint"):
        entrypoint = ()
    if entrypoint == base.entrypoint:
        entrypoint = ()
    if cmd == base.cmd and not entrypoint:
        cmd = ()
    return entrypoint, cmd


def _env(
    config: Mapping[str, Any], base: Image, hidden: frozenset[str], defined: Collection[str] | None
) -> dict[str, str]:
    image_env = set(base.env)
    image_names = {each.partition("=")[0] for each in base.env}
    given = {value.partition("=")[0] for option, value in _given(config) if option == "--env"}
    found: dict[str, str] = {}
    for each in config.get("Env") or ():
        name, _, value = str(each).partition("=")
        if each in image_env or name in hidden:
            continue
        if defined is not None and name in _OWN_ENV and name not in defined:
            continue
        if defined is None and name not in given | image_names and _is_default(name, value, config):
            continue
        found[name] = value
    return found


def _is_default(name: str, value: str, config: Mapping[str, Any]) -> bool:
    """Whether podman sets this variable to this value by itself, as far as can be told."""
    match name:
        case "container":
            return value in ("podman", "oci")
        case "HOSTNAME":
            return value == config.get("Hostname")
        case "TERM":
            return value == "xterm"
        case "PATH":
            return value == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        case "HOME":
            # The user's folder, as the image has it. Without the command that made it, the usual ones are taken for it.
            return bool(_given(config)) or value in ("/", "/root") or value.startswith("/home/")
        case _:
            return False


def _given(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The options of the command that made it; none where it was made over REST."""
    return options([str(each) for each in config.get("CreateCommand") or ()])


def ports(host: Mapping[str, Any]) -> tuple[Port, ...]:
    """The published ports, from the `HostConfig` of an inspect."""
    found: list[Port] = []
    for inside, bindings in (host.get("PortBindings") or {}).items():
        number, _, protocol = inside.partition("/")
        for each in bindings or ():
            address = str(each.get("HostIp") or "")
            found.append(
                Port(
                    int(each["HostPort"]),
                    int(number),
                    "udp" if protocol == "udp" else "tcp",
                    "" if address in EVERY_ADDRESS else address,
                )
            )
    return tuple(sorted(found, key=lambda port: (port.container, port.host, port.protocol, port.host_ip)))


def anonymous_volumes(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the volumes that podman made for this container alone, of the answer of `inspect`."""
    names = (str(mount.get("Name", "")) for mount in raw.get("Mounts") or () if mount.get("Type") == "volume")
    return tuple(name for name in names if _ANONYMOUS.fullmatch(name))


def _volumes(raw: Mapping[str, Any], base: Image) -> tuple[Volume, ...]:
    found: list[Volume] = []
    said = _volume_options(raw.get("Config") or {})
    for mount in raw.get("Mounts") or ():
        kind, target = mount.get("Type"), str(mount.get("Destination"))
        if kind == "volume" and (_ANONYMOUS.fullmatch(str(mount.get("Name", ""))) or target in base.volumes):
            if _ANONYMOUS.fullmatch(str(mount.get("Name", ""))):
                continue
        elif kind not in ("bind", "volume"):
            continue
        source = str(mount.get("Name") if kind == "volume" else mount.get("Source"))
        options_ = said.get(target) or _mount_options(mount)
        found.append(Volume(source, target, options_))
    return tuple(sorted(found, key=lambda volume: volume.target))


def _mount_options(mount: Mapping[str, Any]) -> tuple[str, ...]:
    spread = str(mount.get("Propagation") or "")
    read_only = () if mount.get("RW", True) else ("ro",)
    return read_only if spread in ("", "private", "rprivate") else (*read_only, spread)


def _volume_options(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The options as they were given to `--volume`, by target: inspect does not tell all of them (Z, U)."""
    found: dict[str, tuple[str, ...]] = {}
    for option, value in _given(config):
        if option == "--volume":
            try:
                volume = parse_volume(value)
            except ValueError:
                continue
            found[volume.target.rstrip("/")] = volume.options
    return found


def _workdir(config: Mapping[str, Any], base: Image) -> str:
    real = str(config.get("WorkingDir") or "/")
    return "" if real == (base.workdir or "/") else real


def _network(raw: Mapping[str, Any], host: Mapping[str, Any]) -> str:
    mode = str(host.get("NetworkMode") or "")
    if mode in ("host", "none"):
        return mode
    names = networks(raw)
    # All of them where the container is ours: a definition has one, so another is somebody's addition.
    ours = LABEL_NODE in ((raw.get("Config") or {}).get("Labels") or {})
    return "" if not names or names == (DEFAULT_NETWORK,) else ", ".join(names) if ours else names[0]


def _restart(host: Mapping[str, Any]) -> Restart:
    name = (host.get("RestartPolicy") or {}).get("Name") or "no"
    return "on-failure" if name == "on-failure" else "always" if name in ("always", "unless-stopped") else "no"


def _limits(host: Mapping[str, Any]) -> Limits:
    nano, quota, period = host.get("NanoCpus") or 0, host.get("CpuQuota") or 0, host.get("CpuPeriod") or 0
    cpus = nano / 1e9 if nano else quota / period if quota > 0 and period else None
    pids = host.get("PidsLimit") or 0
    return Limits(host.get("Memory") or None, round(cpus, 6) if cpus else None, None if pids in DEFAULT_PIDS else pids)


def _healthcheck(config: Mapping[str, Any]) -> Healthcheck | None:
    check = config.get("Healthcheck") or {}
    command = check_command(check)
    if not command:
        return None
    defaults = Healthcheck(command)
    return replace(
        defaults,
        interval=(check.get("Interval") or 0) / 1e9 or defaults.interval,
        timeout=(check.get("Timeout") or 0) / 1e9 or defaults.timeout,
        retries=int(check.get("Retries") or defaults.retries),
        start_period=(check.get("StartPeriod") or 0) / 1e9,
    )


def _labels(config: Mapping[str, Any], base: Image) -> dict[str, str]:
    given = config.get("Labels") or {}
    return {k: v for k, v in given.items() if not k.startswith(LABEL) and base.labels.get(k) != v}
