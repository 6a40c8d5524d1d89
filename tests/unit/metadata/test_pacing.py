"""Reads in turn: few in each turn of the loop, in order, and moments for a flush."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from quarterdeck.metadata import pacing
from quarterdeck.metadata.pacing import Pacer

pytestmark = pytest.mark.anyio


async def test_each_turn_of_the_loop_has_so_many_reads_in_their_order() -> None:
    pacer = Pacer(lambda: False, per_turn=4)
    done: list[int] = []
    turns: list[int] = []

    async def read(number: int) -> None:
        if (place := pacer.turn()) is not None:
            await place
        done.append(number)

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(read, number)
        while len(done) < 30:
            before = len(done)
            await asyncio.sleep(0)
            turns.append(len(done) - before)
    assert done == list(range(30))
    assert max(turns) <= 4
    # All are through: the next one waits for nobody.
    await asyncio.sleep(0)
    assert pacer.turn() is None


async def test_a_read_that_was_given_up_takes_nobodys_place() -> None:
    pacer = Pacer(lambda: False, per_turn=1)
    assert pacer.turn() is None
    gone, next_one = pacer.turn(), pacer.turn()
    assert gone is not None
    assert next_one is not None
    gone.cancel()
    await asyncio.wait_for(next_one, 1)


async def test_the_loop_stands_aside_in_each_turn_while_a_flush_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    aside: list[float] = []
    monkeypatch.setattr(pacing.time, "sleep", aside.append)
    flushing = True
    pacer = Pacer(lambda: flushing, per_turn=1)
    places = [pacer.turn() for _ in range(4)]
    assert places[-1] is not None
    await places[-1]
    assert aside == [pacing.HAND_OVER_SECONDS] * 3
    flushing = False
    places = [pacer.turn() for _ in range(4)]
    await (places[-1] or asyncio.sleep(0))
    assert len(aside) == 3
