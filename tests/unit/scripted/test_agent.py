"""The scripted agent keeps to the protocol: every line it sends is held against the official schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import acp.schema as schema
import pytest

STEPS = """
@say hello
@think hm
@plan one|two
@write a/b.txt text
@append a/b.txt more
@run cat a/b.txt
@run false
@usage 10 5 0.25
@commit all of it
@ask May I?
@question Who?|Ann|Ben
@once ran.txt
"""


class Talk:
    """A conversation with the agent, line by line."""

    def __init__(self, cwd: Path, home: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "quarterdeck.scripted.agent", *options],
            env={**os.environ, "HOME": str(home), "QD_SCRIPTED_HOME": str(home / "sessions")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.cwd = cwd
        self.notes: list[dict[str, Any]] = []

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request, serve the agent until it answers, give the answer."""
        self.send(id=1, method=method, params=params)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "method" not in message:
                return message
            params = message["params"]
            if message["method"] == "session/update":
                schema.SessionNotification.model_validate(params)
                self.notes.append(params["update"])
            elif message["method"] == "session/request_permission":
                schema.RequestPermissionRequest.model_validate(params)
                self.send(id=message["id"], result={"outcome": {"outcome": "selected", "optionId": "yes"}})
            else:
                assert message["method"] == "elicitation/create"
                schema.CreateFormSessionElicitationRequest.model_validate(params)
                self.send(id=message["id"], result={"action": "accept", "content": {"answer": "Ben"}})
        raise AssertionError("the agent ended")

    def new(self) -> str:
        self.ask("initialize", protocolVersion=1, clientCapabilities={"elicitation": {"form": {}}})
        answer = self.ask("session/new", cwd=str(self.cwd), mcpServers=[])
        return str(schema.NewSessionResponse.model_validate(answer["result"]).session_id)

    def prompt(self, session: str, text: str) -> dict[str, Any]:
        return self.ask("session/prompt", sessionId=session, prompt=[{"type": "text", "text": text}])

    def end(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(10)


def test_everything_it_sends_is_in_the_schema(repo: Path, tmp_path: Path, git: Any) -> None:
    talk = Talk(repo, tmp_path)
    hello = talk.ask("initialize", protocolVersion=1, clientCapabilities={"elicitation": {"form": {}}})
    able = schema.InitializeResponse.model_validate(hello["result"]).agent_capabilities
    assert able is not None
    assert able.load_session
    session = talk.new()
    answer = talk.prompt(session, STEPS)
    response = schema.PromptResponse.model_validate(answer["result"])
    assert response.stop_reason == "end_turn"
    assert response.usage is not None
    assert response.usage.total_tokens == 15
    # The receipt comes before all work.
    assert talk.notes[0]["sessionUpdate"] == "user_message_chunk"
    said = "".join(n["content"]["text"] for n in talk.notes if n["sessionUpdate"] == "agent_message_chunk")
    assert said == "hello\nMay I?: allowed\nanswer: Ben\n"
    states = [n["status"] for n in talk.notes if n["sessionUpdate"] == "tool_call_update"]
    assert states.count("failed") == 1
    assert git(repo, "log", "--format=%s") == "all of it\nfirst"
    assert (repo / "a" / "b.txt").read_text() == "text\nmore\n"
    listed = talk.ask("session/list")
    assert schema.ListSessionsResponse.model_validate(listed["result"]).sessions[0].session_id == session
    assert talk.ask("session/close", sessionId=session)["result"] == {}
    assert "error" in talk.prompt(session, "@say closed")
    assert talk.end() == 0


def test_a_session_survives_and_is_replayed(tmp_path: Path) -> None:
    first = Talk(tmp_path, tmp_path)
    session = first.new()
    first.prompt(session, "@say remember me")
    first.process.kill()
    first.end()
    second = Talk(tmp_path, tmp_path)
    second.ask("initialize", protocolVersion=1, clientCapabilities={})
    second.ask("session/load", sessionId=session, cwd=str(tmp_path), mcpServers=[])
    assert [n["content"]["text"] for n in second.notes] == ["@say remember me", "remember me"]
    second.notes.clear()
    assert "result" in second.ask("session/resume", sessionId=session, cwd=str(tmp_path), mcpServers=[])
    assert second.notes == []
    for unknown in ("qds-unknown", "../../etc/passwd"):
        assert "no session" in second.ask("session/load", sessionId=unknown, cwd="/", mcpServers=[])["error"]["message"]
    second.end()


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("@refuse", {"stopReason": "refusal"}),
        ("@fail it is late", "it is late"),
        ("@dance", "unknown step @dance"),
        ("@run false\n@check", "ended with 1"),
        ("@mcp echo {}", "no MCP server"),
    ],
)
def test_how_a_turn_can_end_badly(step: str, answer: Any, tmp_path: Path) -> None:
    talk = Talk(tmp_path, tmp_path)
    found = talk.prompt(talk.new(), step)
    if isinstance(answer, dict):
        assert found["result"] == answer
    else:
        assert answer in found["error"]["message"]
    talk.end()


def test_a_text_without_steps_is_answered(tmp_path: Path) -> None:
    talk = Talk(tmp_path, tmp_path)
    talk.prompt(talk.new(), "How are you today?")
    assert "4 words" in talk.notes[-1]["content"]["text"]
    talk.end()


def test_it_loads_next_to_nothing() -> None:
    code = (
        "import sys; import quarterdeck.scripted.agent; "
        "print([m for m in ('asyncio', 'subprocess', 'pathlib', 'anyio', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")})  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


def test_it_can_be_told_to_die_at_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quarterdeck.scripted.agent", "--die-at-start"], capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"told to die" in done.stderr
