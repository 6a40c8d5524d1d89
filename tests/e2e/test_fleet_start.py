"""Agents that come up, and a hub that is killed meanwhile: what was begun is finished, or gone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from quarterdeck import proctree
from quarterdeck.files import read_json
from quarterdeck.fleet import admission
from quarterdeck.fleet.admission import Room
from quarterdeck.sidecar.spec import ADDRESS_FILE, Address
from support.hub import (
    CONFIG,
    configure,
    git,
    in_process,
    scripted,
    state_folder,
    until_written,
    whole,
    whole_process,
)

pytestmark = pytest.mark.anyio


# -- bringing up ------------------------------------------------------------------------------------------


async def test_the_ai_dies_at_its_start(repo: Path) -> None:
    async with whole(repo, CONFIG + scripted("--die-at-start")) as live:
        for name, task in (("stillborn", None), ("stillborn-2", "@say x")):
            await live.create(name, task)
            line = await live.until_status(name, "failed")
            assert "told to die at the start" in line["failure"]
        assert (await live.http.delete("/api/agents/stillborn")).json()["done"]


@pytest.mark.slow
async def test_called_off_deleted_and_restarted_while_coming_up(repo: Path) -> None:
    async with whole(repo, CONFIG + scripted("--slow-start", "3")) as live:
        for delay in (0.0, 0.02, 0.1, 0.3, 0.8):
            name = f"d{int(delay * 100)}"
            await live.create(name, "@say x")
            await anyio.sleep(delay)
            answer = (await live.http.delete(f"/api/agents/{name}")).json()
            assert answer["done"], answer
            assert git(live.repo, "branch", "--list", f"qd/{name}") == ""
        identities = {}
        for delay in (0.0, 0.02, 0.1, 0.2):
            name = f"c{int(delay * 100)}"
            await live.create(name)
            identities[name] = next(r.id for r in live.fleet.records.all() if r.name == name)
            await anyio.sleep(delay)
            answer = await live.http.post(f"/api/agents/{name}/cancel", json={})
            if answer.status_code == 202 and answer.json()["called_off"]:
                await live.until_status(name, "canceled")
                with anyio.fail_after(20):
                    while proctree.marked(identities[name]) or read_json(
                        live.state / "agents" / name / ADDRESS_FILE, Address
                    ):
                        await anyio.sleep(0.05)
        for delay in (0.0, 0.1, 0.5):
            name = f"r{int(delay * 100)}"
            await live.create(name, "@once first\n@say x")
            await anyio.sleep(delay)
            await live.post(f"/api/agents/{name}/restart")
            task = await live.until_done(name)
            folder = Path((await live.show(name))["workspace"])
            if task["state"] == "succeeded":
                assert (folder / "first").read_text().count("\n") == 1
            assert (await live.get(f"/api/agents/{name}/tasks"))["total_count"] == 1


@pytest.mark.parametrize("what", ["disk", "memory"])
async def test_no_room(repo: Path, what: str) -> None:
    config = CONFIG.replace(f"free_{what}_mb = 0", f"free_{what}_mb = 900000000")
    async with whole(repo, config) as live:
        answer = await live.post("/api/agents", {"name": "x"}, expect=503)
        message = answer["error"]["message"]
        assert f"MB of {what} are free, 900000000 MB must be" in message
        assert answer["error"]["details"][f"free_{what}_mb"] > 0
        assert (await live.get("/api/hub"))["agents"] == 0


async def test_no_room_any_more_when_it_comes_up(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was free when the agent was asked for may be taken when its turn comes, or when the next hub starts."""
    config = CONFIG.replace("free_memory_mb = 0", "free_memory_mb = 100")
    async with whole(repo, config) as live:
        measured = [Room(memory=2**40, disk=2**40), Room(memory=7_000_000, disk=2**40)]
        monkeypatch.setattr(admission, "measure", lambda _: measured.pop(0) if len(measured) > 1 else measured[0])
        await live.create("late")
        line = await live.until_status("late", "failed")
        assert "7 MB of memory are free, 100 MB must be" in line["failure"]
        refused = await live.post("/api/agents/late/restart", expect=503)
        assert "7 MB of memory are free" in refused["error"]["message"]
        measured[0] = Room(memory=2**40, disk=2**40)
        await live.post("/api/agents/late/restart")
        await live.until_status("late", "idle")


