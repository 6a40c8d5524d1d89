"""Calling a node agent: one async method per call, dataclasses in and out, errors of `quarterdeck.errors`."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import anyio

from quarterdeck.config import quiet_grpc

quiet_grpc()

import grpc  # noqa: E402
import grpc.aio  # noqa: E402

from quarterdeck.errors import InternalError, InvalidInput  # noqa: E402
from quarterdeck.node.convert import from_wire, to_wire  # noqa: E402
from quarterdeck.node.model import Event, ServiceDef, ServiceRecord  # noqa: E402
from quarterdeck.node.proto import account_pb2, account_pb2_grpc, node_pb2, node_pb2_grpc  # noqa: E402
from quarterdeck.node.results import (  # noqa: E402
    AdoptResult,
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
from quarterdeck.node.wire_errors import Unreachable, error_from_rpc  # noqa: E402

MESSAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A node to call. `address` is `HOST:PORT`, `ca` the PEM text of the pinned CA, `server_name` the name in its
    certificate where that is not the host; times in seconds."""

    name: str
    address: str
    ca: bytes
    token: str = ""
    server_name: str = ""
    timeout_seconds: float = 30
    connect_seconds: float = 5


@dataclass(frozen=True)
class Change:
    """What accompanies a change: an operation id (empty: one is made), the expected generation (None: any) and how
    long to wait for another change of the same service (None: as long as the node would)."""

    operation_id: str = ""
    expected_generation: int | None = None
    wait_seconds: float | None = None

    def message(self) -> node_pb2.Mutation:
        """The same for the wire, always with an id, so that a call that was cut off can be made again."""
        return node_pb2.Mutation(
            operation_id=self.operation_id or uuid.uuid4().hex,
            expected_generation=self.expected_generation,
            wait_seconds=self.wait_seconds,
        )


ANY = Change()


