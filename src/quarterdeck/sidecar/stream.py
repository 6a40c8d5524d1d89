"""`GET /v1/events`: what happened after a point, then what happens, as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import msgspec

from quarterdeck.sidecar.model import SidecarFacts
from quarterdeck.sidecar.pulse import Pulse
from quarterdeck.sidecar.store import Store

HEARTBEAT_SECONDS = 3.0
# Changes within this time travel together; far below what a waiting client may notice.
_GATHER_SECONDS = 0.01
_encode = msgspec.json.Encoder().encode


def frame(kind: str, data: object, seq: int | None = None) -> bytes:
    """One server-sent event."""
    head = f"id: {seq}\n" if seq is not None else ""
    return f"{head}event: {kind}\ndata: ".encode() + _encode(data) + b"\n\n"


async def event_stream(
    store: Store,
    pulse: Pulse,
    after: int,
    facts: Callable[[], SidecarFacts] | None,
    closing: anyio.Event,
) -> AsyncIterator[bytes]:
    """Events from `after` on; with `facts`, also an `event: facts` at the start and after each change.

    A comment line every few seconds tells a silent agent from a dead connection. Ends when `closing` is set.
    """
    seq = after
    while True:
        revision = pulse.revision
        while events := store.events_after(seq):
            yield b"".join(frame(event.kind, event, event.seq) for event in events)
            seq = events[-1].seq
        if facts is not None:
            yield frame("facts", facts())
        if closing.is_set():
            return
        while pulse.revision == revision:
            with anyio.move_on_after(HEARTBEAT_SECONDS) as waited:
                await pulse.wait(revision)
            if waited.cancelled_caught:
                yield b": alive\n\n"
        await anyio.sleep(_GATHER_SECONDS)
