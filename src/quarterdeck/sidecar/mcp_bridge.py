"""The MCP server as an agent's program starts it: JSON-RPC on stdio, handed on to the sidecar's socket.

Standard library only, so that it costs each agent some 15 MB and 30 ms, and the sidecar's socket needs
no port and no token: the file's mode is the guard, and every MCP client speaks stdio.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
from typing import Any

SOCKET_VARIABLE = "QD_SIDECAR_SOCKET"
INCARNATION_VARIABLE = "QD_INCARNATION"
_TIMEOUT_SECONDS = 120


def protocol_headers(message: Any, version: str | None) -> dict[str, str]:
    """The headers that MCP over HTTP wants for a message; `version` is what `initialize` agreed on, if it was."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    params = message.get("params") if isinstance(message, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    named = meta.get("io.modelcontextprotocol/protocolVersion") if isinstance(meta, dict) else None
    if named or version:
        headers["MCP-Protocol-Version"] = str(named or version)
    if named:
        headers["Mcp-Method"] = str(message.get("method"))
        if isinstance(params, dict) and isinstance(params.get("name"), str):
            headers["Mcp-Name"] = params["name"]
    return headers


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Bridge:
    """Hands each message on in a thread of its own, since a question to people may take long."""

    def __init__(self, path: str, incarnation: str) -> None:
        self._path = path
        self._incarnation = incarnation
        self._version: str | None = None
        self._out = threading.Lock()

    def handle(self, line: str) -> None:
        """Hand one message on and write the answer, where there is one."""
        try:
            message = json.loads(line)
        except ValueError:
            self._write({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "not JSON"}})
            return
        try:
            answer = self._post(message, line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            answer = self._error(message, f"the sidecar does not answer: {error}")
        if answer is not None:
            self._write(answer)

    def _post(self, message: Any, line: str) -> Any:
        headers = {**protocol_headers(message, self._version), "QD-Incarnation": self._incarnation}
        connection = _UnixConnection(self._path)
        try:
            connection.request("POST", "/mcp/", line.encode(), headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if not body:
            return None
        data = json.loads(body)
        if response.status >= 400 and "jsonrpc" not in data:
            return self._error(message, str(data.get("error", {}).get("message", f"HTTP {response.status}")))
        if isinstance(message, dict) and message.get("method") == "initialize":
            self._version = data.get("result", {}).get("protocolVersion")
        return data

    @staticmethod
    def _error(message: Any, text: str) -> Any:
        if not isinstance(message, dict) or "id" not in message:
            return None
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32603, "message": text}}

    def _write(self, message: Any) -> None:
        with self._out:
            sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Serve until standard input ends."""
    bridge = Bridge(os.environ[SOCKET_VARIABLE], os.environ.get(INCARNATION_VARIABLE, ""))
    for line in sys.stdin:
        if not line.strip():
            continue
        if '"initialize"' in line:
            bridge.handle(line)  # its answer decides the version of what follows
        else:
            threading.Thread(target=bridge.handle, args=(line,), daemon=True).start()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(_TIMEOUT_SECONDS)


if __name__ == "__main__":
    main()
