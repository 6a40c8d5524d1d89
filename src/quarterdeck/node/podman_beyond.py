"""What of a container no definition can hold: read from the command that made it, and from its inspect. Pure.

Whoever adopts must hear of it, for the next deploy makes a container without it. So everything is told that is not
known to be held by a definition or to be podman's default, rather than only what somebody thought of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Options of `podman create` and `podman run` without a value of their own.
_FLAGS = frozenset((
    "--detach", "--disable-content-trust", "--env-host", "--help", "--http-proxy", "--init", "--interactive",
    "--no-healthcheck", "--no-hosts", "--oom-kill-disable", "--passwd", "--privileged", "--publish-all", "--quiet",
    "--read-only", "--read-only-tmpfs", "--replace", "--rm", "--rmi", "--rootfs", "--sig-proxy", "--tls-verify",
    "--tty", "--unsetenv-all", "--no-hostname", "--env-merge-host",
))  # fmt: skip
_SHORT = {
    "-a": "--attach", "-c": "--cpu-shares", "-d": "--detach", "-e": "--env", "-h": "--hostname", "-i": "--interactive",
    "-l": "--label", "-m": "--memory", "-P": "--publish-all", "-p": "--publish", "-q": "--quiet", "-t": "--tty",
    "-u": "--user", "-v": "--volume", "-w": "--workdir",
}  # fmt: skip
# Held by a definition (or told from inspect), or of no meaning once the container is there.
_HELD = frozenset((
    "--name", "--label", "--label-file", "--publish", "--publish-all", "--volume", "--env", "--env-file", "--secret",
    "--user", "--workdir", "--network", "--net", "--memory", "--cpus", "--pids-limit", "--stop-timeout", "--entrypoint",
    "--restart", "--health-cmd", "--health-interval", "--health-retries", "--health-timeout", "--health-start-period",
    "--no-healthcheck", "--cpu-period", "--cpu-quota", "--expose", "--mount",
    "--attach", "--authfile", "--cidfile", "--conmon-pidfile", "--detach", "--detach-keys", "--disable-content-trust",
    "--help", "--http-proxy", "--interactive", "--pidfile", "--platform", "--pull", "--quiet", "--replace",
    "--sig-proxy", "--tls-verify", "--arch", "--os", "--variant",
))  # fmt: skip
# Told below from inspect already, in words of their own.
_TOLD = frozenset((
    "--privileged", "--cap-add", "--cap-drop", "--device", "--dns", "--add-host", "--security-opt", "--read-only",
    "--tmpfs", "--group-add", "--tty", "--pod", "--pid", "--ipc", "--userns", "--hostname",
))  # fmt: skip
_MOUNT_FIELDS = frozenset(("type", "src", "source", "dst", "dest", "destination", "target", "ro", "readonly"))
# Of `HostConfig`: what a definition holds, what is told in words of its own, and what says nothing about a container.
_HOST_KNOWN = frozenset((
    "Binds", "CgroupManager", "CgroupMode", "ContainerIDFile", "LogConfig", "NetworkMode", "PortBindings",
    "RestartPolicy", "PublishAllPorts", "CapAdd", "CapDrop", "Dns", "ExtraHosts", "GroupAdd", "IpcMode", "PidMode",
    "Privileged", "ReadonlyRootfs", "SecurityOpt", "Tmpfs", "UsernsMode", "Runtime", "ConsoleSize", "Isolation",
    "Memory", "NanoCpus", "CpuPeriod", "CpuQuota", "Devices", "PidsLimit", "IDMappings", "Ulimits",
))  # fmt: skip
# Podman's own values of what is not empty by itself. Its ulimits come from containers.conf, which nobody can see here.
_HOST_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "Cgroups": ("default",),
    "UTSMode": ("private",),
    "ShmSize": (65_536_000, 64 * 1024**2),
    "MemorySwappiness": (-1,),
    "Init": (False,),
}


def options(words: Sequence[str]) -> list[tuple[str, str]]:
    """The options of a container's create command, by their long names, each with its value (empty for a flag)."""
    start = next((index + 1 for index, word in enumerate(words) if word in ("create", "run")), len(words))
    found: list[tuple[str, str]] = []
    left = list(words[start:])
    while left:
        word = left.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if not equals and name not in _FLAGS:
                value = left.pop(0) if left else ""
            found.append(("--network" if name == "--net" else name, value))
            continue
        # Short ones may stand together, the last with its value: -dit, -p80:80, -de A=1.
        letters = word[1:]
        while letters:
            name, letters = _SHORT.get(f"-{letters[0]}", f"-{letters[0]}"), letters[1:]
            if name in _FLAGS:
                found.append((name, ""))
                continue
            found.append((name, letters.removeprefix("=") or (left.pop(0) if left else "")))
            letters = ""
    return found


