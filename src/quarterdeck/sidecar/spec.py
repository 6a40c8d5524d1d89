"""`launch.json`: what a sidecar is told about its agent, and `sidecar.json`: where it can be reached.

Both lie in the agent's folder (mode 0600). The first is written by the backend at every (re)start, the
second by the sidecar as soon as its socket listens.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from quarterdeck.config import Budget, MetadataTable, Permissions, ProviderKind, Watchdog
from quarterdeck.errors import InternalError

T = TypeVar("T")
LAUNCH_FILE = "launch.json"
ADDRESS_FILE = "sidecar.json"
LOCK_FILE = "sidecar.lock"
LOG_FILE = "sidecar.log"
DATABASE_FILE = "agent.db"
SOCKET_FILE = "sidecar.sock"


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how. `id` marks every process of the agent, for ever."""

    id: str
    name: str
    workspace: str
    kind: ProviderKind
    provider: str
    command: list[str]
    output: str = "plain"
    env: dict[str, str] = {}
    pass_env: list[str] = []
    instructions: str = ""
    permissions: Permissions = "ask"
    start_seconds: float = 120
    cancel_seconds: float = 5
    budget: Budget = Budget()
    watchdog: Watchdog = Watchdog()
    metadata: MetadataTable = MetadataTable()
    config_folder: str | None = None
    task_bytes: int = 1_000_000


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running sidecar listens, and which process it is (`started_at` as `proctree.started_at`)."""

    pid: int
    started_at: float
    socket: str
    url: str | None = None


def write_private(file: Path, value: Any) -> None:
    """Write a JSON file, mode 0600, whole or not at all."""
    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def read_json(file: Path, kind: type[T]) -> T | None:
    """Read such a file; None where there is none. Raises `InternalError` for one that cannot be right."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise InternalError(
            f"{file} cannot be read: {error}", hint="it was changed by hand, or by another version"
        ) from error
