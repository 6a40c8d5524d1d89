"""What a cancelled turn left running is ended, and nothing else: with real sidecars and real programs."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import psutil
import pytest

from provider_support import PROGRAMS
from support.sidecar import WITHOUT_CGROUP, Sidecar, sidecar

pytestmark = pytest.mark.anyio
COMMAND = {
    "kind": "command",
    "provider": "steps",
    "command": [sys.executable, str(PROGRAMS / "step_command.py")],
    "output": "jsonl",
}


def sleeping(seconds: str) -> list[int]:
    """The pids of all `sleep SECONDS`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == ["sleep", seconds] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


async def until_sleeping(seconds: str, number: int) -> None:
    with anyio.move_on_after(20):
        while len(sleeping(seconds)) != number:
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"{len(sleeping(seconds))} x sleep {seconds}, not {number}")


def unique() -> str:
    return f"9{int.from_bytes(os.urandom(3), 'big')}"


async def test_the_task_behind_a_cancelled_one_is_not_hit(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work", cancel_seconds=20, **COMMAND) as side:
        await side.until(status="idle")
        ours, next_ones = unique(), unique()
        first = await side.task(f"@child {ours}\n@hang")
        second = await side.task(f"@child {next_ones}\n@sleep 2.5\n@say done", queue=True)
        await until_sleeping(ours, 1)
        await side.post(f"/v1/tasks/{first['id']}/cancel")
        assert (await side.end_of(first))["state"] == "canceled"
        await until_sleeping(ours, 0)
        ended = await side.end_of(second)
        assert (ended["state"], ended["exit_code"]) == ("succeeded", 0), ended
        assert len(sleeping(next_ones)) == 1, "what a task leaves by itself lives as long as its agent"
        notes = (await side.facts())["notes"]
        assert any("1 process(es) of the cancelled task" in note for note in notes), notes
        assert (await side.facts())["incarnation"] == 1


async def bare_child(side: Sidecar, seconds: str) -> None:
    """A process of the agent that has neither its parent, nor its session, nor its environment."""
    await side.task(f"@run sh -c 'env -i setsid sleep {seconds} >/dev/null 2>&1 &'\n@hang")
    await until_sleeping(seconds, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
async def test_without_a_cgroup_nothing_outlives_a_cancel_a_death_or_the_end(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work", cancel_seconds=20, before=WITHOUT_CGROUP) as side:
        facts = await side.until(status="idle")
        seconds = unique()
        await bare_child(side, seconds)
        (task,) = (await side.get("/v1/tasks"))["tasks"]
        await side.post(f"/v1/tasks/{task['id']}/cancel")
        assert (await side.end_of(task))["state"] == "canceled"
        await until_sleeping(seconds, 0)
        assert (await side.facts())["incarnation"] == 1, "its program lives on"

        await bare_child(side, seconds)
        os.kill(facts["agent_pid"], signal.SIGKILL)
        await side.until(status="idle", incarnation=2)
        assert sleeping(seconds) == []

        await bare_child(side, seconds)
        await side.post("/v1/stop")
        with anyio.fail_after(20):
            while side.process.poll() is None:
                await anyio.sleep(0.02)
        assert sleeping(seconds) == []
