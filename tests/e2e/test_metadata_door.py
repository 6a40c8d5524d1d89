"""`qd metadata serve` itself: who is let in, what a stranger is told, and what HTTP asks of every path."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

TOKEN = "the-token-of-this-test-42"


@dataclass
class Served:
    """A running `qd metadata serve`."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def client(self, *, token: str | None = TOKEN, host: str = "127.0.0.1") -> httpx2.Client:
        headers = {"Host": f"{host}:{self.port}"} | ({"Authorization": f"Bearer {token}"} if token else {})
        return httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30, trust_env=False)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "quarterdeck", "metadata", "serve", "--port", "0", *arguments]


@contextmanager
def served(tmp_path: Path, repo: Path, *arguments: str, token: str | None = TOKEN) -> Iterator[Served]:
    if token is not None:
        (tmp_path / "token").write_text(token + "\n")
        (tmp_path / "token").chmod(0o600)
        arguments = (*arguments, "--token-file", str(tmp_path / "token"))
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command("--workspace", str(repo), "--folder", str(tmp_path / "facts"), *arguments),
            stdout=subprocess.PIPE, stderr=out, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], 30)[0], log.read_text()
        line = process.stdout.readline()
        found = re.search(r":(\d+)/metadata$", line.strip())
        assert found, line + log.read_text()
        server = Served(process, int(found[1]), log)
        with server.client(token=token) as client:
            for _ in range(500):
                if client.get("/health/ready").status_code == 200:
                    break
                time.sleep(0.01)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        process.stdout.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("door")
    (folder / "work").mkdir()
    with served(folder, folder / "work", "--host", "0.0.0.0") as found:
        yield found


def test_with_a_token_others_may_come_by_any_name(server: Served) -> None:
    for host in ("10.0.0.5", "box.corp", "127.0.0.1"):
        with server.client(host=host) as client:
            assert client.get("/metadata").status_code == 200, host
            assert client.get("/metadata", headers={"Origin": "https://evil.example"}).status_code == 403
        with server.client(host=host, token=None) as client:
            assert client.get("/metadata").status_code == 401, host


def test_a_stranger_is_told_no_more_than_that_it_is_well(server: Served) -> None:
    with server.client(token=None) as stranger:
        assert stranger.get("/health/live").json() == {"live": True}
        for path in ("/health", "/health/ready"):
            assert stranger.get(path).json() == {"ready": True, "status": "ok"}
    with server.client(token="a-wrong-one-of-some-length") as stranger:
        assert stranger.get("/health").json() == {"ready": True, "status": "ok"}
    with server.client() as client:
        assert client.get("/health").json()["collectors"]


def test_head_is_get_without_the_body(server: Served) -> None:
    with server.client() as client:
        client.put("/metadata/k", json={"value": "x" * 100}).raise_for_status()
        for path in ("/metadata/k", "/metadata?source=stored", "/health"):
            whole, head = client.get(path), client.head(path)
            assert head.status_code == 200
            assert head.content == b""
            assert abs(int(head.headers["content-length"]) - len(whole.content)) < 5  # an age may have grown
        assert client.head("/metadata/k").headers["etag"] == client.get("/metadata/k").headers["etag"]
        assert client.head("/metadata/none").status_code == 404
        assert client.head("/metadata/watch").status_code == 405


def test_any_tag_matches_a_star(server: Served) -> None:
    with server.client() as client:
        client.put("/metadata/k", json={"value": 1}).raise_for_status()
        assert client.get("/metadata/k", headers={"If-None-Match": "*"}).status_code == 304
        assert client.get("/metadata/k", headers={"If-None-Match": '"1"'}).status_code == 200
        assert client.get("/metadata/none", headers={"If-None-Match": "*"}).status_code == 404


