"""The cork on a real socket: one piece for each answer, all of it before the end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from quarterdeck.cork import Cork

pytestmark = pytest.mark.anyio


async def _pair() -> tuple[Cork, socket.socket]:
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    theirs.settimeout(5)
    return Cork(transport, loop), theirs


async def test_what_is_written_in_one_turn_leaves_in_one_piece() -> None:
    cork, theirs = await _pair()
    with theirs:
        theirs.setblocking(False)
        cork.write(b"head ")
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        cork.write(b"body")
        await asyncio.sleep(0)
        assert theirs.recv(100) == b"head body"
        cork.write(b"next")
        await asyncio.sleep(0)
        assert theirs.recv(100) == b"next"
        assert not cork.is_closing()
        cork.close()


async def test_a_close_sends_what_waits_and_an_abort_does_not() -> None:
    cork, theirs = await _pair()
    with theirs:
        cork.write(b"goodbye")
        cork.close()
        await asyncio.sleep(0.01)
        assert await asyncio.to_thread(theirs.recv, 100) == b"goodbye"
        assert await asyncio.to_thread(theirs.recv, 100) == b""
    cork, theirs = await _pair()
    with theirs:
        cork.write(b"never")
        cork.abort()
        await asyncio.sleep(0.01)
        assert await asyncio.to_thread(theirs.recv, 100) == b""
