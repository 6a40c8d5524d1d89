"""The scripted model API on loopback: `python -m quarterdeck.scripted.model_api --port N`.

Speaks as much of the Anthropic Messages API (streaming included) as the real coding agents need, so that
they can be run, tested and shown without a key and without a network. What it answers is in
model_script.py.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from quarterdeck.scripted.model_script import Json, Reply, reply_to

_PIECE = 400


class ModelApi:
    """The server, in threads of this process; use it as a context manager. `url` is where it listens."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Json] = []
        self.refusals: Counter[str] = Counter()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self.serve, name="scripted model API", daemon=True)

    @property
    def url(self) -> str:
        """For ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def serve(self) -> None:
        """Serve until `close`."""
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        """Stop; requests that hang are let go."""
        self._server.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.api: ModelApi
        self.stopping = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self._json(200, {})

    def do_GET(self) -> None:
        if self.path.startswith("/v1/models"):
            self._json(200, {"data": [], "has_more": False})
        else:
            self._json(404, _error("not_found_error", f"nothing at {self.path}"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            request = json.loads(body)
        except ValueError:
            self._json(400, _error("invalid_request_error", "the body is not JSON"))
            return
        path = self.path.partition("?")[0]
        if path == "/v1/messages/count_tokens":
            self._json(200, {"input_tokens": len(body) // 4})
        elif path == "/v1/messages":
            self._message(request)
        else:
            self._json(404, _error("not_found_error", f"nothing at {path}"))

    def _message(self, request: Json) -> None:
        api = self.server.api
        api.requests.append(request)
        reply = reply_to(request)
        if reply.error is not None:
            self._json(400, _error("invalid_request_error", reply.error))
            return
        if reply.overloaded:
            same = json.dumps([m for m in request["messages"] if m.get("role") == "user"])
            if api.refusals[same] < reply.overloaded:
                api.refusals[same] += 1
                self._json(529, _error("overloaded_error", "Overloaded"))
                return
        if reply.hang:
            self._wait(3600)
            return
        if reply.wait_seconds and not self._wait(reply.wait_seconds):
            return
        if request.get("stream"):
            self._stream(request, reply)
        else:
            self._json(200, {**_head(request, reply), "content": reply.blocks, "stop_reason": reply.stop_reason})

    def _wait(self, seconds: float) -> bool:
        """Wait; False when the client went away or the server stops."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self.server.stopping.is_set() or self._gone():
                self.close_connection = True
                return False
            time.sleep(min(0.05, left))
        return True

    def _gone(self) -> bool:
        ready, _, _ = select.select([self.connection], [], [], 0)
        return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)

    def _stream(self, request: Json, reply: Reply) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self._event({"type": "message_start", "message": {**_head(request, reply), "content": [], "stop_reason": None}})
        for index, block in enumerate(reply.blocks):
            empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
            self._event({"type": "content_block_start", "index": index, "content_block": empty})
            for delta in _deltas(block, reply):
                if reply.word_seconds and not self._wait(reply.word_seconds):
                    return
                self._event({"type": "content_block_delta", "index": index, "delta": delta})
            self._event({"type": "content_block_stop", "index": index})
        end = {"stop_reason": reply.stop_reason, "stop_sequence": None}
        self._event({"type": "message_delta", "delta": end, "usage": {"output_tokens": reply.output_tokens}})
        self._event({"type": "message_stop"})

    def _event(self, data: Json) -> None:
        self.wfile.write(f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def _json(self, status: int, data: Json) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _head(request: Json, reply: Reply) -> Json:
    return {
        "id": f"msg_{time.time_ns()}",
        "type": "message",
        "role": "assistant",
        "model": request.get("model", "scripted"),
        "stop_sequence": None,
        "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
    }


def _deltas(block: Json, reply: Reply) -> list[Json]:
    if block["type"] != "text":
        whole = json.dumps(block["input"])
        pieces = [whole[start : start + _PIECE] for start in range(0, len(whole), _PIECE)]
        return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    words = block["text"].split(" ") if reply.word_seconds else [block["text"]]
    return [
        {"type": "text_delta", "text": word + (" " if place < len(words) - 1 else "")}
        for place, word in enumerate(words)
    ]


def _error(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


def main() -> None:
    """Serve in the foreground; the first line of output is the URL."""
    arguments = sys.argv[1:]
    port = int(arguments[arguments.index("--port") + 1]) if "--port" in arguments else 0
    api = ModelApi(port)
    sys.stdout.write(api.url + "\n")
    sys.stdout.flush()
    try:
        api.serve()
    except KeyboardInterrupt:
        api.close()


if __name__ == "__main__":
    main()