class NodeClient:
    """Calls one node. An async context manager; made by `NodeClient.to`.

    Every method raises what the node agent's raises, `Unavailable` when the node is unreachable (the message
    says why), `Unauthenticated` and `PermissionDenied`.
    """

    def __init__(self, target: Target, channel: grpc.aio.Channel) -> None:
        self._target = target
        self._channel = channel
        self._node: Any = node_pb2_grpc.NodeServiceStub(channel)  # type: ignore[no-untyped-call]
        self._accounts: Any = account_pb2_grpc.AccountServiceStub(channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {target.token}"),) if target.token else ()
        # A change may wait for another one of the same service, and stopping takes its grace.
        self._patience = max(target.timeout_seconds, 300.0)

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, target: Target) -> AsyncIterator[Self]:
        """A client for the time of the block; nothing is sent yet. Raises `InvalidInput` for a CA that is none."""
        if b"-----BEGIN CERTIFICATE-----" not in target.ca:
            raise InvalidInput(
                f"the CA of node {target.name} is no PEM certificate", hint="`qd node join` pins it anew"
            )
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            # Both are the time that one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", int(target.connect_seconds * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 500),
            # A node that was cut off is noticed in the middle of a stream too.
            ("grpc.keepalive_time_ms", 12_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.enable_http_proxy", 0),
        ]
        if target.server_name:
            options.append(("grpc.ssl_target_name_override", target.server_name))
        credentials = grpc.ssl_channel_credentials(target.ca)
        async with grpc.aio.secure_channel(target.address, credentials, options=options) as channel:
            yield cls(target, channel)

    async def _call(self, method: Callable[..., Any], request: Any, *, timeout_seconds: float | None = None) -> Any:
        try:
            return await method(
                request, metadata=self._metadata, timeout=timeout_seconds or self._target.timeout_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, who=self._who) from None

    async def _change(self, method: Callable[..., Any], request: Any) -> Any:
        return await self._call(method, request, timeout_seconds=self._patience)

    async def _stream(self, method: Callable[..., Any], request: Any) -> AsyncGenerator[Any, None]:
        call = method(request, metadata=self._metadata)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, who=self._who) from None
        finally:
            call.cancel()

    @property
    def name(self) -> str:
        """The node's name, as cli.toml has it."""
        return self._target.name

    @property
    def _who(self) -> str:
        return f"node {self._target.name} ({self._target.address})"

    # Accounts

    async def login(self, user: str, password: str) -> tuple[str, str, str, float | None]:
        """Log in at the node's own accounts: token, user, role and the time of its end."""
        answer = await self._call(self._accounts.Login, account_pb2.LoginRequest(user=user, password=password))
        caller = answer.caller
        return answer.token, caller.subject, caller.role, caller.expires_at if caller.HasField("expires_at") else None

    async def logout(self) -> None:
        """Revoke the token."""
        await self._call(self._accounts.Logout, account_pb2.LogoutRequest())

    async def who_am_i(self) -> tuple[str, str, str, float | None]:
        """Whose token it is: name, role, issuer, and the time of its end."""
        caller = (await self._call(self._accounts.WhoAmI, account_pb2.WhoAmIRequest())).caller
        return caller.subject, caller.role, caller.issuer, caller.expires_at if caller.HasField("expires_at") else None

    # Deploying

    async def deploy(
        self, service: ServiceDef, change: Change = ANY, *, components: Sequence[str] = (), plan_only: bool = False
    ) -> AsyncIterator[DeployProgress]:
        """Deploy; the last item has the result (or the plan). Survives a connection that is lost for a while."""
        request = node_pb2.DeployRequest(
            definition=to_wire(service), components=components, plan_only=plan_only, mutation=change.message()
        )
        async for step in self._resumed(self._node.Deploy, request):
            yield step

    async def rollback(
        self, service: str, change: Change = ANY, *, generation: int | None = None, plan_only: bool = False
    ) -> AsyncIterator[DeployProgress]:
        """Deploy an earlier generation again; as `deploy`."""
        request = node_pb2.RollbackRequest(
            service=service, generation=generation, plan_only=plan_only, mutation=change.message()
        )
        async for step in self._resumed(self._node.Rollback, request):
            yield step

    async def _resumed(
        self, method: Callable[..., Any], request: Any, *, patience_seconds: float = 30
    ) -> AsyncIterator[DeployProgress]:
        # The node goes on by itself; asking again with the same operation id joins what goes on there.
        began, done, lost_at = False, False, 0.0
        while True:
            try:
                async with contextlib.aclosing(self._stream(method, request)) as messages:
                    async for message in messages:
                        began, lost_at = True, 0.0
                        step = from_wire(message.progress, DeployProgress)
                        done = step.step == "done"
                        yield step
                if done:
                    return
                raise InternalError(f"{self._who} ended the stream without a result", hint="`qd service status` tells")
            except Unreachable as error:
                if done:
                    return
                lost_at = lost_at or time.monotonic()
                if not began or time.monotonic() - lost_at > patience_seconds:
                    if began:
                        raise Unreachable(
                            f"{error.message}; what was begun goes on there",
                            hint="`qd service status` tells how it ended",
                        ) from error
                    raise
                await anyio.sleep(1)

    async def history(self, service: str) -> tuple[HistoryEntry, ...]:
        """The definitions that were deployed, newest first."""
        answer = await self._call(self._node.GetHistory, node_pb2.GetHistoryRequest(service=service))
        return tuple(from_wire(each, HistoryEntry) for each in answer.entries)

    # Lifecycle

    async def stop_service(self, service: str, change: Change = ANY, *, component: str = "") -> ServiceResult:
        """Stop a service or one component."""
        request = node_pb2.StopServiceRequest(service=service, component=component, mutation=change.message())
        return from_wire((await self._change(self._node.StopService, request)).result, ServiceResult)

    async def start_service(self, service: str, change: Change = ANY, *, component: str = "") -> ServiceResult:
        """Start a service or one component."""
        request = node_pb2.StartServiceRequest(service=service, component=component, mutation=change.message())
        return from_wire((await self._change(self._node.StartService, request)).result, ServiceResult)

    async def restart_service(self, service: str, change: Change = ANY, *, component: str = "") -> ServiceResult:
        """Restart a service or one component."""
        request = node_pb2.RestartServiceRequest(service=service, component=component, mutation=change.message())
        return from_wire((await self._change(self._node.RestartService, request)).result, ServiceResult)

    async def purge_service(self, service: str, change: Change = ANY, *, files: bool = False) -> ServiceResult:
        """Remove a service with its containers, with `files` also its folder."""
        request = node_pb2.PurgeServiceRequest(service=service, files=files, mutation=change.message())
        return from_wire((await self._change(self._node.PurgeService, request)).result, ServiceResult)

    # Looking

    async def list_services(self, *, service: str = "") -> tuple[ServiceRecord, ...]:
        """What the registry says."""
        answer = await self._call(self._node.ListServices, node_pb2.ListServicesRequest(service=service))
        return tuple(from_wire(each, ServiceRecord) for each in answer.services)

    async def live_check(self, *, service: str = "", usage: bool = False) -> LiveCheck:
        """What the runtime says now."""
        answer = await self._call(self._node.LiveCheck, node_pb2.LiveCheckRequest(service=service, usage=usage))
        return from_wire(answer.live_check, LiveCheck)

    async def get_service_status(self, service: str, *, events: int = 20) -> ServiceStatus:
        """A service with its drift and its latest events."""
        request = node_pb2.GetServiceStatusRequest(service=service, events=events)
        return from_wire((await self._call(self._node.GetServiceStatus, request)).status, ServiceStatus)

    async def export(self, service: str) -> ServiceDef:
        """The definition that deploys to what is registered."""
        request = node_pb2.ExportServiceRequest(service=service)
        return from_wire((await self._call(self._node.ExportService, request)).definition, ServiceDef)

    async def events(
        self, *, service: str = "", component: str = "", since: float = 0, limit: int = 100, follow: bool = False
    ) -> AsyncIterator[Event]:
        """The latest events, oldest first; with `follow` also those to come."""
        request = node_pb2.EventsRequest(service=service, component=component, since=since, limit=limit, follow=follow)
        async for message in self._stream(self._node.Events, request):
            yield from_wire(message.event, Event)

    async def logs(
        self, service: str, *, component: str = "", tail: int | None = None, since: float = 0, follow: bool = False
    ) -> AsyncIterator[LogLine]:
        """The output of a service's containers, merged by time."""
        request = node_pb2.LogsRequest(service=service, component=component, tail=tail, since=since, follow=follow)
        async for message in self._stream(self._node.Logs, request):
            yield from_wire(message.line, LogLine)

    async def exec_command(
        self, service: str, component: str, command: Sequence[str], *, stdin: bytes = b"", user: str = ""
    ) -> AsyncIterator[ExecOutput]:
        """Run a command inside a component's container; the last item has the exit code."""
        request = node_pb2.ExecRequest(service=service, component=component, command=command, stdin=stdin, user=user)
        async for message in self._stream(self._node.Exec, request):
            yield from_wire(message.output, ExecOutput)

    async def node_info(self) -> NodeInfo:
        """Facts about the node."""
        return from_wire((await self._call(self._node.NodeInfo, node_pb2.NodeInfoRequest())).info, NodeInfo)

    # Taking over

    async def sync_desired_state(
        self,
        services: Sequence[ServiceDef],
        change: Change = ANY,
        *,
        prune: bool = False,
        apply: bool = False,
        plan_only: bool = False,
    ) -> SyncSummary:
        """Make the registry say what definitions say."""
        request = node_pb2.SyncDesiredStateRequest(
            definitions=[to_wire(each) for each in services],
            prune=prune,
            apply=apply,
            plan_only=plan_only,
            mutation=change.message(),
        )
        return from_wire((await self._change(self._node.SyncDesiredState, request)).summary, SyncSummary)

    async def adopt_containers(self, service: str, change: Change = ANY) -> AdoptResult:
        """Take over containers that somebody else made."""
        request = node_pb2.AdoptContainersRequest(service=service, mutation=change.message())
        return from_wire((await self._change(self._node.AdoptContainers, request)).result, AdoptResult)

    # Files

    async def push_offset(self, service: str, path: str, sha256: str) -> int:
        """Where a push of this content begins again."""
        request = node_pb2.GetPushOffsetRequest(service=service, path=path, sha256=sha256)
        return int((await self._call(self._node.GetPushOffset, request)).offset)

    async def push_file(self, request: PushRequest, chunks: AsyncIterator[bytes], change: Change = ANY) -> PushedFile:
        """Write a file; `chunks` begin at the request's offset."""

        async def messages() -> AsyncIterator[node_pb2.PushFileRequest]:
            header = node_pb2.PushFileHeader(file=to_wire(request), mutation=change.message())
            yield node_pb2.PushFileRequest(header=header)
            async for chunk in chunks:
                yield node_pb2.PushFileRequest(chunk=chunk)

        # No deadline of its own: the size is not limited, and a dead connection is noticed by keepalive.
        try:
            answer = await self._node.PushFile(messages(), metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, who=self._who) from None
        return from_wire(answer.file, PushedFile)

    @contextlib.asynccontextmanager
    async def pull_file(
        self, service: str, path: str, *, offset: int = 0
    ) -> AsyncIterator[tuple[FileHeader, AsyncIterator[bytes]]]:
        """Read a file: its header, and its chunks from `offset` on."""
        request = node_pb2.PullFileRequest(service=service, path=path, offset=offset)
        async with contextlib.aclosing(self._stream(self._node.PullFile, request)) as messages:
            first = await anext(messages, None)
            if first is None or first.WhichOneof("kind") != "header":
                raise InternalError(f"{self._who} sent a file without its header")

            header = from_wire(first.header, FileHeader)

            async def chunks() -> AsyncIterator[bytes]:
                done = offset
                async for message in messages:
                    done += len(message.chunk)
                    yield message.chunk
                if done != header.size:
                    raise InternalError(f"{self._who} sent {done} of the {header.size} bytes of {path!r}")

            yield header, chunks()

    # Secrets

    async def set_secret(self, name: str, value: bytes, change: Change = ANY) -> None:
        """Create or replace a secret of the node."""
        request = node_pb2.SetSecretRequest(name=name, value=value, mutation=change.message())
        await self._change(self._node.SetSecret, request)

    async def list_secrets(self) -> tuple[str, ...]:
        """The names of the node's secrets."""
        return tuple((await self._call(self._node.ListSecrets, node_pb2.ListSecretsRequest())).names)

    async def remove_secret(self, name: str, change: Change = ANY) -> None:
        """Remove a secret of the node."""
        request = node_pb2.RemoveSecretRequest(name=name, mutation=change.message())
        await self._change(self._node.RemoveSecret, request)

    # The node itself

    async def pause(self, change: Change = ANY, *, service: str = "") -> None:
        """No restarts and no enforcement until `resume`."""
        await self._change(self._node.Pause, node_pb2.PauseRequest(service=service, mutation=change.message()))

    async def resume(self, change: Change = ANY, *, service: str = "") -> None:
        """Undo `pause` and `drain`."""
        await self._change(self._node.Resume, node_pb2.ResumeRequest(service=service, mutation=change.message()))

    async def drain(self, change: Change = ANY, *, stop: bool = False) -> tuple[ServiceResult, ...]:
        """No more deploys until `resume`; with `stop` every managed container is stopped."""
        answer = await self._change(self._node.Drain, node_pb2.DrainRequest(stop=stop, mutation=change.message()))
        return tuple(from_wire(each, ServiceResult) for each in answer.results)

    async def snapshot(self, change: Change = ANY) -> SnapshotInfo:
        """A checked copy of the registry, on the node."""
        answer = await self._change(self._node.TakeSnapshot, node_pb2.TakeSnapshotRequest(mutation=change.message()))
        return from_wire(answer.snapshot, SnapshotInfo)

    async def list_snapshots(self) -> tuple[SnapshotInfo, ...]:
        """The snapshots there are, newest first."""
        answer = await self._call(self._node.ListSnapshots, node_pb2.ListSnapshotsRequest())
        return tuple(from_wire(each, SnapshotInfo) for each in answer.snapshots)

    async def restore(self, path: str, change: Change = ANY) -> SnapshotInfo:
        """Put a snapshot in the registry's place."""
        request = node_pb2.RestoreSnapshotRequest(path=path, mutation=change.message())
        return from_wire((await self._change(self._node.RestoreSnapshot, request)).snapshot, SnapshotInfo)