def test_a_path_cannot_write_lines_into_the_log(server: Served) -> None:
    with server.client() as client:
        assert client.put("/metadata/a%0AFORGED%1B[31m", json={"value": 1}).status_code == 422
    text = server.log.read_text()
    assert "FORGED" in text
    assert "\x1b" not in text
    assert not any(line.startswith("FORGED") for line in text.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "so a token is needed"),
        (["--host", "::"], "so a token is needed"),
        (["--token-file", "absent"], "cannot be read"),
        (["--token-file", "open"], "others may read the token file"),
        (["--token-file", "short"], "shorter than 16"),
        (["--workspace", "nowhere"], "is not a folder"),
    ],
)
def test_what_it_does_not_start_with(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "open").write_text(TOKEN)
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "short").write_text("short")
    (tmp_path / "short").chmod(0o600)
    given = command("--workspace", str(tmp_path), "--folder", "facts", *arguments)
    done = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_clean_stop(tmp_path: Path, repo: Path) -> None:
    with served(tmp_path, repo, token=None) as server, server.client(token=None) as client:
        client.put("/metadata/k", json={"value": "v"}).raise_for_status()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
    assert '"v"' in (tmp_path / "facts" / "metadata.json").read_text()


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("x" * 4096, 201),
        ("x" * 4097, 413),
        (["x" * 4092], 201),  # compact, with its brackets and quotes, 4,096 bytes
        (["x" * 4093], 413),
        ({"k": list(range(1200))}, 413),
        ("\n" * 4096, 201),  # a string is measured by itself, not by its escapes
        (["\n" * 2046], 201),
        (["\n" * 2047], 413),
    ],
    ids=range(8),
)
def test_the_edge_of_a_value(server: Served, value: object, status: int) -> None:
    with server.client() as client:
        client.delete("/metadata/edge").raise_for_status()
        answer = client.put("/metadata/edge", json={"value": value})
        assert answer.status_code == status, answer.text
        if status == 201:
            assert client.get("/metadata/edge").json()["value"] == value
        else:
            assert answer.json()["error"]["details"]["limit"] == 4096


def test_the_edge_of_a_key(server: Served) -> None:
    with server.client() as client:
        assert client.put("/metadata/" + "k" * 256, json={"value": 1}).status_code == 201
        assert client.get("/metadata/" + "k" * 256).json()["value"] == 1
        assert client.put("/metadata/" + "k" * 257, json={"value": 1}).status_code == 413
        client.delete("/metadata/" + "k" * 256).raise_for_status()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b'{"schema_version": 1, "revi', "torn or corrupt"),
        (b'{"schema_version": 9, "revision": 1, "entries": {}}', "has schema_version 9"),
    ],
)
def test_what_was_wrong_on_the_disk_is_told_over_http(tmp_path: Path, repo: Path, damage: bytes, words: str) -> None:
    for value in ("first", "second"):
        with served(tmp_path, repo) as server, server.client() as client:
            client.put("/metadata/k", json={"value": value}).raise_for_status()
    (tmp_path / "facts" / "metadata.json").write_bytes(damage)
    with served(tmp_path, repo) as server:
        with server.client() as client:
            health = client.get("/health").json()
            assert health["status"] == "degraded"
            assert words in health["problems"][0]
            assert "kept as metadata.json.unreadable-" in health["problems"][0]
            assert "qd_metadata_degraded 1" in client.get("/metrics").text
            assert client.get("/metadata/k").json()["value"] == "second", "an answered write is lost"
        with server.client(token=None) as stranger:
            assert stranger.get("/health").json() == {"ready": True, "status": "degraded"}


NESTED = {"a": [1, {"b  c": "two  spaces, and\na line end"}], "☃": {}}


def test_values_come_back_the_same_after_clean_restarts(tmp_path: Path, repo: Path) -> None:
    with served(tmp_path, repo) as server, server.client() as client:
        client.put("/metadata/k", json={"value": NESTED}).raise_for_status()
        client.put("/metadata/text", json={"value": json.dumps(NESTED, indent=2)}).raise_for_status()
        before = [client.get(f"/metadata/{key}").content.partition(b',"error":')[0] for key in ("k", "text")]
        size = client.get("/health").json()["stored_bytes"]
    for _ in range(2):
        with served(tmp_path, repo) as server, server.client() as client:
            after = [client.get(f"/metadata/{key}").content.partition(b',"error":')[0] for key in ("k", "text")]
            assert after == before
            assert client.get("/health").json()["stored_bytes"] == size
            with client.stream("GET", "/metadata/watch") as stream:
                lines = stream.iter_lines()
                found = []
                while not found or found[-1]:
                    found.append(next(lines))
                assert found == ["retry: 1000", ""]
                event = [next(lines) for _ in range(4)]
            assert [line.partition(":")[0] for line in event] == ["event", "id", "data", ""]
            assert json.loads(event[2].removeprefix("data: "))["data"]["k"]["value"] == NESTED


