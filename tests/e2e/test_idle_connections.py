"""An idle connection is closed by the client that holds it: a server that closes first may meet a call on its way."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest

from quarterdeck.hub.app import bind
from quarterdeck.serving import run_uvicorn
from support.hub import whole_process
from support.sidecar import sidecar

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
# What an idle connection is kept for by a client of httpx that is not told otherwise, which ours are not.
CLIENT_SECONDS = httpx2.Limits().keepalive_expiry


async def answer(scope: dict[str, object], receive: object, send: object) -> None:
    """An app that answers everything with nothing."""
    assert callable(send)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


async def test_a_server_keeps_a_connection_longer_than_its_clients_do(repo: Path, tmp_path: Path) -> None:
    assert CLIENT_SECONDS is not None
    with bind("127.0.0.1", 0) as listener:
        async with (
            whole_process(repo) as hub,
            sidecar(tmp_path / "agent", tmp_path / "work") as side,
            anyio.create_task_group() as group,
        ):
            await group.start(run_uvicorn, answer, listener)
            assert hub.client is not None
            assert side.address.url is not None
            plain = f"http://127.0.0.1:{listener.getsockname()[1]}"
            open_ones = {url: connected(url) for url in (hub.client.url, side.address.url, plain)}
            for connection in open_ones.values():
                assert await ask(connection) == 200
            before = [connection.sock for connection in open_ones.values()]
            await anyio.sleep(CLIENT_SECONDS + 1)
            for connection in open_ones.values():
                assert await ask(connection) == 200
            assert [connection.sock for connection in open_ones.values()] == before
            for connection in open_ones.values():
                connection.close()
            group.cancel_scope.cancel()


def connected(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    # It would connect anew by itself, and hide what is looked for.
    connection.auto_open = 0
    connection.connect()
    return connection


async def ask(connection: http.client.HTTPConnection) -> int:
    def call() -> int:
        connection.request("GET", "/health")
        found = connection.getresponse()
        found.read()
        return found.status

    return await anyio.to_thread.run_sync(call)
