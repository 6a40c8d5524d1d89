"""The hub's front doors: MCP, HTTP and events, who may use them, and that all tell the same."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema
import msgspec
import pytest
from fastmcp.client.client import CallToolResult

from quarterdeck.errors import (
    Conflict,
    InternalError,
    InvalidInput,
    NotFound,
    QuarterdeckError,
    StorageRefused,
    Unavailable,
)
from quarterdeck.hub import place
from support.hub import CONFIG, LiveHub, configure, in_process, state_folder

pytestmark = pytest.mark.anyio

TOOLS = {
    "create_agent", "list_agents", "show_agent", "delete_agent", "restart_agent", "start_agent_task",
    "cancel_agent_task", "show_agent_task_history", "show_agent_log", "list_agent_projects", "list_agent_roles",
    "wait_for_agents", "answer_agent", "show_agent_diff", "merge_agent_work",
}  # fmt: skip


async def call(live: LiveHub, tool: str, **arguments: Any) -> Any:
    """A tool's structured result; it must not be an error, and must fit the schema that the tool declares."""
    async with live.mcp() as client:
        schema = next(t.output_schema for t in await client.list_tools() if t.name == tool)
        result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    assert schema is not None
    jsonschema.validate(result.structured_content, schema)
    return result.structured_content


async def refused(live: LiveHub, tool: str, **arguments: Any) -> str:
    """The text of a tool's error."""
    async with live.mcp() as client:
        result: CallToolResult = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error
    text: str = result.content[0].text
    return text


# -- what the tools are -----------------------------------------------------------------------------------


