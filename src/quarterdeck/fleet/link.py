"""The hub's connection to one sidecar: its newest facts as they come, and the truth when they do not.

A broken connection is not a death. The sidecar counts as gone only when the backend is certain of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec

from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.fleet.model import AgentRecord, LinkView, Unreachable
from quarterdeck.fleet.ports import Backend
from quarterdeck.sidecar.client import ServerEvent, SidecarClient
from quarterdeck.sidecar.model import SidecarFacts
from quarterdeck.sidecar.spec import Address

log = logging.getLogger(__name__)
SILENCE_SECONDS = 5.0
_RETRY_SECONDS = (0.05, 0.1, 0.3, 1.0, 2.0)
_decode_facts = msgspec.json.Decoder(SidecarFacts).decode


class Link:
    """Follows one agent. `view` is what is known now; `changed` is called after every change of it."""

    def __init__(
        self,
        record: AgentRecord,
        backend: Backend,
        *,
        changed: Callable[[str], None],
        gone: Callable[[str, str], Awaitable[None]],
        heard: Callable[[str, ServerEvent], None],
    ) -> None:
        self.name = record.name
        self.view = LinkView()
        self._record = record
        self._backend = backend
        self._changed = changed
        self._gone = gone
        self._heard = heard
        self._client: SidecarClient | None = None
        self._address: Address | None = None
        self._seq = 0
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Follow until `close`, or until the sidecar is gone (then `gone` was awaited)."""
        failures = 0
        with self._scope:
            while True:
                try:
                    reason = await self._backend.gone(self._record)
                    if reason is not None:
                        await self._drop()
                        self.view = LinkView(facts=self.view.facts)
                        await self._gone(self.name, reason)
                        return
                    async with self._own_client() as client:
                        if not self._seq:
                            # What happened before this hub began is in the history, not news.
                            facts = await client.facts()
                            self._seq = facts.last_event_seq
                            self._set(facts)
                        watch = client.events(after=self._seq, facts=True, silence_seconds=SILENCE_SECONDS)
                        async with watch as stream:
                            async for event in stream:
                                self._take(event)
                                failures = 0
                except QuarterdeckError as error:
                    self._unreachable(error.message)
                except Exception as error:
                    # One agent that nobody foresaw must not end the hub, and with it the sight of all others.
                    log.exception("following agent %s failed", self.name)
                    self._unreachable(f"an error inside Quarterdeck: {error!r}")
                    failures = len(_RETRY_SECONDS)
                failures += 1
                await anyio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])

    @asynccontextmanager
    async def _own_client(self) -> AsyncIterator[SidecarClient]:
        """A client for the follower alone: what it gives up does not end a call that somebody makes meanwhile."""
        client = SidecarClient.connect(await self._where(), self.name)
        try:
            yield client
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()

    async def _where(self) -> Address:
        address = await self._backend.address(self._record)
        if address is None:
            raise Unavailable(f"the sidecar of agent {self.name} has not said where it listens")
        return address

    async def client(self) -> SidecarClient:
        """A client of the sidecar for everybody's calls. Raises `Unavailable` when nobody knows where it listens."""
        address = await self._where()
        if self._client is None or address != self._address:
            await self._drop()
            self._client = SidecarClient.connect(address, self.name)
            self._address = address
        return self._client

    async def close(self) -> None:
        """Stop following."""
        self._scope.cancel()
        await self._drop()

    async def refresh(self, deadline: float) -> None:
        """Ask for the facts now instead of waiting for them."""
        try:
            self._set(await (await self.client()).facts(deadline=deadline))
        except QuarterdeckError as error:
            self._unreachable(error.message)

    def _take(self, event: ServerEvent) -> None:
        if event.kind == "facts":
            try:
                self._set(_decode_facts(event.data))
            except msgspec.DecodeError as error:
                raise Unavailable(f"agent {self.name} told facts that cannot be right: {error}") from error
            return
        if event.seq is not None:
            self._seq = event.seq
        self._heard(self.name, event)

    def _set(self, facts: SidecarFacts) -> None:
        self.view = LinkView(facts=facts)
        self._changed(self.name)

    def _unreachable(self, reason: str) -> None:
        since = self.view.unreachable.since if self.view.unreachable else time.time()
        self.view = LinkView(facts=self.view.facts, unreachable=Unreachable(reason=reason, since=since))
        self._changed(self.name)

    async def _drop(self) -> None:
        client, self._client, self._address = self._client, None, None
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.aclose()
