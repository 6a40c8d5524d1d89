"""The sidecar's API, every path of it, over a real process with the scripted agent."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest

from quarterdeck import proctree
from support.sidecar import Sidecar, sidecar, started

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def side(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sidecar]:
    """One sidecar for the whole module; each test leaves it idle."""
    folder = tmp_path_factory.mktemp("side")
    async with sidecar(folder / "agent", folder / "work") as running:
        await running.until(status="idle")
        yield running


@pytest.fixture
async def idle(side: Sidecar) -> Sidecar:
    """The module's sidecar, with nothing going on."""
    await side.until(status="idle", queue=0)
    return side


# -- ways in ----------------------------------------------------------------------------------------------


async def test_the_socket_is_private_and_needs_no_token(idle: Sidecar) -> None:
    assert Path(idle.address.socket).stat().st_mode & 0o777 == 0o600
    health = await idle.get("/health")
    assert (health["status"], health["agent"], health["problems"]) == ("ok", "tester", [])
    for name in ("launch.json", "sidecar.json", "agent.db", "sidecar.token", "sidecar.lock"):
        assert (idle.folder / name).stat().st_mode & 0o077 == 0, name


async def test_tcp_needs_the_token(idle: Sidecar) -> None:
    assert idle.address.url is not None
    async with httpx2.AsyncClient(base_url=idle.address.url, trust_env=False) as http:
        for path in ("/v1/agent", "/v1/tasks", "/metadata", "/openapi.json", "/mcp/"):
            assert (await http.get(path)).status_code == 401, path
            wrong = await http.get(path, headers={"Authorization": "Bearer nonsense"})
            assert wrong.status_code == 401, path
        right = {"Authorization": f"Bearer {idle.token}"}
        assert (await http.get("/v1/agent", headers=right)).json()["agent"] == "tester"
        assert (await http.get("/v1/agent", headers={**right, "Host": "evil.example"})).status_code == 403
        assert (await http.get("/v1/agent", headers={**right, "Origin": "http://evil.example"})).status_code == 403
        for path in ("/health", "/health/live", "/health/ready"):
            assert (await http.get(path)).status_code == 200, path
        # Figures and problems have paths and commands' errors in them.
        assert (await http.get("/health")).json()["metadata"] is None
        assert (await http.get("/health/ready")).json() == {"ready": True, "status": "ok"}
        assert (await http.get("/metrics")).status_code == 401
        assert (await http.get("/health", headers=right)).json()["metadata"]["file_watch"]
        assert "git" in (await http.get("/health/ready", headers=right)).json()["collectors"]
        assert "qd_metadata_reads_total" in (await http.get("/metrics", headers=right)).text


