"""`launch.json`: what a sidecar is told about its agent, and `sidecar.json`: where it can be reached.

Both lie in the agent's folder (mode 0600). The first is written by the backend at every (re)start, the
second by the sidecar as soon as its socket listens.
"""

from __future__ import annotations

import msgspec

from quarterdeck.config import Budget, MetadataTable, Permissions, ProviderKind, Watchdog

LAUNCH_FILE = "launch.json"
ADDRESS_FILE = "sidecar.json"
LOCK_FILE = "sidecar.lock"
LOG_FILE = "sidecar.log"
STDERR_FILE = "agent.stderr.log"
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
    base: str | None = None
    task_bytes: int = 1_000_000
    # The fleet is at its limit of busy agents: tasks that wait here from an earlier life are held, not begun.
    hold_waiting: bool = False


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running sidecar listens, and which process it is (`proctree.identity`, empty in files of old)."""

    pid: int
    started_at: float
    socket: str
    url: str | None = None
    identity: str = ""
