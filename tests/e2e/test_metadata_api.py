"""The stand-alone server over real HTTP: every call, its refusals, watching, a full disk, MCP, schemathesis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from metadata_server import SCRIPT, Server, running

from quarterdeck.metadata.server import MetadataServer
from support.mounts import mounted

TOKEN = "the-token-of-this-test-42"


@pytest.fixture
def server(tmp_path: Path, repo: Path) -> Iterator[Server]:
    with running(repo, tmp_path / "meta" / "a", token=TOKEN) as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as found:
        yield found


def error(response: httpx2.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()["error"]
    assert body["message"]
    return body


def test_the_answer_has_the_promised_form(client: httpx2.Client) -> None:
    empty = client.get("/metadata?source=stored")
    assert empty.status_code == 200
    assert empty.json()["data"] == {}
    assert client.put("/metadata/note", json={"value": "x"}).status_code == 201
    body = client.get("/metadata?fresh=true").json()
    assert set(body) == {"data", "meta"}
    assert set(body["meta"]) >= {"version", "agent", "revision", "collected_in_ms"}
    assert body["meta"]["version"] == "1.0"
    assert body["meta"]["collected_in_ms"] > 0
    for entry in body["data"].values():
        assert set(entry) == {"value", "error", "source", "observed_at", "age_seconds", "stale", "schema"}
        assert set(entry["schema"]) == {"description", "include_in_list"}
    assert body["data"]["git_branch"]["value"] == "main"
    assert set(client.get("/metadata?keys=note,git_branch,none").json()["data"]) == {"note", "git_branch"}
    assert set(client.get("/metadata?source=git&prefix=git_st").json()["data"]) == {"git_state", "git_staged"}


def test_create_update_read_delete_with_tags(client: httpx2.Client) -> None:
    first = client.put("/metadata/a/b.c-d", json={"value": {"n": [1, 2.5, None, True]}, "description": "d"})
    assert first.status_code == 201
    tag = first.headers["etag"]
    assert client.get("/metadata/a/b.c-d").headers["etag"] == tag
    assert client.get("/metadata/a/b.c-d", headers={"If-None-Match": tag}).status_code == 304
    second = client.put("/metadata/a/b.c-d", json={"value": 2, "include_in_list": True}, headers={"If-Match": tag})
    assert second.status_code == 200
    assert second.json()["schema"] == {"description": "d", "include_in_list": True}
    lost = client.put("/metadata/a/b.c-d", json={"value": 3}, headers={"If-Match": tag})
    assert lost.status_code == 412
    assert client.put("/metadata/new", json={"value": 1}, headers={"If-Match": "*"}).status_code == 412
    assert client.put("/metadata/a/b.c-d", json={"value": 1}, headers={"If-None-Match": "*"}).status_code == 412
    assert client.delete("/metadata/a/b.c-d", headers={"If-Match": tag}).status_code == 412
    assert client.get("/metadata/a/b.c-d").json()["value"] == 2
    assert client.delete("/metadata/a/b.c-d").status_code == 204
    assert client.delete("/metadata/a/b.c-d").status_code == 204
    missing = client.get("/metadata/a/b.c-d")
    assert missing.status_code == 404
    assert error(missing)["code"] == "NOT_FOUND"


def test_many_at_once_are_all_or_nothing(client: httpx2.Client) -> None:
    done = client.post("/metadata", json={"data": {"a": 1, "b": "two"}})
    assert done.status_code == 200
    assert sorted(done.json()["created"]) == ["a", "b"]
    for bad in ({"c": 1, "git_head": "x"}, {"c": 1, "d e": 2}, {"c": 1, "d": "\u0000"}, {"c": 1, "d": "x" * 5000}):
        assert client.post("/metadata", json={"data": bad}).status_code in (409, 413, 422)
    assert set(client.get("/metadata?source=stored").json()["data"]) == {"a", "b"}
    assert client.post("/metadata", json={"data": {"a": 1}}, headers={"If-Match": '"1"'}).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "words"),
    [
        ("PUT", "/metadata/k", b'{"value":1,"value":2}', 422, "more than once"),
        ("PUT", "/metadata/k", b'{"value":{"a":1,"a":2}}', 422, "more than once"),
        ("PUT", "/metadata/k", b'{"value":"\\u001b[31m"}', 422, "U+001B"),
        ("PUT", "/metadata/k", b'{"value":"\\u0000"}', 422, "U+0000"),
        ("PUT", "/metadata/k", b'{"value":"\\ud800"}', 422, "U+D800"),
        ("PUT", "/metadata/k", b'{"value":{"\\u0007":1}}', 422, "U+0007"),
        ("PUT", "/metadata/k", b'{"value":NaN}', 422, "NaN"),
        ("PUT", "/metadata/k", b'{"value":1e999}', 422, "number"),
        ("PUT", "/metadata/k", b"[" * 100_000, 413, "32768"),
        ("PUT", "/metadata/k", b'{"value":' + b"[" * 2000 + b"]" * 2000 + b"}", 422, "deeper"),
        ("PUT", "/metadata/k", b'{"value":"\xff"}', 400, "UTF-8"),
        ("PUT", "/metadata/k", b"{", 400, "not JSON"),
        ("PUT", "/metadata/k", b"", 400, "not JSON"),
        ("PUT", "/metadata/k", b"{}", 422, "value"),
        ("PUT", "/metadata/k", b'{"value":1,"other":2}', 422, "other"),
        ("PUT", "/metadata/k", b'{"value":"' + b"x" * 4097 + b'"}', 413, "4096"),
        ("PUT", "/metadata/" + "k" * 257, b'{"value":1}', 413, "256"),
        ("PUT", "/metadata/-k", b'{"value":1}', 422, "key"),
        ("PUT", "/metadata/a%20b", b'{"value":1}', 422, "key"),
        ("PUT", "/metadata/a%0Ab", b'{"value":1}', 422, "key"),
        ("PUT", "/metadata/%C3%A9", b'{"value":1}', 422, "key"),
        ("PUT", "/metadata/", b'{"value":1}', 422, "key"),
        ("PUT", "/metadata/git_branch", b'{"value":1}', 409, "git"),
        ("DELETE", "/metadata/git_branch", b"", 409, "git"),
        ("POST", "/metadata", b'{"data":{}}', 422, "no value"),
        ("POST", "/metadata", b"x" * (2 * 1024 * 1024 + 10), 413, "2097152"),
        ("GET", "/metadata?what=1", b"", 400, "what"),
        ("GET", "/metadata?fresh=yes", b"", 400, "fresh"),
        ("GET", "/metadata/watch?since=x", b"", 400, "since"),
        ("PATCH", "/metadata/k", b"", 405, "PATCH"),
        ("PUT", "/metadata", b"", 405, "PUT"),
        ("GET", "/metadata/none", b"", 404, "none"),
        ("GET", "/elsewhere", b"", 404, "elsewhere"),
    ],
)
def test_refusals(client: httpx2.Client, method: str, path: str, content: bytes, status: int, words: str) -> None:
    response = client.request(method, path, content=content)
    assert response.status_code == status, response.text
    assert words in json.dumps(error(response))
    assert client.get("/metadata?source=stored").json()["data"] == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "é",
        "e\u0301",
        "👩‍👩‍👧",
        "\u202e",
        "line\nbreak\ttab",
        '"\\/',
        "x" * 4096,
        "é" * 2048,
        "\U0001f600" * 1024,
        "\ufeff",
        "\uffff",
    ],
)
def test_unicode_comes_back_byte_for_byte(client: httpx2.Client, text: str) -> None:
    client.put("/metadata/k", json={"value": text}).raise_for_status()
    assert client.get("/metadata/k").json()["value"].encode() == text.encode()
    assert client.get("/metadata").json()["data"]["k"]["value"].encode() == text.encode()


def test_everything_stored_has_a_limit(client: httpx2.Client) -> None:
    for block in range(5):
        values = {f"k{block}-{n}": "x" * 4000 for n in range(50)}
        response = client.post("/metadata", json={"data": values})
        if response.status_code == 413:
            break
    assert response.status_code == 413
    assert error(response)["details"]["limit"] == 1_000_000
    client.put("/metadata/k0-1", json={"value": "smaller"}).raise_for_status()


def test_only_with_the_token_and_from_here(server: Server) -> None:
    with httpx2.Client(base_url=server.url, trust_env=False) as stranger:
        assert stranger.get("/metadata").status_code == 401
        assert stranger.get("/metrics").status_code == 401
        assert stranger.put("/metadata/k", json={"value": 1}).status_code == 401
        assert stranger.get("/health/live").status_code == 200
        assert stranger.get("/health/ready").status_code == 200
    with server.client() as client:
        assert client.get("/metadata", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/metadata", headers={"Origin": "https://evil.example"}).status_code == 403


def events(stream: httpx2.Response) -> Iterator[tuple[str, int, dict[str, Any]]]:
    name, number = "", 0
    for line in stream.iter_lines():
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("id:"):
            number = int(line[3:])
        elif line.startswith("data:"):
            yield name, number, json.loads(line[5:])


def test_watching_from_the_whole_picture_on_and_after_a_revision(client: httpx2.Client, repo: Path) -> None:
    client.put("/metadata/a", json={"value": 1}).raise_for_status()
    with client.stream("GET", "/metadata/watch") as stream:
        found = events(stream)
        name, revision, body = next(found)
        assert name == "snapshot"
        assert body["data"]["a"]["value"] == 1
        client.put("/metadata/b", json={"value": 2}).raise_for_status()
        name, seen, body = next(e for e in found if "b" in e[2]["data"])
        assert (name, body["data"]["b"]["value"]) == ("change", 2)
        assert seen > revision
    client.put("/metadata/b", json={"value": 3}).raise_for_status()
    client.delete("/metadata/a").raise_for_status()
    for option in ({"headers": {"Last-Event-ID": str(seen)}}, {"params": {"since": str(seen)}}):
        with client.stream("GET", "/metadata/watch", **option) as stream:  # type: ignore[arg-type]
            name, _, body = next(events(stream))
            assert name == "change"
            assert body["data"]["b"]["value"] == 3
            assert body["data"]["a"] is None
    with client.stream("GET", "/metadata/watch?since=1") as stream:
        assert next(events(stream))[0] == "snapshot"


def test_a_change_on_disk_is_seen_on_watch_soon(client: httpx2.Client, repo: Path) -> None:
    with client.stream("GET", "/metadata/watch") as stream:
        found = events(stream)
        for _, _, body in found:
            if body["data"].get("git_dirty", {}).get("value") is False:
                break
        told = threading.Event()

        def write() -> None:
            # The system may begin to watch only after the server said so: new files until one was seen.
            number = 0
            while not told.is_set():
                (repo / f"new{number}").write_text("x")
                number += 1
                told.wait(0.5)

        writer = threading.Thread(target=write)
        began = time.monotonic()
        writer.start()
        try:
            for _, _, body in found:
                if (body["data"].get("git_dirty") or {}).get("value") is True:
                    break
        finally:
            told.set()
            writer.join()
        # By age alone it were a minute; 0.2 s is the benchmark's to hold, on a machine that is idle.
        assert time.monotonic() - began < 10


def test_a_second_server_on_one_folder_does_not_start(tmp_path: Path, repo: Path) -> None:
    with running(repo, tmp_path / "m" / "a") as first:
        command = [sys.executable, "-c", SCRIPT, str(repo), str(tmp_path / "m" / "a"), "", "0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode != 0
        assert "another metadata server" in second.stderr
        with first.client() as client:
            assert client.put("/metadata/k", json={"value": 1}).status_code == 201


@pytest.mark.anyio
async def test_before_stored_data_is_loaded_nothing_is_pretended() -> None:
    app = MetadataServer()
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/health/live")).status_code == 200
        for method, path in (
            ("GET", "/health/ready"),
            ("GET", "/health"),
            ("PUT", "/metadata/k"),
            ("POST", "/metadata"),
            ("DELETE", "/metadata/k"),
            ("GET", "/metadata"),
            ("GET", "/metadata/k"),
            ("GET", "/metadata/watch"),
            ("POST", "/mcp"),
        ):
            response = await client.request(method, path, content=b'{"value":1}')
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"


def test_a_clean_stop_folds_and_nothing_is_lost(tmp_path: Path, repo: Path) -> None:
    folder = tmp_path / "m" / "a"
    with running(repo, folder) as server, server.client() as client:
        client.put("/metadata/k", json={"value": "v"}).raise_for_status()
        assert server.stop() == 0
    stored = json.loads((folder / "metadata.json").read_text())
    assert stored["entries"]["k"]["value"] == "v"
    assert stored["schema_version"] == 1
    assert (folder / "metadata.json").stat().st_mode & 0o777 == 0o600
    assert not (folder / "metadata.journal").exists()
    with running(repo, folder) as server, server.client() as client:
        assert client.get("/metadata/k").json()["value"] == "v"


def test_metrics_and_health(client: httpx2.Client) -> None:
    client.put("/metadata/k", json={"value": 1}).raise_for_status()
    text = client.get("/metrics").text
    assert "qd_metadata_writes_total 1\n" in text
    assert 'qd_metadata_collector_collections_total{collector="git"}' in text
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["stored_keys"] == 1


def test_fastmcp_is_imported_when_it_is_first_used(tmp_path: Path, repo: Path) -> None:
    log = tmp_path / "log"

    def imported() -> bool:
        lines = [line for line in log.read_text().splitlines() if line.startswith("import time:")]
        assert any(line.endswith("quarterdeck.metadata.server") for line in lines)
        return any(line.rpartition("|")[2].strip() == "fastmcp" for line in lines)

    started = running(repo, tmp_path / "a", log=log, env={"PYTHONPROFILEIMPORTTIME": "1"})
    with started as server, server.client() as client:
        client.put("/metadata/k", json={"value": 1}).raise_for_status()
        client.get("/metadata?fresh=true").raise_for_status()
        assert not imported()
        given = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": given}
        headers = {"Accept": "application/json, text/event-stream"}
        client.post("/mcp", json=call, headers=headers, follow_redirects=True).raise_for_status()
        assert imported()


def test_the_tools_for_mcp_clients(server: Server) -> None:
    script = """
