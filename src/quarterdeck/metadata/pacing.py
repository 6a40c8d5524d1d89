"""Reads in turn: a loop that is busy with reads must not make a few writes go round with all of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

READS_PER_TURN = 8
HAND_OVER_SECONDS = 0.00002


class Pacer:
    """Lets at most so many reads go on in each turn of the event loop; the others wait in line.

    A write needs several turns: its request is read, its flush begins, the flush has ended, its caller is
    answered. With ninety readers at once each of these would be behind ninety reads. Short turns cost the
    reads nothing: they are answered one after the other either way.

    While `flushing`, the loop also stands aside for a moment in each turn. The thread that comes back from
    the disk wants the interpreter; a loop that answers reads gives it up at each of its system calls and
    takes it back before the thread has woken up, and with that the thread never gets to ask for it either:
    it was seen to wait for a tenth of a second (CPython 3.11, take_gil).
    """

    def __init__(self, flushing: Callable[[], bool], per_turn: int = READS_PER_TURN) -> None:
        self._flushing = flushing
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False

    def turn(self) -> asyncio.Future[None] | None:
        """What a read waits for before it goes on; None when it may at once."""
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._next)
        if self._left and not self._waiting:
            self._left -= 1
            return None
        place = loop.create_future()
        self._waiting.append(place)
        return place

    def _next(self) -> None:
        if self._flushing():
            time.sleep(HAND_OVER_SECONDS)
        self._left = self._per_turn
        while self._waiting and self._left:
            place = self._waiting.popleft()
            if not place.done():  # its caller is still there
                place.set_result(None)
                self._left -= 1
        self._turning = bool(self._waiting) or self._left < self._per_turn
        if self._turning:
            asyncio.get_running_loop().call_soon(self._next)
