"""The sidecar's client against nobody: what cannot be asked is unreachable, never a fault of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.abc
import pytest

from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.sidecar.client import SidecarClient, Unreachable
from quarterdeck.sidecar.spec import Address

pytestmark = pytest.mark.anyio


async def _watch(client: SidecarClient) -> None:
    async with client.events() as stream:
        async for _ in stream:
            pass


async def _forward(client: SidecarClient) -> None:
    await client.forward("GET", "/metadata", headers={}, body=b"")


async def _forward_stream(client: SidecarClient) -> None:
    async for _ in client.forward_stream("/metadata/watch", headers={}):
        pass


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.facts(),
        lambda client: client.forward("GET", "/metadata", headers={}, body=b""),
        _watch,
        _forward_stream,
    ],
)
async def test_a_client_that_was_closed_meanwhile(
    tmp_path: Path, call: Callable[[SidecarClient], Awaitable[object]]
) -> None:
    address = Address(pid=1, started_at=0.0, socket=str(tmp_path / "none.sock"))
    client = SidecarClient.connect(address, "ada")
    with pytest.raises(Unreachable):
        await call(client)
    await client.aclose()
    with pytest.raises(Unreachable, match="just given up"):
        await call(client)


async def test_a_connection_that_breaks_is_told_with_a_reason(tmp_path: Path) -> None:
    """Many errors of a connection have a name and no words, as that of one which is closed under a call."""
    listener = await anyio.create_unix_listener(tmp_path / "s.sock")
    address = Address(pid=1, started_at=0.0, socket=str(tmp_path / "s.sock"))
    for kind in (SidecarClient.facts, _forward, _watch):
        client = SidecarClient.connect(address, "ada")

        async def cut_off(stream: anyio.abc.SocketStream, client: SidecarClient = client) -> None:
            async with stream:
                await stream.receive()
                await client.aclose()

        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, cut_off)
            with pytest.raises(Unreachable, match=r"(cannot be reached|broke): \w"):
                await kind(client)
            group.cancel_scope.cancel()
    await listener.aclose()


@pytest.mark.parametrize("wrong", ["..", "%2e%2e", "%252e%252e", "."])
async def test_an_id_with_a_step_in_it_is_not_asked_for(tmp_path: Path, wrong: str) -> None:
    address = Address(pid=1, started_at=0.0, socket=str(tmp_path / "none.sock"))
    client = SidecarClient.connect(address, "ada")
    for call in (
        client.cancel(wrong),
        client.release(wrong),
        client.answer(wrong, "x"),
        client.forward("GET", f"/metadata/{wrong}", headers={}, body=b""),
    ):
        with pytest.raises(InvalidInput):
            await call
    await client.aclose()


async def test_a_stream_refused_with_a_page_is_told_by_its_status(tmp_path: Path) -> None:
    listener = await anyio.create_unix_listener(tmp_path / "s.sock")
    client = SidecarClient.connect(Address(pid=1, started_at=0.0, socket=str(tmp_path / "s.sock")), "ada")

    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>")

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, refuse)
        with pytest.raises(Unavailable, match="HTTP 502"):
            await _forward_stream(client)
        group.cancel_scope.cancel()
    await client.aclose()
