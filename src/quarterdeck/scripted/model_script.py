"""What the scripted model answers: a function of the conversation alone.

The last thing the user said carries the work, as lines `@step` (script.py) or as `@@name` of a scenario.
Each step that needs a tool becomes one tool call; the number of tool results since then tells how far the
work is. So retries, titles asked for on the side, and resumed sessions need no memory here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass, field
from typing import Any

from quarterdeck.scripted.script import Step, parse, unescape

Json = dict[str, Any]

# Scenarios as data, in the same little language.
SCENARIOS: dict[str, str] = {
    "write": "@write hello.txt hello from the model\n@say wrote hello.txt",
    "test": "@write check.py assert 1 + 1 == 2; print('checked')\n@run python3 check.py\n@say the test passed",
    "ask": "@run touch allowed.txt\n@say went on",
    "slow": "@stream one two three four five six seven eight nine ten",
    "overloaded": "@overloaded 2\n@say it went through after all",
    "hang": "@hang",
    # Claude Code blocks a `sleep` on its own.
    "long": "@run python3 -c 'import time; time.sleep(300)'\n@say never said",
}
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_INTERRUPTED = "[Request interrupted by user"
_UNREAD = "has not been read"
_IDENTITY = (
    "git config user.email >/dev/null || export GIT_AUTHOR_NAME=Scripted GIT_AUTHOR_EMAIL=scripted@quarterdeck.invalid "
    "GIT_COMMITTER_NAME=Scripted GIT_COMMITTER_EMAIL=scripted@quarterdeck.invalid; "
)


@dataclass
class Reply:
    """One answer of the model, and how it is to be given.

    `wait_seconds` comes before the answer, `word_seconds` between its words; `hang` never answers;
    `overloaded` times the very same request is refused with 529; `error` is an HTTP 400 with that text.
    """

    blocks: list[Json] = field(default_factory=list)
    input_tokens: int = 10
    output_tokens: int = 5
    wait_seconds: float = 0
    word_seconds: float = 0
    hang: bool = False
    overloaded: int = 0
    error: str | None = None

    @property
    def stop_reason(self) -> str:
        """Anthropic's word for why it stops."""
        return "tool_use" if any(block["type"] == "tool_use" for block in self.blocks) else "end_turn"

    def say(self, text: str) -> None:
        """Add words."""
        self.blocks.append({"type": "text", "text": text})


@dataclass
class _Result:
    name: str
    given: Json
    error: bool
    text: str


def reply_to(request: Json) -> Reply:
    """The answer to one request of the Messages API."""
    messages = [m for m in request.get("messages") or [] if isinstance(m, dict)]
    tools = [str(tool.get("name")) for tool in request.get("tools") or []]
    reply = Reply()
    place = _last_word(messages)
    if place is None or not tools:
        reply.say("Scripted work")
        return reply
    text = said(messages[place])
    for name in re.findall(r"@@([a-z-]+)", text):
        text = SCENARIOS.get(name, f"@say there is no scenario {name}")
    steps = parse(text)
    if not steps:
        reply.say(f"I read {len(text.split())} words and there was nothing to do in them.")
        return reply
    _Player(request, tools, _results(messages[place + 1 :]), reply).play(steps)
    return reply


def said(message: Json) -> str:
    """What a person said last in a user's message: without tool results and what a program put in.

    Messages in a row are sent as one (what was interrupted, or failed, and then the next), so the last
    text counts.
    """
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    texts = [str(b.get("text", "")) for b in blocks if isinstance(b, dict) and b.get("type") == "text"]
    words = [_REMINDER.sub("", text).strip() for text in texts if not text.startswith(_INTERRUPTED)]
    return next((text for text in reversed(words) if text), "")


def _last_word(messages: list[Json]) -> int | None:
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].get("role") == "user" and said(messages[place]):
            return place
    return None


def _results(messages: list[Json]) -> list[_Result]:
    """The tool results since the user spoke, each with the call it answers."""
    calls: dict[str, Json] = {}
    found: list[_Result] = []
    for message in messages:
        for block in message.get("content") or []:
            if not isinstance(block, dict):
                continue
            if block.get("type") == "tool_use":
                calls[str(block.get("id"))] = block
            elif block.get("type") == "tool_result":
                call = calls.get(str(block.get("tool_use_id")), {})
                content = block.get("content")
                text = content if isinstance(content, str) else json.dumps(content)
                error = bool(block.get("is_error"))
                found.append(_Result(str(call.get("name")), dict(call.get("input") or {}), error, text))
    return found


