"""What a node knows: definitions of services, what is observed of them, events and operations.

Pure: frozen dataclasses and functions over them. Times are seconds since the epoch (float), sizes are
bytes, durations are seconds. Results of calls are in `results.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["tcp", "udp"]
Restart = Literal["no", "on-failure", "always"]
SecretKind = Literal["env", "file"]
Desired = Literal["running", "stopped", "ignore"]
State = Literal["unknown", "missing", "created", "running", "paused", "exited"]
Health = Literal["none", "starting", "healthy", "unhealthy"]
OperationState = Literal["running", "done", "failed"]

RESTARTS: tuple[Restart, ...] = ("no", "on-failure", "always")
DESIRED: tuple[Desired, ...] = ("running", "stopped", "ignore")
STATES: tuple[State, ...] = ("unknown", "missing", "created", "running", "paused", "exited")
NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DEFAULT_STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Port:
    """One published port. `host_ip` empty means every address of the node."""

    host: int
    container: int
    protocol: Protocol = "tcp"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """A bind mount (`source` is an absolute path) or a named volume (`source` is its name).

    `options` are podman's mount options in the order given, for example `("ro",)` or `("Z",)`.
    """

    source: str
    target: str
    options: tuple[str, ...] = ()

    @property
    def is_bind(self) -> bool:
        """Whether `source` is a path of the node rather than a named volume."""
        return self.source.startswith("/")

    @property
    def read_only(self) -> bool:
        """Whether the container may not write to it."""
        return "ro" in self.options


@dataclass(frozen=True, slots=True)
class Secret:
    """A podman secret of the node given to a component: as a variable or as a file below /run/secrets.

    `target` is the variable's or the file's name; empty means the secret's own name.
    """

    name: str
    kind: SecretKind = "env"
    target: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a component may use; None is no limit. `memory` in bytes, `cpus` in cores, `pids` a number."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """A command run inside the container; exit code 0 is healthy. Durations in seconds."""

    command: tuple[str, ...]
    interval: float = 30
    timeout: float = 10
    retries: int = 3
    start_period: float = 0


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One container as it is asked for.

    `cmd` and `entrypoint` empty mean the image's own. `env_files` are paths below the service's folder
    (`/srv/SERVICE`) with `NAME=value` lines; they must be private (mode 0600) and their values are never
    shown. `network` empty means podman's default bridge. `depends_on` names components of the same
    service that must be healthy first. `stop_seconds` is the grace between SIGTERM and SIGKILL.
    """

    name: str
    image: str
    ports: tuple[Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    user: str = ""
    workdir: str = ""
    network: str = ""
    restart: Restart = "always"
    limits: Limits = Limits()
    healthcheck: Healthcheck | None = None
    depends_on: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = DEFAULT_STOP_SECONDS


@dataclass(frozen=True, slots=True)
class ServiceDef:
    """A service as people define it. `active` decides the desired state (running or stopped);
    `enforce` lets the node agent undo drift by itself."""

    name: str
    components: tuple[ComponentSpec, ...]
    node: str = ""
    active: bool = True
    enforce: bool = False

    def component(self, name: str) -> ComponentSpec | None:
        """The component of that name, None when there is none."""
        return next((each for each in self.components if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a definition cannot be right: `key` as in the file (`components[0].ports[1]`) and what to write instead."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What the runtime last said about a component's container.

    `state` is *unknown* when the runtime did not answer and *missing* when it answered and has no such
    container. `at` is since when it is known to be so. `image_digest` is the id of the image it runs.
    `exit_code` is None while it runs, and when it *exited* without anybody seeing it (`ended_unseen`).
    """

    state: State = "unknown"
    at: float = 0
    container_id: str = ""
    pid: int = 0
    image: str = ""
    image_digest: str = ""
    spec_hash: str = ""
    generation: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    health: Health = "none"
    message: str = ""

    @property
    def ended_unseen(self) -> bool:
        """Podman missed its end and cannot start it again: a new container must be made (`message` tells)."""
        return self.state == "exited" and self.exit_code is None


@dataclass(frozen=True, slots=True)
class ComponentRecord:
    """A row of the registry: what should be (`spec`, `desired`) and what was last seen (`observed`).

    `version` is the image's tag (see `image_version`), `image_digest` the image id that was deployed,
    `generation` the service's generation that last changed it.
    """

    service: str
    spec: ComponentSpec
    container_name: str
    desired: Desired
    generation: int
    spec_hash: str
    version: str = ""
    image_digest: str = ""
    observed: Observed = Observed()
    restarts: int = 0

    @property
    def name(self) -> str:
        """The component's name, unique within its service."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """A service in the registry.

    `managed` is False for a container that was found on the node and belongs to nobody: it is listed and
    left alone. `generation` counts changes of the definition. `paused` stops enforcement and restarts.
    """

    name: str
    generation: int
    components: tuple[ComponentRecord, ...]
    active: bool = True
    enforce: bool = False
    managed: bool = True
    paused: bool = False
    node: str = ""
    updated_at: float = 0

    def definition(self) -> ServiceDef:
        """The definition that deploys to this."""
        return ServiceDef(self.name, tuple(each.spec for each in self.components), self.node, self.active, self.enforce)

    def component(self, name: str) -> ComponentRecord | None:
        """The component of that name, None when there is none."""
        return next((each for each in self.components if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the node. `id` grows; `component` is empty for a whole service, `service`
    too for the node itself. `kind`: state, deploy, rollback, stop, start, restart, adopt, sync, purge, push,
    drift, drift-over, flap, flap-over, gave-up, alert-failed, recovered, pause, resume, drain, runtime."""

    id: int
    at: float
    service: str
    component: str
    kind: str
    message: str = ""
    from_state: str = ""
    to_state: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Planned:
    """What a deploy is about to make of one component: the plan's action, and the spec hash and image id (empty: any)
    that its container has then. `running` is whether it ran before."""

    action: str
    spec_hash: str = ""
    image: str = ""
    running: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """A mutation as it is remembered: a retry with the same id gets the first answer.

    `request` is a hash of what was asked (the same id with another request is refused), `answer` the JSON of
    the result or error, `steps` the JSON of what was asked, which recovery reads. `lease_until` is when a
    dead holder loses it. `plan` is what it was about to make of which service's components.
    """

    id: str
    kind: str
    service: str
    request: str
    state: OperationState
    started_at: float
    holder: str
    lease_until: float
    finished_at: float | None = None
    answer: str = ""
    steps: str = ""
    plan: Mapping[str, Mapping[str, Planned]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mutation:
    """What accompanies every change: `operation_id` (empty: one is made), `expected_generation` of the service
    (None: any), `actor` (the account, for events), `wait_seconds` (how long to wait for another change of the
    same service; 0 is refused at once)."""

    operation_id: str = ""
    expected_generation: int | None = None
    actor: str = ""
    wait_seconds: float = 60


def container_name(service: str, component: str) -> str:
    """`SERVICE-COMPONENT`; a component named like its service keeps the bare name."""
    return service if component == service else f"{service}-{component}"


def image_version(image: str) -> str:
    """The tag of an image reference; empty for a digest or when there is none (`host:5000/img` has none)."""
    if "@" in image:
        return ""
    last = image.rsplit("/", 1)[-1]
    return last.partition(":")[2]


def desired_of(service: ServiceDef) -> Desired:
    """The desired state that a definition asks for."""
    return "running" if service.active else "stopped"
