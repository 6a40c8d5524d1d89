"""`NodeService` and `AccountService`: messages in, the agent's methods, messages out. Nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

import grpc

from quarterdeck.auth.model import Identity
from quarterdeck.auth.settings import Door
from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.node import guard
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.convert import from_wire, to_wire
from quarterdeck.node.model import Mutation, ServiceDef
from quarterdeck.node.proto import account_pb2, account_pb2_grpc, node_pb2, node_pb2_grpc
from quarterdeck.node.results import PushRequest
from quarterdeck.node.validate import command_problem

T = TypeVar("T")
N = TypeVar("N", int, float)
# The last moment that the calendar has, in seconds since the epoch.
LAST_MOMENT = 253_402_300_799.0
MOST_CHUNK_BYTES = 1024 * 1024


def _mutation(request: Any) -> Mutation:
    """What accompanies the change; the actor is whoever the token names, and every change gets an id."""
    sent = request.mutation
    operation_id = sent.operation_id or uuid.uuid4().hex
    if len(operation_id) > 200 or not operation_id.isprintable():
        raise InvalidInput("an operation id has at most 200 printable characters")
    guard.note_operation(operation_id)
    return Mutation(
        operation_id,
        sent.expected_generation if sent.HasField("expected_generation") else None,
        guard.caller().subject,
        _within(sent.wait_seconds, 0, math.inf, "wait_seconds")
        if sent.HasField("wait_seconds")
        else Mutation().wait_seconds,
    )


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    """Serves a node agent. `stopping` ends streams that would never end by themselves."""

    def __init__(self, agent: NodeAgent, stopping: asyncio.Event) -> None:
        self._agent = agent
        self._stopping = stopping

    async def Deploy(self, request: node_pb2.DeployRequest, context: Any) -> AsyncIterator[Any]:
        definition = from_wire(request.definition, ServiceDef)
        mutation = _mutation(request)
        steps = self._agent.deploy(
            definition, mutation, components=tuple(request.components), plan_only=request.plan_only
        )
        async for step in steps:
            yield node_pb2.DeployResponse(progress=to_wire(step))

    async def Rollback(self, request: node_pb2.RollbackRequest, context: Any) -> AsyncIterator[Any]:
        generation = request.generation if request.HasField("generation") else None
        steps = self._agent.rollback(
            request.service, _mutation(request), generation=generation, plan_only=request.plan_only
        )
        async for step in steps:
            yield node_pb2.RollbackResponse(progress=to_wire(step))

    async def GetHistory(self, request: node_pb2.GetHistoryRequest, context: Any) -> Any:
        entries = await self._agent.history(request.service)
        return node_pb2.GetHistoryResponse(entries=[to_wire(each) for each in entries])

    async def StopService(self, request: node_pb2.StopServiceRequest, context: Any) -> Any:
        result = await self._agent.stop_service(request.service, _mutation(request), component=request.component)
        return node_pb2.StopServiceResponse(result=to_wire(result))

    async def StartService(self, request: node_pb2.StartServiceRequest, context: Any) -> Any:
        result = await self._agent.start_service(request.service, _mutation(request), component=request.component)
        return node_pb2.StartServiceResponse(result=to_wire(result))

    async def RestartService(self, request: node_pb2.RestartServiceRequest, context: Any) -> Any:
        result = await self._agent.restart_service(request.service, _mutation(request), component=request.component)
        return node_pb2.RestartServiceResponse(result=to_wire(result))

    async def PurgeService(self, request: node_pb2.PurgeServiceRequest, context: Any) -> Any:
        result = await self._agent.purge_service(request.service, _mutation(request), files=request.files)
        return node_pb2.PurgeServiceResponse(result=to_wire(result))

    async def ListServices(self, request: node_pb2.ListServicesRequest, context: Any) -> Any:
        services = await self._agent.list_services(service=request.service)
        return node_pb2.ListServicesResponse(services=[to_wire(each) for each in services])

    async def LiveCheck(self, request: node_pb2.LiveCheckRequest, context: Any) -> Any:
        found = await self._agent.live_check(service=request.service, usage=request.usage)
        return node_pb2.LiveCheckResponse(live_check=to_wire(found))

    async def GetServiceStatus(self, request: node_pb2.GetServiceStatusRequest, context: Any) -> Any:
        events = _within(request.events, 0, 1000, "events") if request.HasField("events") else 20
        status = await self._agent.get_service_status(request.service, events=events)
        return node_pb2.GetServiceStatusResponse(status=to_wire(status))

    async def ExportService(self, request: node_pb2.ExportServiceRequest, context: Any) -> Any:
        return node_pb2.ExportServiceResponse(definition=to_wire(await self._agent.export(request.service)))

    async def SyncDesiredState(self, request: node_pb2.SyncDesiredStateRequest, context: Any) -> Any:
        summary = await self._agent.sync_desired_state(
            tuple(from_wire(each, ServiceDef) for each in request.definitions),
            _mutation(request),
            prune=request.prune,
            apply=request.apply,
            plan_only=request.plan_only,
        )
        return node_pb2.SyncDesiredStateResponse(summary=to_wire(summary))

    async def AdoptContainers(self, request: node_pb2.AdoptContainersRequest, context: Any) -> Any:
        result = await self._agent.adopt_containers(request.service, _mutation(request))
        return node_pb2.AdoptContainersResponse(result=to_wire(result))

    async def PushFile(self, request_iterator: AsyncIterator[node_pb2.PushFileRequest], context: Any) -> Any:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("kind") != "header":
            raise InvalidInput("the first message of a push is its header; nothing was written")
        pushed = await self._agent.push_file(
            from_wire(first.header.file, PushRequest), _chunks(request_iterator), _mutation(first.header)
        )
        return node_pb2.PushFileResponse(file=to_wire(pushed))

    async def GetPushOffset(self, request: node_pb2.GetPushOffsetRequest, context: Any) -> Any:
        offset = await self._agent.push_offset(request.service, request.path, request.sha256)
        return node_pb2.GetPushOffsetResponse(offset=offset)

    async def PullFile(self, request: node_pb2.PullFileRequest, context: Any) -> AsyncIterator[Any]:
        async with self._agent.pull_file(request.service, request.path, offset=request.offset) as (header, chunks):
            yield node_pb2.PullFileResponse(header=to_wire(header))
            async for chunk in chunks:
                yield node_pb2.PullFileResponse(chunk=chunk)

    async def Logs(self, request: node_pb2.LogsRequest, context: Any) -> AsyncIterator[Any]:
        tail = _within(request.tail, 0, 1_000_000, "tail") if request.HasField("tail") else None
        lines = self._agent.logs(
            request.service, component=request.component, tail=tail, since=_since(request), follow=request.follow
        )
        async with contextlib.aclosing(self._until_stopping(lines)) as found:
            async for line in found:
                yield node_pb2.LogsResponse(line=to_wire(line))

    async def Events(self, request: node_pb2.EventsRequest, context: Any) -> AsyncIterator[Any]:
        limit = _within(request.limit, 0, 100_000, "limit") if request.HasField("limit") else 100
        events = self._agent.events(
            service=request.service,
            component=request.component,
            since=_since(request),
            limit=limit,
            follow=request.follow,
        )
        async with contextlib.aclosing(self._until_stopping(events)) as found:
            async for event in found:
                yield node_pb2.EventsResponse(event=to_wire(event))

    async def Exec(self, request: node_pb2.ExecRequest, context: Any) -> AsyncIterator[Any]:
        command = tuple(request.command)
        if wrong := command_problem(command, request.user):
            raise InvalidInput(f"{wrong}; nothing was run")
        outputs = self._agent.exec_command(
            request.service, request.component, command, stdin=request.stdin, user=request.user
        )
        async with contextlib.aclosing(self._until_stopping(outputs)) as found:
            async for output in found:
                yield node_pb2.ExecResponse(output=to_wire(output))

    async def NodeInfo(self, request: node_pb2.NodeInfoRequest, context: Any) -> Any:
        return node_pb2.NodeInfoResponse(info=to_wire(await self._agent.node_info()))

    async def SetSecret(self, request: node_pb2.SetSecretRequest, context: Any) -> Any:
        await self._agent.set_secret(request.name, request.value, _mutation(request))
        return node_pb2.SetSecretResponse()

    async def ListSecrets(self, request: node_pb2.ListSecretsRequest, context: Any) -> Any:
        return node_pb2.ListSecretsResponse(names=await self._agent.list_secrets())

    async def RemoveSecret(self, request: node_pb2.RemoveSecretRequest, context: Any) -> Any:
        await self._agent.remove_secret(request.name, _mutation(request))
        return node_pb2.RemoveSecretResponse()

    async def Pause(self, request: node_pb2.PauseRequest, context: Any) -> Any:
        await self._agent.pause(_mutation(request), service=request.service)
        return node_pb2.PauseResponse()

    async def Resume(self, request: node_pb2.ResumeRequest, context: Any) -> Any:
        await self._agent.resume(_mutation(request), service=request.service)
        return node_pb2.ResumeResponse()

    async def Drain(self, request: node_pb2.DrainRequest, context: Any) -> Any:
        results = await self._agent.drain(_mutation(request), stop=request.stop)
        return node_pb2.DrainResponse(results=[to_wire(each) for each in results])

    async def TakeSnapshot(self, request: node_pb2.TakeSnapshotRequest, context: Any) -> Any:
        return node_pb2.TakeSnapshotResponse(snapshot=to_wire(await self._agent.snapshot(_mutation(request))))

    async def ListSnapshots(self, request: node_pb2.ListSnapshotsRequest, context: Any) -> Any:
        snapshots = await self._agent.list_snapshots()
        return node_pb2.ListSnapshotsResponse(snapshots=[to_wire(each) for each in snapshots])

    async def RestoreSnapshot(self, request: node_pb2.RestoreSnapshotRequest, context: Any) -> Any:
        snapshot = await self._agent.restore(request.path, _mutation(request))
        return node_pb2.RestoreSnapshotResponse(snapshot=to_wire(snapshot))

    async def _until_stopping(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items until the server stops: `Unavailable` then, so that a follower knows to come again."""
        ready: asyncio.Queue[T] = asyncio.Queue(64)

        async def pump() -> None:
            async with contextlib.aclosing(items):
                async for item in items:
                    await ready.put(item)

        # One task runs the whole iterator: the cancel scopes inside it must be left where they were entered.
        pumping = asyncio.create_task(pump(), name="pump")
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        waiting: set[asyncio.Task[Any]] = {pumping, stopping}
        try:
            while True:
                upcoming = asyncio.create_task(ready.get(), name="next")
                waiting.add(upcoming)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                waiting.discard(upcoming)
                if upcoming.done():
                    yield upcoming.result()
                    continue
                upcoming.cancel()
                if not pumping.done():
                    raise Unavailable("the node agent is stopping; containers go on", hint="ask again in a moment")
                while not ready.empty():
                    yield ready.get_nowait()
                pumping.result()
                return
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)


