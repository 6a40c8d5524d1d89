"""What the engines of the node agent share: the store, the runtime, the files, and small ways to use them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
from anyio.to_thread import run_sync

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.node import reconcile
from quarterdeck.node.files import Files
from quarterdeck.node.lease import turn
from quarterdeck.node.model import ENV_NAME, ComponentRecord, ComponentSpec, Event, Observed, image_version
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_json import (
    LABEL_COMPONENT,
    LABEL_GENERATION,
    LABEL_HIDDEN,
    LABEL_NODE,
    LABEL_OPERATION,
    LABEL_SERVICE,
    LABEL_SPEC,
    observed,
)
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import DeployProgress, Step
from quarterdeck.node.runtime import Container, CreateRequest, Image, Runtime
from quarterdeck.node.store import Store

NEW, OLD = ".qd-new", ".qd-old"
Emit = Callable[[DeployProgress], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A component ready to be made into a container: its definition, its private variables and their hash."""

    service: str
    spec: ComponentSpec
    hidden: Mapping[str, str] = field(repr=False)
    spec_hash: str

    def masked(self, text: str) -> str:
        """A text that may be shown: the values of private variables taken out."""
        for value in self.hidden.values():
            if len(value) >= 4:
                text = text.replace(value, "***")
        return text


@dataclass(slots=True)
class Context:
    """The parts of a running agent. `node_id` names this registry in labels, `key` hashes private values."""

    options: AgentOptions
    store: Store
    runtime: Runtime
    files: Files
    node_id: str
    key: str = field(repr=False)
    pulls: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(4))
    work: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))

    async def made(self, service: str, spec: ComponentSpec) -> Made:
        """Read a component's env files. Raises `InvalidInput` and `NotFound` for one that cannot be used."""
        hidden: dict[str, str] = {}
        for path in spec.env_files:
            try:
                hidden |= env_lines(await run_sync(self.files.read_private, service, path), origin=path)
            except NotFound as error:
                raise NotFound(
                    f"component {spec.name!r}: env file {path!r} is not on the node",
                    hint=f"qd service push {service} FILE {path} --mode 0600",
                ) from error
        return Made(service, spec, hidden, reconcile.spec_hash(spec, key=self.key, hidden=hidden))

    def request(self, made: Made, *, name: str, generation: int, operation: str, image: str = "") -> CreateRequest:
        """What the runtime needs to make its container; the labels say whose it is. `image` is the id of one that
        its definition's name does not lead to any more."""
        spec = made.spec
        secret = [*made.hidden, *(each.target or each.name for each in spec.secrets if each.kind == "env")]
        labels = {
            LABEL_NODE: self.node_id,
            LABEL_SERVICE: made.service,
            LABEL_COMPONENT: spec.name,
            LABEL_SPEC: made.spec_hash,
            LABEL_GENERATION: str(generation),
            LABEL_OPERATION: operation,
            **({LABEL_HIDDEN: ",".join(sorted(secret))} if secret else {}),
        }
        # What env gives plainly wins over a file, as in every other tool.
        hidden = {name: value for name, value in made.hidden.items() if name not in spec.env}
        return CreateRequest(name, replace(spec, image=image) if image else spec, labels, hidden)

    async def image(self, name: str) -> Image:
        """The image for a component: pulled, unless it is one that only this machine can have."""
        local = name.startswith("localhost/") or "@sha256:" in name
        if local:
            try:
                return await self.runtime.image(name)
            except NotFound:
                if name.startswith("localhost/"):
                    raise NotFound(f"the node has no image {name}", hint=f"podman build -t {name} ...") from None
        async with turn(self.pulls):
            return await self.runtime.pull(name)

    async def look(self, name: str, before: Observed) -> Observed:
        """What the runtime says of a component's container now."""
        asked_at = time.time()
        try:
            container = (await self.runtime.inspect(name)).container
        except NotFound:
            return Observed(state="missing", at=asked_at)
        return seen(container, before, at=asked_at)

    def record(
        self, made: Made, container_name: str, generation: int, image_digest: str, watched: Observed
    ) -> ComponentRecord:
        """The registry's row of a component that runs as asked."""
        return ComponentRecord(
            service=made.service,
            spec=made.spec,
            container_name=container_name,
            desired="running",
            generation=generation,
            spec_hash=made.spec_hash,
            version=image_version(made.spec.image),
            image_digest=image_digest,
            observed=watched,
        )


def seen(container: Container | None, before: Observed, *, at: float | None = None) -> Observed:
    """What is kept of a container, compared with what was known before; `at` is when the runtime was asked.

    A listing tells whole seconds only: of the same life the times that are known stay. An answer that was on its
    way while something newer was recorded says nothing any more.
    """
    if at is not None and before.at > at:
        return before
    now = reconcile.recognised(observed(container, now=time.time() if at is None else at), before)
    if (now.container_id, now.pid, now.state) != (before.container_id, before.pid, before.state):
        return now
    return replace(now, started_at=before.started_at, finished_at=before.finished_at)


def transition(registry: Registry, record: ComponentRecord, now_seen: Observed, *, operation: str = "") -> bool:
    """Record what was seen of a component, with an event where its state changed; whether it did.

    `operation` is the one that made it so: what was asked for is no flapping.
    """
    before = record.observed
    if reconcile.differs(now_seen, before) or before.at == 0:
        registry.observe(record.service, record.name, now_seen)
    if before.state == now_seen.state:
        return False
    message = f"exit code {now_seen.exit_code}" if now_seen.exit_code is not None else now_seen.message
    registry.add_event(
        Event(
            0,
            now_seen.at,
            record.service,
            record.name,
            "state",
            message,
            before.state,
            now_seen.state,
            {
                **({"container": now_seen.container_id[:12]} if now_seen.container_id else {}),
                **({"operation": operation} if operation else {}),
            },
        )
    )
    return True


def event(service: str, component: str, kind: str, message: str = "", **details: Any) -> Event:
    """An event of now."""
    return Event(0, time.time(), service, component, kind, message, details=details)


def progress(service: str, component: str, step: Step, message: str = "", **more: Any) -> DeployProgress:
    """A step of now."""
    return replace(DeployProgress(service, component, step, time.time(), message), **more)


def env_lines(text: str, *, origin: str) -> dict[str, str]:
    """The variables of an env file: `NAME=value` lines, comments and empty lines aside.

    Raises `InvalidInput` that names the line (never its content).
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        name = re.sub(r"^\s*(export\s+)?", "", name).rstrip()
        if not equals or not ENV_NAME.fullmatch(name):
            raise InvalidInput(f"{origin}: line {number} is not NAME=value")
        found[name] = value
    return found
