"""What an operation holds its services by: a lease that every sign of life renews, and that ends when none comes.

A sign of life is a step told, a call of podman begun (for as long as that call may take) or ended, a turn waited
for. An operation that hangs shows none: its lease ends, it is taken down and its services are free again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar

import anyio

from quarterdeck.node.model import Health
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.results import ExecOutput, RuntimeInfo, Usage
from quarterdeck.node.runtime import Container, CreateRequest, Details, Image, LogRecord, Runtime, RuntimeEvent


class Lease:
    """One operation's lease: `seconds` without a sign of life end it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._steps: dict[object, float] = {}
        self.scope = anyio.CancelScope()

    def renew(self) -> None:
        """A sign of life."""
        self._until = time.monotonic() + self._seconds

    @contextmanager
    def step(self, seconds: float) -> Iterator[None]:
        """Something that may take so long without a sign; several may go on side by side."""
        key = object()
        self._steps[key] = time.monotonic() + seconds + self._seconds
        try:
            yield
        finally:
            del self._steps[key]
            self.renew()

    @property
    def expired(self) -> bool:
        """Whether it is over."""
        return time.monotonic() > max(self._until, *self._steps.values(), 0)


HELD: ContextVar[Lease | None] = ContextVar("lease", default=None)


@contextmanager
def step(seconds: float) -> Iterator[None]:
    """What the operation that this task works for does now may take so many seconds."""
    lease = HELD.get()
    with nullcontext() if lease is None else lease.step(seconds):
        yield


@asynccontextmanager
async def turn(limiter: anyio.CapacityLimiter) -> AsyncIterator[None]:
    """One of a limited number of turns. To wait for one is no hanging."""
    while True:
        with anyio.move_on_after(1):
            await limiter.acquire()
            break
        with step(0):
            pass
    try:
        yield
    finally:
        limiter.release()


class Leased(Runtime):
    """A runtime whose calls are signs of life of the operation that makes them; each has its own deadline."""

    def __init__(self, runtime: Runtime, options: AgentOptions) -> None:
        self.inner, self._options = runtime, options

    def _step(self, more: float = 0) -> AbstractContextManager[None]:
        return step(self._options.runtime_seconds + more)

    async def info(self) -> RuntimeInfo:
        with self._step():
            return await self.inner.info()

    async def pull(self, image: str) -> Image:
        with self._step(self._options.pull_seconds):
            return await self.inner.pull(image)

    async def image(self, name: str) -> Image:
        with self._step():
            return await self.inner.image(name)

    async def create(self, request: CreateRequest) -> str:
        with self._step():
            return await self.inner.create(request)

    async def run(self, request: CreateRequest) -> str:
        with self._step():
            return await self.inner.run(request)

    async def start(self, name: str) -> None:
        with self._step():
            await self.inner.start(name)

    async def stop(self, name: str, *, grace_seconds: int) -> None:
        with self._step(grace_seconds):
            await self.inner.stop(name, grace_seconds=grace_seconds)

    async def remove(self, name: str, *, volumes: bool = True) -> None:
        with self._step():
            await self.inner.remove(name, volumes=volumes)

    async def rename(self, name: str, new: str) -> None:
        with self._step():
            await self.inner.rename(name, new)

    async def inspect(self, name: str) -> Details:
        with self._step():
            return await self.inner.inspect(name)

    async def list(self) -> tuple[Container, ...]:
        with self._step():
            return await self.inner.list()

    def logs(
        self, name: str, *, tail: int | None = None, since: float = 0, follow: bool = False
    ) -> AsyncGenerator[LogRecord, None]:
        return self.inner.logs(name, tail=tail, since=since, follow=follow)

    def exec(
        self, name: str, command: Sequence[str], *, stdin: bytes = b"", user: str = ""
    ) -> AsyncGenerator[ExecOutput, None]:
        return self.inner.exec(name, command, stdin=stdin, user=user)

    def events(self, *, since: float) -> AsyncGenerator[RuntimeEvent, None]:
        return self.inner.events(since=since)

    async def healthcheck(self, name: str) -> Health:
        with self._step():
            return await self.inner.healthcheck(name)

    async def usage(self) -> Mapping[str, Usage]:
        return await self.inner.usage()

    async def set_secret(self, name: str, value: bytes) -> None:
        with self._step():
            await self.inner.set_secret(name, value)

    async def secrets(self) -> tuple[str, ...]:
        with self._step():
            return await self.inner.secrets()

    async def remove_secret(self, name: str) -> None:
        with self._step():
            await self.inner.remove_secret(name)

    async def aclose(self) -> None:
        await self.inner.aclose()