def _within(value: N, least: float, most: float, name: str) -> N:
    # Not a number is not within anything.
    if not least <= value <= most:
        raise InvalidInput(f"{name} is {value}; {least} to {most} is taken")
    return value


def _since(request: Any) -> float:
    return float(_within(request.since, 0, LAST_MOMENT, "since"))


async def _chunks(requests: AsyncIterator[node_pb2.PushFileRequest]) -> AsyncIterator[bytes]:
    async for message in requests:
        if message.WhichOneof("kind") != "chunk":
            raise InvalidInput("a push has one header; nothing was written")
        if len(message.chunk) > MOST_CHUNK_BYTES:
            raise InvalidInput(
                f"a chunk has {len(message.chunk)} bytes; nothing was written", hint="a chunk has at most 1 MiB"
            )
        yield message.chunk


class AccountServicer(account_pb2_grpc.AccountServiceServicer):
    """Logging in at the node's own accounts."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def Login(self, request: account_pb2.LoginRequest, context: Any) -> Any:
        if self._door.local is None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, "this node has no accounts: tokens come from its identity provider"
            )
        assert self._door.local is not None
        token, identity = await self._door.local.login(request.user, request.password)
        guard.note_caller(identity.subject)
        return account_pb2.LoginResponse(token=token, caller=_caller_message(identity))

    async def Logout(self, request: account_pb2.LogoutRequest, context: Any) -> Any:
        if self._door.local is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "only the identity provider can revoke its tokens")
        assert self._door.local is not None
        await self._door.local.revoke(guard.token())
        self._door.verifier.forget_all()
        return account_pb2.LogoutResponse()

    async def WhoAmI(self, request: account_pb2.WhoAmIRequest, context: Any) -> Any:
        return account_pb2.WhoAmIResponse(caller=_caller_message(guard.caller()))


def _caller_message(identity: Identity) -> account_pb2.Caller:
    return account_pb2.Caller(
        subject=identity.subject, role=identity.role.label, issuer=identity.issuer, expires_at=identity.expires_at
    )