async def test_a_stop_ends_the_streams_of_facts_in_good_order(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work") as running:
        await running.until(status="idle")
        async with running.http.stream("GET", "/metadata/watch", timeout=20) as stream:
            lines = stream.aiter_lines()
            while "event: snapshot" not in await anext(lines):
                pass
            await running.post("/v1/stop")
            rest = [line async for line in lines]  # ends, instead of breaking off
            assert stream.is_closed, rest


async def test_the_current_task_is_a_fact(idle: Sidecar) -> None:
    long = "Make the " + "very " * 30 + "long thing work"
    task = await idle.task(f"{long}\n@say begun\n@hang")
    await idle.until_task(task, "started_at")
    told = await idle.post("/v1/report", {"summary": "halfway there", "state": "working"})
    assert told["task_id"] == task["id"]

    async def facts() -> dict[str, Any]:
        data = (await idle.get("/metadata", source="task", fresh="true"))["data"]
        return {key: entry["value"] for key, entry in data.items()}

    found = await facts()
    assert found["task_id"] == task["id"]
    assert found["task_title"] == long[:99] + "…"
    assert found["task_state"] == "started"
    assert (found["task_progress"], found["task_note"]) == ("working", "halfway there")
    assert found["task_updated_at"] >= found["task_started_at"]
    assert (await idle.facts())["metadata"]["task_title"] == found["task_title"]
    await idle.post(f"/v1/tasks/{task['id']}/cancel")
    await idle.end_of(task)
    await idle.run("@say the next one")
    assert "task_note" not in await facts(), "what was said of one task is no note of the next"


async def test_one_sidecar_per_folder(idle: Sidecar) -> None:
    command = [sys.executable, "-m", "quarterdeck.sidecar", str(idle.folder)]
    second = await anyio.run_process(command, check=False)
    assert second.returncode == 4
    assert f"(pid {idle.process.pid}) serves" in second.stderr.decode()
    assert (await idle.get("/health"))["status"] == "ok"


# -- tasks ------------------------------------------------------------------------------------------------


async def test_the_life_of_a_task(idle: Sidecar) -> None:
    task = await idle.task("@write a.txt hello\n@say done\n@usage 10 5 0.25", origin="test")
    assert task["state"] == "queued"
    ended = await idle.end_of(task)
    assert ended["state"] == "succeeded"
    assert ended["queued_at"] <= ended["sent_at"] <= ended["accepted_at"] <= ended["started_at"] <= ended["ended_at"]
    assert (ended["usage"]["input_tokens"], ended["usage"]["output_tokens"]) == (10, 5)
    assert ended["usage"]["cost_usd"] == 0.25
    assert ended["origin"] == "test"
    assert (idle.workspace / "a.txt").read_text() == "hello\n"
    page = await idle.get("/v1/tasks", limit=1)
    assert page["tasks"] == [ended]
    facts = await idle.facts()
    assert facts["last_task"] == ended
    assert facts["current_task"] is None


async def test_a_failed_and_a_refused_task(idle: Sidecar) -> None:
    failed = await idle.run("@fail out of cheese")
    assert failed["state"] == "failed"
    assert "out of cheese" in failed["detail"]
    assert (await idle.run("@refuse"))["state"] == "failed"
    assert (await idle.facts())["status"] == "idle"


async def test_a_retry_with_the_key_gives_the_same_task(idle: Sidecar) -> None:
    key = {"Idempotency-Key": f"k-{time.time_ns()}"}
    first = await idle.post("/v1/tasks", {"description": "@once keyed"}, headers=key, expect=201)
    second = await idle.post("/v1/tasks", {"description": "@once keyed"}, headers=key, expect=200)
    assert first["id"] == second["id"]
    await idle.end_of(first)
    third = await idle.post("/v1/tasks", {"description": "@once keyed"}, headers=key, expect=200)
    assert third["state"] == "succeeded"
    await idle.post("/v1/tasks", {"description": "another"}, headers=key, expect=409)
    assert (idle.workspace / "keyed").read_text().count("\n") == 1


async def test_numbers_and_paths_that_are_none(idle: Sidecar) -> None:
    huge = "99999999999999999999"
    for path, parameter, value in (
        ("/v1/tasks", "offset", huge),
        ("/v1/log", "offset", huge),
        ("/v1/log", "cursor", huge),
        ("/v1/events", "after", huge),
        ("/v1/tasks/x", "wait", "nan"),
        ("/v1/agent/x", "wait", "nan"),
    ):
        body = await idle.get(path, expect=404 if path == "/v1/agent/x" else 400, **{parameter: value})
        assert body["error"]["code"] in ("INVALID_INPUT", "NOT_FOUND")
    refused = await idle.http.put("/v1/tasks")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert refused.json()["error"]["code"] == "INVALID_INPUT"
    wrong = {b"Idempotency-Key": "ü".encode()}
    answer = await idle.http.post("/v1/tasks", json={"description": "@say x"}, headers=wrong)  # type: ignore[arg-type]
    assert answer.status_code == 400


async def test_a_busy_agent_refuses_or_queues(idle: Sidecar) -> None:
    running = await idle.task("@hang")
    await idle.until(status="busy", activity="working")
    refusal = await idle.post("/v1/tasks", {"description": "@say x"}, expect=409)
    assert refusal["error"]["details"]["task_id"] == running["id"]
    queued = [await idle.task(f"@say {n}", queue=True) for n in range(3)]
    assert [t["position"] for t in queued] == [1, 2, 3]
    assert (await idle.facts())["queue"] == 3
    canceled = await idle.post(f"/v1/tasks/{queued[1]['id']}/cancel")
    assert (canceled["state"], canceled["sent_at"]) == ("canceled", None)
    assert (await idle.get(f"/v1/tasks/{queued[2]['id']}"))["position"] == 2
    await idle.post(f"/v1/tasks/{running['id']}/cancel")
    ends = [await idle.end_of(t) for t in (running, *queued)]
    assert [t["state"] for t in ends] == ["canceled", "succeeded", "canceled", "succeeded"]
    assert ends[1]["ended_at"] <= ends[3]["started_at"]
    await idle.post(f"/v1/tasks/{running['id']}/cancel", expect=409)
    await idle.post("/v1/tasks/none/cancel", expect=404)


async def test_held_until_released(idle: Sidecar) -> None:
    task = await idle.task("@once released", hold=True)
    await anyio.sleep(0.3)
    assert (await idle.get(f"/v1/tasks/{task['id']}"))["state"] == "queued"
    assert (await idle.facts())["status"] == "idle"
    await idle.post(f"/v1/tasks/{task['id']}/release")
    assert (await idle.end_of(task))["state"] == "succeeded"
    await idle.post(f"/v1/tasks/{task['id']}/release", expect=409)


async def test_wait_is_a_long_poll(idle: Sidecar) -> None:
    go = idle.workspace / "go"
    task = await idle.task("@run sh -c 'until [ -e go ]; do sleep 0.1; done'")
    began = time.monotonic()
    early = await idle.get(f"/v1/tasks/{task['id']}", wait=0.2)
    assert early["ended_at"] is None
    assert 0.15 < time.monotonic() - began < 10
    answers: list[Any] = []

    async def wait() -> None:
        answers.append(await idle.get(f"/v1/tasks/{task['id']}", wait=20))

    began = time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.3)
        assert answers == []
        go.touch()
    assert time.monotonic() - began < 15, "it waited for its time, not for the task"
    assert answers[0]["state"] == "succeeded"
    go.unlink()
    await idle.get("/v1/tasks/none", wait=1, expect=404)
    await idle.get(f"/v1/tasks/{task['id']}", wait=301, expect=400)