async def test_every_tool_is_described(shared: LiveHub) -> None:
    async with shared.mcp() as client:
        tools = await client.list_tools()
    assert {t.name for t in tools} >= TOOLS
    for tool in tools:
        assert tool.description, tool.name
        hints = tool.annotations
        assert hints is not None
        values = (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        assert None not in values, (tool.name, values)
        assert tool.output_schema is not None, f"{tool.name} has no output schema"
        assert tool.output_schema["type"] == "object"
        for name, schema in tool.input_schema.get("properties", {}).items():
            assert schema.get("description"), f"{tool.name}({name}) is not described"
            assert schema.get("type") != "object", f"{tool.name}({name}) is not flat"


async def test_every_tool_answers_what_its_schema_says(shared: LiveHub) -> None:
    made = await call(shared, "create_agent", name="tools", task="@write t.txt one\n@commit add t")
    assert (made["status"], made["notes"]) == ("starting", [])
    await shared.until_done("tools")
    listed = await call(shared, "list_agents", status_filter="idle")
    assert "tools" in [a["name"] for a in listed["agents"]]
    shown = await call(shared, "show_agent", agent_name="tools")
    assert shown["branch"] == "qd/tools"
    assert shown["budget"] == {"usd": None, "tokens": None}
    task = await call(shared, "start_agent_task", agent_name="tools", task_description="@hang", idempotency_key="k1")
    again = await call(shared, "start_agent_task", agent_name="tools", task_description="@hang", idempotency_key="k1")
    assert again["id"] == task["id"]
    canceled = await call(shared, "cancel_agent_task", agent_name="tools")
    assert canceled["task"]["id"] == task["id"]
    assert (await shared.until_done("tools", task["id"]))["state"] == "canceled"
    history = await call(shared, "show_agent_task_history", agent_name="tools", page_size=1)
    assert (history["total_count"], history["has_next_page"], history["has_previous_page"]) == (2, True, False)
    assert history["tasks"][0]["id"] == task["id"]
    log = await call(shared, "show_agent_log", agent_name="tools")
    assert len(log["entries"]) == 1
    assert log["has_next_page"]
    projects = await call(shared, "list_agent_projects")
    assert projects["projects"][0]["problem"] is None
    roles = await call(shared, "list_agent_roles", project=projects["projects"][0]["name"])
    assert {"coder", "operator", "manager"} <= {r["name"] for r in roles["roles"]}
    diff = await call(shared, "show_agent_diff", agent_name="tools", form="patch")
    assert "+one" in diff["text"]
    merged = await call(shared, "merge_agent_work", agent_name="tools")
    assert merged["commits"] == 1
    assert (shared.repo / "t.txt").read_text() == "one\n"
    changes = await call(shared, "wait_for_agents", agent_names=["tools"], timeout_seconds=0)
    assert changes["changed"][0]["name"] == "tools"
    restarted = await call(shared, "restart_agent", agent_name="tools", budget_usd=2.5, budget_tokens=10**6)
    assert restarted["status"] == "starting"
    await shared.until_status("tools", "idle")
    question = await call(
        shared, "start_agent_task", agent_name="tools", task_description="@question Which colour?|red|blue"
    )
    await shared.until("tools", lambda line: line["activity"] == "waiting_input")
    shown = await call(shared, "show_agent", agent_name="tools")
    assert shown["budget"] == {"usd": 2.5, "tokens": 10**6}
    asked = shown["needs_attention"][0]
    assert (asked["free_text"], asked["multiple"]) == (False, False)
    answered = await call(shared, "answer_agent", agent_name="tools", attention_id=asked["id"], answer="blue")
    assert answered["title"] == "Which colour?"
    assert (await shared.until_done("tools", question["id"]))["state"] == "succeeded"
    deleted = await call(shared, "delete_agent", agent_name="tools")
    assert deleted["done"]
    assert await call(shared, "delete_agent", agent_name="tools") == deleted


def raising(error: QuarterdeckError) -> Callable[..., Awaitable[None]]:
    """A use case that is refused."""

    async def refuse(*_: Any) -> None:
        raise error

    return refuse


async def test_an_error_has_a_code_a_message_and_a_hint(shared: LiveHub, monkeypatch: pytest.MonkeyPatch) -> None:
    await shared.create("errors", "@hang")
    await shared.until_status("errors", "busy")
    cases = {
        "NOT_FOUND": ("show_agent", {"agent_name": "nobody"}),
        "INVALID_INPUT": ("create_agent", {"name": "../x"}),
        "CONFLICT": ("start_agent_task", {"agent_name": "errors", "task_description": "@say x"}),
    }
    for code, (tool, arguments) in cases.items():
        text = await refused(shared, tool, **arguments)
        assert text.startswith(f"{code}: "), text
        assert "Hint: " in text, text
    for kind in (Conflict, NotFound, Unavailable, InvalidInput, StorageRefused, InternalError):
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(shared.fleet, "show", raising(kind("it is so")))
            text = await refused(shared, "show_agent", agent_name="errors")
        assert "Hint: " in text, text
        if kind is Unavailable:
            assert text.startswith("UNAVAILABLE: it is so\nHint: show_agent tells why; restart_agent brings"), text
    # What the schema refuses is refused before our own code sees it, with the same code.
    for tool, arguments in (
        ("show_agent_log", {"agent_name": "errors", "page": 0}),
        ("show_agent_log", {"agent_name": "errors", "page_size": 101}),
        ("wait_for_agents", {"timeout_seconds": 26}),
        ("show_agent", {}),
    ):
        text = await refused(shared, tool, **arguments)
        assert text.startswith("INVALID_INPUT: "), (tool, text)


async def test_what_nobody_foresaw_has_a_code_and_tells_no_inside(
    shared: LiveHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: str) -> None:
        raise ZeroDivisionError("only for the log")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(shared.fleet, "show", broken)
        text = await refused(shared, "show_agent", agent_name="any")
        assert text.startswith("INTERNAL_ERROR: something went wrong inside")
        assert "only for the log" not in text
        body = await shared.get("/api/agents/any", expect=500)
        assert body["error"]["code"] == "INTERNAL_ERROR"
    assert "only for the log" in caplog.text
    assert (await refused(shared, "show_agent", agent_name="any")).startswith("NOT_FOUND: ")


async def test_the_doors_tell_the_same(shared: LiveHub) -> None:
    await shared.create("parity", "@say hello\n@usage 10 5 0.01")
    await shared.until_done("parity")
    await shared.until_status("parity", "idle")
    fleet = shared.fleet
    with anyio.fail_after(10):
        while True:  # metadata may still be arriving
            own = msgspec.to_builtins(await fleet.list_agents())
            by_http = await shared.get("/api/agents")
            by_mcp = await call(shared, "list_agents")
            if own == msgspec.to_builtins(await fleet.list_agents()):
                break
    assert own == by_http == by_mcp

    def still(detail: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in detail.items() if k not in ("metadata", "disk_bytes", "last_event_at")}

    path = "/api/agents/parity"
    own_detail = msgspec.to_builtins(await fleet.show("parity"))
    assert still(own_detail) == still(await shared.show("parity"))
    assert still(own_detail) == still(await call(shared, "show_agent", agent_name="parity"))
    assert own_detail["usage"]["cost_usd"] == 0.01
    history = msgspec.to_builtins(await fleet.history("parity", page=1, page_size=20))
    assert history == await shared.get(f"{path}/tasks")
    assert history == await call(shared, "show_agent_task_history", agent_name="parity")
    log = msgspec.to_builtins(await fleet.log("parity", page=1, page_size=50))
    assert log == await shared.get(f"{path}/log", page_size=50)
    assert log == await call(shared, "show_agent_log", agent_name="parity", page_size=50)
    roles = [msgspec.to_builtins(r) for r in fleet.roles(None)]
    assert roles == (await call(shared, "list_agent_roles"))["roles"]
    projects = await shared.get("/api/projects")
    assert projects == (await call(shared, "list_agent_projects"))["projects"]
    assert roles == await shared.get(f"/api/projects/{projects[0]['name']}/roles")


# -- who may come in --------------------------------------------------------------------------------------


async def test_token_host_and_origin(shared: LiveHub) -> None:
    async with httpx2.AsyncClient(base_url=shared.url, trust_env=False) as anybody:
        for path in ("/api/agents", "/mcp", "/api/events", "/api/openapi.json"):
            answer = await anybody.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            wrong = await anybody.get(path, headers={"Authorization": "Bearer " + "x" * 43})
            assert wrong.status_code == 401, path
        assert (await anybody.get("/health")).json()["status"] == "ok"
    port = shared.url.rsplit(":", 1)[1]
    for headers in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ):
        for path in ("/api/agents", "/mcp", "/health"):
            answer = await shared.http.get(path, headers=headers)
            assert answer.status_code == 403, (path, headers)
    for headers in ({"Host": f"localhost:{port}"}, {"Origin": f"http://127.0.0.1:{port}"}):
        assert (await shared.http.get("/api/agents", headers=headers)).status_code == 200
    token_file = shared.state / "hub" / "token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert token_file.read_text().strip() == shared.token


