"""Checks a service definition and reads the short forms in which people write it. Pure.

`problems` looks at a whole definition; the `parse_*` functions raise `ValueError` with what to write
instead, and `format_*` are their inverses.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from quarterdeck.node.model import (
    ENV_NAME,
    NAME,
    RESTARTS,
    ComponentSpec,
    Port,
    Problem,
    ServiceDef,
    Volume,
    container_name,
)

_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
# fmt: off
_VOLUME_OPTIONS = frozenset((
    "ro", "rw", "z", "Z", "U", "O", "exec", "noexec", "dev", "nodev", "suid", "nosuid", "copy", "nocopy",
    "bind", "rbind", "shared", "rshared", "slave", "rslave", "private", "rprivate",
))
# fmt: on
# Podman 4 hangs, with a lock held, on a runtime's error message over 64 KiB; these stand in such messages whole.
MOST_PATH_BYTES = 4096
MOST_USER_BYTES = 256
# Linux takes no longer argument.
MOST_WORD_BYTES = 131_071
# The wire's and podman's own numbers have 64 bits, the wire's for small things 32.
MOST_NUMBER = 2**63 - 1
MOST_SECONDS = 2**31 - 1
SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_NAME_RULE = "lower-case letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, at most 63"


def parse_port(text: str) -> Port:
    """`[IP:]HOST:CONTAINER[/tcp|/udp]`; an IPv6 address stands in brackets. Raises `ValueError`."""
    form = f'{text!r} is not a port; write HOST:CONTAINER such as "8080:80", or "127.0.0.1:8080:80/udp"'
    body, _, protocol = text.partition("/")
    match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[0-9.]+):)?(\d{1,5}):(\d{1,5})", body)
    if match is None or protocol not in ("", "tcp", "udp"):
        raise ValueError(form)
    address = (match[1] or "").strip("[]")
    if wrong := _address_problem(address):
        raise ValueError(wrong)
    port = Port(int(match[2]), int(match[3]), "udp" if protocol == "udp" else "tcp", address)
    if not (0 < port.host < 65536 and 0 < port.container < 65536):
        raise ValueError(f"{text!r} is not a port; both numbers are between 1 and 65535")
    return port


def _address_problem(address: str) -> str:
    """What is wrong with the address of a port; empty when nothing is."""
    try:
        if address:
            ip_address(address)
    except ValueError:
        return f'{address!r} is no IP address; write one of the node, such as "127.0.0.1:8080:80", or none'
    return ""


def format_port(port: Port) -> str:
    """The short form that `parse_port` reads."""
    address = f"[{port.host_ip}]:" if ":" in port.host_ip else f"{port.host_ip}:" if port.host_ip else ""
    return f"{address}{port.host}:{port.container}" + ("/udp" if port.protocol == "udp" else "")


def parse_volume(text: str) -> Volume:
    """`SOURCE:TARGET[:OPTION,...]`, the source an absolute path or a volume's name. Raises `ValueError`."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0] or not parts[1]:
        raise ValueError(f'{text!r} is not a volume; write "/on/node:/in/container", or "name:/in/container:ro"')
    volume = Volume(parts[0], parts[1], tuple(parts[2].split(",")) if len(parts) == 3 else ())
    for problem in _volume_problems("", volume):
        raise ValueError(problem.message)
    return volume


def format_volume(volume: Volume) -> str:
    """The short form that `parse_volume` reads."""
    options = f":{','.join(volume.options)}" if volume.options else ""
    return f"{volume.source}:{volume.target}{options}"


