"""A minimal MCP client over stdio: enough to call one tool of the server the scripted agent was given."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any


class McpClient:
    """One server process, initialized; `call` calls a tool. Raises OSError or ValueError when it cannot."""

    def __init__(self, server: dict[str, Any], cwd: str) -> None:
        env = {**os.environ, **{pair["name"]: pair["value"] for pair in server.get("env", [])}}
        self._process = subprocess.Popen(
            [server["command"], *server.get("args", [])],
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._next = 0
        client = {"name": "quarterdeck-scripted", "version": "1"}
        self._request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self._send({"method": "notifications/initialized"})

    def call(self, tool: str, arguments: dict[str, Any]) -> str:
        """Call a tool; its text, or its structured content as JSON. An error of the tool is text, too."""
        result = self._request("tools/call", {"name": tool, "arguments": arguments})
        texts = [part.get("text", "") for part in result.get("content", []) if part.get("type") == "text"]
        text = "\n".join(texts) or json.dumps(result.get("structuredContent"))
        return f"error: {text}" if result.get("isError") else text

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._next += 1
        self._send({"id": self._next, "method": method, "params": params})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == self._next and "method" not in message:
                if "error" in message:
                    raise ValueError(str(message["error"].get("message", "error")))
                return dict(message.get("result") or {})
        raise ValueError(f"the MCP server ended with {self._process.wait()} at {method}")