async def test_the_openapi_document_fits_the_routes(shared: LiveHub) -> None:
    document = await shared.get("/api/openapi.json")
    assert document["openapi"].startswith("3.1")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = await shared.http.request(
                method.upper(), path.replace("{name}", "nobody").replace("{project}", "none").replace("{id}", "x"),
                content=b"{}" if method == "post" else None, timeout=20,
                params={"dry_run": "nonsense"} if "events" in path else None,
            )  # fmt: skip
            assert str(answer.status_code) in {*operation["responses"]}, (method, path, answer.text)


async def test_two_hubs_on_one_state_folder(shared: LiveHub) -> None:
    with pytest.raises(Conflict, match="runs on"), place.lock(shared.state):
        pass


# -- what happens -----------------------------------------------------------------------------------------


async def test_events_as_they_happen(shared: LiveHub) -> None:
    kinds: list[str] = []
    with anyio.fail_after(25):
        async with shared.http.stream("GET", "/api/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            await shared.create("events", "@say x")
            deletion = None
            async for line in stream.aiter_lines():
                if line.startswith("event: "):
                    kinds.append(line[7:])
                if line.startswith("data: "):
                    data = json.loads(line[6:])
                    if data.get("agent") == "events" and data.get("task_state") == "succeeded" and deletion is None:
                        deletion = await shared.http.delete("/api/agents/events")
                    if kinds[-1] == "AgentDeleted":
                        break
    assert deletion is not None
    assert deletion.json()["done"]
    assert "AgentCreated" in kinds
    assert "AgentChanged" in kinds


async def test_wait_never_blocks_past_its_time(shared: LiveHub) -> None:
    cursor = (await call(shared, "wait_for_agents", timeout_seconds=0))["cursor"]
    began = time.monotonic()
    answer = await shared.get("/api/wait", cursor=cursor, agents="of-no-interest", timeout=1)
    assert 0.9 < time.monotonic() - began < 15
    assert answer["timed_out"]
    assert answer["changed"] == []
    await shared.get("/api/wait", timeout=26, expect=400)
    assert "INVALID_INPUT" in await refused(shared, "wait_for_agents", cursor="nonsense")


async def test_a_waiting_client_misses_nothing(shared: LiveHub) -> None:
    """What a client knows by `wait` alone is in the end what there is, deletions included."""
    known: dict[str, Any] = {}
    finals: set[tuple[str, str]] = set()
    done = anyio.Event()
    start = await shared.get("/api/wait", timeout=0)

    async def watch() -> None:
        cursor = start["cursor"]
        while not done.is_set():
            answer = await shared.get("/api/wait", cursor=cursor, timeout=1)
            cursor = answer["cursor"]
            for line in answer["changed"]:
                known[line["name"]] = line
                if line["task"] and line["task"]["ended_at"]:
                    finals.add((line["name"], line["task"]["id"]))
            for name in answer["deleted"]:
                known.pop(name, None)

    tasks: set[tuple[str, str]] = set()

    async def one(name: str) -> None:
        await shared.create(name)
        await shared.until_status(name, "idle")
        for _ in range(3):
            task = await shared.task(name, "@say x")
            tasks.add((name, task["id"]))
            await shared.until_done(name, task["id"])
            with anyio.fail_after(5):
                while (name, task["id"]) not in finals:
                    await anyio.sleep(0.01)
        if name == "watch-2":
            await shared.http.delete(f"/api/agents/{name}")

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        async with anyio.create_task_group() as work:
            for name in ("watch-1", "watch-2", "watch-3"):
                work.start_soon(one, name)
        await anyio.sleep(1.5)
        done.set()
    assert tasks <= finals
    now = {a["name"]: a for a in (await shared.get("/api/agents"))["agents"]}
    assert "watch-2" not in known
    for name in ("watch-1", "watch-3"):
        assert known[name]["status"] == now[name]["status"] == "idle"
        assert known[name]["task"]["id"] == now[name]["task"]["id"]


async def test_a_cursor_of_an_earlier_hub_gets_everything(repo: Path) -> None:
    configure(repo, CONFIG)
    with state_folder() as state:
        async with in_process(repo, state) as first:
            await first.create("stays", "@say before")
            await first.until_done("stays")
            cursor = (await first.get("/api/wait", timeout=0))["cursor"]
        async with in_process(repo, state) as second:
            answer = await second.get("/api/wait", cursor=cursor, timeout=10)
            assert [line["name"] for line in answer["changed"]] == ["stays"]
            line = await second.until_status("stays", "idle")
            assert line["task"]["state"] == "succeeded"
            task = await second.task("stays", "@say after")
            assert (await second.until_done("stays", task["id"]))["state"] == "succeeded"
            await second.http.delete("/api/agents/stays")


# -- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "../x"}, 400),
        ({"name": "a" * 21}, 400),
        ({"name": ""}, 400),
        ({"name": "ä"}, 400),
        ({"name": "-rf"}, 400),
        ({"project": "none"}, 404),
        ({"role": "none"}, 404),
        ({"provider": "none"}, 404),
        ({"workspace": "none"}, 404),
        ({"task": "  "}, 400),
        ({"task": "x" * 1_500_000}, 413),
        ({"task": "x" * 2_500_000}, 413),
        ({"spec": "x" * 200_000}, 413),
        ({"nonsense": 1}, 400),
        ({"restart": "sometimes"}, 400),
        ({"budget": {"usd": -1}}, 400),
        ({"provider": "opencode"}, 503),
    ],
)
async def test_bad_input_changes_nothing(shared: LiveHub, body: dict[str, Any], status: int) -> None:
    before = await shared.get("/api/hub")
    answer = await shared.post("/api/agents", body, expect=status)
    assert answer["error"]["message"]
    assert (await shared.get("/api/hub"))["agents"] == before["agents"]