class _Player:
    """Goes through the steps with the results at hand, up to the first call that has none yet."""

    def __init__(self, request: Json, tools: list[str], results: list[_Result], reply: Reply) -> None:
        self._request = request
        self._tools = tools
        self._results = results
        self._reply = reply
        self._skip = False
        self._told = ""

    def play(self, steps: list[Step]) -> None:
        """Fill the reply: words, then the first call that is not answered yet; or only words, at the end."""
        for step in steps:
            if self._skip:
                self._skip = False
            elif (call := self._call_of(step)) is not None:
                if (next_call := self._open_call(*call)) is not None:
                    self._reply.blocks.append(_use(*next_call))
                    return
                self._reply.blocks.clear()  # said in an earlier reply
                self._reply.input_tokens, self._reply.output_tokens = 10, 5
                self._reply.wait_seconds = self._reply.overloaded = 0
            elif self._other(step):
                return
        if not self._reply.blocks:
            self._reply.say("done")

    def _open_call(self, name: str, given: Json, skip_after_error: bool) -> tuple[str, Json] | None:
        """What to call now for this step; None when the step has its result."""
        while self._results:
            result = self._results.pop(0)
            if result.error and _UNREAD in result.text:
                # An existing file must be read before it is written: a call more, then the same again.
                if not self._results:
                    return "Read", {"file_path": given["file_path"]}
                self._results.pop(0)
                continue
            self._skip = skip_after_error and result.error
            self._told = result.text
            return None
        return name, given

    def _call_of(self, step: Step) -> tuple[str, Json, bool] | None:
        """The tool call that does a step, and whether its refusal skips the next; None when it needs no tool."""
        path, text = step.split()
        text += "" if text.endswith("\n") else "\n"
        if step.name == "write":
            return "Write", {"file_path": self._absolute(path), "content": text}, False
        if step.name == "question":
            return self._question(step.rest)
        if step.name == "mcp":
            tool, _, given = step.rest.partition(" ")
            full = next((name for name in self._tools if name.endswith(f"__{tool}")), f"mcp__quarterdeck__{tool}")
            return full, json.loads(given) if given.strip() else {}, False
        command = self._command_of(step, path, text)
        about = {"command": command, "description": f"{step.name} step"}
        return None if command is None else ("Bash", about, step.name == "ask")

    def _command_of(self, step: Step, path: str, text: str) -> str | None:
        if step.name == "run":
            return step.rest
        if step.name == "append":
            return f"printf %s {shlex.quote(text)} >> {shlex.quote(path)}"
        if step.name == "once":
            return f"printf '%s\\n' {shlex.quote(text.strip() or 'done')} >> {shlex.quote(path)}"
        if step.name == "commit":
            return f"{_IDENTITY}git add -A && git commit -q -m {shlex.quote(step.rest)}"
        if step.name == "ask":
            return f"touch .asked && rm .asked # {step.rest}"
        if step.name == "child":
            return f"setsid sleep {shlex.quote(step.rest)} > /dev/null 2>&1 & echo child $!"
        return None

    def _question(self, rest: str) -> tuple[str, Json, bool]:
        text, *options = rest.split("|")
        choices = [{"label": option, "description": option} for option in options or ["yes", "no"]]
        question = {"question": text, "header": "Scripted", "options": choices, "multiSelect": False}
        return "AskUserQuestion", {"questions": [question]}, False

    def _other(self, step: Step) -> bool:
        """Do what needs no tool; whether the reply is complete with it."""
        reply, rest = self._reply, step.rest
        if step.name in ("say", "think"):
            reply.say(unescape(rest))
        elif step.name == "answers":
            # What the last tool told: the way to see in a test what a person answered.
            reply.say(f"answers: {self._told}")
        elif step.name == "instructions":
            reply.say(f"instructions: {'found' if rest and self._instructed(rest) else 'missing'}")
        elif step.name == "usage":
            reply.input_tokens, reply.output_tokens = (int(part) for part in rest.split()[:2])
        elif step.name == "stream":
            reply.say(rest)
            reply.word_seconds = 0.2
        elif step.name == "sleep":
            reply.wait_seconds += float(rest)
        elif step.name == "overloaded":
            reply.overloaded = int(rest or "1")
        elif step.name == "hang":
            reply.hang = True
            return True
        elif step.name == "fail":
            reply.error = rest or "told to fail"
            return True
        return False

    def _instructed(self, needle: str) -> bool:
        """Whether the words reached the model: in its system prompt, or in front of what a person said."""
        texts = [json.dumps(self._request.get("system") or "")]
        texts += [json.dumps(message.get("content")) for message in self._request["messages"]]
        return any(needle in text.replace(f"@instructions {needle}", "") for text in texts)

    def _absolute(self, path: str) -> str:
        if path.startswith("/"):
            return path
        found = re.search(r"working directory: ([^\\\n\"]+)", json.dumps(self._request))
        return f"{found.group(1).rstrip('/')}/{path}" if found else path


def _use(name: str, given: Json) -> Json:
    return {"type": "tool_use", "id": f"toolu_{os.urandom(6).hex()}", "name": name, "input": given}
