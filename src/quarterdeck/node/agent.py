"""The node agent: one async method per call of `quarterdeck.node.v1.NodeService`.

It knows nothing of gRPC: `server.py` converts and calls it. Errors are those of `quarterdeck.errors`:
`InvalidInput` (the request cannot be right), `NotFound` (no such service, component, file or container),
`Conflict` (held by another operation, a taken container name, the node drains), `PreconditionFailed` (the
expected generation is stale), `Unavailable` (the runtime does not answer), `StorageRefused` (disk full).

Every mutation takes a `Mutation`: a retry with the same operation id gets the first answer (also the
first error), without doing anything again; a stale expected generation is refused before anything is done, and
so is one given to a change that is not of one service.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from quarterdeck import telemetry
from quarterdeck.errors import InvalidInput
from quarterdeck.node import looking
from quarterdeck.node.engine import Engine
from quarterdeck.node.model import Event, Mutation, ServiceDef, ServiceRecord
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.preparing import prepare
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import (
    AdoptResult,
    DeployPlan,
    DeployProgress,
    ExecOutput,
    FileHeader,
    HistoryEntry,
    LiveCheck,
    LogLine,
    NodeInfo,
    PushedFile,
    PushRequest,
    ServiceResult,
    ServiceStatus,
    SnapshotInfo,
    SyncSummary,
)
from quarterdeck.node.validate import SECRET_NAME

# Podman's own limit.
SECRET_BYTES = 512_000


class NodeAgent:
    """A running node agent. Made by `NodeAgent.open`."""

    @classmethod
    @asynccontextmanager
    async def open(cls, options: AgentOptions) -> AsyncIterator[NodeAgent]:
        """Open the registry, finish or undo what a killed agent left, start the monitor; close it all at the end.

        Containers are left running. Raises `Conflict` when another agent holds the state folder and
        `InternalError` when the registry cannot be read (the hint names the newest snapshot).
        """
        async with Engine.open(options) as engine:
            yield cls(engine)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._context = engine.context

    # Deploying

    def deploy(
        self, service: ServiceDef, mutation: Mutation, *, components: Sequence[str] = (), plan_only: bool = False
    ) -> AsyncGenerator[DeployProgress, None]:
        """Make the node run this definition; yields progress, the last item is step *done* with the result.

        `components` limits it to those of the definition (the others of the registry stay as they are).
        `plan_only` yields one *done* with the plan and changes nothing. The work goes on when the caller
        goes away; a retry with the same operation id joins it or gets its answer.
        """
        asked = {"definition": service, "components": sorted(components)}
        return self._engine.deploying("deploy", service.name, mutation, asked, service, tuple(components), plan_only)

    async def plan(self, service: ServiceDef, *, components: Sequence[str] = ()) -> DeployPlan:
        """What `deploy` would do now. Reads only."""
        found = await prepare(self._context, service, components, lambda _: None, pull=False)
        return found.plan

    async def history(self, service: str) -> tuple[HistoryEntry, ...]:
        """The definitions that were deployed, newest first. Raises `NotFound`."""

        def read(registry: Registry) -> tuple[HistoryEntry, ...]:
            registry.service(service)
            return registry.history(service)

        return await self._context.store.read(read)

    def rollback(
        self, service: str, mutation: Mutation, *, generation: int | None = None, plan_only: bool = False
    ) -> AsyncGenerator[DeployProgress, None]:
        """Deploy an earlier definition again, as a new generation: `generation`, or the last that went well
        before the current one. As `deploy`; raises `NotFound` when history has no such one."""
        return self._engine.rolling_back(service, mutation, generation, plan_only)

    # Lifecycle

    async def stop_service(self, service: str, mutation: Mutation, *, component: str = "") -> ServiceResult:
        """Stop it: desired state first, then the containers, then what was observed. Raises `NotFound`."""
        return await self._engine.change("stop", service, component, mutation, lambda life: life.stop())

    async def start_service(self, service: str, mutation: Mutation, *, component: str = "") -> ServiceResult:
        """Start it, making containers anew that were removed. Raises `NotFound`."""
        return await self._engine.change("start", service, component, mutation, lambda life: life.start())

    async def restart_service(self, service: str, mutation: Mutation, *, component: str = "") -> ServiceResult:
        """Stop and start it; the desired state becomes running. Raises `NotFound`."""
        return await self._engine.change("restart", service, component, mutation, lambda life: life.restart())

    async def purge_service(self, service: str, mutation: Mutation, *, files: bool = False) -> ServiceResult:
        """Remove its containers and forget it; with `files` its folder too. Named volumes stay. Raises `NotFound`."""
        return await self._engine.change(
            "purge", service, "", mutation, lambda life: life.purge(files=files), files=files
        )

    # Looking

    async def list_services(self, *, service: str = "") -> tuple[ServiceRecord, ...]:
        """What the registry says, by name; never asks the runtime. Raises `NotFound` for an unknown `service`."""
        if service:
            return (await self._context.store.read(lambda registry: registry.service(service)),)
        return await self._context.store.services()

    async def live_check(self, *, service: str = "", usage: bool = False) -> LiveCheck:
        """Ask the runtime now and record what it says; with `usage` also processor and memory use.

        A runtime that does not answer is told in `runtime_error`, not raised.
        """
        return await looking.live_check(self._context, self._engine.operations, service=service, usage=usage)

    async def get_service_status(self, service: str, *, events: int = 20) -> ServiceStatus:
        """The service, its drift asked for now, and its latest events. Raises `NotFound`."""
        return await looking.status(self._context, self._engine.operations, service, events=events)

    async def export(self, service: str) -> ServiceDef:
        """The definition that deploys to what is registered (no secret in it). Raises `NotFound`."""
        record = await self._context.store.read(lambda registry: registry.service(service))
        return replace(record.definition(), node=record.node or self._context.options.node_name)

    def events(
        self, *, service: str = "", component: str = "", since: float = 0, limit: int = 100, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        """The latest `limit` events at or after `since`, oldest first; with `follow` also those to come, for ever."""
        return looking.event_stream(
            self._context, service=service, component=component, since=since, limit=limit, follow=follow
        )

    def logs(
        self, service: str, *, component: str = "", tail: int | None = None, since: float = 0, follow: bool = False
    ) -> AsyncGenerator[LogLine, None]:
        """The output of its containers, merged by time; `tail` lines per component. Raises `NotFound`."""
        return looking.merged_logs(self._context, service, component=component, tail=tail, since=since, follow=follow)

    def exec_command(
        self, service: str, component: str, command: Sequence[str], *, stdin: bytes = b"", user: str = ""
    ) -> AsyncGenerator[ExecOutput, None]:
        """Run a command inside a component's container; the last item has the exit code. `component` empty takes
        the only one. Raises `NotFound`, and `Conflict` when it does not run."""
        return looking.execute(self._context, service, component, command, stdin=stdin, user=user)

    async def node_info(self) -> NodeInfo:
        """Facts about the node; asks the runtime for its version only."""
        return await looking.node_info(self._context, started_at=self._engine.started_at)

    # Taking over

    async def sync_desired_state(
        self,
        services: Sequence[ServiceDef],
        mutation: Mutation,
        *,
        prune: bool = False,
        apply: bool = False,
        plan_only: bool = False,
    ) -> SyncSummary:
        """Make the registry say what these definitions say.

        Creates and updates; `active` decides the desired state; containers that belong to nobody are
        recorded as *ignore*. `prune` removes managed services and components that are not defined, with their
        containers; without it they are kept, with `apply` too, and told.
        Containers are otherwise left alone unless `apply` (then every change is deployed or stopped).
        """
        return await self._engine.sync(services, mutation, prune=prune, apply=apply, plan_only=plan_only)

    async def adopt_containers(self, service: str, mutation: Mutation) -> AdoptResult:
        """Take the containers named `SERVICE` and `SERVICE-*` as components, with the configuration they really
        have and the state they are in; nothing is restarted. Raises `NotFound` when none matches."""
        return await self._engine.adopt(service, mutation)

    # Files

    async def push_offset(self, service: str, path: str, sha256: str) -> int:
        """How many bytes of this content an interrupted push left: where a resumed one begins (0: nothing)."""
        return await self._context.files.offset(service, path, sha256)

    async def push_file(self, request: PushRequest, chunks: AsyncIterator[bytes], mutation: Mutation) -> PushedFile:
        """Write a file below the service's folder, atomically, making folders. Memory use does not depend on its size.

        Raises `InvalidInput` for a path that leads out, and when size or sha256 differ (nothing is replaced then);
        `Conflict` when `offset` is not where an interrupted push ended.
        """
        return await self._engine.push(request, chunks, mutation)

    @asynccontextmanager
    async def pull_file(
        self, service: str, path: str, *, offset: int = 0
    ) -> AsyncIterator[tuple[FileHeader, AsyncIterator[bytes]]]:
        """Read a file: its header and its chunks from `offset` on. Raises `InvalidInput` and `NotFound`."""
        async with self._context.files.pull(service, path, offset=offset) as opened:
            yield opened

    # Secrets (podman's own; a value goes in and never comes out)

    async def set_secret(self, name: str, value: bytes, mutation: Mutation) -> None:
        """Create or replace a podman secret. Containers see a new value once they are made anew.

        Raises `InvalidInput` for a name that is none and for a value that podman does not take.
        """
        _check_secret_name(name)
        if not 0 < len(value) < SECRET_BYTES:
            raise InvalidInput(f"a secret has 1 to {SECRET_BYTES - 1} bytes, this one {len(value)}; nothing was set")
        telemetry.hide(value.decode(errors="replace"))
        digest = hashlib.sha256(self._context.key.encode() + value).hexdigest()
        await self._engine.simply(
            "set-secret",
            mutation,
            {"name": name, "value": digest},
            lambda: self._context.runtime.set_secret(name, value),
        )

    async def list_secrets(self) -> tuple[str, ...]:
        """The names of the node's secrets."""
        return await self._context.runtime.secrets()

    async def remove_secret(self, name: str, mutation: Mutation) -> None:
        """Remove a secret. Raises `InvalidInput` for a name that is none, `NotFound`, and `Conflict` when a component
        names it."""
        _check_secret_name(name)
        await self._engine.simply("remove-secret", mutation, {"name": name}, self._engine.removing_secret(name))

    # The node itself

    async def pause(self, mutation: Mutation, *, service: str = "") -> None:
        """No restarts and no enforcement until `resume`, for a service or (empty) the node; outlives the agent."""
        await self._engine.node.set_paused(mutation, service, paused=True)

    async def resume(self, mutation: Mutation, *, service: str = "") -> None:
        """Undo `pause` (and, for the whole node, `drain`)."""
        await self._engine.node.set_paused(mutation, service, paused=False)
        self._engine.monitor.poke()

    async def drain(self, mutation: Mutation, *, stop: bool = False) -> tuple[ServiceResult, ...]:
        """Take no more deploys until `resume`; with `stop` also stop every managed container (desired states stay)."""
        return await self._engine.node.drain(mutation, stop=stop)

    async def snapshot(self, mutation: Mutation | None = None) -> SnapshotInfo:
        """A checked copy of the registry beside it; old ones beyond the number to keep are removed."""
        return await self._engine.node.snapshot(mutation or Mutation())

    async def list_snapshots(self) -> tuple[SnapshotInfo, ...]:
        """The snapshots there are, newest first."""
        return await self._context.store.snapshots()

    async def restore(self, path: str, mutation: Mutation) -> SnapshotInfo:
        """Put a snapshot (a name or path of `list_snapshots`) in the registry's place, after a snapshot of what is
        there; containers are observed anew. Waits for the changes in progress and keeps others waiting. Raises
        `NotFound`, and `InvalidInput` when it is damaged."""
        return await self._engine.node.restore(path, mutation)


def _check_secret_name(name: str) -> None:
    if not SECRET_NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:300]!r} is not a secret's name",
            hint="use letters, digits, '-', '_' and '.', beginning with a letter or digit, at most 253",
        )
