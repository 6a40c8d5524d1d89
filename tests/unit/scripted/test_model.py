"""The scripted model: its script as a function of the conversation, and its API over a real socket."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import Any

import pytest

from quarterdeck.scripted.model_api import ModelApi
from quarterdeck.scripted.model_script import reply_to, said

TOOLS = [{"name": name} for name in ("Write", "Bash", "Read", "mcp__quarterdeck__report_task")]


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]}


def called(name: str, number: int, **given: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "tool_use", "id": f"t{number}", "name": name, "input": given}]}


def got(number: int, text: str = "ok", *, error: bool = False) -> dict[str, Any]:
    return user({"type": "tool_result", "tool_use_id": f"t{number}", "content": text, "is_error": error})


def blocks(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    system = [{"type": "text", "text": " - Primary working directory: /srv/ws\n - more"}]
    return reply_to({"messages": list(messages), "tools": TOOLS, "system": system}).blocks


def test_the_step_is_the_number_of_results_since_the_user_spoke() -> None:
    task = user("@write a.txt one\n@say half\n@run make test\n@say done")
    (first,) = blocks(task)
    assert (first["name"], first["input"]) == ("Write", {"file_path": "/srv/ws/a.txt", "content": "one\n"})
    text, second = blocks(task, called("Write", 1), got(1))
    assert text["text"] == "half"
    assert second["input"]["command"] == "make test"
    (last,) = blocks(task, called("Write", 1), got(1), called("Bash", 2), got(2))
    assert last == {"type": "text", "text": "done"}
    (again,) = blocks(task, called("Write", 1), got(1), called("Bash", 2), got(2), user("@say something else"))
    assert again["text"] == "something else"


def test_a_file_that_must_be_read_first_is_read_and_written_again() -> None:
    task = user("@write a.txt one\n@say done")
    unread = got(1, "File has not been read yet.", error=True)
    (read,) = blocks(task, called("Write", 1), unread)
    assert (read["name"], read["input"]) == ("Read", {"file_path": "/srv/ws/a.txt"})
    (write,) = blocks(task, called("Write", 1), unread, called("Read", 2), got(2))
    assert write["name"] == "Write"
    (done,) = blocks(task, called("Write", 1), unread, called("Read", 2), got(2), called("Write", 3), got(3))
    assert done["text"] == "done"


def test_a_refused_permission_skips_the_next_step() -> None:
    task = user("@ask May I?\n@write a.txt x\n@say end")
    assert blocks(task, called("Bash", 1), got(1, "rejected", error=True)) == [{"type": "text", "text": "end"}]
    assert blocks(task, called("Bash", 1), got(1))[0]["name"] == "Write"


def test_what_a_program_puts_in_is_no_word_of_the_user() -> None:
    message = user(
        "<system-reminder>@say no</system-reminder>", "[Request interrupted by user]", "@say old", "@say new"
    )
    assert said(message) == "@say new"
    assert blocks(user("@say yes"), user("<system-reminder>x</system-reminder>"))[0]["text"] == "yes"


def test_tools_of_an_mcp_server_are_called_by_their_full_name() -> None:
    (call,) = blocks(user('@mcp report_task {"summary": "x"}'))
    assert (call["name"], call["input"]) == ("mcp__quarterdeck__report_task", {"summary": "x"})


def test_instructions_are_looked_for_where_they_can_be() -> None:
    request = {"messages": [user("@instructions PIRATE")], "tools": TOOLS, "system": "be a PIRATE"}
    assert reply_to(request).blocks[0]["text"] == "instructions: found"
    assert reply_to({**request, "system": "be good"}).blocks[0]["text"] == "instructions: missing"


def test_requests_on_the_side_are_answered_without_any_work() -> None:
    assert reply_to({"messages": [user("@write a x")]}).stop_reason == "end_turn"
    assert reply_to({}).blocks[0]["type"] == "text"
    assert "no scenario nope" in blocks(user("@@nope"))[0]["text"]


@pytest.fixture
def api() -> Any:
    with ModelApi() as server:
        yield server


def post(api: ModelApi, path: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(api.url + path, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_an_answer_as_events_and_as_json(api: ModelApi) -> None:
    request = {"model": "m", "messages": [user("@usage 7 3\n@say a\n@run make")], "tools": TOOLS}
    status, body = post(api, "/v1/messages?beta=true", json.dumps({**request, "stream": True}).encode())
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
    assert status == 200
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    assert events[0]["message"]["usage"]["input_tokens"] == 7
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    pieces = "".join(e["delta"]["partial_json"] for e in events if e.get("delta", {}).get("type") == "input_json_delta")
    assert json.loads(pieces)["command"] == "make"
    status, body = post(api, "/v1/messages", json.dumps(request).encode())
    assert [b["type"] for b in json.loads(body)["content"]] == ["text", "tool_use"]


def test_an_overloaded_model_recovers_and_errors_are_errors(api: ModelApi) -> None:
    busy = json.dumps({"messages": [user("@overloaded 2\n@say ok")], "tools": TOOLS}).encode()
    assert [post(api, "/v1/messages", busy)[0] for _ in range(3)] == [529, 529, 200]
    assert post(api, "/v1/messages", json.dumps({"messages": [user("@fail no")], "tools": TOOLS}).encode())[0] == 400
    assert post(api, "/v1/messages", b"{not json")[0] == 400
    assert post(api, "/v1/nothing", b"{}")[0] == 404
    assert json.loads(post(api, "/v1/messages/count_tokens", b'{"a": 1}')[1]) == {"input_tokens": 2}


def test_closing_lets_go_of_a_request_that_hangs() -> None:
    with ModelApi() as api:
        host, port = api.url.removeprefix("http://").split(":")
        body = json.dumps({"messages": [user("@hang")], "tools": TOOLS}).encode()
        hanging = socket.create_connection((host, int(port)), timeout=10)
        hanging.sendall(b"POST /v1/messages HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        hanging.settimeout(0.3)
        with pytest.raises(TimeoutError):
            hanging.recv(1)
    hanging.settimeout(10)
    assert hanging.recv(100) == b""
    hanging.close()
