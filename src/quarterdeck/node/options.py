"""How a node agent is set up, whatever file or variable it came from. Pure; durations in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class MonitorOptions:
    """How containers are watched.

    Every `list_seconds` all are listed. Drift lasting `drift_seconds` and `flap_count` transitions within
    `flap_seconds` raise an alert, at most one per `cooldown_seconds` and component. `alert_command` is an
    argument list run with `QD_*` variables and killed after `alert_timeout_seconds`. A container that ends is
    started again after `backoff_seconds`, doubled up to `backoff_max_seconds`, at most `restart_limit` times
    until it has run for `settled_seconds`. Events older than `keep_event_days` or beyond `keep_events` go.
    """

    enabled: bool = True
    list_seconds: float = 20
    drift_seconds: float = 30
    flap_count: int = 6
    flap_seconds: float = 300
    cooldown_seconds: float = 900
    alert_command: tuple[str, ...] = ()
    alert_timeout_seconds: float = 30
    backoff_seconds: float = 1
    backoff_max_seconds: float = 300
    restart_limit: int = 10
    settled_seconds: float = 60
    keep_event_days: float = 30
    keep_events: int = 100_000


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Everything that a `NodeAgent` needs to know.

    `state_dir` holds the registry (`registry.sqlite3`), its snapshots and unfinished pushes. `files_root` is
    the folder below which every service has its own. `runtime` *auto* takes the socket where it answers and
    the command otherwise. `insecure_registries` are `host:port`s that images are pulled from without TLS.
    `probe_seconds` is how long a new container may take to become healthy. `keep_history` generations can be
    rolled back to. `lease_seconds` is how long an operation
    that hangs holds its services (a call of podman that is within its own deadline is no hanging).
    """

    state_dir: Path
    node_name: str = ""
    files_root: Path = Path("/srv")
    runtime: Literal["auto", "cli", "api"] = "auto"
    podman: str = "podman"
    socket: Path = Path("/run/podman/podman.sock")
    insecure_registries: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    pull_seconds: float = 900
    runtime_seconds: float = 60
    probe_seconds: float = 60
    parallel: int = 8
    keep_history: int = 10
    keep_snapshots: int = 14
    keep_operations_days: float = 7
    lease_seconds: float = 30
    monitor: MonitorOptions = MonitorOptions()

    @property
    def database(self) -> Path:
        """The registry's file."""
        return self.state_dir / "registry.sqlite3"

    @property
    def snapshots(self) -> Path:
        """The folder of the snapshots."""
        return self.state_dir / "snapshots"