def asleep(mark: str) -> list[psutil.Process]:
    """Every `sleep` of an agent."""
    found: list[psutil.Process] = []
    for process in proctree.marked(mark):
        with suppress(psutil.Error):  # it ends while it is looked at
            if process.name() == "sleep":
                found.append(process)
    return found


def over(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_cancel_that_is_obeyed(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work", cancel_seconds=20) as side:
        before = await side.until(status="idle")
        task = await side.task("@hang")
        await side.until(status="busy")
        began = time.monotonic()
        asked = await side.post(f"/v1/tasks/{task['id']}/cancel", expect=202)
        assert asked["cancel_requested_at"]
        assert (await side.end_of(task))["state"] == "canceled"
        assert time.monotonic() - began < 15
        assert (await side.facts())["incarnation"] == before["incarnation"]


async def test_what_waits_is_withdrawn_and_what_runs_is_not(idle: Sidecar) -> None:
    task = await idle.task("@hang")
    await idle.until_task(task, "started_at")
    behind = await idle.task("@once behind", queue=True)
    refused = await idle.post(f"/v1/tasks/{task['id']}/withdraw", expect=409)
    assert "runs already" in refused["error"]["message"]
    withdrawn = await idle.post(f"/v1/tasks/{behind['id']}/withdraw", reason="nobody needs it")
    assert (withdrawn["state"], withdrawn["started_at"]) == ("canceled", None)
    assert withdrawn["detail"] == "canceled before it was started: nobody needs it"
    await idle.post(f"/v1/tasks/{behind['id']}/withdraw", expect=409)
    await idle.post("/v1/tasks/none/withdraw", expect=404)
    running = await idle.get(f"/v1/tasks/{task['id']}")
    assert (running["state"], running["cancel_requested_at"]) == ("started", None)
    await idle.post(f"/v1/tasks/{task['id']}/cancel", expect=202)
    assert (await idle.end_of(task))["state"] == "canceled"
    assert not (idle.workspace / "behind").exists()


async def test_a_cancel_that_is_not_obeyed_ends_the_whole_tree(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work", cancel_seconds=5) as side:
        before = await side.until(status="idle")
        task = await side.task("@child 300\n@once deaf\n@hang hard")
        with anyio.fail_after(20):
            while not (side.workspace / "deaf").exists():
                await anyio.sleep(0.02)
        sleeping = asleep(side.spec.id)
        assert len(sleeping) == 1
        assert os.getsid(sleeping[0].pid) == sleeping[0].pid, "it has left the session"
        await side.post(f"/v1/tasks/{task['id']}/cancel")
        assert (await side.facts())["status"] == "canceling"
        ended = await side.end_of(task)
        assert ended["state"] == "canceled"
        assert not psutil.pid_exists(before["agent_pid"])
        assert over(sleeping[0])
        after = await side.until(status="idle")
        assert after["incarnation"] == before["incarnation"] + 1
        assert after["resumed"]
        assert any("did not obey" in note for note in after["notes"])


# -- log and events ---------------------------------------------------------------------------------------


async def test_the_log_is_paged_newest_first(idle: Sidecar) -> None:
    for n in range(4):
        await idle.run(f"@say word {n}\n@run echo {n}")
    seen: list[int] = []
    cursor = None
    while True:
        page = await idle.get("/v1/log", limit=3, **({"cursor": cursor} if cursor else {}))
        ids = [e["id"] for e in page["entries"]]
        assert ids == sorted(ids, reverse=True)
        seen += ids
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == list(range(page["total_count"], 0, -1))
    tool = (await idle.log("tool"))[-1]
    assert tool["data"]["status"] == "completed"
    assert "3" in tool["data"]["output"]
    await idle.get("/v1/log", limit=101, expect=400)
    await idle.get("/v1/log", nonsense=1, expect=400)


async def frames(side: Sidecar, until_seq: int, **given: Any) -> list[tuple[int, str, Any]]:
    """(seq, kind, data) of the stream up to a number."""
    found: list[tuple[int, str, Any]] = []
    headers = given.pop("headers", {})
    with anyio.fail_after(10):
        async with side.http.stream("GET", "/v1/events", params=given, headers=headers) as stream:
            seq, kind = None, ""
            async for line in stream.aiter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    seq = int(value)
                elif name == "event":
                    kind = value
                elif name == "data" and seq is not None:
                    found.append((seq, kind, json.loads(value)))
                    if seq >= until_seq:
                        return found
                    seq = None
    return found


async def test_events_from_any_point(idle: Sidecar) -> None:
    await idle.run("@say one\n@think two\n@plan a|b")
    last = (await idle.facts())["last_event_seq"]
    everything = await frames(idle, last)
    assert [seq for seq, _, _ in everything] == list(range(1, last + 1))
    middle = last // 2
    assert await frames(idle, last, after=middle) == everything[middle:]
    assert await frames(idle, last, headers={"Last-Event-ID": str(middle)}) == everything[middle:]
    kinds = {kind for _, kind, _ in everything}
    assert {"task", "text", "thought", "plan", "state"} <= kinds
    # A reader that was away goes on where it was; what comes while it reads follows without a gap.
    got: list[tuple[int, str, Any]] = []

    async def read() -> None:
        got.extend(await frames(idle, last + 4, after=last))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await idle.run("@say live")
    assert [seq for seq, _, _ in got] == list(range(last + 1, last + 1 + len(got)))
    steps = [data["data"]["state"] for _, kind, data in await frames(idle, last + 4, after=last) if kind == "task"]
    assert steps[:3] == ["queued", "accepted", "started"]


# -- attention --------------------------------------------------------------------------------------------


async def test_permissions_answered_denied_withdrawn(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work", permissions="ask") as side:
        await side.until(status="idle")
        task = await side.task("@ask Remove it all?\n@once allowed")
        facts = await side.until(activity="waiting_permission")
        (asked,) = facts["needs_attention"]
        assert {o["kind"] for o in asked["options"]} == {"allow_once", "allow_always", "reject_once"}
        await side.post(f"/v1/attention/{asked['id']}", {"answer": "perhaps"}, expect=400)
        await side.post(f"/v1/attention/{asked['id']}", {"answer": "allow"})
        await side.post(f"/v1/attention/{asked['id']}", {"answer": "allow"}, expect=409)
        await side.post("/v1/attention/none", {"answer": "allow"}, expect=404)
        assert (await side.end_of(task))["state"] == "succeeded"
        assert (side.workspace / "allowed").exists()

        task = await side.task("@ask Really?\n@once denied")
        (asked,) = (await side.until(activity="waiting_permission"))["needs_attention"]
        await side.post(f"/v1/attention/{asked['id']}", {"answer": "deny"})
        assert (await side.end_of(task))["state"] == "succeeded"
        assert not (side.workspace / "denied").exists()

        task = await side.task("@question Which?|red|blue\n@sleep 20")
        (asked,) = (await side.until(activity="waiting_input"))["needs_attention"]
        await side.post(f"/v1/tasks/{task['id']}/cancel")
        assert (await side.end_of(task))["state"] == "canceled"
        facts = await side.until(status="idle", activity=None)
        assert facts["needs_attention"] == []
        late = await side.post(f"/v1/attention/{asked['id']}", {"answer": "red"}, expect=409)
        assert "closed before" in late["error"]["message"]

        task = await side.task("@question Say something")
        (asked,) = (await side.until(activity="waiting_input"))["needs_attention"]
        await side.post(f"/v1/attention/{asked['id']}", {"answer": "anything at all"})
        await side.end_of(task)
        assert any("answer: anything at all" in e["text"] for e in await side.log("text"))
        asked_for = await side.log("question", "permission")
        assert [e["data"].get("answer") for e in asked_for] == ["Allow", "Reject", None, "anything at all"]
        assert [e["data"].get("closed_because") is not None for e in asked_for] == [False, False, True, False]


# -- reports, fence, misbehaviour -------------------------------------------------------------------------


async def test_reports(idle: Sidecar) -> None:
    report = await idle.post("/v1/report", {"summary": "s" * 160, "state": "complete", "link": "http://x.invalid"})
    assert report["reported_at"]
    too_long = await idle.post("/v1/report", {"summary": "s" * 161}, expect=422)
    assert "161" in too_long["error"]["message"]
    assert "160" in too_long["error"]["message"]
    await idle.post("/v1/report", {"summary": "  "}, expect=422)
    await idle.post("/v1/report", {"summary": "x", "state": "unheard-of"}, expect=(400, 422))
    await idle.post("/v1/report", {"summary": "x", "nonsense": 1}, expect=400)
    assert (await idle.facts())["report"] == report


async def test_a_stale_incarnation_changes_nothing(idle: Sidecar) -> None:
    facts = await idle.facts()
    held = await idle.task("@once stale", hold=True)
    stale = facts["incarnation"] - 1
    before = await idle.facts()
    calls = {
        "/v1/tasks": {"description": "@once stale"},
        f"/v1/tasks/{held['id']}/cancel": {},
        f"/v1/tasks/{held['id']}/release": {},
        f"/v1/tasks/{held['id']}/withdraw": {},
        "/v1/attention/any": {"answer": "x"},
        "/v1/report": {"summary": "stale"},
        "/v1/notes": {"key": "stale", "text": "stale"},
        "/v1/stop": {},
    }
    for path, body in calls.items():
        answer = await idle.post(path, body, expect=409, incarnation=stale)
        assert answer["error"]["details"]["incarnation"] == facts["incarnation"]
        await idle.post(path, body, expect=409, incarnation=facts["incarnation"] + 1)
    await idle.http.put("/metadata/kept", json={"value": "before"})
    writes: list[tuple[str, str, Any]] = [
        ("PUT", "/metadata/kept", {"value": "stale"}),
        ("POST", "/metadata", {"data": {"kept": "stale"}}),
        ("DELETE", "/metadata/kept", None),
    ]
    for method, path, body in writes:
        for meant in (stale, facts["incarnation"] + 1):
            refused = await idle.http.request(method, path, json=body, params={"incarnation": meant})
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "CONFLICT")
        for nonsense in ("nan", "", "-1", "99999999999999999999"):
            refused = await idle.http.request(method, path, json=body, params={"incarnation": nonsense})
            assert refused.status_code == 400
    assert (await idle.get("/metadata/kept"))["value"] == "before"
    for method, path, _ in writes:
        right = {"value": "now"} if method == "PUT" else {"data": {"kept": {"value": "now"}}}
        done = await idle.http.request(
            method, path, json=None if method == "DELETE" else right, params={"incarnation": facts["incarnation"]}
        )
        assert done.status_code in (200, 204), done.text
    document = await idle.get("/openapi.json")
    for method, path in (("put", "/metadata/{key}"), ("post", "/metadata"), ("delete", "/metadata/{key}")):
        assert "incarnation" in [p["name"] for p in document["paths"][path][method]["parameters"]]
    given = document["paths"]["/v1/tasks"]["post"]
    assert ("Idempotency-Key", "header") in [(p["name"], p["in"]) for p in given["parameters"]]
    assert {"200", "201"} <= given["responses"].keys()
    after = await idle.facts()
    volatile = ("observed_at", "metadata", "revision")
    assert {k: v for k, v in after.items() if k not in volatile} == {
        k: v for k, v in before.items() if k not in volatile
    }
    await idle.post(f"/v1/tasks/{held['id']}/cancel", incarnation=facts["incarnation"])
    assert not (idle.workspace / "stale").exists()


async def test_garbage_and_long_lines_are_survived(idle: Sidecar) -> None:
    before = await idle.facts()
    task = await idle.run("@garbage 50\n@partial\n@unknown\n@longline 10000000\n@garbage 10000000\n@say still here")
    assert task["state"] == "succeeded"
    after = await idle.facts()
    assert after["incarnation"] == before["incarnation"]
    assert any(e["text"].startswith("still here") for e in await idle.log("text"))
    assert any(e["kind"] == "noise" for e in await idle.log())
    assert all(len(e["text"]) <= 64 * 1024 for e in await idle.log())


async def test_the_agents_mcp_server_refuses_an_earlier_life(idle: Sidecar) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    headers = {"Accept": "application/json, text/event-stream", "QD-Incarnation": "0"}
    answer = await idle.http.post("/mcp/", json=call, headers=headers)
    assert answer.status_code == 409


async def test_bad_bodies(idle: Sidecar) -> None:
    for content, status in ((b"{", 400), (b"[]", 400), (b'{"description": 1}', 400), (b"\xff\xfe", 400)):
        answer = await idle.http.post("/v1/tasks", content=content)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == "INVALID_INPUT"
    await idle.post("/v1/tasks", {"description": " \n"}, expect=400)
    await idle.post("/v1/tasks", {"description": "x" * 1_000_001}, expect=413)
    await idle.post("/v1/tasks", {"description": "x" * 2_200_000}, expect=413)
    assert (await idle.facts())["queue"] == 0


# -- the end ----------------------------------------------------------------------------------------------


async def test_stop_ends_everything_and_nothing_is_forgotten(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work") as side:
        await side.until(status="idle")
        done = await side.run("@say one")
        task = await side.task("@child 300\n@hang")
        await side.until(status="busy")
        await side.post("/v1/stop", expect=202)
        with anyio.fail_after(10):
            while side.process.poll() is None:
                await anyio.sleep(0.02)
        assert side.process.returncode == 0
        assert not Path(side.address.socket).exists()
        assert not (side.folder / "sidecar.json").exists()
        assert proctree.marked(side.spec.id) == []
        async with started(side.folder, side.spec) as again:
            facts = await again.until(status="idle")
            assert facts["resumed"]
            states = {t["id"]: t["state"] for t in (await again.get("/v1/tasks"))["tasks"]}
            assert states == {done["id"]: "succeeded", task["id"]: "canceled"}
