"""Restarts that are not done at the first attempt: one that fails, one whose hub dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from quarterdeck.errors import Unavailable
from quarterdeck.events import AgentFailed, Event
from quarterdeck.fleet import bringup
from quarterdeck.fleet.backends.local import LocalBackend
from support.hub import assert_nothing_left, configure, in_process, state_folder

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_restart_always_goes_on_until_it_is_up_or_stopped(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringup, "_RESTART_SECONDS", (0.05,))
    start, attempts, works = LocalBackend.start, 0, False

    async def sometimes(self: LocalBackend, *given: Any) -> None:
        nonlocal attempts
        attempts += 1
        if not works:
            raise Unavailable("no process can be made now")
        await start(self, *given)

    async def several(more: int) -> None:
        with anyio.fail_after(20):
            wanted = attempts + more
            while attempts < wanted:
                await anyio.sleep(0.01)

    # What a hub leaves that dies in the moment in which it tells of a failure.
    left: list[tuple[float | None, bool]] = []

    def told(event: Event, publish: Callable[[Event], None]) -> None:
        if isinstance(event, AgentFailed) and (record := hub.fleet.records.get("phoenix")) is not None:
            left.append((record.failed_at, record.gone_at is not None))
        publish(event)

    configure(repo)
    with state_folder() as state:
        async with in_process(repo, state) as hub:
            bus = hub.fleet.bus
            monkeypatch.setattr(bus, "publish", partial(told, publish=bus.publish))
            await hub.create("phoenix", restart="always")
            await hub.until_status("phoenix", "idle")
            monkeypatch.setattr(LocalBackend, "start", sometimes)
            os.kill(hub.sidecar_pid("phoenix"), signal.SIGKILL)
            await several(3)
            line = await hub.until("phoenix", lambda a: a["status"] == "failed" and "no process" in a["failure"])
            assert line["failure"].startswith("no process can be made now")
            assert set(left) == {(None, True)}
            works = True
            line = await hub.until_status("phoenix", "idle")
            assert line["failure"] is None
            # What a person wants counts for more.
            works = False
            os.kill(hub.sidecar_pid("phoenix"), signal.SIGKILL)
            await several(2)
            await hub.post("/api/agents/phoenix/stop")
            async with hub.fleet.crew._locks["phoenix"]:
                before = attempts
            with anyio.fail_after(5):
                while hub.fleet.crew._restarting:
                    await anyio.sleep(0.01)
                await hub.fleet.crew._restart_later("phoenix", "again")  # ends by itself
            assert attempts == before
            # Restarts by hand that fail are tried again like any other, and by one loop.
            for _ in range(3):
                await hub.post("/api/agents/phoenix/restart")
                await several(2)
            with anyio.fail_after(10):  # who comes second is there for a moment
                while len([t for t in asyncio.all_tasks() if t.get_name() == "keep-up-phoenix"]) != 1:
                    await anyio.sleep(0.001)
            await hub.until("phoenix", lambda a: a["status"] == "failed")
            works = True
            await hub.until_status("phoenix", "idle")
            monkeypatch.setattr(bringup, "_RESTART_SECONDS", (600,))
            os.kill(hub.sidecar_pid("phoenix"), signal.SIGKILL)
            await hub.until_status("phoenix", "failed")
        monkeypatch.setattr(bringup, "_RESTART_SECONDS", (0.05,))
        async with in_process(repo, state) as hub:  # the next hub goes on with it
            await hub.until_status("phoenix", "idle")
            before = await hub.show("phoenix")
            # As a hub leaves it that dies between the record of a failure and the end of what it had started.
            hub.fleet.records.note("phoenix", gone_at=1.0, gone_reason="it did not start in time")
        async with in_process(repo, state) as hub:
            await hub.until_status("phoenix", "idle")
            after = await hub.show("phoenix")
            assert after["incarnation"] == before["incarnation"] + 1
            assert (await hub.http.delete("/api/agents/phoenix")).json()["done"]
        await assert_nothing_left(state)


async def test_a_restart_that_was_promised_is_done_by_the_next_hub(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = anyio.Event()

    async def never(self: LocalBackend, *given: Any, **more: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    configure(repo)
    with state_folder() as state:
        async with in_process(repo, state) as hub:
            await hub.create("ada")
            await hub.until_status("ada", "idle")
            before = await hub.show("ada")
            monkeypatch.setattr(LocalBackend, "stop", never)
            await hub.post("/api/agents/ada/restart")
            with anyio.fail_after(10):
                await begun.wait()
        monkeypatch.undo()
        async with in_process(repo, state) as hub:
            await hub.until_status("ada", "idle")
            after = await hub.show("ada")
            assert after["sidecar_pid"] != before["sidecar_pid"]
            assert after["incarnation"] == before["incarnation"] + 1
            record = hub.fleet.records.get("ada")
            assert record is not None
            assert record.restart_asked_at is None
            assert (await hub.http.delete("/api/agents/ada")).json()["done"]
        await assert_nothing_left(state)
