"""What libpod REST says over a taken-over connection: frames of output, and an exec with input.

An HTTP client gives no access to the connection after the headers, which an exec needs to send input and
then say that there is no more, so this speaks the few lines of HTTP itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio

from quarterdeck.errors import InvalidInput, Unavailable

_FRAME = struct.Struct(">BxxxL")


class Frames:
    """Takes podman's multiplexed stream apart: (1 stdout or 2 stderr, data)."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """The frames that are complete with this chunk."""
        self._rest += chunk
        found: list[tuple[int, bytes]] = []
        while len(self._rest) >= _FRAME.size:
            number, size = _FRAME.unpack_from(self._rest)
            if len(self._rest) < _FRAME.size + size:
                break
            found.append((2 if number == 2 else 1, bytes(self._rest[_FRAME.size : _FRAME.size + size])))
            del self._rest[: _FRAME.size + size]
        return found


async def exec_output(socket: Path, path: str, stdin: bytes) -> AsyncGenerator[tuple[int, bytes], None]:
    """Start a prepared exec (`path` is `/.../exec/ID/start`), feed it and give what it writes.

    Raises `InvalidInput` when podman refuses the command (its user is unknown in the container, say).
    """
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: podman\r\nContent-Type: application/json\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        stream = await anyio.connect_unix(str(socket))
    except OSError as error:
        raise Unavailable(f"podman does not answer at {socket}: {error}") from error
    async with stream:
        await stream.send(head.encode() + body)
        received = b""
        while b"\r\n\r\n" not in received:
            try:
                received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                raise Unavailable("podman closed the connection of an exec") from None
        status, rest = received.split(b"\r\n\r\n", 1)
        code = int(status.split(b" ", 2)[1])
        if code not in (101, 200):
            raise InvalidInput(f"podman refused to run the command ({code}): {rest.decode(errors='replace')[:500]}")
        leaving: GeneratorExit | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_feed, stream, stdin)
            try:
                frames = Frames()
                while True:
                    for frame in frames.feed(rest):
                        yield frame
                    rest = await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
            except GeneratorExit as error:
                # A reader that goes away early is no failure: a task group would wrap it as one.
                leaving = error
            group.cancel_scope.cancel()
        if leaving is not None:
            raise leaving


async def _feed(stream: anyio.abc.SocketStream, data: bytes) -> None:
    try:
        if data:
            await stream.send(data)
        await stream.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        # A command may end without reading its input.
        return
