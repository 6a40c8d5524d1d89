"""JSON-RPC over standard input and output for the scripted agent: one line, one message. Standard library only."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

Params = dict[str, Any]


class RpcError(Exception):
    """An error answer, ours or the client's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Wire:
    """Sends from any thread, reads in the main one; a request of ours waits for its answer in its thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._waiting: dict[int, tuple[threading.Event, list[Params]]] = {}

    def raw(self, data: bytes) -> None:
        """Write bytes as they are: how misbehaviour is scripted."""
        with self._lock:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def send(self, message: Params) -> None:
        """Write one message as one line."""
        self.raw(json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n")

    def notify(self, method: str, params: Params) -> None:
        """A notification to the client."""
        self.send({"method": method, "params": params})

    def request(self, method: str, params: Params, given_up: Callable[[], bool]) -> Params | None:
        """Ask the client and wait; None when `given_up` came true before the answer. Raises `RpcError`."""
        event, box = threading.Event(), list[Params]()
        with self._lock:
            self._next += 1
            number = self._next
            self._waiting[number] = (event, box)
        self.send({"id": number, "method": method, "params": params})
        while not event.wait(0.02):
            if given_up():
                # The client answers a cancelled request soon; a late answer is simply not waited for.
                if event.wait(0.5):
                    break
                self._waiting.pop(number, None)
                return None
        answer = box[0]
        if "error" in answer:
            raise RpcError(answer["error"].get("code", -32603), answer["error"].get("message", "error"))
        result = answer.get("result")
        return result if isinstance(result, dict) else {}

    def serve(self, handle: Callable[[str, Params, Any], None]) -> None:
        """Read messages until the end of input; `handle(method, params, id)` gets what is not an answer."""
        for line in sys.stdin.buffer:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if not isinstance(message, dict):
                continue
            if "method" in message:
                handle(message["method"], message.get("params") or {}, message.get("id"))
            elif (waiting := self._waiting.pop(message.get("id", -1), None)) is not None:
                waiting[1].append(message)
                waiting[0].set()
