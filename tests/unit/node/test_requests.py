"""Requests that are none, that cannot be, or that mean nothing: judged, recorded, and refused as what they are."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from quarterdeck.errors import InvalidInput
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.client import Change
from quarterdeck.node.proto import node_pb2
from support.served_node import Node

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    async with made.up():
        yield made


def methods() -> list[str]:
    """Every method of the service, as gRPC names it."""
    service = node_pb2.DESCRIPTOR.services_by_name["NodeService"]
    return [f"/{service.full_name}/{each.name}" for each in service.methods]


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, float("-inf")])
async def test_a_wait_that_cannot_be_is_refused(node: Node, seconds: float) -> None:
    async with node.client() as client:
        with pytest.raises(InvalidInput, match="wait_seconds"):
            await client.stop_service("web", Change(wait_seconds=seconds))
    assert not node.agent.mutations


@pytest.mark.parametrize("since", [1e300, float("inf"), float("nan"), -1.0])
async def test_a_time_that_cannot_be_is_refused(node: Node, since: float) -> None:
    async with node.client() as client:
        for stream in (client.logs("web", since=since), client.events(since=since)):
            with pytest.raises(InvalidInput, match="since"):
                await anext(stream)


@pytest.mark.parametrize(
    ("command", "user"),
    # Podman 4.3.1 stands still for everybody on the long ones.
    [
        ([], ""),
        ([""], ""),
        (["sh", "a\0b"], ""),
        (["x" * 70_000], ""),
        (["sh"], "x" * 70_000),
        (["sh", "x" * 140_000], ""),
    ],
    ids=["none", "empty", "nul", "long", "user", "word"],
)
async def test_a_command_that_cannot_be_is_refused(node: Node, command: list[str], user: str) -> None:
    async with node.client() as client:
        with pytest.raises(InvalidInput, match="nothing was run"):
            await anext(client.exec_command("web", "", command, user=user))


def shape(method: str) -> str:
    """Which kind of call it is, as gRPC's channels name them."""
    service = node_pb2.DESCRIPTOR.services_by_name["NodeService"]
    found = service.methods_by_name[method.rpartition("/")[2]]
    words = {True: "stream", False: "unary"}
    return f"{words[found.client_streaming]}_{words[found.server_streaming]}"


@contextlib.asynccontextmanager
async def calling(node: Node, user: str = "eva") -> AsyncIterator[Callable[[str, bytes], Awaitable[grpc.StatusCode]]]:
    """A function that sends bytes to a method, and gives the status of the answer."""
    metadata = (("authorization", f"Bearer {await node.token(user)}"),) if user else ()
    credentials = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{node.port}", credentials) as channel:

        async def send(method: str, body: bytes) -> grpc.StatusCode:
            kind = shape(method)
            made: Any = getattr(channel, kind)(method)
            call = made(iter([body]) if kind.startswith("stream") else body, metadata=metadata, timeout=10)
            with contextlib.suppress(grpc.aio.AioRpcError):
                if kind.endswith("stream"):
                    async for _ in call:
                        pass
                else:
                    await call
            code: grpc.StatusCode = await call.code()
            return code

        yield send


@pytest.mark.parametrize("method", methods())
async def test_a_request_that_is_none_is_judged_and_recorded_as_any_other(node: Node, method: str) -> None:
    wanted = {"": "UNAUTHENTICATED", "max": "PERMISSION_DENIED", "eva": "INVALID_ARGUMENT"}
    for user, status in wanted.items():
        async with calling(node, user) as send:
            assert (await send(method, b"\xff\xff\xff")).name == status
        record = node.audit.records[-1]
        assert (record.method, record.caller, record.outcome) == (method, user, status)
    assert not node.agent.mutations


@pytest.mark.podman
async def test_fuzzed_requests_never_break_the_server(agent: NodeAgent, tmp_path: Path) -> None:
    chance = random.Random(7)
    fine = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ABORTED", "FAILED_PRECONDITION"}
    made = Node(tmp_path, agent)
    async with made.up(), calling(made) as send:
        for _ in range(400):
            # Those that may follow never end.
            method = chance.choice([each for each in methods() if not each.endswith(("Events", "Logs"))])
            body = chance.randbytes(chance.randrange(60))
            code = await send(method, body)
            assert code.name in fine, (method, body, code)
        assert {each.outcome for each in made.audit.records} > {"OK", "INVALID_ARGUMENT"}
        assert len(made.audit.records) == 400
        async with made.client() as client:
            assert await client.list_services() == ()
