"""The fleet's facts through the hub's doors (MCP, HTTP, `qd`); failing checks that become tasks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from fastmcp.exceptions import ToolError

from e2e.conftest import make_repo
from e2e.test_simulated_sidecars import simulated
from quarterdeck import proctree
from quarterdeck.hub import place
from quarterdeck.hub.place import HubInfo
from quarterdeck.scripted.forge import Forge, Pull, scripted_forge
from support.cli import Qd
from support.hub import CONFIG, LiveHub, configure, end_agents, git, in_process, scripted, state_folder, whole

pytestmark = pytest.mark.anyio
REPOSITORY = "acme/shop"


async def tool(live: LiveHub, name: str, **arguments: Any) -> Any:
    """The structured answer of a tool."""
    async with live.mcp() as client:
        return (await client.call_tool(name, arguments)).structured_content


async def until(ask: Callable[[], Awaitable[Any]], right: Callable[[Any], Any], seconds: float = 30) -> Any:
    """Ask again until the answer is right; the answer."""
    end = time.monotonic() + seconds
    while not right(found := await ask()):
        assert time.monotonic() < end, found
        await anyio.sleep(0.1)
    return found


def program(live: LiveHub) -> Qd:
    """`qd`, which finds this hub."""
    own = proctree.identity(os.getpid()) or ""
    place.announce(
        live.state,
        HubInfo(pid=os.getpid(), started_at=1.0, url=live.url, folder=str(live.repo), version="0", identity=own),
    )
    return Qd(live.repo, live.state)


async def qd(live: LiveHub, *arguments: str, code: int = 0) -> Any:
    """`qd`, talking to this hub."""
    called = program(live)
    return await run_sync(lambda: called(*arguments, code=code))


async def test_facts_are_written_found_and_deleted_through_every_door(shared: LiveHub) -> None:
    await shared.create("ada")
    await shared.create("bob")
    await shared.until_status("ada", "idle")
    await shared.until_status("bob", "idle")
    # MCP
    stored = await tool(shared, "set_agent_metadata", agent_name="ada", key="ticket", value={"id": 7, "who": "naïve ☃"})
    assert stored == {"agent": "ada", "key": "ticket", "created": True}
    again = await tool(shared, "set_agent_metadata", agent_name="ada", key="ticket", value="QD-7")
    assert again["created"] is False
    with pytest.raises(ToolError, match=r"CONFLICT.*collected by git"):
        await tool(shared, "set_agent_metadata", agent_name="ada", key="git_branch", value="mine")
    with pytest.raises(ToolError, match="4096"):
        await tool(shared, "set_agent_metadata", agent_name="ada", key="big", value="x" * 5000)
    for given, names in (
        ("ticket=QD-7", ["ada"]),
        ("git_branch=qd/bob", ["bob"]),
        ("ticket=QD-7,git_branch=qd/bob", []),
        ("!ticket,git_branch=qd/*", ["bob"]),
    ):
        found = await tool(shared, "list_agents", metadata_filter=given)
        assert [a["name"] for a in found["agents"]] == names, given
        found = await shared.get("/api/agents", metadata_filter=given)
        assert [a["name"] for a in found["agents"]] == names, given
    with pytest.raises(ToolError, match=r"INVALID_INPUT.*cannot be read"):
        await tool(shared, "list_agents", metadata_filter="=")
    assert (await shared.get("/api/agents", metadata_filter="=", expect=400))["error"]["code"] == "INVALID_INPUT"
    # The list has the fields with include_in_list, the whole agent has all.
    line = (await shared.get("/api/agents", metadata_filter="ticket=QD-7"))["agents"][0]
    assert line["metadata"]["git_branch"] == "qd/ada"
    assert "ticket" not in line["metadata"]
    shown = await tool(shared, "show_agent", agent_name="ada")
    assert shown["metadata_state"] == "known"
    assert (shown["metadata"]["ticket"]["value"], shown["metadata"]["ticket"]["source"]) == ("QD-7", "stored")
    assert shown["metadata"]["git_head"]["value"] == git(shared.repo, "rev-parse", "qd/ada")
    # HTTP, with the metadata server's own statuses, tags and preconditions
    path = "/api/agents/ada/metadata"
    made = await shared.http.put(f"{path}/size", json={"value": "M", "include_in_list": True})
    assert made.status_code == 201
    stale = await shared.http.put(f"{path}/size", json={"value": "L"}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "CONFLICT")
    right = await shared.http.put(f"{path}/size", json={"value": "L"}, headers={"If-Match": made.headers["etag"]})
    assert right.status_code == 200
    await shared.until("ada", lambda a: a["metadata"].get("size") == "L")
    assert (await shared.get(f"{path}/size"))["value"] == "L"
    both = await shared.post(path, {"data": {"a": 1, "b": [2]}})
    assert sorted(both["created"]) == ["a", "b"]
    assert (await shared.get(f"{path}/nothing", expect=404))["error"]["code"] == "NOT_FOUND"
    assert set((await shared.get(path, source="stored"))["data"]) == {"ticket", "size", "a", "b"}
    assert (await shared.http.delete(f"{path}/a")).status_code == 204
    assert (await shared.http.delete(f"{path}/a")).status_code == 204
    assert (await shared.get("/api/agents/nobody/metadata", expect=404))["error"]["code"] == "NOT_FOUND"
    # MCP again
    gone = await tool(shared, "delete_agent_metadata", agent_name="ada", key="ticket")
    assert gone == {"agent": "ada", "key": "ticket"}
    await tool(shared, "delete_agent_metadata", agent_name="ada", key="ticket")
    assert "ticket" not in (await tool(shared, "show_agent", agent_name="ada"))["metadata"]
    assert (await tool(shared, "list_agents", metadata_filter="ticket"))["agents"] == []


async def test_qd_metadata(shared: LiveHub) -> None:
    await shared.create("cli")
    await shared.until_status("cli", "idle")
    called = program(shared)

    def watched() -> list[str]:
        since = str(called("metadata", "get", "cli", "--json").json["meta"]["revision"])
        with called.going("metadata", "watch", "cli", "--since", since) as watching:
            called("metadata", "set", "cli", "note=hello there", "owner=me")
            lines = [watching.line("note")]
            called("metadata", "rm", "cli", "owner")
            lines.append(watching.line("owner  (gone)"))
            return lines

    assert await run_sync(watched) == ["note  hello there", "owner  (gone)"]
    assert (await qd(shared, "metadata", "set", "cli", "n=[1, 2]", "--json")).out == "n stored\n"
    assert (await qd(shared, "metadata", "set", "cli", "n=3", "--json")).out == "n updated\n"
    assert (await qd(shared, "metadata", "get", "cli", "note")).out == "hello there\n"
    assert (await qd(shared, "metadata", "get", "cli", "n", "--json")).json["value"] == 3
    # A key may look like a path; it is one key all the same.
    await qd(shared, "metadata", "set", "cli", "a/../note=another")
    assert (await qd(shared, "metadata", "get", "cli", "a/../note")).out == "another\n"
    await qd(shared, "metadata", "rm", "cli", "a/../note")
    assert (await qd(shared, "metadata", "get", "cli", "note")).out == "hello there\n"
    collected = (await qd(shared, "metadata", "get", "cli", "git_dirty", "--json")).json["observed_at"]
    fresh = (await qd(shared, "metadata", "get", "cli", "git_dirty", "--fresh", "--json")).json["observed_at"]
    assert fresh > collected
    shown = (await qd(shared, "metadata", "get", "cli", "--source", "git", "--fresh")).out
    assert "git_branch " in shown
    assert "qd/cli" in shown
    refused = await qd(shared, "metadata", "set", "cli", "fine=1", "git_branch=x", code=4)
    assert "collected by git" in refused.err
    missing = await qd(shared, "metadata", "get", "cli", "fine", code=3)
    assert "neither stored nor collected" in missing.err, "all or nothing"
    await qd(shared, "metadata", "rm", "cli", "n", "note", "never-there")
    assert (await qd(shared, "metadata", "get", "cli", "--source", "stored")).out == ""
    assert (await qd(shared, "prs")).out == "no agent works on a pull request\n"


async def test_every_kind_of_silence_is_told_apart(tmp_path: Path) -> None:
    repo = configure(make_repo(tmp_path / "repo"), CONFIG + scripted())
    kinds = ("ok", "none", "hangs", "dead", "ahead")
    with state_folder() as state:
        try:
            async with simulated(state, repo, len(kinds), kinds=kinds), in_process(repo, state) as live:
                await until(
                    lambda: live.get("/api/agents"),
                    lambda found: [a["status"] for a in found["agents"]] == ["busy"] * len(kinds),
                )
                await live.fleet.create(name="late", provider="scripted")
                began = time.monotonic()
                found = {g["agent"]: g for g in await live.get("/api/metadata")}
                assert time.monotonic() - began < 10, "one that hangs costs its own deadline"
                assert found["late"]["state"] == "starting"
                names = dict(zip(kinds, (f"sim-{n:04d}" for n in range(len(kinds))), strict=True))
                expected = {
                    "ok": "known", "none": "none", "hangs": "unreachable", "dead": "unreachable", "ahead": "known",
                }  # fmt: skip

                async def gathered() -> Any:
                    return {g["agent"]: g for g in await live.get("/api/metadata")}

                # Who answers does so within a second, of the machine's better ones.
                found = await until(
                    gathered, lambda found: {kind: found[name]["state"] for kind, name in names.items()} == expected
                )
                assert found[names["ok"]]["clock_off_seconds"] is None
                assert found[names["ahead"]]["clock_off_seconds"] == pytest.approx(3600, abs=5)
                assert found[names["none"]]["error"] == "this agent has no metadata"
                assert "no answer within" in found[names["hangs"]]["error"]
                assert found[names["dead"]]["error"] not in (None, found[names["hangs"]]["error"])
                # What is followed of them is known all the same, and filters find those that answer.
                listed = await live.get("/api/agents", metadata_filter="git.dirty=true")
                assert [a["name"] for a in listed["agents"]] == [names["ok"], names["ahead"]]
                mute = {names["none"], names["hangs"], names["dead"]}
                assert {a["agent"] for a in listed["not_known"]} - {"late"} == mute, "late may be up by now"
                listed = await live.get("/api/pull-requests")
                assert {a["agent"] for a in listed["not_known"]} >= {names["none"], names["hangs"], names["dead"]}
                said = await qd(live, "prs")
                assert f"not known: {names['dead']} (unreachable:" in said.err
                shown = await live.show(names["none"])
                assert (shown["metadata_state"], shown["metadata"]) == ("none", {})
                await live.until_status("late", "idle")
                assert (await live.show("late"))["metadata_state"] == "known"
        finally:
            await end_agents(state)


@dataclass
class Shop:
    """A hub whose agents have pull requests on a forge."""

    live: LiveHub
    forge: Forge

    def open(self, agent: str, title: str) -> Pull:
        """Open a request for the agent's branch as it is."""
        sha = git(self.live.repo, "rev-parse", f"qd/{agent}")
        return self.forge.open_pull(REPOSITORY, f"qd/{agent}", sha=sha, title=title)

    async def told(self, agent: str) -> list[Any]:
        """The tasks that came from pull requests, oldest first."""
        tasks = (await self.live.get(f"/api/agents/{agent}/tasks"))["tasks"]
        return [t for t in reversed(tasks) if t["origin"].startswith("pull request")]

    async def request(self, number: int) -> Any:
        """One request as the fleet knows it; None when it does not."""
        listed = (await self.live.get("/api/pull-requests"))["pull_requests"]
        return next((r for r in listed if r["number"] == number), None)