async def test_the_limit_of_busy_agents_queues_visibly(repo: Path) -> None:
    async with whole(repo, CONFIG.replace("[limits]", "[limits]\nbusy_agents = 1")) as live:
        for name in ("one", "two", "three"):
            await live.create(name)
            await live.until_status(name, "idle")
        running = await live.task("one", "@hang")
        assert not running["held"]
        await live.until_status("one", "busy")
        second = await live.task("two", "@once ran\n@sleep 0.3")
        third = await live.task("three", "@once ran")
        assert (second["held"], second["position"]) == (True, 1)
        assert (third["held"], third["position"]) == (True, 2)
        listed = {a["name"]: a for a in (await live.get("/api/agents"))["agents"]}
        assert [listed[n]["task"]["position"] for n in ("two", "three")] == [1, 2]
        await anyio.sleep(1)
        assert not (live.state / "agents" / "two" / "worktree" / "ran").exists()
        await live.post("/api/agents/one/cancel")
        done = [await live.until_done(name) for name in ("two", "three")]
        assert [t["state"] for t in done] == ["succeeded", "succeeded"]
        assert done[0]["ended_at"] <= done[1]["started_at"] + 0.05
        # A held task can be cancelled, and then never runs.
        await live.task("one", "@hang")
        await live.until_status("one", "busy")
        held = await live.task("two", "@once never")
        canceled = await live.post("/api/agents/two/cancel")
        assert canceled["task"]["id"] == held["id"]
        assert canceled["task"]["state"] == "canceled"


async def test_what_waited_when_a_sidecar_died_keeps_to_the_limit(repo: Path) -> None:
    async with whole(repo, CONFIG.replace("[limits]", "[limits]\nbusy_agents = 1")) as live:
        for name in ("one", "two"):
            await live.create(name)
            await live.until_status(name, "idle")
        await live.task("one", "@hang")
        await live.until_status("one", "busy")
        behind = await live.task("one", "@once ran", queue=True)
        assert not behind["held"], "it was to follow in the place that its agent had"
        os.kill(live.sidecar_pid("one"), signal.SIGKILL)
        await live.until_status("one", "failed")
        await live.task("two", "@hang")
        await live.until_status("two", "busy")
        await live.post("/api/agents/one/restart")
        line = await live.until("one", lambda a: a["status"] == "idle" and a["task"]["held"])
        assert (line["task"]["id"], line["task"]["state"]) == (behind["id"], "queued")
        await anyio.sleep(0.5)
        assert not (live.state / "agents" / "one" / "worktree" / "ran").exists()
        await live.post("/api/agents/two/cancel")
        assert (await live.until_done("one", behind["id"]))["state"] == "succeeded"


@pytest.mark.slow
async def test_stuck_is_told_and_cancelled_where_wanted(repo: Path) -> None:
    watchdog = "\n[agents.watchdog]\nsilent_seconds = 4\ntool_seconds = 20\ncancel = {}\n"
    async with whole(repo, CONFIG + watchdog.format("false")) as live:
        await live.create("quiet", "@hang")
        line = await live.until("quiet", lambda line: line["activity"] == "stuck")
        assert line["status"] == "busy"
        assert (await live.show("quiet"))["stuck_since"]
        # With a tool open, a longer silence is allowed.
        await live.create("tooling", "@run sleep 8\n@say done")
        task = await live.until_done("tooling", seconds=40)
        assert task["state"] == "succeeded"
        notes = (await live.show("tooling"))["notes"]
        assert not any("stuck" in note for note in notes)
        assert any("stuck" in note for note in (await live.show("quiet"))["notes"])
    async with whole(repo, CONFIG + watchdog.format("true")) as live:
        await live.create("silenced", "@hang hard")
        task = await live.until_done("silenced", seconds=40)
        assert task["state"] == "canceled"
        await live.until_status("silenced", "idle")


