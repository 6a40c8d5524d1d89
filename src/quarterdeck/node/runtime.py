"""What the node agent needs of a container runtime: the `Runtime` protocol and the values that cross it.

Errors, for every implementation (they translate podman's own): `NotFound` for a container, image or secret
that does not exist; `Conflict` for a taken name or a state that does not allow it; `InvalidInput` for a
request that podman calls wrong; `Unavailable` when podman does not answer, a deadline passes or a command
fails otherwise. A mutation is never killed half-way: after a deadline it goes on, so look before trying again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from quarterdeck.node.model import ComponentSpec, Health, State
from quarterdeck.node.results import ExecOutput, RuntimeInfo, Usage


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A container to be made: under which name, from what, with which labels. `hidden_env` are variables from
    private env files: given to the container, never shown. The image must be there (nothing is pulled)."""

    name: str
    spec: ComponentSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    hidden_env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Container:
    """A container as a listing tells it. Times are whole seconds there; `image_id` has no `sha256:`.

    One that has *exited* without an exit code ended unseen (`message` says how that is known): starting it does
    nothing, a new one must be made.
    """

    id: str
    name: str
    state: State
    pid: int
    image: str
    image_id: str
    labels: Mapping[str, str]
    exit_code: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    health: Health = "none"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """A container with everything that `inspect` tells; `raw` is podman's own JSON (it holds secret values:
    never show it, `podman_json.real_spec` picks what may be shown)."""

    container: Container
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Image:
    """A local image and the defaults that it brings."""

    id: str
    digest: str
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    healthcheck: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something that happened to a container: podman's word for it (create, start, died, remove, rename ...)."""

    at: float
    id: str
    name: str
    action: str


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of a container's output with its time (0: none was told)."""

    at: float
    stream: Literal["stdout", "stderr"]
    text: str


class Runtime(Protocol):
    """Drives containers. Containers are named by name or id. Every method may raise `Unavailable`."""

    async def info(self) -> RuntimeInfo:
        """Which runtime this is; the cheapest call that proves that it answers."""

    async def pull(self, image: str) -> Image:
        """Fetch an image, newer than the local one where the tag moved. Raises `NotFound`, `Unavailable`."""

    async def image(self, name: str) -> Image:
        """A local image by name or id. Raises `NotFound`."""

    async def create(self, request: CreateRequest) -> str:
        """Make a container without starting it; its id. Raises `Conflict` when the name is taken."""

    async def run(self, request: CreateRequest) -> str:
        """Create and start; its id. A container that cannot start is left as created."""

    async def start(self, name: str) -> None:
        """Start it; nothing happens when it runs already. Raises `NotFound`."""

    async def stop(self, name: str, *, grace_seconds: int) -> None:
        """SIGTERM, then SIGKILL after the grace; nothing happens when it does not run. Raises `NotFound`."""

    async def remove(self, name: str, *, volumes: bool = True) -> None:
        """Remove it, killing it where it runs, with its anonymous volumes where `volumes`; nothing happens when there
        is none."""

    async def rename(self, name: str, new: str) -> None:
        """Give it another name, also while it runs. Raises `NotFound` and `Conflict`."""

    async def inspect(self, name: str) -> Details:
        """Everything about one container. Raises `NotFound`."""

    async def list(self) -> tuple[Container, ...]:
        """Every container of the node, also those that do not run, by name."""

    def logs(
        self, name: str, *, tail: int | None = None, since: float = 0, follow: bool = False
    ) -> AsyncGenerator[LogRecord, None]:
        """Its output; with `follow` until it ends. Raises `NotFound` at the first item."""

    def exec(
        self, name: str, command: Sequence[str], *, stdin: bytes = b"", user: str = ""
    ) -> AsyncGenerator[ExecOutput, None]:
        """Run a command in it; the last item carries the exit code. Raises `NotFound`, `Conflict` (it does not run)."""

    def events(self, *, since: float) -> AsyncGenerator[RuntimeEvent, None]:
        """What happens to containers from `since` on, for ever; subscribed at the first `__anext__`."""

    async def healthcheck(self, name: str) -> Health:
        """Run its healthcheck once and give what podman now says. Raises `Conflict` when it has none or is down."""

    async def usage(self) -> Mapping[str, Usage]:
        """What every running container uses, by id (full) ."""

    async def set_secret(self, name: str, value: bytes) -> None:
        """Create or replace a secret."""

    async def secrets(self) -> tuple[str, ...]:
        """The names of the secrets."""

    async def remove_secret(self, name: str) -> None:
        """Remove a secret. Raises `NotFound`."""

    async def aclose(self) -> None:
        """Let go of connections; containers are untouched."""