def beyond(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings of a container that a definition cannot hold, as `setting: value`."""
    config, host = raw.get("Config") or {}, raw.get("HostConfig") or {}
    own = {
        "privileged": host.get("Privileged"),
        "cap-add": host.get("CapAdd"),
        "cap-drop": host.get("CapDrop"),
        "device": [each.get("PathOnHost") for each in host.get("Devices") or ()],
        "dns": host.get("Dns"),
        "add-host": host.get("ExtraHosts"),
        "security-opt": host.get("SecurityOpt"),
        "read-only": host.get("ReadonlyRootfs"),
        "tmpfs": list(host.get("Tmpfs") or ()),
        "group-add": host.get("GroupAdd"),
        "tty": config.get("Tty"),
        "pod": raw.get("Pod"),
        "pid": _mode(host, "PidMode", "private"),
        "ipc": _mode(host, "IpcMode", "private", "shareable"),
        "userns": host.get("UsernsMode"),
        "hostname": config.get("Hostname") if not str(raw["Id"]).startswith(str(config.get("Hostname"))) else None,
        "restart (podman's own, until the next deploy)": _own_restart(host),
        "network": _network(raw, host),
    }
    mode = str(host.get("NetworkMode") or "")
    if mode == "host" or mode.startswith("container:"):
        own["hostname"] = None
    found = {name: str(value) for name, value in own.items() if value}
    given = options([str(each) for each in config.get("CreateCommand") or ()])
    for name, value in given:
        if name == "--mount" and (more := _beyond_of_mount(value)):
            _add(found, "mount", more)
        elif name not in _HELD | _TOLD and value != "false":
            _add(found, name.removeprefix("--"), value or "true")
    names = {_letters(name) for name in found} | ({"autoremove"} if "rm" in found else set())
    for name, value in host.items():
        twice = name == "MemorySwap" and value in (-1, 2 * (host.get("Memory") or 0))
        usual = not value or twice or value in _HOST_DEFAULTS.get(name, ())
        if not usual and name not in _HOST_KNOWN and _letters(name) not in names:
            found[name] = str(value)
    if (host.get("LogConfig") or {}).get("Type") in ("none", "passthrough") and "log-driver" not in found:
        found["log-driver"] = host["LogConfig"]["Type"]
    return tuple(f"{name}: {value}" for name, value in found.items())


def _add(found: dict[str, str], name: str, value: str) -> None:
    found[name] = f"{found[name]}, {value}" if name in found else value


def _letters(name: str) -> str:
    return name.replace("-", "").lower()


def _mode(host: Mapping[str, Any], key: str, *usual: str) -> str:
    mode = str(host.get(key) or "")
    return "" if mode in usual else mode


def _beyond_of_mount(value: str) -> str:
    """A mount that is told as a volume loses what else was said about it; other kinds are lost whole."""
    fields = dict(each.partition("=")[::2] for each in value.split(","))
    if fields.get("type") not in ("bind", "volume"):
        return value
    target = next((fields[key] for key in ("dst", "dest", "destination", "target") if key in fields), "")
    more = [
        f"{key}={each}"
        for key, each in fields.items()
        # How mounts below it spread is an option of a volume, and read back as one.
        if key not in _MOUNT_FIELDS and key != "bind-propagation"
    ]
    return f"{target} {','.join(more)}" if more else ""


def _network(raw: Mapping[str, Any], host: Mapping[str, Any]) -> str:
    """How it is connected, where a definition says less: other modes, several networks."""
    mode = str(host.get("NetworkMode") or "")
    names = networks(raw)
    if mode.partition(":")[0] in ("container", "ns", "slirp4netns", "pasta", "private"):
        return mode
    return ", ".join(names) if len(names) > 1 else ""


def networks(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The networks that a container is attached to, by name."""
    return tuple(sorted((raw.get("NetworkSettings") or {}).get("Networks") or {}))


def _own_restart(host: Mapping[str, Any]) -> str:
    name = (host.get("RestartPolicy") or {}).get("Name") or ""
    return "" if name == "no" else name
