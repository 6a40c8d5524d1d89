"""What is asked for is done to its end, whoever stops waiting."""

from __future__ import annotations

import anyio
import pytest

from quarterdeck.errors import Conflict, InternalError, NotFound, Unavailable
from quarterdeck.fleet.errands import Errands

pytestmark = pytest.mark.anyio


async def test_who_stops_waiting_does_not_stop_it() -> None:
    errands, go, done = Errands(), anyio.Event(), anyio.Event()

    async def work() -> str:
        await go.wait()
        done.set()
        return "done"

    async with anyio.create_task_group() as group:
        errands.begin(group)
        with anyio.move_on_after(0.05):
            await errands.carry_out("merge", work, twice="it goes on")
        with pytest.raises(Conflict, match="it goes on"):
            await errands.carry_out("merge", work, twice="it goes on")
        go.set()
        with anyio.fail_after(5):
            await done.wait()
            assert await errands.carry_out("another", work, twice="") == "done"
            assert await errands.carry_out("merge", work, twice="") == "done"


async def test_what_it_raises_reaches_who_waits_and_nobody_else() -> None:
    errands = Errands()

    async def refused() -> None:
        raise NotFound("no such thing")

    async def broken() -> None:
        raise ZeroDivisionError

    async with anyio.create_task_group() as group:
        errands.begin(group)
        with pytest.raises(NotFound, match="no such thing"):
            await errands.carry_out("a", refused, twice="")
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await errands.carry_out("a", broken, twice="")


async def test_a_hub_that_ends_says_so() -> None:
    errands, told = Errands(), anyio.Event()

    async def wait() -> None:
        with pytest.raises(Unavailable, match="the hub ends"):
            await errands.carry_out("a", anyio.sleep_forever, twice="")
        told.set()

    async with anyio.create_task_group() as waiting, anyio.create_task_group() as group:
        errands.begin(group)
        waiting.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert told.is_set()