def parse_memory(text: str) -> int:
    """Bytes from `512m`, `1.5g`, `1048576` (units of 1024). Raises `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", text.strip().lower())
    if match is None or (size := int(float(match[1]) * _UNITS[match[2]])) < 1:
        raise ValueError(f'{text!r} is not an amount of memory; write "512m" or "2g"')
    return size


def format_memory(size: int) -> str:
    """The shortest exact form that `parse_memory` reads."""
    for unit in ("t", "g", "m", "k"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def command_problem(command: Sequence[str], user: str = "") -> str:
    """What is wrong with a command and the user that runs it; empty when nothing is."""
    if not command or not command[0]:
        return "a command is a program and its arguments"
    if any("\0" in word for word in (*command, user)):
        return "a command and its user hold no NUL character"
    if len(command[0].encode()) > MOST_PATH_BYTES:
        return f"a program's name has at most {MOST_PATH_BYTES} bytes"
    if any(len(word.encode()) > MOST_WORD_BYTES for word in command):
        return f"an argument has at most {MOST_WORD_BYTES} bytes"
    if len(user.encode()) > MOST_USER_BYTES:
        return f"a user's name has at most {MOST_USER_BYTES} bytes"
    return ""


def problems(service: ServiceDef) -> tuple[Problem, ...]:
    """Everything that is wrong with a definition; empty when it can be deployed."""
    return tuple(_service_problems(service))


def _service_problems(service: ServiceDef) -> Iterator[Problem]:
    if not NAME.fullmatch(service.name):
        yield Problem("name", f"{service.name!r} is not a name; use {_NAME_RULE}")
    if not service.components:
        yield Problem("components", "a service needs at least one component: add [[components]] with name and image")
    names = Counter(each.name for each in service.components)
    ports: dict[tuple[str, int, str], tuple[str, int]] = {}
    for index, component in enumerate(service.components):
        key = f"components[{index}]"
        if names[component.name] > 1:
            yield Problem(f"{key}.name", f"{component.name!r} is used {names[component.name]} times; names are unique")
        if len(container_name(service.name, component.name)) > 63:
            yield Problem(f"{key}.name", "service and component name together are longer than 63; shorten one")
        yield from _component_problems(key, component)
        for number, port in enumerate(component.ports):
            taken, first = ports.setdefault((port.host_ip, port.host, port.protocol), (component.name, number))
            if (taken, first) != (component.name, number):
                yield Problem(f"{key}.ports[{number}]", f"host port {port.host} is already used by {taken!r}")
        for number, other in enumerate(component.depends_on):
            if other not in names or other == component.name:
                known = ", ".join(sorted(set(names) - {component.name})) or "none"
                yield Problem(
                    f"{key}.depends_on[{number}]", f"{other!r} is no other component of this service; there is: {known}"
                )
    if cycle := _cycle(service):
        yield Problem("components", f"depends_on goes in a circle: {' -> '.join(cycle)}")


def _component_problems(key: str, component: ComponentSpec) -> Iterator[Problem]:
    if not NAME.fullmatch(component.name):
        yield Problem(f"{key}.name", f"{component.name!r} is not a name; use {_NAME_RULE}")
    if not _IMAGE.fullmatch(component.image):
        yield Problem(f"{key}.image", f"{component.image!r} is not an image; write registry/name:tag")
    for where, command in (("entrypoint", component.entrypoint), ("cmd", component.cmd)):
        if command and (wrong := command_problem(("program", *command[1:]) if not command[0] else command)):
            yield Problem(f"{key}.{where}", wrong)
    if wrong := command_problem(("program",), component.user):
        yield Problem(f"{key}.user", wrong)
    if wrong := command_problem((component.workdir or "/",)):
        yield Problem(f"{key}.workdir", wrong.replace("program's name", "folder's path"))
    if component.restart not in RESTARTS:
        yield Problem(f"{key}.restart", f"{component.restart!r} is not one of {', '.join(RESTARTS)}")
    for name, value in component.env.items():
        if not ENV_NAME.fullmatch(name):
            yield Problem(f"{key}.env", f"{name!r} is not a variable's name; use letters, digits and '_'")
        if "\0" in value or "\n" in name:
            yield Problem(f"{key}.env.{name}", "a value cannot hold a NUL character")
    for number, path in enumerate(component.env_files):
        if path.startswith("/") or not path or any(part in ("", ".", "..") for part in path.split("/")):
            yield Problem(f"{key}.env_files[{number}]", f"{path!r} leads out; write a path below the service's folder")
    for number, secret in enumerate(component.secrets):
        if not SECRET_NAME.fullmatch(secret.name):
            yield Problem(f"{key}.secrets[{number}]", f"{secret.name!r} is not a secret's name")
        if secret.kind == "env" and not ENV_NAME.fullmatch(secret.target or secret.name):
            yield Problem(
                f"{key}.secrets[{number}]",
                f"{secret.target or secret.name!r} is not a variable's name; give a target such as DB_PASSWORD",
            )
        if secret.kind == "file" and ("/" in secret.target or "," in secret.target):
            yield Problem(f"{key}.secrets[{number}]", "a file's target is a plain name: it lies below /run/secrets")
    targets: set[str] = set()
    for number, volume in enumerate(component.volumes):
        yield from _volume_problems(f"{key}.volumes[{number}]", volume)
        if volume.target in targets:
            yield Problem(f"{key}.volumes[{number}]", f"{volume.target!r} is mounted twice")
        targets.add(volume.target)
    for number, port in enumerate(component.ports):
        if not (0 < port.host < 65536 and 0 < port.container < 65536):
            yield Problem(f"{key}.ports[{number}]", "both numbers are between 1 and 65535")
        if wrong := _address_problem(port.host_ip):
            yield Problem(f"{key}.ports[{number}]", wrong)
    if component.ports and component.network in ("host", "none"):
        yield Problem(f"{key}.ports", f"network {component.network!r} publishes nothing; leave ports or network out")
    yield from _limit_problems(key, component)


def _volume_problems(key: str, volume: Volume) -> Iterator[Problem]:
    if not volume.is_bind and not _VOLUME_NAME.fullmatch(volume.source):
        yield Problem(key, f"{volume.source!r} is neither an absolute path nor a volume's name")
    if not volume.target.startswith("/"):
        yield Problem(key, f"{volume.target!r} is not an absolute path in the container")
    if ".." in volume.source.split("/") or ":" in volume.source + volume.target:
        yield Problem(key, "a path cannot hold '..' or ':'")
    for option in volume.options:
        if option not in _VOLUME_OPTIONS:
            yield Problem(key, f"{option!r} is not a mount option; there are {', '.join(sorted(_VOLUME_OPTIONS))}")


def _limit_problems(key: str, component: ComponentSpec) -> Iterator[Problem]:
    limits, check = component.limits, component.healthcheck
    if limits.memory is not None and limits.memory < 4 * 1024**2:
        yield Problem(f"{key}.limits.memory", "less than 4m; no container starts with that")
    if limits.cpus is not None and not 0.01 <= limits.cpus <= 4096:
        yield Problem(f"{key}.limits.cpus", "is a number of cores such as 0.5")
    if limits.memory is not None and limits.memory > MOST_NUMBER:
        yield Problem(f"{key}.limits.memory", "is more than any machine has")
    if limits.pids is not None and not 1 <= limits.pids <= MOST_NUMBER:
        yield Problem(f"{key}.limits.pids", "is a number of processes of at least 1")
    if not 0 <= component.stop_seconds <= MOST_SECONDS:
        yield Problem(f"{key}.stop_seconds", f"is a number of seconds from 0 to {MOST_SECONDS}")
    if check is not None:
        if not check.command:
            yield Problem(f"{key}.healthcheck.command", 'is an argument list such as ["curl", "-f", "localhost"]')
        elif wrong := command_problem(check.command):
            yield Problem(f"{key}.healthcheck.command", wrong)
        times = (check.interval, check.timeout, check.start_period)
        if not all(map(math.isfinite, times)) or min(times) < 0 or not all(times[:2]) or check.retries < 1:
            yield Problem(f"{key}.healthcheck", "interval, timeout and retries are numbers above 0")
        if check.retries > MOST_SECONDS:
            yield Problem(f"{key}.healthcheck.retries", f"is a number of at most {MOST_SECONDS}")


def _cycle(service: ServiceDef) -> list[str]:
    """A circle of depends_on, empty when there is none."""
    edges = {each.name: each.depends_on for each in service.components}
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done or name not in edges:
            return []
        for other in edges[name]:
            if other != name and (found := visit(other, [*path, name])):
                return found
        done.add(name)
        return []

    for name in edges:
        if found := visit(name, []):
            return found
    return []
