"""The sidecar's client against nobody: what cannot be asked is unreachable, never a fault of ours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from quarterdeck.sidecar.client import SidecarClient, Unreachable
from quarterdeck.sidecar.spec import Address

pytestmark = pytest.mark.anyio


async def _watch(client: SidecarClient) -> None:
    async with client.events() as stream:
        async for _ in stream:
            pass


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
