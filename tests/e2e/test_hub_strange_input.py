"""What no caller should send, through every door: ids and paths that lead elsewhere, numbers and keys that are none.

All of it is refused with an error of ours, and the agents live on, unchanged.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from anyio.to_thread import run_sync
from fastmcp.client.client import CallToolResult

from e2e.test_hub_metadata import program
from support.hub import LiveHub

pytestmark = pytest.mark.anyio
HUGE = "99999999999999999999"
ELSEWHERE = ["../stop?a=", "../../v1/stop", "..", ".", "x\ny", "%2e%2e", "a/b", "", "ü"]


async def refusal(live: LiveHub, tool: str, **arguments: Any) -> str:
    """The text of a tool's error."""
    async with live.mcp() as client:
        result: CallToolResult = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error, result
    text: str = result.content[0].text
    return text


async def as_it_is(live: LiveHub, method: str, path: str, **headers: str | bytes) -> tuple[int, Any]:
    """A call whose path no client has made plain; status and decoded body."""

    def ask() -> tuple[int, Any]:
        parts = urlsplit(live.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
        try:
            connection.putrequest(method, path)
            for name, value in {**live.headers, **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    return await run_sync(ask)


async def lives(live: LiveHub, name: str) -> None:
    """The agent is asked, and was not restarted."""
    shown = await live.show(name)
    assert (shown["status"], shown["incarnation"], shown["unreachable"]) == ("idle", 1, None)


async def test_an_id_does_not_lead_elsewhere(shared: LiveHub) -> None:
    await shared.create("ids")
    await shared.until_status("ids", "idle")
    for wrong in ELSEWHERE:
        text = await refusal(shared, "answer_agent", agent_name="ids", attention_id=wrong, answer="x")
        assert text.startswith("NOT_FOUND: "), (wrong, text)
        text = await refusal(shared, "cancel_agent_task", agent_name="ids", task_id=wrong)
        assert text.startswith("NOT_FOUND: "), (wrong, text)
        await shared.post("/api/agents/ids/cancel", {"task_id": wrong}, expect=404)
    for encoded in ("..%2F..%2Fv1%2Fstop", "%2e%2e", ".."):
        status, body = await as_it_is(shared, "POST", f"/api/agents/ids/attention/{encoded}", Content_Length="0")
        assert (status, body["error"]["code"]) in ((400, "INVALID_INPUT"), (404, "NOT_FOUND")), encoded
    qd = program(shared)
    said = await run_sync(lambda: qd("agents", "cancel", "ids", "--task", "../stop?a=", code=3))
    assert "has no task" in said.err
    said = await run_sync(lambda: qd("agents", "answer", "ids", "yes", "--id", "..", code=3))
    assert "has no question" in said.err
    await lives(shared, "ids")


async def test_a_metadata_path_does_not_lead_elsewhere(shared: LiveHub) -> None:
    await shared.create("paths")
    await shared.until_status("paths", "idle")
    here = "/api/agents/paths/metadata"
    steps = ("../v1/agent", "%2e%2e/v1/agent", "%2E./v1/agent", "%252e%252e/v1/agent", "a/./b", "..")
    for step in steps:
        status, body = await as_it_is(shared, "GET", f"{here}/{step}")
        assert (status, body["error"]["code"]) == (400, "INVALID_INPUT"), (step, body)
    status, _ = await as_it_is(shared, "GET", f"{here}/watch/../../v1/agent")
    assert status == 400
    # A slash that is encoded leads nowhere: that is a key which nobody has.
    status, body = await as_it_is(shared, "GET", f"{here}/..%2Fv1%2Fagent")
    assert (status, body["error"]["code"]) == (404, "NOT_FOUND"), body
    # Headers and queries are handed on as they are, or refused.
    for header, answer in (("If-Match", 200), ("If-None-Match", 400), ("Accept", 200)):
        status, _ = await as_it_is(shared, "GET", f"{here}/git_branch", **{header.replace("-", "_"): "ü".encode()})
        assert status == answer, header
    status, _ = await as_it_is(shared, "GET", f"{here}/watch?since=x", Last_Event_ID="ü".encode())
    assert status == 400
    status, body = await as_it_is(shared, "GET", f"{here}?prefix={'x' * 60_000}")
    assert (status, body["data"]) == (200, {})
    for key in ("..", "../v1/stop", "a\nb", "", "x" * 70_000, "ü"):
        text = await refusal(shared, "set_agent_metadata", agent_name="paths", key=key, value="1")
        assert text.startswith("INVALID_INPUT: "), (key[:9], text)
        text = await refusal(shared, "delete_agent_metadata", agent_name="paths", key=key)
        assert text.startswith("INVALID_INPUT: "), (key[:9], text)
    qd = program(shared)
    await run_sync(lambda: qd("metadata", "get", "paths", "../v1/agent", code=3))
    await lives(shared, "paths")


@pytest.mark.parametrize("name", ["metadata-bot", "metadata"])
async def test_an_agent_whose_name_is_a_word_of_the_paths(shared: LiveHub, name: str) -> None:
    await shared.create(name)
    await shared.until_status(name, "idle")
    facts = await shared.get(f"/api/agents/{name}/metadata")
    assert facts["data"]["git_branch"]["value"] == f"qd/{name}"
    stored = await shared.http.put(f"/api/agents/{name}/metadata/a/b", json={"value": 1})
    assert stored.status_code == 201
    assert (await shared.get(f"/api/agents/{name}/metadata/a/b"))["value"] == 1
    assert (await shared.get(f"/api/agents/{name}/metadata", prefix="a/"))["data"].keys() == {"a/b"}


async def test_unknown_paths_and_methods_are_told_as_errors(shared: LiveHub) -> None:
    missing = await shared.get("/api/nothing", expect=404)
    assert missing["error"]["code"] == "NOT_FOUND"
    refused = await shared.http.patch("/api/agents/any")
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, HEAD")
    assert refused.json()["error"]["code"] == "INVALID_INPUT"


async def test_numbers_that_nobody_can_count_with(shared: LiveHub) -> None:
    await shared.create("numbers")
    await shared.until_status("numbers", "idle")
    wrong = [
        ("tasks", "page", HUGE),
        ("log", "page", HUGE),
        ("tasks", "page", str(10**10)),
        ("diff", "max_bytes", HUGE),
    ]
    for path, parameter, value in wrong:
        body = await shared.get(f"/api/agents/numbers/{path}", expect=400, **{parameter: value})
        assert body["error"]["code"] == "INVALID_INPUT", path
    for tool in ("show_agent_task_history", "show_agent_log"):
        text = await refusal(shared, tool, agent_name="numbers", page=int(HUGE))
        assert text.startswith("INVALID_INPUT: "), text
    for cursor in ("nan:x", "inf:x", "-inf:x"):
        await shared.get("/api/agents", cursor=cursor, expect=400)
    for cursor in ("x-²", "x-" + "9" * 5000):
        await shared.get("/api/wait", cursor=cursor, expect=400)
    await shared.get("/api/wait", timeout="nan", expect=400)
    refused = await shared.http.delete("/api/agents/numbers?wait=nan")
    assert refused.status_code == 400
    qd = program(shared)
    await run_sync(lambda: qd("agents", "history", "numbers", "--page", HUGE, code=2))
    await lives(shared, "numbers")


async def test_keys_that_no_header_can_carry(shared: LiveHub) -> None:
    await shared.create("keys")
    await shared.until_status("keys", "idle")
    for key in ("ü", "a\nb", "", " a", "a ", "x" * 256, "日本"):
        text = await refusal(
            shared, "start_agent_task", agent_name="keys", task_description="@say x", idempotency_key=key
        )
        assert text.startswith("INVALID_INPUT: "), (key, text)
        assert "255 printable ASCII" in text
    body = {"description": "@say x"}
    answer = await shared.http.post("/api/agents/keys/tasks", json=body, headers={b"Idempotency-Key": "ü".encode()})  # type: ignore[dict-item]
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_INPUT")
    qd = program(shared)
    for key in ("日本", "a\nb", ""):
        said = await run_sync(lambda key=key: qd("agents", "task", "keys", "@say x", "--key", key, code=2))
        assert "printable ASCII" in said.err
        assert "Traceback" not in said.err
    assert (await shared.get("/api/agents/keys/tasks"))["total_count"] == 0
    # A key at its longest works, and makes a retry the same task.
    key = "~ " * 127 + "x"
    first = await shared.http.post("/api/agents/keys/tasks", json=body, headers={"Idempotency-Key": key})
    again = await shared.http.post("/api/agents/keys/tasks", json=body, headers={"Idempotency-Key": key})
    assert (first.status_code, again.json()["id"]) == (201, first.json()["id"])
    await shared.until_done("keys", first.json()["id"])


async def test_the_deleted_ones_are_paged_as_the_living_are(shared: LiveHub) -> None:
    names = ["gone-a", "gone-b", "gone-c"]
    for name in names:
        await shared.create(name)
        await shared.until_status(name, "idle")
    for name in ("gone-b", "gone-c", "gone-a"):
        assert (await shared.http.delete(f"/api/agents/{name}")).json()["done"]
    told: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await shared.get("/api/agents", status="deleted", limit=1, **cursor)
        told += [line["name"] for line in page["agents"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [name for name in told if name in names] == names
    assert len(told) == page["total_count"]
