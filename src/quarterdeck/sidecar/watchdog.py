"""What a session does now and then: record what waits, collect orphans, look for an agent that is stuck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from quarterdeck import proctree
from quarterdeck.errors import StorageRefused
from quarterdeck.sidecar import logs
from quarterdeck.sidecar.conversation import FLUSH_SECONDS
from quarterdeck.sidecar.model import StuckLimits, stuck_since
from quarterdeck.sidecar.spec import LOG_FILE, STDERR_FILE

if TYPE_CHECKING:
    from quarterdeck.sidecar.session import Session

_WATCH_SECONDS = 0.5
_REAP_SECONDS = 5.0
# What a round of the watch counts at most: in a longer one we could not listen ourselves.
_LONGEST_ROUND_SECONDS = 1.0


class Silence:
    """For how long the agent has said nothing while we listened; by a clock that only goes on.

    A gap between two rounds is a pause of ours (the machine slept, the sidecar was stopped): what the agent
    had to say meanwhile may not have been read yet, or it was paused, too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at = clock()
        self.seconds = 0.0

    def broken(self) -> None:
        """Something was heard."""
        self._looked_at = self._clock()
        self.seconds = 0.0

    def look(self) -> None:
        """Count the time since the last look."""
        now = self._clock()
        self.seconds += min(now - self._looked_at, _LONGEST_ROUND_SECONDS)
        self._looked_at = now


async def keep_watch(session: Session) -> None:
    """Until cancelled."""
    next_watch = next_reap = 0.0
    zombies: set[int] = set()
    while True:
        await anyio.sleep(FLUSH_SECONDS)
        session.flush()
        session.retry()
        session.silence.look()
        now = anyio.current_time()
        if now >= next_watch:
            next_watch = now + _WATCH_SECONDS
            look_for_silence(session)
            for name in (LOG_FILE, STDERR_FILE):
                logs.cap(session.folder / name, logs.MAX_BYTES, logs.KEPT_BYTES)
        if now >= next_reap:
            next_reap = now + _REAP_SECONDS
            zombies = proctree.reap_adopted(zombies)


def look_for_silence(session: Session) -> None:
    """Say once that the agent is stuck, when it has been silent for too long in a task; cancel where that is wanted."""
    task = session.turns.current
    if task is None or session.stuck_since is not None or session.state != "running":
        return
    limits = session.spec.watchdog
    session.stuck_since = stuck_since(
        limits=StuckLimits(silent=limits.silent_seconds, tool=limits.tool_seconds, attention=limits.attention_seconds),
        silence=session.silence.seconds,
        now=session.clock(),
        tool_open=bool(session.conversation.tools_open),
        attention_open=bool(session.desk.open),
    )
    if session.stuck_since is None:
        return
    if limits.cancel and task.cancel_requested_at is None:
        try:
            session.cancel(task.id)
        except StorageRefused:
            # Nothing was changed: with room on the disk it is found to be stuck again.
            session.stuck_since = None
            return
    silence = session.silence.seconds
    session.note(f"stuck: the agent has said nothing for {silence:.0f} s in the middle of task {task.id}")
