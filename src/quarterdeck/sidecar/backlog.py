"""What has to be recorded, in order; with a full disk it waits here, so that nothing that happened is lost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from quarterdeck.errors import QuarterdeckError, StorageRefused
from quarterdeck.sidecar.store import Store

log = logging.getLogger(__name__)
Deed = Callable[[], None]


class Backlog:
    """Deeds, each done in one transaction. `drain` does those that wait, and stops at one that the disk refuses.

    `keep` gives what puts the memory back for a transaction that fails, `refused` is told the reason.
    """

    def __init__(self, store: Store, keep: Callable[[], Deed], refused: Callable[[StorageRefused], None]) -> None:
        self._store = store
        self._keep = keep
        self._refused = refused
        self._waiting: deque[Deed] = deque()
        self._afterwards: list[Deed] = []
        self._draining = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, deed: Deed) -> None:
        """Put one behind the others; done by the next `drain`, or by the one that goes on now."""
        self._waiting.append(deed)

    def afterwards(self, act: Deed) -> None:
        """From within a deed: do this once it is recorded, and not when it is refused."""
        self._afterwards.append(act)

    def drain(self) -> bool:
        """Do what waits; whether all of it is recorded now. False also from within a deed."""
        if self._draining:
            return False
        self._draining = True
        try:
            while self._waiting:
                if not self._do(self._waiting[0]):
                    return False
                self._waiting.popleft()
                acts, self._afterwards = self._afterwards, []
                for act in acts:
                    act()
        finally:
            self._draining = False
        return True

    def _do(self, deed: Deed) -> bool:
        length, restore = len(self._waiting), self._keep()
        try:
            with self._store.transaction():
                deed()
        except StorageRefused as error:
            restore()
            self._forget(length)
            self._refused(error)
            return False
        except QuarterdeckError:
            self._forget(length)
            log.exception("something could not be recorded")
        return True

    def _forget(self, length: int) -> None:
        """What a deed that was not recorded had left to be done."""
        self._afterwards.clear()
        while len(self._waiting) > length:
            self._waiting.pop()
