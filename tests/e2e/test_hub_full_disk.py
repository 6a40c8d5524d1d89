"""A hub whose disk fills up while agents live: it goes on, says what is true, and writes it once there is room."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from quarterdeck.files import read_json
from quarterdeck.fleet.model import AgentRecord
from support.hub import CONFIG, HubProcess, assert_nothing_left, configure, end_agents, state_folder
from support.mounts import filled, mounted

pytestmark = pytest.mark.anyio
RECORD = "agent.json"


@pytest.fixture
async def hub(repo: Path) -> AsyncIterator[HubProcess]:
    """A hub as a process, whose state folder is a small file system."""
    async with AsyncExitStack() as stack:
        state = stack.enter_context(state_folder())
        stack.enter_context(mounted(state, "size=24m"))
        configure(repo, CONFIG.replace("free_disk_mb = 0", "free_disk_mb = 1"))
        made = HubProcess(repo, state)
        try:
            await made.start()
            yield made
        finally:
            if made.is_running():
                await made.end(signal.SIGKILL)
            await end_agents(state)
            await assert_nothing_left(state)


def written(hub: HubProcess, name: str) -> AgentRecord:
    """What the agent's file says."""
    record = read_json(hub.state / "agents" / name / RECORD, AgentRecord)
    assert record is not None
    return record


async def test_the_hub_survives_a_full_disk_and_tells_the_truth(hub: HubProcess) -> None:
    client = hub.client
    assert client is not None
    for name in ("dies", "lives"):
        await client.create(name)
        await client.until_status(name, "idle")
    with filled(hub.state):
        os.kill((await client.show("dies"))["sidecar_pid"], signal.SIGKILL)
        line = await client.until_status("dies", "failed", seconds=10)
        assert "is gone" in line["failure"]
        answer = await client.http.post("/api/agents/dies/restart")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
        assert "0 MB of disk are free, 1 MB must be" in answer.json()["error"]["message"]
        answer = await client.http.delete("/api/agents/lives")
        assert answer.status_code == 507
        listed = {a["name"]: a["status"] for a in (await client.get("/api/agents"))["agents"]}
        assert listed == {"dies": "failed", "lives": "idle"}
        assert hub.is_running()
        assert written(hub, "dies").gone_at is None, "the disk was full indeed"
    with anyio.fail_after(15):
        while written(hub, "dies").gone_at is None:
            await anyio.sleep(0.1)
    await client.post("/api/agents/dies/restart")
    await client.until_status("dies", "idle")
    for name in ("dies", "lives"):
        assert (await client.http.delete(f"/api/agents/{name}")).json()["done"]
    assert await hub.end() == 0


async def test_an_automatic_restart_waits_for_room(hub: HubProcess) -> None:
    client = hub.client
    assert client is not None
    await client.create("phoenix", restart="always")
    await client.until_status("phoenix", "idle")
    before = await client.show("phoenix")
    with filled(hub.state):
        os.kill(before["sidecar_pid"], signal.SIGKILL)
        line = await client.until("phoenix", lambda a: "0 MB of disk are free" in (a["failure"] or ""))
        assert line["status"] == "failed"
        assert f"process {before['sidecar_pid']}, is gone" in line["failure"]
    await client.until_status("phoenix", "idle")
    after = await client.show("phoenix")
    assert (after["incarnation"], after["failure"]) == (before["incarnation"] + 1, None)