import sys, asyncio, json
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
async def main():
    async with Client(StreamableHttpTransport(sys.argv[1] + "/mcp", auth=sys.argv[2])) as c:
        names = sorted(t.name for t in await c.list_tools())
        await c.call_tool("set_metadata", {"values": {"from-mcp": {"a": 1}}})
        got = await c.call_tool("get_metadata", {"keys": ["from-mcp", "git_branch"]})
        bad = await c.call_tool("set_metadata", {"values": {"git_branch": 1}}, raise_on_error=False)
        gone = await c.call_tool("delete_metadata", {"key": "from-mcp"})
        await c.call_tool("report_task", {"state": "started", "note": "on it"})
        print(json.dumps([names, got.structured_content["data"]["from-mcp"]["value"], bad.is_error,
                          bad.content[0].text, gone.structured_content]))
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, server.url, TOKEN],
        capture_output=True, text=True, timeout=60, env={**os.environ, "FASTMCP_CHECK_FOR_UPDATES": "off"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    names, value, refused, words, gone = json.loads(done.stdout.splitlines()[-1])
    assert names == ["delete_metadata", "get_metadata", "report_task", "set_metadata"]
    assert value == {"a": 1}
    assert refused
    assert "collected by git" in words
    assert gone == {"key": "from-mcp", "deleted": True}
    with server.client() as client:
        assert client.get("/metadata/task_state").json()["value"] == "started"


def test_declared_fields_take_effect_without_a_restart(client: httpx2.Client, repo: Path) -> None:
    def values() -> dict[str, Any]:
        data: dict[str, Any] = client.get("/metadata?fresh=true").json()["data"]
        return data

    def until(condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        for _ in range(60):
            found = values()
            if condition(found):
                return found
            time.sleep(0.1)
        raise AssertionError(found)

    toml = (
        '[metadata.fields.lines]\nrun = ["wc", "-l", "README.md"]\ndescription = "how long"\ninclude_in_list = true\n'
    )
    toml += '[metadata.fields.broken]\nrun = ["false"]\n[metadata.fields.slow]\nrun = ["sleep", "9"]\ntimeout = 0.2\n'
    (repo / "quarterdeck.toml").write_text(toml)
    found = until(lambda d: "lines" in d and "slow" in d and d["slow"]["error"] is not None)
    assert found["lines"]["value"] == "1 README.md"
    assert found["lines"]["source"] == "command"
    assert found["lines"]["schema"] == {"description": "how long", "include_in_list": True}
    assert "ended with 1" in found["broken"]["error"]
    assert "0.2 s" in found["slow"]["error"]
    assert found["git_branch"]["error"] is None
    (repo / "quarterdeck.toml").write_text('[metadata.fields.lines]\nrun = ["echo", "[1,2]"]\n')
    found = until(lambda d: "broken" not in d)
    assert until(lambda d: d["lines"]["value"] == [1, 2])
    (repo / "quarterdeck.toml").write_text("[metadata.fields.lines]\nrunn = 1\n")
    end = time.monotonic() + 20
    while "runn" not in (problems := str(client.get("/health").json()["problems"])):
        assert time.monotonic() < end, problems
        time.sleep(0.1)
    assert values()["lines"]["value"] == [1, 2]
    (repo / "Taskfile.yml").write_text(
        "version: '3'\ntasks:\n  cover:\n    desc: c\n    meta: {include_in_list: true}\n    cmds: [echo 7]\n"
    )
    found = until(lambda d: "cover" in d)
    assert found["cover"]["source"] == "taskfile"
    assert found["cover"]["value"] == 7 or "not installed" in found["cover"]["error"]


def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path: Path, repo: Path) -> None:
    with mounted(tmp_path / "small", "size=256k") as small:
        with running(repo, small / "a", log=tmp_path / "log") as server, server.client() as client:
            client.put("/metadata/kept", json={"value": 1}).raise_for_status()
            (small / "filler").write_bytes(b"x" * 150_000)
            statuses = [client.put(f"/metadata/k{n}", json={"value": "x" * 4000}).status_code for n in range(60)]
            assert 507 in statuses
            assert set(statuses) <= {201, 507}
            acknowledged = {f"k{n}" for n, status in enumerate(statuses) if status == 201}
            assert client.get("/metadata/kept").json()["value"] == 1
            health = client.get("/health").json()
            assert health["status"] == "degraded"
            assert "No space" in str(health["problems"])
            server.kill()
        with running(repo, small / "a", log=tmp_path / "log") as server, server.client() as client:
            assert set(client.get("/metadata?source=stored").json()["data"]) == acknowledged | {"kept"}
            (small / "filler").unlink()
            client.put("/metadata/again", json={"value": 1}).raise_for_status()
            assert client.get("/health").json()["status"] == "ok"
            server.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        with running(repo, small / "a", log=tmp_path / "log") as server, server.client() as client:
            assert client.put("/metadata/again", json={"value": 2}).status_code == 507
            assert client.get("/metadata/again").json()["value"] == 1


def test_reads_go_on_while_many_write(server: Server) -> None:
    failures: list[str] = []

    def write(worker: int) -> None:
        with server.client() as client:
            for n in range(50):
                status = client.put(f"/metadata/w{worker}", json={"value": n}).status_code
                if status not in (200, 201):
                    failures.append(str(status))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with server.client() as client:
        stored = client.get("/metadata?source=stored").json()["data"]
        assert {key: entry["value"] for key, entry in stored.items()} == {f"w{n}": 49 for n in range(16)}
        health = client.get("/health").json()
        assert health["writes"] == 800
        assert health["flushes"] < 800, "no two writes shared a flush"


@pytest.mark.slow
def test_schemathesis_finds_no_difference_from_the_document(server: Server) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json",
         "--header", f"Authorization: Bearer {TOKEN}", "--exclude-path", "/metadata/watch", "--max-examples", "60",
         "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
         "--suppress-health-check", "all", "--no-color"],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
