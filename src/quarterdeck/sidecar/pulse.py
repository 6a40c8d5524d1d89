"""A counter that grows with every change, and can be waited for."""

from __future__ import annotations

import anyio


class Pulse:
    """`beat` after each change; `wait` returns as soon as there was one after `seen`."""

    def __init__(self) -> None:
        self.revision = 0
        self._event = anyio.Event()

    def beat(self) -> None:
        """Something changed."""
        self.revision += 1
        self._event.set()
        self._event = anyio.Event()

    async def wait(self, seen: int) -> int:
        """Wait until the revision is above `seen`; the revision then."""
        while self.revision <= seen:
            await self._event.wait()
        return self.revision
