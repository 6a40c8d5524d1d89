"""The order of all changes: one revision for the whole server, a short history, and those who listen."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

import anyio

log = logging.getLogger(__name__)

HISTORY = 2048
# Each life of a server counts in a block of its own, so that a revision never means two things though
# changes of collected facts are not written down: 3000042 is the 42nd change of the third life.
LIFE = 1_000_000


class Changes:
    """Counts revisions, remembers which keys the last ones touched, and wakes listeners.

    A listener asks `since(revision)` for what it missed; None means that it missed too much and needs
    the whole picture again.

    `revision` is the last number that was given out, `recorded` the last change that everybody may know of:
    while a flush is on its way the two differ, and who took the first for "all that there is" would lose a write.
    """

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.recorded = revision
        self._oldest = revision
        self._history: deque[tuple[int, tuple[str, ...]]] = deque(maxlen=HISTORY)
        self._news = anyio.Event()
        self.listeners = 0
        self.closed = False

    def next(self) -> int:
        """A new revision, for a change about to be recorded."""
        self.revision += 1
        return self.revision

    def record(self, revision: int, keys: tuple[str, ...]) -> None:
        """Say that `keys` changed at `revision`, and wake who listens. Revisions must come in order."""
        if len(self._history) == HISTORY:
            self._oldest = self._history[0][0]
        self._history.append((revision, keys))
        self.recorded = revision
        if self.listeners:
            self._news.set()
            self._news = anyio.Event()

    def since(self, revision: int) -> Mapping[str, int] | None:
        """Key to the revision of its last change, for all after `revision`, oldest first; None when too old."""
        if revision < self._oldest or revision > self.recorded:
            return None
        changed: dict[str, int] = {}
        for number, keys in reversed(self._history):
            if number <= revision:
                break
            for key in keys:
                changed.setdefault(key, number)
        return dict(sorted(changed.items(), key=lambda item: item[1]))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While a listener is inside, changes wake it."""
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    async def wait(self, revision: int) -> None:
        """Return when something later than `revision` is recorded, or the server stops. Inside `listening`."""
        while not self.closed and self.recorded <= revision:
            await self._news.wait()

    def close(self) -> None:
        """The server stops: listeners end."""
        self.closed = True
        self._news.set()

    async def revisions(self, since: int | None = None) -> AsyncIterator[int]:
        """Each time something changed: the revision that is now current."""
        seen = self.recorded if since is None else since
        with self.listening():
            while True:
                await self.wait(seen)
                if self.closed:
                    return
                seen = self.recorded
                yield seen
