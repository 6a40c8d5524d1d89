"""`node.toml`: how a node agent is set up. Each key `[a] b` can be overridden by `QD_NODE_A_B`.

Relative paths are relative to the file's folder. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from quarterdeck.auth.settings import AuthTable
from quarterdeck.config import load_settings
from quarterdeck.node.options import AgentOptions, MonitorOptions

DEFAULT_FILE = Path("/etc/quarterdeck/node.toml")
DEFAULT_PORT = 7443
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; an unknown key in it is an error."""


class ListenTable(_Table, frozen=True):
    """`[listen]`: where calls are taken, and how long those under way may go on when the agent stops."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = DEFAULT_PORT
    drain_seconds: Seconds = 30


class TlsTable(_Table, frozen=True):
    """`[tls]`: the certificate (with its CA behind it) and its key, PEM; read again when they change."""

    cert: str
    key: str


class DatabaseTable(_Table, frozen=True):
    """`[database]`: how many snapshots, generations to roll back to and days of answers for retries are kept."""

    keep_snapshots: Count = 14
    keep_history: Count = 10
    keep_operations_days: Seconds = 7


class RuntimeTable(_Table, frozen=True):
    """`[runtime]`: how podman is driven. `kind` *auto* takes the socket where it answers, else the command."""

    kind: Literal["auto", "cli", "api"] = "auto"
    podman: str = "podman"
    socket: str = "/run/podman/podman.sock"
    insecure_registries: list[str] = []
    pull_seconds: Seconds = 900
    timeout_seconds: Seconds = 60
    probe_seconds: Seconds = 60
    lease_seconds: Seconds = 30
    parallel: Count = 8


class FilesTable(_Table, frozen=True):
    """`[files]`: the folder below which every service has its own."""

    root: str = "/srv"


class MonitorTable(_Table, frozen=True):
    """`[monitor]`: how containers are watched, when alerts are raised, how restarts are spaced."""

    enabled: bool = True
    list_seconds: Seconds = 20
    drift_seconds: Seconds = 30
    flap_count: Count = 6
    flap_seconds: Seconds = 300
    cooldown_seconds: Seconds = 900
    alert_command: list[str] = []
    alert_timeout_seconds: Seconds = 30
    backoff_seconds: Seconds = 1
    backoff_max_seconds: Seconds = 300
    restart_limit: Annotated[int, msgspec.Meta(ge=0)] = 10
    settled_seconds: Seconds = 60
    keep_event_days: Seconds = 30
    keep_events: Count = 100_000

    def options(self) -> MonitorOptions:
        """The same for the agent."""
        values = msgspec.structs.asdict(self)
        return MonitorOptions(**{**values, "alert_command": tuple(self.alert_command)})


class NodeFile(_Table, frozen=True):
    """The whole of `node.toml`."""

    name: Name
    tls: TlsTable
    state_dir: str = "/var/lib/quarterdeck-node"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    labels: dict[str, str] = {}
    listen: ListenTable = ListenTable()
    auth: AuthTable = AuthTable()
    database: DatabaseTable = DatabaseTable()
    runtime: RuntimeTable = RuntimeTable()
    files: FilesTable = FilesTable()
    monitor: MonitorTable = MonitorTable()


@dataclass(frozen=True)
class NodeSettings:
    """A `node.toml` with its paths made absolute; `origin` names the file in errors."""

    origin: str
    folder: Path
    file: NodeFile

    @property
    def state_dir(self) -> Path:
        """Where the registry, accounts and snapshots lie."""
        return self.folder / self.file.state_dir

    @property
    def cert(self) -> Path:
        """The server's certificate."""
        return self.folder / self.file.tls.cert

    @property
    def key(self) -> Path:
        """Its key."""
        return self.folder / self.file.tls.key

    @property
    def auth(self) -> AuthTable:
        """`[auth]` with its paths made absolute."""
        table = self.file.auth
        return msgspec.structs.replace(
            table,
            **{
                key: str(self.folder / getattr(table, key))
                for key in ("client_secret_file", "ca", "audit_file")
                if getattr(table, key)
            },
        )

    def agent_options(self) -> AgentOptions:
        """What the agent needs to know."""
        file, runtime, database = self.file, self.file.runtime, self.file.database
        return AgentOptions(
            state_dir=self.state_dir,
            node_name=file.name,
            files_root=self.folder / file.files.root,
            runtime=runtime.kind,
            podman=runtime.podman,
            socket=self.folder / runtime.socket,
            insecure_registries=tuple(runtime.insecure_registries),
            labels=dict(file.labels),
            pull_seconds=runtime.pull_seconds,
            runtime_seconds=runtime.timeout_seconds,
            probe_seconds=runtime.probe_seconds,
            parallel=runtime.parallel,
            keep_history=database.keep_history,
            keep_snapshots=database.keep_snapshots,
            keep_operations_days=database.keep_operations_days,
            lease_seconds=runtime.lease_seconds,
            monitor=file.monitor.options(),
        )


def load_node_settings(file: Path) -> NodeSettings:
    """Read a `node.toml` and the `QD_NODE_*` variables. Raises `InvalidInput` that says where and what."""
    path = file.absolute()
    return NodeSettings(
        str(file), path.parent, load_settings(path, NodeFile, prefix="QD_NODE", must_exist=True, strict_prefix=True)
    )
