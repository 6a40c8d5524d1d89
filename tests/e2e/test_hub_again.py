"""A hub that begins anew tells what agents did that it has never met alive."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.hub import configure, in_process, state_folder

pytestmark = pytest.mark.anyio


async def test_stopped_and_dead_agents_are_told_with_what_they_did(repo: Path) -> None:
    configure(repo)
    with state_folder() as state:
        async with in_process(repo, state) as hub:
            for name in ("quiet", "dead"):
                await hub.create(name, "@usage 100 10 0.25\n@say it is done")
                await hub.until_done(name)
            await hub.post("/api/agents/quiet/stop")
            await hub.until_status("quiet", "stopped")
            os.kill(hub.sidecar_pid("dead"), signal.SIGKILL)
            await hub.until_status("dead", "failed")
        async with in_process(repo, state) as hub:
            for name, status in (("quiet", "stopped"), ("dead", "failed")):
                agent = await hub.until(name, lambda a: a["task"] is not None)
                assert agent["status"] == status
                assert agent["task"]["state"] == "succeeded"
                assert agent["usage"]["input_tokens"] == 100
            listed = (await hub.get("/api/agents"))["agents"]
            assert {a["name"]: a["task"]["state"] for a in listed} == {"quiet": "succeeded", "dead": "succeeded"}
            for name in ("quiet", "dead"):
                await hub.http.delete(f"/api/agents/{name}")