@pytest.mark.parametrize("tag", ["1000004", 'W/"1000004"', '"1" "2"', ""])
def test_a_tag_that_is_none_is_told_as_such(server: Served, tag: str) -> None:
    with server.client() as client:
        client.put("/metadata/tagged", json={"value": 1}).raise_for_status()
        for refused in (
            client.put("/metadata/tagged", json={"value": 2}, headers={"If-Match": tag}),
            client.delete("/metadata/tagged", headers={"If-Match": tag}),
        ):
            assert refused.status_code == 400, refused.text
            assert "a tag stands in quotes" in refused.json()["error"]["message"]
        assert client.get("/metadata/tagged").json()["value"] == 1


def test_several_lines_of_tags_are_one_list(server: Served) -> None:
    with server.client() as client:
        tag = client.put("/metadata/lines", json={"value": 1}).headers["ETag"]
        for lines in ([tag, '"1"'], ['"1"', tag]):
            headers = [("If-None-Match", line) for line in lines]
            assert client.put("/metadata/lines", json={"value": 2}, headers=headers).status_code == 412, lines
            assert client.get("/metadata/lines", headers=headers).status_code == 304, lines
        for first in (True, False):
            lines = [tag, '"1"'] if first else ['"1"', tag]
            answer = client.put("/metadata/lines", json={"value": 3}, headers=[("If-Match", line) for line in lines])
            assert answer.status_code == 200, answer.text
            tag = answer.headers["ETag"]


def test_a_weak_tag_tells_that_nothing_changed(server: Served) -> None:
    with server.client() as client:
        tag = client.put("/metadata/weak", json={"value": 1}).headers["ETag"]
        for given in (tag, f"W/{tag}", f'"1", W/{tag}'):
            assert client.get("/metadata/weak", headers={"If-None-Match": given}).status_code == 304
        assert client.get("/metadata/weak", headers={"If-None-Match": '"1"'}).status_code == 200
        assert client.get("/metadata/weak", headers={"If-None-Match": "1"}).status_code == 400


def test_the_document_names_headers_and_statuses(server: Served) -> None:
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]

    def headers(path: str, method: str) -> set[str]:
        return {p["name"] for p in paths[path][method]["parameters"] if p["in"] == "header"}

    key = paths["/metadata/{key}"]
    assert headers("/metadata/{key}", "get") == {"If-None-Match"}
    assert headers("/metadata/{key}", "put") == headers("/metadata/{key}", "delete") == {"If-Match", "If-None-Match"}
    assert headers("/metadata/watch", "get") == {"Last-Event-ID"}
    assert "content" not in key["get"]["responses"]["304"]
    assert all("405" in operation["responses"] for operation in key.values())
    for method, status in (("get", "200"), ("get", "304"), ("put", "200"), ("put", "201")):
        assert "ETag" in key[method]["responses"][status]["headers"]
    assert "headers" not in key["delete"]["responses"]["204"]


def test_a_method_that_there_is_not_names_those_that_there_are(server: Served) -> None:
    with server.client() as client:
        for path in ("/health", "/health/live", "/metrics", "/openapi.json"):
            refused = client.post(path)
            assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
            assert "GET, HEAD" in refused.json()["error"]["hint"]


def test_who_may_not_serve_tells_no_address(tmp_path: Path, repo: Path) -> None:
    with served(tmp_path, repo, token=None):
        second = subprocess.run(
            command("--workspace", str(repo), "--folder", str(tmp_path / "facts")),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert second.returncode == 4
    assert second.stdout == ""
    assert "another metadata server" in second.stderr
