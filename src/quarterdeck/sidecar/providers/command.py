"""Any command line as an agent: one run for each prompt, its output as words, its exit code as the outcome.

The prompt is put in place of an argument `{prompt}`, or is on standard input. Output is plain text, or
JSON lines: `{"type": "text" | "thought", "text"}`, `{"type": "tool", "id", "title", "status", "input",
"output"}`, `{"type": "plan", "entries": [[TEXT, STATUS]]}`, `{"type": "usage", "input_tokens",
"output_tokens", "cost_usd"}` (increments), `{"type": "error", "message"}`; of any other object its `text`,
`message`, `content` or `result` is taken.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import anyio
from anyio.abc import TaskGroup

from quarterdeck.errors import NotFound, Unavailable
from quarterdeck.process import CommandFailed
from quarterdeck.sidecar.ports import (
    Accepted,
    Answer,
    Emit,
    Exited,
    Launch,
    Noise,
    Opened,
    Outcome,
    Plan,
    PromptRefused,
    ResumeRefused,
    Started,
    Text,
    ToolCall,
    ToolStatus,
    TurnEnded,
    Update,
    Usage,
)
from quarterdeck.sidecar.providers.jsonline import amount, count, parse_object
from quarterdeck.sidecar.providers.program import SHOWN_NOISE, Program, private_file

PLACEHOLDER = "{prompt}"
# Linux takes 128 KiB in one argument, the final zero byte included.
MAX_ARGUMENT_BYTES = 128 * 1024 - 1
_KEPT_WORDS = 500
# In its first second a program may not listen yet.
_DEAF_SECONDS = 1.0
_STATUSES = frozenset(get_args(ToolStatus))


class CommandProvider:
    """A command line; between two prompts no process runs."""

    def __init__(self) -> None:
        self._launch: Launch
        self._emit: Emit
        self._tasks: TaskGroup
        self._program: Program | None = None
        self._turn: str | None = None
        self._cancelled = False
        self._closing = False
        self._began = 0.0
        self._last_words = ""
        self._error = ""

    async def start(self, launch: Launch, emit: Emit, tasks: TaskGroup) -> Opened:
        """See `Provider.start`; the program itself starts with a prompt."""
        self._launch, self._emit, self._tasks = launch, emit, tasks
        program = launch.command[0]
        if shutil.which(program, path=launch.env.get("PATH")) is None:
            raise Unavailable(f"the program {program!r} is not on this machine", hint=f"install {program}")
        notes = ("a command gets no MCP server of the sidecar",) if launch.mcp is not None else ()
        return Opened(f"command-{uuid.uuid4()}", None, notes=notes)

    async def resume(self, launch: Launch, session_id: str, emit: Emit, tasks: TaskGroup) -> Opened:
        """See `Provider.resume`; never possible."""
        raise ResumeRefused("a command keeps no session", hint="a new one costs nothing: start")

    async def prompt(self, turn_id: str, text: str) -> None:
        """See `Provider.prompt`. A command remembers nothing, so the instructions come before each prompt."""
        whole = f"{self._launch.instructions}\n\n{text}" if self._launch.instructions else text
        try:
            command, file = self._given(whole)
            self._program = await Program.start(self._launch, command, stdin=file)
        except CommandFailed as error:
            raise PromptRefused(error.message, hint=error.hint) from error
        except OSError as error:
            raise PromptRefused(f"the command was not started: {error}") from error
        self._turn, self._cancelled, self._last_words, self._error = turn_id, False, "", ""
        self._began = anyio.current_time()
        # That it runs, with the prompt in its hands, is all that a command ever tells of a receipt.
        self._say(Accepted(turn_id))
        self._say(Started(turn_id))
        self._tasks.start_soon(self._program.serve, self._on_line, self._say, self._on_exit, name="command reader")

    def _given(self, whole: str) -> tuple[tuple[str, ...], Path]:
        """The command and its standard input for this prompt. Raises `PromptRefused` and `OSError`."""
        command = self._launch.command
        if PLACEHOLDER not in command:
            return command, Path(private_file(self._launch.folder / "prompt.txt", whole))
        hint = f"without {PLACEHOLDER} in its command the provider gives it on standard input"
        if (size := len(whole.encode())) > MAX_ARGUMENT_BYTES:
            raise PromptRefused(
                f"the prompt of {size} bytes cannot be one argument of a command, which takes {MAX_ARGUMENT_BYTES}",
                hint=hint,
            )
        if "\0" in whole:
            raise PromptRefused("a prompt with a zero byte cannot be an argument of a command", hint=hint)
        return tuple(whole if argument == PLACEHOLDER else argument for argument in command), Path(os.devnull)

    async def cancel(self) -> None:
        """See `Provider.cancel`: SIGINT to the command and its children, as Ctrl-C does."""
        if self._turn is not None and self._program is not None:
            self._cancelled = True
            self._program.interrupt()
            if anyio.current_time() - self._began < _DEAF_SECONDS:
                self._tasks.start_soon(self._insist, self._program, name="second interrupt")

    async def _insist(self, program: Program) -> None:
        """An interpreter may lose a SIGINT while it starts (CPython does, within an import): once more, later."""
        with anyio.move_on_after(_DEAF_SECONDS):
            await program.exited.wait()
            return
        program.interrupt()

    def check_answer(self, request_id: str, answer: Answer) -> None:
        """See `Provider.check_answer`; a command asks nothing."""
        raise NotFound(f"nothing is asked with the id {request_id!r}: a command asks nothing")

    async def answer(self, request_id: str, answer: Answer) -> None:
        """See `Provider.answer`; a command asks nothing."""
        self.check_answer(request_id, answer)

    async def close(self, grace_seconds: float = 5) -> None:
        """See `Provider.close`; nothing is emitted from here on."""
        self._closing = True
        if self._program is not None:
            await self._program.stop(grace_seconds)

    def _say(self, update: Update) -> None:
        if not self._closing:
            self._emit(update)

    def _on_line(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        if self._launch.output == "plain":
            self._words(text)
            return
        data = parse_object(line)
        if data is None:
            self._say(Noise(text[:SHOWN_NOISE]))
            return
        if data.get("type") == "error":
            self._error = str(data.get("message", ""))[:_KEPT_WORDS]
        said = False
        for update in read_json_line(data, str(self._turn)):
            said = True
            if isinstance(update, Text) and not update.thought:
                self._last_words = update.text.strip()[-_KEPT_WORDS:]
            self._say(update)
        if not said:
            self._say(Noise(text[:SHOWN_NOISE]))

    def _words(self, text: str) -> None:
        self._last_words = text.strip()[-_KEPT_WORDS:] or self._last_words
        self._say(Text(f"{self._turn}-out", text + "\n"))

    def _on_exit(self, exited: Exited) -> None:
        turn, self._turn = self._turn, None
        code = exited.returncode
        if turn is None or code is None:
            return
        if self._cancelled:
            self._say(TurnEnded(turn, "canceled", "interrupted", code))
        elif code < 0:
            self._say(exited)
        else:
            outcome: Outcome = "failed" if code else "succeeded"
            why = self._error or exited.detail[-_KEPT_WORDS:] or self._last_words
            detail = f"exit code {code}: {why}" if code else self._last_words
            self._say(TurnEnded(turn, outcome, detail, code))


def read_json_line(data: Mapping[str, Any], turn_id: str) -> Iterator[Update]:
    """What one JSON object of a command's output says; nothing, where it says nothing we know."""
    kind = data.get("type")
    if kind == "tool":
        status = data.get("status")
        yield ToolCall(
            str(data.get("id", "")),
            cast("ToolStatus", status) if status in _STATUSES else None,
            title=_text(data.get("title")),
            input=_text(data.get("input")),
            output=_text(data.get("output")),
        )
    elif kind == "plan" and isinstance(data.get("entries"), list):
        pairs = [entry for entry in data["entries"] if isinstance(entry, list) and len(entry) == 2]
        yield Plan(tuple((str(text), str(status)) for text, status in pairs))
    elif kind == "usage":
        yield Usage(
            input_tokens=count(data.get("input_tokens")),
            output_tokens=count(data.get("output_tokens")),
            cost_usd=amount(data.get("cost_usd")),
        )
    else:
        for key in ("text", "message", "content", "result"):
            if isinstance(words := data.get(key), str) and words:
                yield Text(f"{turn_id}-out", words + "\n", thought=kind == "thought")
                return


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