# -- the hub itself dies ----------------------------------------------------------------------------------


async def test_agents_work_on_without_a_hub(repo: Path) -> None:
    async with whole_process(repo) as hub:
        assert hub.client is not None
        await hub.client.create("steady", "@once began\n@sleep 1.5\n@once ended")
        folder = hub.state / "agents" / "steady" / "worktree"
        await until_written(folder / "began")
        await hub.end(signal.SIGKILL)
        await until_written(folder / "ended")
        client = await hub.start()
        task = await client.until_done("steady")
        assert task["state"] == "succeeded"
        assert (folder / "began").read_text().count("\n") == 1


@pytest.mark.slow
async def test_a_hub_killed_while_bringing_up_goes_on(repo: Path) -> None:
    async with whole_process(repo) as hub:
        for number, delay in enumerate((0.0, 0.05, 0.15, 0.3)):
            assert hub.client is not None
            name = f"half-{number}"
            await hub.client.create(name, "@once ran")
            await anyio.sleep(delay)
            await hub.end(signal.SIGKILL)
            client = await hub.start()
            task = await client.until_done(name)
            assert task["state"] == "succeeded"
            assert (hub.state / "agents" / name / "worktree" / "ran").read_text().count("\n") == 1
            assert (await client.get(f"/api/agents/{name}/tasks"))["total_count"] == 1


async def test_a_hub_killed_while_restarting_stopping_and_deleting_goes_on(repo: Path) -> None:
    async with whole_process(repo) as hub:
        assert hub.client is not None
        for name in ("again", "halted", "doomed"):
            await hub.client.create(name)
            await hub.client.until_status(name, "idle")
        (hub.state / "agents" / "doomed" / "worktree" / "unsaved").write_text("x")
        async with anyio.create_task_group() as group:
            group.start_soon(hub.client.post, "/api/agents/again/restart")
            group.start_soon(hub.client.post, "/api/agents/halted/stop")
        gone = await hub.client.http.delete("/api/agents/doomed", params={"wait": 0})
        assert gone.status_code == 200
        await hub.end(signal.SIGKILL)
        client = await hub.start()
        await client.until_status("again", "idle")
        await client.until_status("halted", "stopped")
        with anyio.fail_after(20):
            while (await client.http.get("/api/agents/doomed")).status_code != 404:
                await anyio.sleep(0.05)
        (grave,) = (await client.get("/api/agents", status="deleted"))["agents"]
        assert grave["name"] == "doomed"
        assert git(repo, "for-each-ref", "refs/quarterdeck/rescue/") != ""
        await hub.end()
        assert proctree.working_in(hub.state / "agents" / "halted", "quarterdeck") == []


async def test_a_log_that_has_grown_is_cut_by_the_next_hub(repo: Path) -> None:
    async with whole_process(repo) as hub:
        await hub.end()
        log = hub.state / "hub" / "hub.log"
        with log.open("wb") as grown:
            grown.truncate(20_000_001)
        await hub.start()
        with anyio.fail_after(10):
            while log.stat().st_size:
                await anyio.sleep(0.05)
        assert log.with_name("hub.log.1").stat().st_size == 20_000_001


async def test_a_hub_ends_in_good_order_and_agents_live(repo: Path) -> None:
    configure(repo)
    with state_folder() as state:
        async with in_process(repo, state) as live:
            await live.create("stays")
            await live.until_status("stays", "idle")
            pid = live.sidecar_pid("stays")
        assert proctree.started_at(pid) is not None
        async with in_process(repo, state) as live:
            await live.until_status("stays", "idle")
            assert live.sidecar_pid("stays") == pid
            await live.http.delete("/api/agents/stays")
        assert proctree.started_at(pid) is None
