"""What the node agent answers: plans, progress, results per component, drift, status and node facts.

Pure frozen dataclasses. Times are seconds since the epoch, sizes bytes, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from quarterdeck.node.model import Desired, Event, Observed, ServiceDef, ServiceRecord, State

Action = Literal["create", "replace", "start", "stop", "keep", "remove", "fail"]
Outcome = Literal[
    "created", "replaced", "started", "stopped", "restarted", "removed", "unchanged",
    "restored", "failed", "skipped", "adopted", "updated", "ignored",
]  # fmt: skip
Step = Literal[
    "waiting", "pulling", "pulled", "creating", "stopping-old", "starting", "probing", "healthy",
    "restoring", "removing", "component-done", "done",
]  # fmt: skip
DriftKind = Literal["state", "image", "spec", "config"]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs: its name as in the definition and both values as text (secrets masked)."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """What a deploy would do to one component and why; *fail*: what it would stumble over, leaving it as it is."""

    component: str
    container_name: str
    action: Action
    changes: tuple[FieldChange, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What a deploy would do; in the order in which it would. `actions` that are all *keep* change nothing."""

    service: str
    generation: int
    next_generation: int
    actions: tuple[PlannedAction, ...]

    @property
    def changes_nothing(self) -> bool:
        """Whether every component is as asked for already."""
        return all(each.action == "keep" for each in self.actions)


@dataclass(frozen=True, slots=True)
class ComponentResult:
    """What became of one component. *restored*: the new one failed and the old one runs again; `message` says why."""

    component: str
    outcome: Outcome
    message: str = ""
    container_id: str = ""
    image_digest: str = ""
    seconds: float = 0

    @property
    def ok(self) -> bool:
        """Whether what was asked for was done."""
        return self.outcome not in ("failed", "restored")


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """The answer of every mutation of a service: one result per component touched."""

    service: str
    operation_id: str
    generation: int
    components: tuple[ComponentResult, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every component did what was asked."""
        return all(each.ok for each in self.components)


@dataclass(frozen=True, slots=True)
class DeployProgress:
    """One step of a deploy, streamed. `result` is set with *component-done*, `final` with *done*; `plan` with
    *done* of a dry run (`final` is None then)."""

    service: str
    component: str
    step: Step
    at: float
    message: str = ""
    result: ComponentResult | None = None
    final: ServiceResult | None = None
    plan: DeployPlan | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A definition that was deployed. `current` is the one that is now desired; `images` are the image ids that its
    components ran, as far as they are known (not of what an older version deployed, nor of what did not run)."""

    service: str
    generation: int
    at: float
    actor: str
    ok: bool
    current: bool
    definition: ServiceDef
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference between what should be and what is. `kind` *state*, *image* (digest), *spec* (hash of the
    definition that the container was made from) or *config* (a field of its real configuration)."""

    component: str
    kind: DriftKind
    field: str
    desired: str
    actual: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses now: `cpu_percent` of one core, memory in bytes (`memory_limit` 0: none), processes."""

    cpu_percent: float = 0
    memory: int = 0
    memory_limit: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class LiveComponent:
    """A component asked for at the runtime just now.

    `changed` is whether the registry knew another state, `done` whether it is a job that has ended well.
    """

    service: str
    component: str
    container_name: str
    desired: Desired
    observed: Observed
    version: str
    changed: bool = False
    previous: State = "unknown"
    usage: Usage | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class LiveCheck:
    """What the runtime says now. `runtime_error` is set when it did not answer: every state is *unknown* then."""

    at: float
    components: tuple[LiveComponent, ...]
    unmanaged: tuple[str, ...] = ()
    runtime_error: str = ""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service with its drift and its latest events (newest first)."""

    service: ServiceRecord
    drift: tuple[Drift, ...]
    events: tuple[Event, ...]
    runtime_error: str = ""


@dataclass(frozen=True, slots=True)
class SyncItem:
    """What a sync did (or would do) to one service. *ignored* is an unmanaged container that was found."""

    service: str
    outcome: Outcome
    generation: int = 0
    changes: tuple[FieldChange, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class SyncSummary:
    """Exactly what a sync changed; `plan_only` when nothing was done. `undefined` names managed services that no
    definition asks for and that were kept since pruning was not asked for."""

    operation_id: str
    items: tuple[SyncItem, ...]
    undefined: tuple[str, ...] = ()
    plan_only: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(each.outcome != "failed" for each in self.items)


@dataclass(frozen=True, slots=True)
class AdoptedContainer:
    """What became of one container that matched. `warnings` name settings that a definition cannot hold."""

    container_name: str
    component: str
    outcome: Outcome
    desired: Desired = "ignore"
    message: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdoptResult:
    """One result per container that matched `SERVICE` or `SERVICE-*`."""

    service: str
    operation_id: str
    generation: int
    containers: tuple[AdoptedContainer, ...]


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Where a file goes: `/srv/SERVICE/PATH`.

    `mode` are the permission bits, `owner` is `UID`, `UID:GID` or empty (the agent's own), `size` and `sha256`
    (hex) of the whole content are checked before it replaces what is there (`sha256` empty: not checked).
    `offset` is where the first chunk belongs: 0, or what `push_offset` answered for the same sha256.
    """

    service: str
    path: str
    size: int
    sha256: str = ""
    mode: int = 0o644
    owner: str = ""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PushedFile:
    """A file that is in place."""

    service: str
    path: str
    size: int
    sha256: str
    mode: int
    operation_id: str = ""


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What precedes the chunks of a pulled file."""

    service: str
    path: str
    size: int
    mode: int
    uid: int
    gid: int
    modified_at: float


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a container's output; `stream` is stdout or stderr, `at` 0 when the runtime gave no time."""

    service: str
    component: str
    at: float
    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class ExecOutput:
    """A piece of what a command inside a container writes; the last one carries `exit_code` and no data."""

    stream: Literal["stdout", "stderr"] = "stdout"
    data: bytes = b""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """Which runtime drives the containers: `kind` cli or api, and podman's version."""

    kind: Literal["cli", "api"]
    version: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Facts about the node. `runtime` is None and `runtime_error` set when it does not answer."""

    name: str
    hostname: str
    version: str
    started_at: float
    os: str
    kernel: str
    cpus: int
    memory_total: int
    memory_available: int
    disk_total: int
    disk_free: int
    services: int
    containers_running: int
    containers_desired: int
    paused: bool
    draining: bool
    schema: int
    runtime: RuntimeInfo | None = None
    runtime_error: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot of the registry on the node; `path` there."""

    path: str
    at: float
    size: int
    schema: int
    services: int
