"""A machine that slept: nobody's silence is counted from the time in which nobody ran."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from quarterdeck.config import Watchdog
from support.session import WAIT_FOR_GO
from support.sidecar import sidecar

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
_LIMIT_SECONDS = 8


async def test_an_agent_is_not_stuck_for_the_time_in_which_the_machine_slept(tmp_path: Path) -> None:
    watchdog = Watchdog(silent_seconds=_LIMIT_SECONDS, tool_seconds=_LIMIT_SECONDS, cancel=True)
    async with sidecar(tmp_path / "agent", tmp_path / "work", watchdog=watchdog) as side:
        task = await side.task(WAIT_FOR_GO)
        await side.until_task(task, "started_at")
        processes = (side.process.pid, (await side.facts())["agent_pid"])
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        await anyio.sleep(_LIMIT_SECONDS + 2)
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
        facts = woken = await side.facts()
        while facts["observed_at"] < woken["observed_at"] + 1.5:  # until the watch has looked
            await anyio.sleep(0.1)
            facts = await side.facts()
        assert (facts["activity"], facts["stuck_since"], facts["notes"]) == ("working", None, [])
        (side.workspace / "go").touch()
        assert (await side.end_of(task))["state"] == "succeeded"
