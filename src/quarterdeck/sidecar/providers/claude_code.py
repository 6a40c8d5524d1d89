"""Claude Code, the `claude` program, over its bidirectional stream-json protocol.

Half the memory of its ACP way, no Node, and explicit receipts, states and retries. The SDK is not used:
it wraps this very protocol, and hands on the whole of our environment.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup

from quarterdeck.errors import Unavailable
from quarterdeck.sidecar.ports import (
    Accepted,
    Answer,
    Emit,
    Exited,
    Launch,
    Noise,
    Opened,
    Outcome,
    ResumeRefused,
    Started,
    TurnEnded,
    Update,
)
from quarterdeck.sidecar.providers.claude_messages import MessageReader, outcome_of
from quarterdeck.sidecar.providers.claude_requests import ToolRequests
from quarterdeck.sidecar.providers.jsonline import parse_object
from quarterdeck.sidecar.providers.program import SHOWN_NOISE, Program, private_file

Message = dict[str, Any]
_ARGUMENTS = (
    "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
    "--permission-prompt-tool", "stdio", "--permission-mode", "default",
)  # fmt: skip
_ENVIRONMENT = {
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS": "1",
}
_LAST_WORDS_SECONDS = 2.0
# An interrupt that has not ended the turn by then may have been lost.
_DEAF_SECONDS = 1.0
# What is said beside the work, and needs no word of ours.
_IGNORED = frozenset(
    {"system", "stream_event", "rate_limit_event", "keep_alive", "auth_status", "tool_use_summary", "prompt_suggestion"}
)


@dataclass
class _Turn:
    id: str
    message_uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    accepted: bool = False
    started: bool = False
    cancelled: bool = False


class ClaudeCodeProvider:
    """One `claude` process with one session."""

    def __init__(self) -> None:
        self._launch: Launch
        self._emit: Emit
        self._tasks: TaskGroup
        self._requests: ToolRequests
        self._program: Program
        self._running = False
        self._reader = MessageReader()
        self._turn: _Turn | None = None
        self._hello = anyio.Event()
        self._about: Mapping[str, Any] = {}
        self._opened = False
        self._closing = False
        self._controls = 0
        self._first_errors = ""
        self._code: int | None = None

    async def start(self, launch: Launch, emit: Emit, tasks: TaskGroup) -> Opened:
        """See `Provider.start`. The session's id is of our choice."""
        session_id = str(uuid.uuid4())
        await self._bring_up(launch, ["--session-id", session_id], emit, tasks)
        return self._opened_as(session_id)

    async def resume(self, launch: Launch, session_id: str, emit: Emit, tasks: TaskGroup) -> Opened:
        """See `Provider.resume`."""
        try:
            await self._bring_up(launch, ["--resume", session_id], emit, tasks)
        except _Ended as error:
            raise ResumeRefused(error.message, hint="it goes on in a new session") from error
        return self._opened_as(session_id)

    def _opened_as(self, session_id: str) -> Opened:
        version = str(self._about.get("claude_code_version") or "")
        return Opened(session_id, self._program.pid, version=f"Claude Code {version}".strip())

    async def _bring_up(self, launch: Launch, session: list[str], emit: Emit, tasks: TaskGroup) -> None:
        self._launch, self._emit, self._tasks = launch, emit, tasks
        self._requests = ToolRequests(launch, tasks, self._say, self._respond)
        command = [*launch.command, *_ARGUMENTS, *session, *self._files(launch)]
        self._program = program = await Program.start(launch, command, env=_ENVIRONMENT)
        self._running = True
        tasks.start_soon(program.serve, self._on_line, self._say, self._on_exit, name="claude reader")
        try:
            with anyio.fail_after(launch.start_seconds):
                await self._control("initialize")
                await self._hello.wait()
            if not self._about:
                raise self._ended()
            self._opened = True
        except TimeoutError as error:
            raise Unavailable(
                f"claude did not come up within {launch.start_seconds:g} s and was ended",
                hint=program.last_words() or "a longer time: [agents] start_seconds",
            ) from error
        except Unavailable:
            with anyio.move_on_after(_LAST_WORDS_SECONDS):
                await program.exited.wait()
            raise self._ended() from None
        finally:
            if not self._opened:
                await self.close(0)

    def _ended(self) -> _Ended:
        words = self._program.last_words() or self._first_errors
        return _Ended(f"claude ended at its start with {self._code}: {words}", hint="qd doctor")

    @staticmethod
    def _files(launch: Launch) -> list[str]:
        """Arguments for the instructions and the sidecar's MCP server, whose environment holds a secret."""
        arguments: list[str] = []
        if launch.instructions:
            # A file, since an argument is limited in length and can be seen by every user of the machine.
            arguments += [
                "--append-system-prompt-file",
                private_file(launch.folder / "instructions.txt", launch.instructions),
            ]
        if launch.mcp is not None:
            server = {
                "type": "stdio",
                "command": launch.mcp.command[0],
                "args": list(launch.mcp.command[1:]),
                "env": dict(launch.mcp.env),
            }
            config = json.dumps({"mcpServers": {launch.mcp.name: server}})
            arguments += [
                "--mcp-config",
                private_file(launch.folder / "claude-mcp.json", config),
                "--strict-mcp-config",
            ]
        return arguments

    # --- what we say -------------------------------------------------------------------------------

    async def prompt(self, turn_id: str, text: str) -> None:
        """See `Provider.prompt`."""
        self._turn = turn = _Turn(turn_id)
        content = {"role": "user", "content": text}
        try:
            await self._send({"type": "user", "uuid": turn.message_uuid, "message": content})
        except BaseException:
            self._turn = None
            raise

    async def cancel(self) -> None:
        """See `Provider.cancel`."""
        turn = self._turn
        if turn is not None:
            turn.cancelled = True
            await self._control("interrupt")
            self._tasks.start_soon(self._insist, turn, name="second interrupt")

    async def _insist(self, turn: _Turn) -> None:
        """Claude Code (2.1.330) confirms an interrupt that comes between the taking of a prompt and its work, and then
        begins the work all the same (seen on a loaded machine): once more, later."""
        await anyio.sleep(_DEAF_SECONDS)
        if self._turn is turn:
            with suppress(Unavailable):
                await self._control("interrupt")

    def check_answer(self, request_id: str, answer: Answer) -> None:
        """See `Provider.check_answer`."""
        self._requests.check_answer(request_id, answer)

    async def answer(self, request_id: str, answer: Answer) -> None:
        """See `Provider.answer`."""
        await self._requests.answer(request_id, answer)

    async def close(self, grace_seconds: float = 5) -> None:
        """See `Provider.close`; nothing is emitted from here on."""
        self._closing = True
        if self._running:
            await self._program.stop(grace_seconds)

    async def _send(self, message: Message) -> None:
        await self._program.send(json.dumps(message).encode() + b"\n")

    async def _control(self, subtype: str) -> None:
        self._controls += 1
        request = {"subtype": subtype}
        await self._send({"type": "control_request", "request_id": f"qd-{self._controls}", "request": request})

    async def _respond(self, control_id: str, response: Message) -> None:
        await self._try_send({"subtype": "success", "request_id": control_id, "response": response})

    async def _try_send(self, response: Message) -> None:
        try:
            await self._send({"type": "control_response", "response": response})
        except Unavailable:
            # Its end is told by `Exited`; there is nobody left to answer.
            return

    def _say(self, update: Update) -> None:
        if not self._closing:
            self._emit(update)

    # --- what it says ------------------------------------------------------------------------------

    def _on_exit(self, exited: Exited) -> None:
        self._code = exited.returncode
        self._turn = None
        self._hello.set()
        if self._opened:
            self._requests.withdraw()
            self._say(exited)

    def _on_line(self, line: bytes) -> None:
        message = parse_object(line)
        if message is None:
            self._say(Noise(line[:SHOWN_NOISE].decode(errors="replace")))
            return
        try:
            self._on_message(message)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            self._say(Noise(f"a message that cannot be read ({error}): {line[:SHOWN_NOISE].decode(errors='replace')}"))

    def _on_message(self, message: Message) -> None:
        kind = message.get("type")
        if kind == "control_response":
            self._on_control_response(message)
        elif kind == "control_request":
            self._on_control_request(str(message.get("request_id")), message.get("request") or {})
        elif kind == "control_cancel_request":
            self._requests.cancelled(str(message.get("request_id")))
        elif kind == "command_lifecycle":
            self._on_lifecycle(str(message.get("command_uuid")), str(message.get("state")))
        elif kind == "result":
            self._on_result(message)
        elif not self._opened:
            return  # a resumed session's history
        elif kind in ("assistant", "user", "tool_progress", "system"):
            for update in self._reader.read(message):
                self._receipt(started=True)
                self._say(update)
        elif kind not in _IGNORED:
            self._say(Noise(f"unknown message {str(kind)[:SHOWN_NOISE]}"))

    def _on_control_response(self, message: Message) -> None:
        response = message.get("response") or {}
        if self._hello.is_set():
            return
        if response.get("subtype") == "success":
            self._about = response.get("response") or {}
            self._hello.set()
        else:
            self._first_errors = str(response.get("error"))
            self._hello.set()

    def _on_control_request(self, control_id: str, request: Mapping[str, Any]) -> None:
        if request.get("subtype") == "can_use_tool":
            self._receipt(started=True)
            self._requests.can_use_tool(control_id, request)
            return
        error = f"{request.get('subtype')} is not supported by this client"
        self._tasks.start_soon(self._try_send, {"subtype": "error", "request_id": control_id, "error": error})

    def _on_lifecycle(self, message_uuid: str, state: str) -> None:
        if self._turn is None or message_uuid != self._turn.message_uuid:
            return
        self._receipt(started=state != "queued")
        if state == "cancelled":
            # It comes after the result; without one, the prompt was taken from the queue before any work.
            self._end(self._turn, "canceled" if self._turn.cancelled else "failed", "the prompt was dropped")

    def _receipt(self, *, started: bool) -> None:
        turn = self._turn
        if turn is None:
            return
        if not turn.accepted:
            turn.accepted = True
            self._say(Accepted(turn.id))
        if started and not turn.started:
            turn.started = True
            self._say(Started(turn.id))

    def _on_result(self, result: Message) -> None:
        turn = self._turn
        if not self._opened:
            self._first_errors = "; ".join(map(str, result.get("errors") or [])) or str(result.get("result") or "")
            return
        mine = result.get("user_message_uuids")
        foreign = isinstance(mine, list) and mine and turn is not None and turn.message_uuid not in mine
        if turn is not None and not foreign:
            self._receipt(started=True)
        self._say(self._reader.total_usage(result))
        if turn is None or foreign:
            return  # a turn that it began by itself, for work in the background
        outcome, detail = outcome_of(result, cancelled=turn.cancelled)
        self._end(turn, outcome, detail)

    def _end(self, turn: _Turn, outcome: Outcome, detail: str) -> None:
        self._requests.withdraw()
        for update in self._reader.end_of_turn():
            self._say(update)
        self._turn = None
        self._say(TurnEnded(turn.id, outcome, detail))


class _Ended(Unavailable):
    """The program ended before it was ready."""
