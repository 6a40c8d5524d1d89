"""A hub that begins anew tells what agents did that it has never met alive."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from quarterdeck import proctree
from quarterdeck.fleet.link import Link
from quarterdeck.sidecar.spec import ADDRESS_FILE
from support.hub import assert_nothing_left, configure, in_process, state_folder

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


def is_told(agent: Any) -> bool:
    """Whether the file that cannot be read is named as the reason."""
    return agent["unreachable"] is not None and ADDRESS_FILE in agent["unreachable"]["reason"]


async def test_a_broken_address_makes_one_agent_unreachable_and_harms_no_other(repo: Path) -> None:
    configure(repo)
    with state_folder() as state:
        address = state / "agents" / "sly" / ADDRESS_FILE
        async with in_process(repo, state) as hub:
            for name in ("sly", "good"):
                await hub.create(name, "@say hello")
                await hub.until_done(name)
            address.write_text("{rubbish")
            os.kill(hub.sidecar_pid("sly"), signal.SIGKILL)
            await hub.until("sly", is_told)
            assert (await hub.show("good"))["status"] == "idle"
            await hub.post("/api/agents/sly/restart")
            await hub.until_status("sly", "idle")
            address.write_text("{rubbish")
        async with in_process(repo, state) as hub:
            await hub.until("sly", is_told)
            task = await hub.task("good", "@say still here")
            assert (await hub.until_done("good", task["id"]))["state"] == "succeeded"
            pid = (await hub.show("good"))["sidecar_pid"]
            for name in ("sly", "good"):
                assert (await hub.http.delete(f"/api/agents/{name}")).json()["done"]
            assert proctree.identity(pid) is None
        await assert_nothing_left(state)


async def test_facts_and_events_that_nobody_foresaw_do_not_end_the_hub(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(repo)
    with state_folder() as state:
        async with in_process(repo, state) as hub:
            await hub.create("odd")
            await hub.until_status("odd", "idle")
            with monkeypatch.context() as meanwhile:
                # What a sidecar of another version might tell: an event whose number is none.
                meanwhile.setattr(Link, "_take", lambda *_: int("x"))
                await hub.fleet.start_task("odd", "@say x")
                line = await hub.until("odd", lambda a: a["unreachable"] is not None)
                assert "ValueError" in line["unreachable"]["reason"]
            line = await hub.until("odd", lambda a: a["unreachable"] is None)
            await hub.until_done("odd")
            assert (await hub.http.delete("/api/agents/odd")).json()["done"]
