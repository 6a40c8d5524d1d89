"""The keys of a component in a definition's file: how each is read, written and what it is by default. Pure.

Readers raise `ValueError` that says what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from quarterdeck.node.model import (
    DEFAULT_STOP_SECONDS,
    RESTARTS,
    ComponentSpec,
    Healthcheck,
    Limits,
    Port,
    Secret,
    Volume,
)
from quarterdeck.node.validate import (
    format_memory,
    format_port,
    format_volume,
    parse_memory,
    parse_port,
    parse_volume,
)


class Misplaced(ValueError):
    """A value inside a list or table is wrong; `key` says where below the key that is being read."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Key:
    """One key: `read` makes the model's value of the file's, `write` the reverse."""

    name: str
    default: Any
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


def text(value: Any) -> str:
    """A string, or `ValueError`."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text; put it in quotes")
    return value


def flag(value: Any) -> bool:
    """A boolean, or `ValueError`."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def number(value: Any) -> float:
    """A number, or `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number; write it without quotes")
    return float(value)


def whole(value: Any) -> int:
    """A whole number, or `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number; write it without quotes")
    return value


def _list_of(read: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f'{value!r} is not a list; write ["..."]')
        found = []
        for index, each in enumerate(value):
            try:
                found.append(read(each))
            except ValueError as error:
                inner = f".{error.key}" if isinstance(error, Misplaced) else ""
                raise Misplaced(f"[{index}]{inner}", str(error)) from None
        return tuple(found)

    return read_all


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f'{value!r} is not a table; write {{ NAME = "value" }}')
    found = {}
    for key, each in value.items():
        try:
            found[str(key)] = text(each)
        except ValueError as error:
            raise Misplaced(f".{key}", str(error)) from None
    return found


def table(value: Any, readers: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The known keys of a table, read; `ValueError` for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is not a table; known keys: {', '.join(readers)}")
    found = {}
    for key, each in value.items():
        if key not in readers:
            raise Misplaced(f".{key}", f"there is no such key; known: {', '.join(readers)}")
        try:
            found[key] = readers[key](each)
        except ValueError as error:
            inner = error.key if isinstance(error, Misplaced) else ""
            raise Misplaced(f".{key}{inner}", str(error)) from None
    return found


def _port(value: Any) -> Port:
    return parse_port(text(value))


def _volume(value: Any) -> Volume:
    return parse_volume(text(value))


def _memory(value: Any) -> int:
    return whole(value) if isinstance(value, int) and not isinstance(value, bool) else parse_memory(text(value))


def _secret(value: Any) -> Secret:
    if isinstance(value, str):
        return Secret(value)
    found = table(value, {"name": text, "kind": _word("env", "file"), "target": text})
    if "name" not in found:
        raise ValueError('a secret needs a name: "db-password", or { name = "db-password", kind = "file" }')
    return Secret(**found)


def _word(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return str(value)

    return read


def _limits(value: Any) -> Limits:
    return Limits(**table(value, {"memory": _memory, "cpus": number, "pids": whole}))


def _healthcheck(value: Any) -> Healthcheck:
    found = table(
        value,
        {"command": _list_of(text), "interval": number, "timeout": number, "retries": whole, "start_period": number},
    )
    if "command" not in found:
        raise ValueError('a healthcheck needs a command such as ["curl", "-f", "http://localhost"]')
    return Healthcheck(**found)


def _plain_number(value: float) -> int | float:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _write_secret(secret: Secret) -> Any:
    if secret == Secret(secret.name):
        return secret.name
    written = {"name": secret.name}
    if secret.kind != "env":
        written["kind"] = secret.kind
    if secret.target:
        written["target"] = secret.target
    return written


def _write_limits(limits: Limits) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if limits.memory is not None:
        written["memory"] = format_memory(limits.memory)
    if limits.cpus is not None:
        written["cpus"] = _plain_number(limits.cpus)
    if limits.pids is not None:
        written["pids"] = limits.pids
    return written


def _write_healthcheck(check: Healthcheck | None) -> dict[str, Any] | None:
    if check is None:
        return None
    plain = Healthcheck(check.command)
    written: dict[str, Any] = {"command": list(check.command)}
    for field in fields(check):
        value = getattr(check, field.name)
        if field.name != "command" and value != getattr(plain, field.name):
            written[field.name] = _plain_number(value)
    return written


def _same(value: Any) -> Any:
    return value


COMPONENT_KEYS = {
    key.name: key
    for key in (
        Key("name", None, text, _same),
        Key("image", None, text, _same),
        Key("ports", (), _list_of(_port), lambda v: [format_port(each) for each in v]),
        Key("volumes", (), _list_of(_volume), lambda v: [format_volume(each) for each in v]),
        Key("entrypoint", (), _list_of(text), list),
        Key("cmd", (), _list_of(text), list),
        Key("env", {}, _texts, dict),
        Key("env_files", (), _list_of(text), list),
        Key("secrets", (), _list_of(_secret), lambda v: [_write_secret(each) for each in v]),
        Key("user", "", text, _same),
        Key("workdir", "", text, _same),
        Key("network", "", text, _same),
        Key("restart", "always", _word(*RESTARTS), _same),
        Key("limits", Limits(), _limits, _write_limits),
        Key("healthcheck", None, _healthcheck, _write_healthcheck),
        Key("depends_on", (), _list_of(text), list),
        Key("labels", {}, _texts, dict),
        Key("stop_seconds", DEFAULT_STOP_SECONDS, whole, _same),
    )
}
assert set(COMPONENT_KEYS) == {field.name for field in fields(ComponentSpec)}
