"""What becomes of agents: brought up, called off, stopped, killed, restarted, deleted; through a real hub."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.to_thread import run_sync

from e2e.test_hub_metadata import program
from quarterdeck import proctree
from quarterdeck.files import write_private
from quarterdeck.fleet.records import RECORD_FILE
from quarterdeck.sidecar.client import SidecarClient
from support.hub import CONFIG, LiveHub, git, scripted, until_written, whole

pytestmark = pytest.mark.anyio


# -- work -------------------------------------------------------------------------------------------------


async def test_a_worktree_and_a_branch_of_its_own(shared: LiveHub) -> None:
    await shared.create("wt", "@write a.txt hello\n@commit add a")
    assert (await shared.until_done("wt"))["state"] == "succeeded"
    shown = await shared.show("wt")
    workspace = Path(shown["workspace"])
    assert git(workspace, "rev-parse", "--abbrev-ref", "HEAD") == shown["branch"] == "qd/wt"
    assert git(shared.repo, "show", "qd/wt:a.txt") == "hello"
    assert not (shared.repo / "a.txt").exists()
    assert shown["disk_bytes"] > 0
    assert shown["metadata"]["git_branch"]["value"] == "qd/wt"


async def test_role_and_spec_reach_the_ai(shared: LiveHub) -> None:
    await shared.create("told", "@instructions", role="operator", spec="Mind the blue door.")
    await shared.until_done("told")
    log = await shared.get("/api/agents/told/log", page_size=50)
    said = "\n".join(e["text"] for e in log["entries"] if e["kind"] == "text")
    assert "You are an operator." in said
    assert "Mind the blue door." in said


async def test_the_agents_own_tools(shared: LiveHub) -> None:
    text = "\n".join(
        [
            '@mcp report_task {"summary": "half way", "state": "working", "link": "http://example.invalid/1"}',
            '@mcp set_metadata {"values": {"ticket": "QD-7"}}',
            '@mcp set_metadata {"values": {"rubbish": "x"}}',
            '@mcp get_metadata {"keys": ["ticket"]}',
            '@mcp delete_metadata {"key": "rubbish"}',
            '@mcp ask_human {"question": "Deploy?", "options": ["yes", "later"]}',
        ]
    )
    await shared.create("own-tools")
    await shared.until_status("own-tools", "idle")
    task = await shared.task("own-tools", text)
    await shared.until("own-tools", lambda line: line["activity"] == "waiting_input")
    shown = await shared.show("own-tools")
    (asked,) = shown["needs_attention"]
    assert (asked["title"], [o["name"] for o in asked["options"]]) == ("Deploy?", ["yes", "later"])
    assert shown["report"]["summary"] == "half way"
    wrong = await shared.post(f"/api/agents/own-tools/attention/{asked['id']}", {"answer": "perhaps"}, expect=400)
    assert "yes" in wrong["error"]["hint"]
    await shared.post(f"/api/agents/own-tools/attention/{asked['id']}", {"answer": "later"})
    await shared.post(f"/api/agents/own-tools/attention/{asked['id']}", {"answer": "yes"}, expect=409)
    assert (await shared.until_done("own-tools", task["id"]))["state"] == "succeeded"
    shown = await shared.show("own-tools")
    assert shown["metadata"]["ticket"]["value"] == "QD-7"
    assert "rubbish" not in shown["metadata"]
    log = await shared.get("/api/agents/own-tools/log", page_size=100)
    said = "\n".join(e["text"] for e in log["entries"] if e["kind"] == "text")
    assert '"answer": "later"' in said or '"answer":"later"' in said


async def test_a_shared_workspace(shared: LiveHub) -> None:
    await shared.create("host", "@write h.txt from-host")
    await shared.until_done("host")
    await shared.create("guest", "@write g.txt from-guest", workspace="host")
    await shared.until_done("guest")
    guest, host = await shared.show("guest"), await shared.show("host")
    assert guest["workspace"] == host["workspace"]
    assert guest["shares_workspace_of"] == "host"
    assert (Path(host["workspace"]) / "g.txt").read_text() == "from-guest\n"
    refusal = await shared.http.delete("/api/agents/host")
    assert refusal.status_code == 409
    assert "guest" in refusal.json()["error"]["message"]
    assert (await shared.http.delete("/api/agents/guest")).json()["done"]
    assert (Path(host["workspace"]) / "h.txt").exists()
    task = await shared.task("host", "@say still here")
    assert (await shared.until_done("host", task["id"]))["state"] == "succeeded"


async def test_a_guest_goes_home_where_its_host_does(repo: Path) -> None:
    async with whole(repo) as hub:
        await hub.create("host", "@write h.txt from-host\n@commit h")
        await hub.until_done("host")
        git(repo, "checkout", "-q", "-b", "elsewhere")
        await hub.create("guest", workspace="host")
        git(repo, "checkout", "-q", "--detach")
        await hub.create("guest-2", workspace="guest")
        host = await hub.show("host")
        for name in ("guest", "guest-2"):
            guest = await hub.show(name)
            assert [guest[k] for k in ("base", "base_sha", "repo")] == [host[k] for k in ("base", "base_sha", "repo")]
            assert guest["base"] == "main"


async def test_a_workspace_that_is_being_deleted_is_not_shared(shared: LiveHub) -> None:
    await shared.create("leaving")
    await shared.until_status("leaving", "idle")
    await shared.fleet.delete("leaving")
    refused = await shared.post("/api/agents", {"name": "late", "workspace": "leaving"}, expect=409)
    assert "is being deleted" in refused["error"]["message"]
    await shared.get("/api/agents/late", expect=404)


async def test_delete_while_busy_loses_no_work(shared: LiveHub) -> None:
    await shared.create("rescued", "@write kept.txt committed\n@commit one\n@once marker\n@child 300\n@hang hard")
    await until_written(shared.state / "agents" / "rescued" / "worktree" / "marker")
    folder = shared.state / "agents" / "rescued" / "worktree"
    bytes_ = bytes(range(256)) * 500
    (folder / "untracked.bin").write_bytes(bytes_)
    (folder / "README.md").write_bytes(b"changed\r\n")
    identity = next(r.id for r in shared.fleet.records.all() if r.name == "rescued")
    answer = (await shared.http.delete("/api/agents/rescued")).json()
    assert answer["done"], answer
    assert answer["rescue_ref"].startswith("refs/quarterdeck/rescue/rescued-")
    assert answer["branch_kept"] == "qd/rescued"
    for name, wanted in (("untracked.bin", bytes_), ("README.md", b"changed\r\n"), ("kept.txt", b"committed\n")):
        got = subprocess.run(["git", "show", f"{answer['rescue_ref']}:{name}"], cwd=shared.repo, capture_output=True)
        assert got.stdout == wanted, name
    assert proctree.marked(identity) == []
    assert not folder.exists()
    await shared.get("/api/agents/rescued", expect=404)
    # Who lost the answer, or did not wait for it, still learns where the work is.
    assert (await shared.http.delete("/api/agents/rescued")).json() == answer
    assert (await shared.http.delete("/api/agents/never-there")).status_code == 404
    # Its history can still be read.
    history = await shared.get("/api/agents/rescued/tasks")
    assert history["tasks"][0]["state"] == "canceled"
    await shared.create("rescued")
    await shared.until_status("rescued", "idle")


async def test_delete_loses_no_work_when_the_repository_is_gone(repo: Path) -> None:
    async with whole(repo, CONFIG) as hub:
        await hub.create("ada", "@write unsaved.txt only-here")
        await hub.until_done("ada")
        moved = repo.rename(repo.with_name("moved"))
        refused = await hub.http.delete("/api/agents/ada")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
        workspace = Path((await hub.show("ada"))["workspace"])
        assert str(workspace) in refused.json()["error"]["message"]
        assert (workspace / "unsaved.txt").exists()
        moved.rename(repo)
        done = (await hub.http.delete("/api/agents/ada")).json()
        assert done["done"]
        assert "only-here" in git(repo, "show", f"{done['rescue_ref']}:unsaved.txt")


async def test_gc_never_takes_unsaved_work(shared: LiveHub) -> None:
    orphan = shared.state / "agents" / "orphan" / "worktree"
    orphan.parent.mkdir(parents=True)
    git(shared.repo, "worktree", "add", "-q", "-b", "qd/orphan", str(orphan))
    (orphan / "unsaved.txt").write_text("dear\n")
    plan = await shared.post("/api/gc", {"dry_run": True})
    assert any(leftover["action"] == "keep" and "orphan" in str(leftover) for leftover in plan)
    await shared.post("/api/gc", {"dry_run": False})
    assert (orphan / "unsaved.txt").read_text() == "dear\n"
    (orphan / "unsaved.txt").unlink()
    long_ago = time.time() - 7 * 86400
    os.utime(orphan.parent, (long_ago, long_ago))
    await shared.post("/api/gc", {"dry_run": False})
    assert not orphan.exists()


async def test_the_budget_stops_with_a_reason(shared: LiveHub) -> None:
    await shared.create("frugal", "@usage 60 20 0.3\n@say on\n@usage 30 10 0.3\n@hang", budget={"usd": 0.5})
    line = await shared.until_status("frugal", "stopped")
    assert line["failure"] == "the budget of $0.50 is used up: $0.60 so far"
    assert line["usage"]["cost_usd"] == 0.6
    (task,) = (await shared.get("/api/agents/frugal/tasks"))["tasks"]
    assert task["state"] == "canceled"
    assert "budget" in task["detail"]
    answer = await shared.post("/api/agents/frugal/tasks", {"description": "@say more"}, expect=409)
    assert "budget" in answer["error"]["message"]
    more = "give it more than it has used: qd agents restart frugal --budget-usd AMOUNT"
    assert answer["error"]["hint"] == more
    for budget in (None, {"usd": 0.6}, {"tokens": 10**6}):
        refused = await shared.post("/api/agents/frugal/restart", {"budget": budget}, expect=409)
        assert "would only stop again: the budget of $0." in refused["error"]["message"]
        assert refused["error"]["hint"] == more
    assert (await shared.show("frugal"))["budget"] == {"usd": 0.5, "tokens": None}
    incarnation = (await shared.show("frugal"))["incarnation"]
    await shared.post("/api/agents/frugal/restart", {"budget": {"usd": 5}})
    await shared.until_status("frugal", "idle")
    shown = await shared.show("frugal")
    assert shown["budget"] == {"usd": 5, "tokens": None}
    assert shown["incarnation"] > incarnation
    assert json.loads((shared.state / "agents" / "frugal" / "agent.json").read_text())["budget"]["usd"] == 5
    await shared.until_done("frugal", (await shared.task("frugal", "@usage 1 1 4.5\n@say on"))["id"])
    line = await shared.until_status("frugal", "stopped")
    assert line["failure"] == "the budget of $5.00 is used up: $5.10 so far"
    # What it has used is known also when nobody of it runs.
    await shared.post("/api/agents/frugal/stop")
    await shared.until("frugal", lambda line: line["status"] == "stopped")
    await shared.post("/api/agents/frugal/restart", expect=409)
    # ACP tells tokens at the end of a turn; the next one is not begun.
    await shared.create("wordy", "@usage 90 30", budget={"tokens": 100})
    line = await shared.until_status("wordy", "stopped")
    assert line["failure"] == "the budget of 100 tokens is used up: 120 so far"
    assert line["task"]["state"] == "succeeded"


# -- death and coming back --------------------------------------------------------------------------------


async def test_a_death_of_the_ai(shared: LiveHub) -> None:
    await shared.create("mortal", "@say before")
    await shared.until_done("mortal")
    task = await shared.task("mortal", "@child 300\n@once here\n@hang")
    await until_written(shared.state / "agents" / "mortal" / "worktree" / "here")
    shown = await shared.show("mortal")
    os.kill(shown["agent_pid"], signal.SIGKILL)
    ended = await shared.until_done("mortal", task["id"])
    assert (ended["state"], ended["exit_code"]) == ("lost", -9)
    assert "signal 9" in ended["detail"]
    await shared.until_status("mortal", "idle")
    after = await shared.show("mortal")
    assert after["incarnation"] == shown["incarnation"] + 1
    assert after["resumed"]
    assert after["session_id"] == shown["session_id"]
    # The next task is told of the loss; what was lost is not given again.
    await shared.until_done("mortal", (await shared.task("mortal", "@say again"))["id"])
    assert len((await shared.get("/api/agents/mortal/tasks"))["tasks"]) == 3
    assert (Path(after["workspace"]) / "here").read_text().count("\n") == 1


async def test_a_death_of_the_sidecar(shared: LiveHub) -> None:
    await shared.create("orphaned", "@say before")
    first = await shared.until_done("orphaned")
    task = await shared.task("orphaned", "@child 300\n@once here\n@hang")
    await until_written(shared.state / "agents" / "orphaned" / "worktree" / "here")
    identity = next(r.id for r in shared.fleet.records.all() if r.name == "orphaned")
    os.kill((await shared.show("orphaned"))["sidecar_pid"], signal.SIGKILL)
    line = await shared.until_status("orphaned", "failed", seconds=30)
    assert "is gone" in line["failure"]
    with anyio.fail_after(20):
        while proctree.marked(identity):
            await anyio.sleep(0.05)
    # What was said and done before can be read while nobody runs, and what became of the rest.
    told = {t["id"]: t["state"] for t in (await shared.get("/api/agents/orphaned/tasks"))["tasks"]}
    assert told == {first["id"]: "succeeded", task["id"]: "lost"}
    line = await shared.until("orphaned", lambda line: line["task"]["state"] == "lost")
    assert line["task"]["id"] == task["id"]
    await shared.post("/api/agents/orphaned/tasks", {"description": "@say x"}, expect=503)
    answer = await shared.post("/api/agents/orphaned/restart")
    assert answer["status"] == "starting"
    await shared.until_status("orphaned", "idle")
    states = {t["id"]: t["state"] for t in (await shared.get("/api/agents/orphaned/tasks"))["tasks"]}
    assert states == {first["id"]: "succeeded", task["id"]: "lost"}
    assert (await shared.show("orphaned"))["resumed"]


async def test_restart_always(shared: LiveHub) -> None:
    await shared.create("phoenix", restart="always")
    await shared.until_status("phoenix", "idle")
    before = await shared.show("phoenix")
    for _ in range(2):
        os.kill(shared.sidecar_pid("phoenix"), signal.SIGKILL)
        await shared.until_status("phoenix", "failed", "starting", seconds=30)
        await shared.until_status("phoenix", "idle")
    after = await shared.show("phoenix")
    assert after["incarnation"] == before["incarnation"] + 2
    assert after["failure"] is None
    task = await shared.task("phoenix", "@say back")
    assert (await shared.until_done("phoenix", task["id"]))["state"] == "succeeded"


async def test_unreachable_is_not_dead(shared: LiveHub) -> None:
    await shared.create("frozen")
    await shared.create("lively")
    await shared.until_status("frozen", "idle")
    await shared.until_status("lively", "idle")
    pid = shared.sidecar_pid("frozen")
    client = await shared.fleet.client("frozen")
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.time()
        line = await shared.until("frozen", lambda line: line["unreachable"] is not None, seconds=30)
        assert line["unreachable"]["reason"]
        assert began - 1 <= line["unreachable"]["since"] <= time.time()
        assert line["status"] == "idle"
        asked = time.monotonic()
        listed = {a["name"]: a for a in (await shared.get("/api/agents"))["agents"]}
        assert time.monotonic() - asked < 10
        assert listed["lively"]["unreachable"] is None
        assert listed["frozen"]["unreachable"] is not None
        asked = time.monotonic()
        assert (await shared.show("frozen"))["unreachable"] is not None
        assert time.monotonic() - asked < 15
        refused = await shared.post("/api/agents/frozen/tasks", {"description": "@say x"}, expect=503)
        assert "did not answer within 5 s" in refused["error"]["message"]
    finally:
        os.kill(pid, signal.SIGCONT)
    line = await shared.until("frozen", lambda line: line["unreachable"] is None, seconds=30)
    # What the follower gave up meanwhile was its own: others' calls were not cut off by it.
    assert (await client.facts()).sidecar_pid == pid
    assert line["failure"] is None
    assert shared.sidecar_pid("frozen") == pid


async def test_a_restart_cancels_what_is_running(shared: LiveHub) -> None:
    await shared.create("redone", "@hang")
    await shared.until_status("redone", "busy")
    await shared.post("/api/agents/redone/restart")
    assert (await shared.until_done("redone"))["state"] == "canceled"
    async with shared.mcp() as client:
        told = next(tool for tool in await client.list_tools() if tool.name == "restart_agent").description
    assert told is not None
    assert "a task that is running is canceled" in told


async def test_a_cancel_survives_a_link_that_is_dropped_meanwhile(
    shared: LiveHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shared.create("dropped", "@hang")
    await shared.until_status("dropped", "busy")
    ask = SidecarClient.facts

    async def facts(self: SidecarClient, **more: Any) -> Any:
        found = await ask(self, **more)
        await shared.fleet.crew.links["dropped"]._drop()
        return found

    monkeypatch.setattr(SidecarClient, "facts", facts)
    await shared.post("/api/agents/dropped/cancel", expect=202)
    monkeypatch.undo()
    assert (await shared.until_done("dropped"))["state"] == "canceled"


async def test_a_history_that_is_too_old_is_told_before_it_goes(shared: LiveHub) -> None:
    for name in ("ancient", "recent"):
        await shared.create(name, "@say hello")
        await shared.until_done(name)
        assert (await shared.http.delete(f"/api/agents/{name}")).json()["done"]
    records = shared.fleet.records
    old = next(r for r in records.deleted() if r.name == "ancient")
    write_private(records.grave(old) / RECORD_FILE, replace(old, deleted_at=time.time() - 100 * 86400))
    for dry_run in (True, False):
        assert records.grave(old).exists()
        found = await shared.post("/api/gc", {"dry_run": dry_run})
        (told,) = [item for item in found if item["kind"] == "history"]
        assert (told["action"], told["what"]) == ("remove", str(records.grave(old)))
        assert "ancient was deleted 100 days ago" in told["reason"]
        assert told["bytes"] > 0
    assert not records.grave(old).exists()
    assert "recent" in [r.name for r in records.deleted()]


async def test_what_waits_is_told(shared: LiveHub) -> None:
    await shared.create("waits")
    await shared.until_status("waits", "idle")
    running = await shared.task("waits", "@hang")
    # Nothing was before it.
    assert running["position"] is None
    await shared.until_status("waits", "busy")
    second, third = [await shared.task("waits", f"@say {word}", queue=True) for word in ("second", "third")]
    assert (second["position"], third["position"]) == (1, 2)
    shown = await shared.show("waits")
    assert (shown["current_task"]["id"], shown["queue"]) == (running["id"], 2)
    assert (shown["next_task"]["id"], shown["next_task"]["position"]) == (second["id"], 1)
    said = await run_sync(lambda: program(shared)("agents", "show", "waits"))
    assert "next task" in said.out
    assert "queued, number 1: @say second" in " ".join(said.out.split())
    await shared.post("/api/agents/waits/cancel")
    assert (await shared.until_done("waits", third["id"]))["state"] == "succeeded"


# -- what was asked for last holds ------------------------------------------------------------------------


async def test_a_stop_right_after_a_restart_holds(shared: LiveHub) -> None:
    await shared.create("halted", restart="always")
    await shared.until_status("halted", "idle")
    crew = shared.fleet.crew
    await shared.fleet.restart("halted")
    await shared.fleet.stop("halted")
    await anyio.lowlevel.checkpoint()
    async with crew._locks["halted"]:  # first come, first served: both jobs are over
        record = shared.fleet.records.get("halted")
        assert record is not None
        assert record.wanted == "stopped"
        assert proctree.marked(record.id) == []
    await shared.until_status("halted", "stopped")
    # And the other way round.
    await shared.fleet.stop("halted")
    await shared.fleet.restart("halted")
    await shared.until_status("halted", "idle")


async def call_off(live: LiveHub, name: str) -> None:
    """Cancel an agent that comes up."""
    with anyio.fail_after(10):
        while name not in live.fleet.crew._jobs:
            await anyio.lowlevel.checkpoint()
    assert await live.fleet.cancel_task(name) is None
    await live.until_status(name, "canceled")


async def test_a_task_that_was_called_off_with_its_agent_never_runs(
    shared: LiveHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, held = SidecarClient.cancel, []

    async def watched(self: SidecarClient, task_id: str, **more: Any) -> Any:
        # What is held is released as soon as there is room; not this one, however long its cancel takes.
        await shared.fleet.crew.links["offed"].refresh(5)
        await shared.fleet._limit._release()
        held.append((await self.tasks(offset=0, limit=1)).tasks[0].held)
        return await cancel(self, task_id, **more)

    monkeypatch.setattr(SidecarClient, "cancel", watched)
    await shared.fleet.create(name="offed", task="@once ran\n@say x")
    await call_off(shared, "offed")
    (told,) = (await shared.get("/api/agents/offed/tasks"))["tasks"]
    assert (told["state"], told["description"]) == ("canceled", "@once ran\n@say x")
    await shared.post("/api/agents/offed/restart")
    await shared.until_status("offed", "idle")
    assert held == [True]
    found = await shared.get("/api/agents/offed/tasks")
    assert [task["state"] for task in found["tasks"]] == ["canceled"]
    assert (await shared.until_done("offed", (await shared.task("offed", "@say y"))["id"]))["state"] == "succeeded"
    assert not (Path((await shared.show("offed"))["workspace"]) / "ran").exists()


async def test_a_task_that_was_called_off_while_it_was_given_never_runs(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = anyio.Event()
    give = SidecarClient.add_task

    async def add_task(self: SidecarClient, *arguments: Any, **more: Any) -> Any:
        await give(self, *arguments, **more)
        given.set()
        await anyio.sleep_forever()

    async with whole(repo, CONFIG + scripted("--slow-start", "3")) as live:
        monkeypatch.setattr(SidecarClient, "add_task", add_task)
        await live.fleet.create(name="late", task="@once ran\n@say x")
        with anyio.fail_after(20):
            await given.wait()
        await call_off(live, "late")
        monkeypatch.undo()
        await live.post("/api/agents/late/restart")
        await live.until_status("late", "idle")
        found = await live.get("/api/agents/late/tasks")
        assert [task["state"] for task in found["tasks"]] == ["canceled"]
        assert not (Path((await live.show("late"))["workspace"]) / "ran").exists()


async def test_a_first_task_is_not_given_again_when_its_history_was_moved_away(shared: LiveHub) -> None:
    await shared.create("amnesic", "@once ran")
    await shared.until_done("amnesic")
    await shared.post("/api/agents/amnesic/stop")
    await shared.until_status("amnesic", "stopped")
    async with shared.fleet.crew._locks["amnesic"]:
        for file in (shared.state / "agents" / "amnesic").glob("agent.db*"):
            file.unlink()
    await shared.post("/api/agents/amnesic/restart")
    await shared.until_status("amnesic", "idle")
    assert (await shared.get("/api/agents/amnesic/tasks"))["total_count"] == 0
    assert (Path((await shared.show("amnesic"))["workspace"]) / "ran").read_text().count("\n") == 1


async def test_stop_and_restart_keep_everything(shared: LiveHub) -> None:
    await shared.create("paused", "@say one")
    await shared.until_done("paused")
    await shared.post("/api/agents/paused/stop")
    await shared.until_status("paused", "stopped")
    assert (await shared.get("/api/agents/paused/tasks"))["total_count"] == 1
    assert (await shared.get("/api/agents/paused/log", page_size=10))["total_count"] >= 2
    await shared.post("/api/agents/paused/restart")
    await shared.until_status("paused", "idle")
    assert (await shared.show("paused"))["resumed"]
