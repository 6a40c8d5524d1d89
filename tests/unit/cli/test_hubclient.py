"""The hub's client and the stdio bridge against real sockets that answer well, badly, or not at all."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from quarterdeck.cli.hubclient import HubClient, path_of
from quarterdeck.cli.main import cli
from quarterdeck.cli.stdio import StdioBridge
from quarterdeck.errors import Conflict, InternalError, InvalidInput, Unavailable

Answer = tuple[int, str, bytes]


class Peer(ThreadingHTTPServer):
    """A server with ready-made answers by path; it keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.slow: dict[str, float] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: some clients do not wait for the answer."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers everything from the table."""

    server: Peer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.path, dict(self.headers), body))
        time.sleep(self.server.slow.get(self.path, 0))
        status, kind, content = self.server.answers[self.path.split("?")[0]]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        """Silent."""


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A server in a thread."""
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_calls_carry_the_token_and_only_what_was_given(peer: Peer) -> None:
    peer.answers = {"/api/x": (200, "application/json", b'{"a": 1}'), "/api/none": (204, "text/plain", b"")}
    hub = HubClient(peer.url + "/", "secret")
    assert hub.get("/api/x", limit=5, cursor=None) == {"a": 1}
    assert hub.post("/api/x", {"b": 2}, headers={"Idempotency-Key": "k"}) == {"a": 1}
    assert hub.delete("/api/none") is None
    first, second, _ = peer.asked
    assert first[0] == "/api/x?limit=5"
    assert first[1]["Authorization"] == "Bearer secret"
    assert (second[1]["Idempotency-Key"], json.loads(second[2])) == ("k", {"b": 2})


def test_errors_are_the_hubs_own(peer: Peer) -> None:
    error = {"error": {"code": "CONFLICT", "message": "busy", "hint": "wait"}}
    peer.answers = {
        "/c": (409, "application/json", json.dumps(error).encode()),
        "/bad": (502, "text/html", b"<html>"),
        "/page": (200, "text/html", b"<html>"),
    }
    hub = HubClient(peer.url, "t")
    with pytest.raises(Conflict, match="busy") as caught:
        hub.get("/c")
    assert caught.value.hint == "wait"
    with pytest.raises(Unavailable, match="502"):
        hub.get("/bad")
    with pytest.raises(InternalError, match="no hub of ours"):
        hub.get("/page")


def test_nobody_and_nobody_in_time() -> None:
    import socket

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(Unavailable, match="does not answer") as caught:
            HubClient(url, "t").get("/api/hub")
        assert "qd up" in caught.value.hint
        deaf.listen()
        with pytest.raises(Unavailable, match="no answer in time"):
            HubClient(url, "t", timeout_seconds=0.1).get("/api/hub")


@pytest.mark.parametrize(
    ("arguments", "path", "answer"),
    [
        (["agents", "merge", "ada"], "/api/agents/ada/merge", {"base": "main", "commits": 0}),
        (["gc", "--yes"], "/api/gc", []),
    ],
)
def test_what_takes_long_is_waited_for(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, arguments: list[str], path: str, answer: Any
) -> None:
    """However short the time is within which the hub has to answer everything else."""
    peer.answers = {path: (200, "application/json", json.dumps(answer).encode())}
    peer.slow[path] = 0.6
    monkeypatch.setattr(HubClient, "find", lambda: HubClient(peer.url, "t", timeout_seconds=0.1))
    said = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert (said.exit_code, said.stderr) == (0, "")
    with pytest.raises(Unavailable, match="no answer in time"):
        HubClient(peer.url, "t", timeout_seconds=0.1).post(path)


@pytest.mark.parametrize("url", ["", "127.0.0.1:7400", "ftp://x", "http://", "http://x:port", "http://x:99999"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidInput):
        HubClient(url, "t")


def test_a_name_stays_one_piece_of_the_path() -> None:
    assert path_of("../hub?x#y", "tasks") == "/api/agents/..%2Fhub%3Fx%23y/tasks"


def bridged(peer: Peer, messages: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the bridge writes for these lines."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    StdioBridge(HubClient(peer.url, "secret")).serve(iter(messages))
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_bridge_hands_on_streams_errors_and_versions(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
    result = {"jsonrpc": "2.0", "id": 7, "result": {"protocolVersion": "2025-06-18"}}
    stream = "".join(f"event: message\ndata: {json.dumps(m)}\n\n" for m in (progress, result)).encode()
    peer.answers = {"/mcp": (200, "text/event-stream", b": hello\n\n" + stream)}
    first = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "initialize", "params": {}})
    second = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "ping"})
    assert bridged(peer, [first, "\n", second], monkeypatch) == [progress, result, progress, result]
    assert "MCP-Protocol-Version".lower() not in {key.lower() for key in peer.asked[0][1]}
    headers = {key.lower(): value for key, value in peer.asked[1][1].items()}
    assert headers["mcp-protocol-version"] == "2025-06-18"
    assert headers["authorization"] == "Bearer secret"


def test_the_bridge_tells_refusals_as_errors(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = {"error": {"code": "UNAUTHENTICATED", "message": "a bearer token is needed"}}
    peer.answers = {"/mcp": (401, "application/json", json.dumps(refusal).encode())}
    answers = bridged(peer, ['{"jsonrpc":"2.0","id":"a","method":"ping"}', "{"], monkeypatch)
    by_id = {answer["id"]: answer["error"] for answer in answers}
    assert by_id["a"]["message"] == "a bearer token is needed"
    assert by_id[None]["code"] == -32700
    assert bridged(peer, ['{"jsonrpc":"2.0","method":"notifications/x"}'], monkeypatch) == [], "nobody waits for it"
