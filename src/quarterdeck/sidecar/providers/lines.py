"""Splitting a program's output into lines, with a limit: one endless line must not take all the memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import anyio
from anyio.abc import ByteReceiveStream

from quarterdeck.sidecar.ports import MAX_LINE_BYTES

KEPT_OF_LONG_LINE = 200


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line over the limit: how long it was in bytes, and how it began; the rest was thrown away."""

    size: int
    head: bytes

    def __str__(self) -> str:
        """For a log."""
        return f"a line of {self.size} bytes was dropped, it began with {self.head.decode(errors='replace')!r}"


class LineSplitter:
    """Takes chunks, gives whole lines without their line ends; holds at most `limit` bytes and a chunk."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._held = bytearray()
        self._dropped = 0

    def feed(self, chunk: bytes) -> Iterator[bytes | LongLine]:
        """The lines that this chunk completes; empty ones are left out."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._hold(memoryview(chunk)[start:end])
            yield from self.finish()
            start = end + 1
        self._hold(memoryview(chunk)[start:])

    def finish(self) -> Iterator[bytes | LongLine]:
        """The line that is held, at a line end or at the end of the output."""
        if self._dropped:
            yield LongLine(self._dropped + len(self._held), bytes(self._held))
        elif line := bytes(self._held).rstrip(b"\r"):
            yield line
        self._held = bytearray()
        self._dropped = 0

    def _hold(self, part: memoryview) -> None:
        if not self._dropped and len(self._held) + len(part) <= self._limit:
            self._held += part
            return
        whole = len(self._held) + len(part)
        if len(self._held) < KEPT_OF_LONG_LINE:
            self._held += part[:KEPT_OF_LONG_LINE]
        del self._held[KEPT_OF_LONG_LINE:]
        self._dropped += whole - len(self._held)


async def lines(stream: ByteReceiveStream, limit: int = MAX_LINE_BYTES) -> AsyncIterator[bytes | LongLine]:
    """The lines of a program's output until its end."""
    splitter = LineSplitter(limit)
    try:
        while True:
            for line in splitter.feed(await stream.receive()):
                yield line
    except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        pass
    for line in splitter.finish():
        yield line