@asynccontextmanager
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with scripted_forge() as forge:
        repo = make_repo(tmp_path / "repo")
        git(repo, "remote", "add", "origin", forge.remote(REPOSITORY))
        token = tmp_path / "token"
        token.write_text("a-token-of-the-forge")
        token.chmod(0o600)
        host = forge.url.partition("://")[2]
        tables = (
            f'\n[metadata.github]\nhosts = ["{host}"]\napi = "{forge.url}"\ntoken_file = "{token}"\n'
            "interval = 0.5\n\n[pull_requests]\nfeedback = true\nattempts = 2\ninterval = 0.3\n"
        )
        async with whole(repo, CONFIG + tables) as live:
            yield Shop(live, forge)


async def test_a_collector_that_hangs_costs_nobody_the_fresh_answer(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    fields = '\n[metadata.fields.hangs]\nrun = ["sleep", "60"]\n'
    async with whole(repo, CONFIG + fields) as live:
        await live.create("ada")
        await live.until_status("ada", "idle")
        answer = await live.http.get("/api/agents/ada/metadata", params={"fresh": "true"})
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        assert data["git_branch"]["value"] == "qd/ada"
        assert "5 s" in data["hangs"]["error"]
        [before] = await live.hub.fleet.gather_metadata()
        assert (before.state, before.ended) == ("known", False)
        await live.post("/api/agents/ada/stop")
        await live.until_status("ada", "stopped")
        [after] = await until(live.hub.fleet.gather_metadata, lambda found: found[0].ended)
        assert after.state == "unreachable"


async def test_a_failing_check_becomes_a_task_once_per_commit(tmp_path: Path) -> None:
    async with shop(tmp_path) as here:
        live, forge = here.live, here.forge
        for name in ("ada", "bob"):
            await live.create(name, f"@write {name}.txt x\n@commit the work of {name}")
        for name in ("ada", "bob"):
            await live.until_done(name)
        ada, bob = here.open("ada", "Faster"), here.open("bob", "[bold]Smaller[/red]")
        forge.check(REPOSITORY, ada.sha, "unit", "failure")
        forge.check(REPOSITORY, bob.sha, "unit", "success")
        [first] = await until(lambda: here.told("ada"), len)
        assert "Checks fail on your pull request" in first["description"]
        assert "- unit: " in first["description"]
        assert ada.sha in first["description"]
        await live.until_done("ada", first["id"])
        # What the fleet shows of it: HTTP, MCP, `qd prs`, the filter
        seen = await here.request(ada.number)
        assert (seen["agents"], seen["checks"], seen["failing_checks"]) == (["ada"], "failing", ["unit"])
        assert (seen["state"], seen["head"], seen["title"], seen["error"]) == ("open", ada.sha, "Faster", None)
        assert 0 <= seen["age_seconds"] < 30
        await until(lambda: here.request(bob.number), lambda r: r is not None and r["checks"] == "passing")
        await until(
            lambda: tool(live, "list_pull_requests"),
            lambda found: (
                {r["number"]: r["checks"] for r in found["pull_requests"]}
                == {ada.number: "failing", bob.number: "passing"}
            ),
        )
        found = await tool(live, "list_agents", metadata_filter=f"pull_request_number={ada.number}")
        assert [a["name"] for a in found["agents"]] == ["ada"]
        assert found["agents"][0]["metadata"]["pull_request_number"] == ada.number
        facts = (
            await until(
                lambda: live.show("ada"),
                lambda a: a["metadata"].get("fleet_mcp_pull_request_check_status", {}).get("value") == "failing",
            )
        )["metadata"]
        assert facts["fleet_mcp_pull_request_url"]["value"] == seen["url"]
        assert facts["fleet_mcp_pull_request_status"]["value"] == "open"
        assert facts["fleet_mcp_pull_request_check_status"]["value"] == "failing"
        said = (await qd(live, "prs", "--json")).json
        assert [r["number"] for r in said["pull_requests"]] == [bob.number, ada.number]
        shown = (await qd(live, "prs")).out
        assert "failing: unit" in shown
        assert "[bold]Smaller[/red]" in shown
        assert "a-token-of-the-forge" not in json.dumps([seen, found, said, await live.show("ada")])
        # Not again for this commit; again for the next; then the attempts are over.
        await anyio.sleep(1.5)
        assert len(await here.told("ada")) == 1
        workspace = Path((await live.show("ada"))["workspace"])
        for number, expected in ((2, 2), (3, 2)):
            git(workspace, "-c", "user.name=T", "-c", "user.email=t@example.invalid", "commit", "-q", "--allow-empty",
                "-m", f"try {number}")  # fmt: skip
            ada.sha = git(workspace, "rev-parse", "HEAD")
            ada.touch()
            forge.check(REPOSITORY, ada.sha, "unit", "failure")
            sha = ada.sha
            await until(
                lambda: here.request(ada.number), lambda r, sha=sha: r["head"] == sha and r["checks"] == "failing"
            )
            await until(lambda: here.told("ada"), lambda t, n=expected: len(t) == n)

        async def given_up() -> list[tuple[str, str]]:
            whole_lines = (live.state / "hub" / "events.jsonl").read_text().rpartition("\n")[0].splitlines()
            events = [json.loads(line) for line in whole_lines]
            return [(event["agent"], event["kind"]) for event in events if event["event"] == "PullRequestGivenUp"]

        assert await until(given_up, len) == [("ada", "checks")]
        await until(
            lambda: live.show("ada"),
            lambda a: any(
                k.endswith("feedback") and (v["value"] or {}).get("gave_up") == ["checks"]
                for k, v in a["metadata"].items()
            ),
        )
        # The agent's history says so, too: beside its tasks, in its log, and where one agent is shown.
        end = f"/{REPOSITORY}#{ada.number}: its checks failed again after tasks for 2 commits; no more are given"
        for tool_name, key in (("show_agent_task_history", "notes"), ("show_agent_log", "entries")):
            found = (await tool(live, tool_name, agent_name="ada", page_size=50))[key]
            assert [e["kind"] for e in found if end in e["text"]] == ["note"], tool_name
        assert end in str((await live.show("ada"))["notes"])
        assert "its checks failed again after tasks for 2 commits" in " ".join(
            (await qd(live, "agents", "history", "ada")).out.split()
        )
        told = await here.told("ada")
        assert len(told) == 2
        assert told[0]["id"] == first["id"]
        # A review is another event: its text is in the task, and the history shows where tasks came from.
        forge.review(REPOSITORY, ada.number, "carol", "CHANGES_REQUESTED", "tests, please")
        told = await until(lambda: here.told("ada"), lambda t: len(t) == 3)
        assert "> tests, please" in told[-1]["description"]
        history = await tool(live, "show_agent_task_history", agent_name="ada")
        assert [t["origin"].partition(":")[0] for t in history["tasks"][:3]] == ["pull request"] * 3
        assert (await here.told("bob")) == []
        # Closed: nothing more, whatever is said on it.
        forge.close(REPOSITORY, ada.number)
        await until(lambda: here.request(ada.number), lambda r: r is None or r["state"] == "closed")
        forge.review(REPOSITORY, ada.number, "dave", "CHANGES_REQUESTED", "too late")
        await anyio.sleep(1.5)
        assert len(await here.told("ada")) == 3


async def test_agents_of_which_the_forge_tells_nothing_are_named(tmp_path: Path) -> None:
    async with shop(tmp_path) as here:
        live, forge = here.live, here.forge
        forge.fault = "unauthorized"
        await live.create("ada")
        await live.until_status("ada", "idle")
        listed = await until(lambda: live.get("/api/pull-requests"), lambda p: "401" in str(p["not_known"]))
        assert listed["pull_requests"] == []
        [state] = listed["not_known"]
        assert (state["agent"], state["state"]) == ("ada", "not_collected")
        assert "refuses the token (HTTP 401)" in state["error"]
        said = await qd(live, "prs")
        assert "no agent works" not in said.out
        assert "not known: ada (not collected: github" in said.err
        # A filter that asks for what is not known names her, too; one that she does not pass anyway does not.
        for wanted in ("pull_request_number=7", "!pull_request_number", "git_branch=qd/ada,pull_request_number"):
            found = await tool(live, "list_agents", metadata_filter=wanted)
            assert (found["agents"], [a["agent"] for a in found["not_known"]]) == ([], ["ada"]), wanted
        found = await tool(live, "list_agents", metadata_filter="git_branch=main,pull_request_number")
        assert (found["agents"], found["not_known"]) == ([], [])
        said = await qd(live, "agents", "list", "--metadata", "pull_request_number=7")
        assert "not known: ada (not collected: github" in said.err


async def test_a_task_that_waits_is_taken_back_when_its_request_is_merged(tmp_path: Path) -> None:
    async with shop(tmp_path) as here:
        live, forge = here.live, here.forge
        await live.create("ada", "@write a.txt x\n@commit work")
        await live.until_done("ada")
        pull = here.open("ada", "Faster")
        busy = await live.task("ada", "@hang")
        await live.until_status("ada", "busy")
        forge.check(REPOSITORY, pull.sha, "unit", "failure")
        [waits] = await until(lambda: here.told("ada"), len)
        assert waits["state"] == "queued"
        # A hub that died before it noted this: by now the checks say something else, and it is one task all the same.
        key = f"{forge.url.partition('://')[2]}/{REPOSITORY}#{pull.number}@{pull.sha[:12]}:checks"
        again = await live.hub.fleet.give_task("ada", "other words", title="t", idempotency_key=key)
        assert again == waits["id"]
        forge.close(REPOSITORY, pull.number, merged=True)
        [after] = await until(lambda: here.told("ada"), lambda t: t[0]["state"] != "queued")
        assert after["state"] == "canceled"
        assert f"pull request {pull.number} is merged" in after["detail"]
        tasks = {t["id"]: t["state"] for t in (await live.get("/api/agents/ada/tasks"))["tasks"]}
        assert tasks[busy["id"]] == "started", "what runs is left alone"
