"""Calling a node agent: one async method per call, dataclasses in and out, errors of `quarterdeck.errors`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc.aio

from quarterdeck.errors import InternalError
from quarterdeck.node.calls import ANY, MESSAGE_BYTES, Calls, Change, Target
from quarterdeck.node.convert import from_wire, to_wire
from quarterdeck.node.model import Event, ServiceDef, ServiceRecord
from quarterdeck.node.proto import account_pb2, node_pb2
from quarterdeck.node.results import (
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
from quarterdeck.node.wire_errors import error_from_rpc

__all__ = ["ANY", "MESSAGE_BYTES", "Change", "NodeClient", "Target"]


class NodeClient(Calls):
    """Calls one node. An async context manager; made by `NodeClient.to`.

    Every method raises what the node agent's raises, `Unavailable` when the node is unreachable (the message
    says why), `Unauthenticated` and `PermissionDenied`.
    """

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
