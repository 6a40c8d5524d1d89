"""The guard on every call, errors over the wire, certificates reloaded, draining: real TLS on loopback."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quarterdeck.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuarterdeckError,
    StorageRefused,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from quarterdeck.node import pki
from quarterdeck.node.client import Change, NodeClient, Target
from quarterdeck.node.model import ComponentSpec, Mutation, ServiceDef
from quarterdeck.node.proto import node_pb2, node_pb2_grpc
from quarterdeck.node.results import ServiceResult
from quarterdeck.node.transfer import ask_all
from quarterdeck.node.wire_errors import Overdue
from support.served_node import PASSWORD, Node

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    async with made.up():
        yield made


async def test_login_over_the_wire(node: Node) -> None:
    async with NodeClient.to(node.target()) as stranger:
        token, user, role, end = await stranger.login("eva", PASSWORD)
        with pytest.raises(Unauthenticated, match="user or password is wrong"):
            await stranger.login("eva", "wrong password")
    assert (user, role) == ("eva", "admin")
    assert end is not None
    assert end > time.time()
    # Who logged in is recorded; who could not is nobody.
    assert [(each.caller, each.outcome) for each in node.audit.records] == [("eva", "OK"), ("", "UNAUTHENTICATED")]
    async with NodeClient.to(node.target(token)) as client:
        assert (await client.who_am_i())[:3] == ("eva", "admin", "local:n1")
        assert await client.list_services() == ()
        await client.logout()
        with pytest.raises(Unauthenticated, match="revoked"):
            await client.list_services()


async def test_without_a_token_or_with_a_bad_one_nothing_is_done(node: Node) -> None:
    for token in ("", "nonsense", "a.b.c"):
        async with NodeClient.to(node.target(token)) as client:
            with pytest.raises(Unauthenticated):
                await client.stop_service("web")
    assert not node.agent.mutations
    assert [r.outcome for r in node.audit.records] == ["UNAUTHENTICATED"] * 3


async def test_who_is_no_admin_may_only_ask_who_he_is(node: Node) -> None:
    async with node.client("max") as client:
        assert (await client.who_am_i())[1] == "viewer"
        with pytest.raises(PermissionDenied, match="max is viewer, this needs admin"):
            await client.list_services()


def methods() -> list[str]:
    service = node_pb2.DESCRIPTOR.services_by_name["NodeService"]
    return [f"/{service.full_name}/{each.name}" for each in service.methods]


@pytest.mark.parametrize("method", [
    *methods(), "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/no.such.Service/Method",
])  # fmt: skip
@pytest.mark.parametrize("user", ["", "max"])
async def test_every_single_method_is_guarded(node: Node, method: str, user: str) -> None:
    metadata = (("authorization", f"Bearer {await node.token(user)}"),) if user else ()
    credentials = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
    streamed_in = method.endswith(("PushFile", "Info"))
    streamed_out = method.rpartition("/")[2] in (
        "Deploy", "Rollback", "PullFile", "Logs", "Events", "Exec", "Watch", "ServerReflectionInfo",
    )  # fmt: skip
    async with grpc.aio.secure_channel(f"127.0.0.1:{node.port}", credentials) as channel:
        kind = ("stream" if streamed_in else "unary") + "_" + ("stream" if streamed_out else "unary")
        call: Any = getattr(channel, kind)(method)
        given = call(iter([b""]) if streamed_in else b"", metadata=metadata, timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (given.read() if streamed_out else given)
    wanted = grpc.StatusCode.PERMISSION_DENIED if user else grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.code() is wanted
    assert node.audit.records[-1].method == method
    assert node.audit.records[-1].outcome == wanted.name


async def test_health_and_reflection_answer_an_admin(node: Node) -> None:
    metadata = (("authorization", f"Bearer {await node.token()}"),)
    credentials = grpc.ssl_channel_credentials((node.folder / "ca.pem").read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{node.port}", credentials) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), metadata=metadata)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        async for found in stub.ServerReflectionInfo(asked, metadata=metadata):
            names = {each.name for each in found.list_services_response.service}
            assert {"quarterdeck.node.v1.NodeService", "quarterdeck.node.v1.AccountService"} <= names
            break


ERRORS: list[QuarterdeckError] = [
    InvalidInput("a", hint="b", details={"c": [1]}),
    NotFound("not there", hint="look"),
    Conflict("held"),
    PreconditionFailed("generation 3, not 2"),
    Unavailable("podman is away"),
    StorageRefused("disk full"),
    PermissionDenied("no"),
    Unauthenticated("who?"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
async def test_an_error_arrives_as_it_was_raised(node: Node, error: QuarterdeckError) -> None:
    node.agent.error = error
    async with node.client() as client:
        with pytest.raises(QuarterdeckError) as caught:
            await client.list_services()
    assert (caught.value.code, caught.value.message, caught.value.hint) == (error.code, error.message, error.hint)
    assert caught.value.details == error.details
    assert isinstance(caught.value, PreconditionFailed) == isinstance(error, PreconditionFailed)
    assert node.audit.records[-1].outcome == error.grpc_status


async def test_what_a_node_answers_is_final_also_when_something_is_unavailable_there(node: Node) -> None:
    node.agent.error = Unavailable("podman does not answer", hint="look at podman")
    async with node.client() as client:
        with anyio.fail_after(5), pytest.raises(Unavailable) as caught:
            [each async for each in client.deploy(ServiceDef("web", (ComponentSpec("web", "img"),)))]
    assert caught.value.message == "podman does not answer"
    assert caught.value.hint == "look at podman"
    assert len(node.agent.mutations) == 1


async def test_a_file_that_comes_short_is_no_file(node: Node) -> None:
    async with node.client() as client, client.pull_file("web", "x") as (_, content):
        with pytest.raises(QuarterdeckError, match="sent 5 of the 100 bytes of 'x'"):
            [each async for each in content]


async def test_a_huge_error_still_arrives(node: Node) -> None:
    node.agent.error = InvalidInput("ü" * 100_000, hint="h" * 10_000, details={"x": "y" * 100_000})
    async with node.client() as client:
        with pytest.raises(InvalidInput, match=r"^ü{1000}"):
            await client.list_services()


async def test_a_bug_tells_nothing_of_the_inside(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.agent.error = RuntimeError("password=hunter2 in line 7")
    async with node.client() as client:
        with pytest.raises(QuarterdeckError) as caught:
            await client.list_services()
    assert caught.value.code == "INTERNAL_ERROR"
    assert "hunter2" not in caught.value.message
    assert "line 7" in caplog.text


async def test_a_change_carries_its_id_generation_and_who_asked(node: Node) -> None:
    async with node.client() as client:
        await client.stop_service("web", Change("op-1", 7, 2.5))
        await client.stop_service("web")
    first, second = node.agent.mutations
    assert first == Mutation("op-1", 7, "eva", 2.5)
    assert second.expected_generation is None
    assert second.operation_id
    record = next(each for each in node.audit.records if each.operation_id == "op-1")
    assert (record.caller, record.method, record.outcome) == (
        "eva",
        "/quarterdeck.node.v1.NodeService/StopService",
        "OK",
    )
    assert record.peer.startswith("ipv4:127.0.0.1:")
    assert record.duration_ms > 0


async def test_no_token_and_no_password_is_ever_in_the_audit(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    token = await node.token()
    async with NodeClient.to(node.target(token)) as client:
        await client.login("eva", PASSWORD)
        await client.list_services()
    async with NodeClient.to(node.target(token + "x")) as client:
        with pytest.raises(Unauthenticated):
            await client.list_services()
    kept = repr(node.audit.records) + caplog.text
    assert len(node.audit.records) == 3
    assert token not in kept
    assert PASSWORD not in kept


async def test_a_new_certificate_is_taken_up_without_a_restart(node: Node) -> None:
    async with NodeClient.to(node.target(await node.token(), server_name="new.example")) as client:
        with pytest.raises(Unavailable, match="for another host name"):
            await client.list_services()
    node.issue("localhost", "127.0.0.1", "new.example")
    async with node.client() as client:
        assert await client.list_services() == ()
    async with NodeClient.to(node.target(await node.token(), server_name="new.example")) as client:
        assert await client.list_services() == ()


async def test_another_ca_another_name_and_plain_text_are_refused_with_the_reason(node: Node, tmp_path: Path) -> None:
    other = tmp_path / "other"
    pki.make_authority(other / "ca.pem", other / "ca.key", name="evil")
    token = await node.token()
    async with NodeClient.to(node.target(token, ca=(other / "ca.pem").read_bytes())) as client:
        with pytest.raises(Unavailable, match="certificate is not one of the CA that was pinned"):
            await client.list_services()
    async with NodeClient.to(node.target(token, server_name="evil.example")) as client:
        with pytest.raises(Unavailable, match=r"certificate is for another host name"):
            await client.list_services()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.port}") as channel:
        stub: Any = node_pb2_grpc.NodeServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListServices(node_pb2.ListServicesRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not node.audit.records
    with pytest.raises(InvalidInput, match="no PEM certificate"):
        async with NodeClient.to(node.target(token, ca=b"nonsense")):
            pass


async def test_an_expired_certificate_is_told(tmp_path: Path) -> None:
    made = Node(tmp_path)
    made.issue(days=-0.001)
    async with made.up(), made.client() as client:
        with pytest.raises(Unavailable, match="or has expired"):
            await client.list_services()


async def test_all_nodes_are_asked_at_once_and_a_dead_one_has_its_reason(node: Node) -> None:
    token = await node.token()
    node.agent.error = None
    dead = Target("dead", "127.0.0.1:1", node.target().ca, token, connect_seconds=1)
    targets: dict[str, Target | QuarterdeckError] = {"n1": node.target(token), "dead": dead, "odd": NotFound("no such")}
    answers = await ask_all(targets, lambda client: client.list_services())
    assert answers["n1"] == ()
    assert isinstance(answers["dead"], Unavailable)
    assert "connection is refused" in answers["dead"].message
    assert isinstance(answers["odd"], NotFound)


async def test_twenty_nodes_take_as_long_as_the_slowest(node: Node) -> None:
    node.agent.delay = 1.0
    token = await node.token()
    targets = {f"n{number}": node.target(token) for number in range(20)}
    began = time.monotonic()
    answers = await ask_all(targets, lambda client: client.list_services())
    took = time.monotonic() - began
    assert list(answers.values()) == [()] * 20
    # One after the other they would take 20 s; the rest is what 20 TLS handshakes cost a busy machine.
    assert took < 10
    print(f"20 nodes of 1 s each: {took * 1000:.0f} ms")


async def test_a_call_under_way_is_drained_and_a_follower_is_told(tmp_path: Path) -> None:
    made = Node(tmp_path)
    started, leave, stopped = anyio.Event(), anyio.Event(), anyio.Event()
    outcomes: dict[str, object] = {}

    async def serve() -> None:
        async with made.up(drain_seconds=30):
            started.set()
            await leave.wait()
        stopped.set()

    async def stop_slowly(token: str) -> None:
        async with NodeClient.to(made.target(token)) as client:
            outcomes["stop"] = await client.stop_service("slow", Change("op"))

    async def follow(token: str) -> None:
        async with NodeClient.to(made.target(token)) as client:
            try:
                async for event in client.events(follow=True):
                    outcomes["event"] = event
            except Unavailable as error:
                outcomes["follow"] = error.message

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        await started.wait()
        token = await made.token()
        group.start_soon(stop_slowly, token)
        group.start_soon(follow, token)
        with anyio.fail_after(20):
            while not (made.agent.mutations and "event" in outcomes):
                await anyio.sleep(0.01)
        leave.set()
        with anyio.fail_after(20):
            while "follow" not in outcomes:
                await anyio.sleep(0.01)
        assert not stopped.is_set()
        async with NodeClient.to(made.target(token)) as late:
            with pytest.raises(Unavailable):
                await late.list_services()
        made.agent.slow.set()
        with anyio.fail_after(20):
            await stopped.wait()
    assert outcomes["stop"] == ServiceResult("slow", "op", 1)
    assert "stopping" in str(outcomes["follow"])
    assert made.agent.followed == 0


async def test_a_client_that_goes_away_leaves_nothing_behind(node: Node) -> None:
    async with node.client() as client:
        async for _ in client.events(follow=True):
            break
    with anyio.fail_after(20):
        while node.agent.followed or node.audit.records[-1:] == []:
            await anyio.sleep(0.01)
    assert node.audit.records[-1].outcome == "CANCELLED"


async def test_a_change_that_takes_longer_than_a_call_is_waited_for_under_one_operation_id(node: Node) -> None:
    async with NodeClient.to(node.target(await node.token())) as client, anyio.create_task_group() as group:
        client._patience = 0.3

        async def end_it() -> None:
            while len(node.agent.mutations) < 3:
                await anyio.sleep(0.02)
            node.agent.slow.set()

        group.start_soon(end_it)
        with anyio.fail_after(30):
            assert (await client.stop_service("slow")).ok
    assert len({each.operation_id for each in node.agent.mutations}) == 1


async def test_a_change_at_a_node_that_answers_nothing_more_ends(node: Node) -> None:
    async with NodeClient.to(node.target(await node.token())) as client:
        client._patience = 0.3

        async def nothing() -> None:
            raise Overdue("no answer")

        client._is_there = nothing  # type: ignore[method-assign]
        with anyio.fail_after(30), pytest.raises(Overdue):
            await client.stop_service("slow")


async def test_a_message_that_is_too_large_is_no_full_disk(node: Node) -> None:
    async with NodeClient.to(node.target()) as stranger:
        with pytest.raises(TooLarge, match="no message of that size"):
            await stranger.set_secret("s", b"x" * 17 * 1024 * 1024)
