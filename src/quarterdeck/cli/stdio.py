"""`qd mcp`: the hub's MCP server on stdio, for clients that start a program.

A bridge to the hub's `/mcp`: each message becomes a request, each answer (and what comes before it) a line.
Standard output carries nothing else. The hub's tools are stateless, so a hub that was restarted in between
is found again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from quarterdeck import config
from quarterdeck.cli import launch
from quarterdeck.cli.hubclient import HubClient
from quarterdeck.errors import Conflict, QuarterdeckError, Unavailable
from quarterdeck.sidecar.mcp_bridge import protocol_headers

CONNECT_SECONDS = 10.0
# What is still asked for when the client closes its end is given this long to be answered.
LAST_ANSWERS_SECONDS = 10.0
_ATTACH_SECONDS = 30.0
_INTERNAL, _PARSE = -32603, -32700


def attach() -> HubClient:
    """The running hub; where none runs, one that is started in the background for the repository here.

    Raises `Unavailable`, and `InvalidInput` where there is no repository to start one for.
    """
    from quarterdeck.hub import place

    state = config.state_dir()
    if config.variable("QD_HUB_URL") is None and place.running(state) is None:
        with contextlib.suppress(Conflict):  # another client was faster; its hub is as good
            folder = launch.repository_here(Path.cwd()).worktree
            launch.start_detached(folder, state=state, port=None if _port_is_free(folder) else 0)
        end = time.monotonic() + _ATTACH_SECONDS
        while place.running(state) is None and time.monotonic() < end:
            time.sleep(0.05)
    return HubClient.find()


def _port_is_free(folder: Path) -> bool:
    """Whether the configured port can be had; nobody types it here, so another one does as well."""
    table = config.load(folder).hub
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", config.number("QD_PORT", table.port)))
        except OSError:
            return False
    return True


class StdioBridge:
    """Hands every message on in a thread of its own, since a call may wait for long."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._version: str | None = None
        self._out = threading.Lock()
        self._open: dict[str, http.client.HTTPConnection] = {}
        # What is asked and not answered yet; a call can be called off before its thread has a connection.
        self._asked: set[str] = set()
        self._canceled: set[str] = set()

    def serve(self, lines: Iterator[str]) -> None:
        """Serve until the input ends."""
        threads: list[threading.Thread] = []
        for line in lines:
            if not line.strip():
                continue
            try:
                message = json.loads(line)
            except ValueError:
                self._write({"jsonrpc": "2.0", "id": None, "error": {"code": _PARSE, "message": "not JSON"}})
                continue
            method = message.get("method") if isinstance(message, dict) else None
            if method == "notifications/cancelled":
                self._cancel(message)
            elif method == "initialize":
                self._handle(message)  # its answer decides the version of what follows
            else:
                if isinstance(message, dict) and "id" in message:
                    self._asked.add(_key(message["id"]))
                thread = threading.Thread(target=self._handle, args=(message,), daemon=True)
                thread.start()
                threads = [*(t for t in threads if t.is_alive()), thread]
        end = time.monotonic() + LAST_ANSWERS_SECONDS
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _handle(self, message: Any) -> None:
        key = _key(message.get("id")) if isinstance(message, dict) and "id" in message else None
        try:
            self._exchange(message, key)
        except QuarterdeckError as error:
            self._fail(message, key, f"{error.message} ({error.hint})" if error.hint else error.message)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            # AttributeError: http.client, when `_cancel` closed the connection under it.
            self._fail(message, key, f"the hub went away while it was asked: {error}")
        finally:
            if key is not None:
                self._open.pop(key, None)
                self._asked.discard(key)
                self._canceled.discard(key)

    def _exchange(self, message: Any, key: str | None) -> None:
        connection = self._connected()
        if key is not None:
            self._open[key] = connection
        try:
            if key in self._canceled:
                return
            headers = {**protocol_headers(message, self._version), "Authorization": f"Bearer {self._hub.token}"}
            connection.request("POST", "/mcp", json.dumps(message).encode(), headers)
            response = connection.getresponse()
            if response.status >= 400:
                self._refused(message, key, response)
                return
            for answer in _answers(response):
                if isinstance(message, dict) and message.get("method") == "initialize":
                    self._version = (answer.get("result") or {}).get("protocolVersion") or self._version
                if key not in self._canceled:
                    self._write(answer)
        finally:
            connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        """A connection to the hub; to a new one when the one known is gone. Nothing was sent yet."""
        for final in (False, True):
            connection = self._hub.connect(CONNECT_SECONDS)
            try:
                connection.connect()
            except OSError as error:
                if final:
                    raise self._hub.unreachable(error) from error
                self._hub = attach()
                continue
            assert connection.sock is not None
            connection.sock.settimeout(None)
            return connection
        raise Unavailable("no hub")

    def _refused(self, message: Any, key: str | None, response: http.client.HTTPResponse) -> None:
        content = response.read()
        try:
            body = json.loads(content)
        except ValueError:
            body = {}
        if isinstance(body, dict) and "jsonrpc" in body:
            self._write(body)
            return
        error = body.get("error") if isinstance(body, dict) else None
        told = error.get("message") if isinstance(error, dict) else None
        self._fail(message, key, str(told or f"the hub answered HTTP {response.status}"))

    def _fail(self, message: Any, key: str | None, text: str) -> None:
        if key is None or key in self._canceled:
            print(f"qd mcp: {text}", file=sys.stderr)  # noqa: T201
            return
        self._write({"jsonrpc": "2.0", "id": message["id"], "error": {"code": _INTERNAL, "message": text}})

    def _cancel(self, message: Any) -> None:
        """Going away is how a call is called off over HTTP."""
        params = message.get("params")
        key = _key(params.get("requestId")) if isinstance(params, dict) else ""
        if key not in self._asked:
            return
        # In this order: whoever registers its connection looks here afterwards.
        self._canceled.add(key)
        connection = self._open.get(key)
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _write(self, message: Any) -> None:
        with self._out:
            sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
            sys.stdout.flush()


def _key(value: Any) -> str:
    """An id as a key: 1 and "1" are two."""
    return json.dumps(value)


def _answers(response: http.client.HTTPResponse) -> Iterator[Any]:
    """Every message in an answer: a stream of events, one JSON, or nothing."""
    if "text/event-stream" not in (response.getheader("Content-Type") or ""):
        content = response.read()
        if content:
            yield json.loads(content)
        return
    data: list[str] = []
    for raw in response:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []


@click.command()
def mcp() -> None:
    """Serve MCP on stdio: attaches to the running hub, or starts one for the repository you stand in.

    For an MCP client: claude mcp add quarterdeck -- qd mcp
    """
    bridge = StdioBridge(attach())
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    bridge.serve(iter(sys.stdin.readline, ""))
