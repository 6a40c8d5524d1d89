"""Hands what a caller sends to an operation that is not the caller's own task and may outlive the call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio

from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.node.pushing import RESUMABLE


class Feed:
    """The caller pumps, the operation reads `content`. A context manager of the caller's side.

    A caller that goes away ends the content early; one that sends nonsense makes it raise what is wrong.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._send, self._receive = anyio.create_memory_object_stream[bytes](4)
        self._wrong: QuarterdeckError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._send.close()
        self._receive.close()

    async def pump(self) -> None:
        """Feed until the caller has sent all, or nobody reads any more."""
        with self._send, suppress(anyio.BrokenResourceError):
            try:
                async for chunk in self._chunks:
                    await self._send.send(chunk)
            except QuarterdeckError as error:
                self._wrong = error

    async def content(self) -> AsyncGenerator[bytes, None]:
        """What was fed, to the last, also when the caller is gone by then. Raises what the caller did wrong."""
        try:
            # An end of its own: the caller closes the other one whenever it goes away.
            reader = self._receive.clone()
        except anyio.ClosedResourceError:
            raise InvalidInput(
                "the caller went away before anything came; nothing was replaced",
                hint="push again",
                details={RESUMABLE: True},
            ) from None
        with reader:
            async for chunk in reader:
                yield chunk
        if self._wrong is not None:
            raise self._wrong
