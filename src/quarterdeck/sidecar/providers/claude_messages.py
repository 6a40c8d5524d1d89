"""What Claude Code says in its stream-json output, as updates of ours. Pure, and lenient towards newer versions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from quarterdeck.sidecar.ports import Outcome, Plan, State, Text, ToolCall, Update, Usage
from quarterdeck.sidecar.providers.jsonline import amount, count

KEPT_TEXT = 20_000
_KINDS = {
    "Read": "read", "Write": "edit", "Edit": "edit", "MultiEdit": "edit", "NotebookEdit": "edit", "Bash": "execute",
    "Grep": "search", "Glob": "search", "WebFetch": "fetch", "WebSearch": "fetch", "Task": "think", "Agent": "think",
}  # fmt: skip
_TITLE_KEYS = ("command", "file_path", "notebook_path", "pattern", "url", "query", "description")
_NOT_LOGGED_IN = ("Not logged in", "Invalid API key", "OAuth token", "authentication")
LOGIN_HINT = "run `claude` once and log in, or set ANTHROPIC_API_KEY where the hub starts"


class MessageReader:
    """Translates the messages of one process; counts what was used, which the program tells as totals."""

    def __init__(self) -> None:
        self._input = 0
        self._output = 0
        self._cost = 0.0
        self._counted = ""
        self._context_size: int | None = None
        self._retrying = False
        self._open_calls: set[str] = set()

    def read(self, message: Mapping[str, Any]) -> Iterator[Update]:
        """The updates that a message of the type assistant, user, system or tool_progress means."""
        kind = message.get("type")
        if kind == "assistant":
            yield from self._back_to_work()
            yield from self._assistant(message)
        elif kind == "user":
            yield from self._tool_results(message)
        elif kind == "tool_progress":
            # A sign of life of a long tool.
            yield ToolCall(str(message.get("tool_use_id", "")), "in_progress")
        elif kind == "system" and message.get("subtype") == "api_retry":
            self._retrying = True
            yield State("retrying", _retry_detail(message))
        elif kind == "system" and message.get("state") == "running":
            yield from self._back_to_work()

    def end_of_turn(self) -> Iterator[Update]:
        """What the program leaves open at the end of a turn: calls that were interrupted."""
        yield from self._back_to_work()
        for call in sorted(self._open_calls):
            yield ToolCall(call, "failed", output="interrupted")
        self._open_calls.clear()

    def _back_to_work(self) -> Iterator[Update]:
        if self._retrying:
            self._retrying = False
            yield State("working")

    def _assistant(self, message: Mapping[str, Any]) -> Iterator[Update]:
        inner = _table(message.get("message"))
        message_id = str(inner.get("id") or message.get("uuid") or "")
        # What a subagent says is not said to us: its words count as thoughts.
        aside = message.get("parent_tool_use_id") is not None
        for number, block in enumerate(_blocks(inner.get("content"))):
            kind = block.get("type")
            if kind == "text" and block.get("text"):
                yield Text(f"{message_id}-{number}", str(block["text"]), thought=aside)
            elif kind == "thinking" and block.get("thinking"):
                yield Text(f"{message_id}-{number}", str(block["thinking"]), thought=True)
            elif kind in ("tool_use", "server_tool_use"):
                yield from self._tool_use(block)
        if inner.get("model") != "<synthetic>" and message_id and message_id != self._counted:
            self._counted = message_id
            yield self._message_usage(_table(inner.get("usage")))

    def _tool_use(self, block: Mapping[str, Any]) -> Iterator[Update]:
        name, given = str(block.get("name", "")), _table(block.get("input"))
        call = str(block.get("id", ""))
        self._open_calls.add(call)
        yield ToolCall(
            call,
            "in_progress",
            title=title_of(name, given),
            kind=_KINDS.get(name, "other"),
            input=shown(given),
        )
        if name == "TodoWrite":
            todos = [_table(todo) for todo in given.get("todos") or []]
            yield Plan(tuple((str(t.get("content", "")), str(t.get("status", "pending"))) for t in todos))

    def _tool_results(self, message: Mapping[str, Any]) -> Iterator[Update]:
        for block in _blocks(_table(message.get("message")).get("content")):
            if block.get("type") == "tool_result":
                call = str(block.get("tool_use_id", ""))
                self._open_calls.discard(call)
                status = "failed" if block.get("is_error") else "completed"
                yield ToolCall(call, "failed" if status == "failed" else "completed", output=_result_text(block))

    # --- usage -------------------------------------------------------------------------------------

    def _message_usage(self, usage: Mapping[str, Any]) -> Usage:
        """Told with every message, so that a budget is held within a turn, too; `result` corrects it."""
        given = sum(
            count(usage.get(key)) for key in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        )
        out = count(usage.get("output_tokens"))
        self._input += given
        self._output += out
        return Usage(input_tokens=given, output_tokens=out, context_used=given + out, context_size=self._context_size)

    def total_usage(self, result: Mapping[str, Any]) -> Usage:
        """What `result` tells beyond what was told before. Its figures are totals of the process."""
        models = [_table(model) for model in _table(result.get("modelUsage")).values()]
        given = sum(
            count(model.get(key))
            for model in models
            for key in ("inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        )
        out = sum(count(model.get("outputTokens")) for model in models)
        sizes = [count(model.get("contextWindow")) for model in models if model.get("contextWindow")]
        self._context_size = max(sizes) if sizes else self._context_size
        cost = amount(result.get("total_cost_usd"))
        total = self._cost if cost is None else cost
        usage = Usage(
            input_tokens=max(given - self._input, 0),
            output_tokens=max(out - self._output, 0),
            cost_usd=max(total - self._cost, 0.0),
            context_size=self._context_size,
        )
        self._input, self._output = max(given, self._input), max(out, self._output)
        self._cost = max(total, self._cost)
        return usage


def outcome_of(result: Mapping[str, Any], *, cancelled: bool) -> tuple[Outcome, str]:
    """How the turn ended and why. `subtype` is not believed: "success" may carry an error."""
    reason = str(result.get("terminal_reason") or "")
    words = str(result.get("result") or "; ".join(map(str, result.get("errors") or [])) or "")[:2000]
    if not result.get("is_error") and not reason.startswith("aborted"):
        return "succeeded", words
    if cancelled and (reason.startswith("aborted") or not words):
        return "canceled", "interrupted"
    if any(mark in words for mark in _NOT_LOGGED_IN):
        return "failed", f"Claude Code is not logged in ({words}): {LOGIN_HINT}"
    return "failed", words or reason or str(result.get("subtype") or "it ended with an error")


def title_of(name: str, given: Mapping[str, Any]) -> str:
    """A tool call in a line."""
    about = next((str(given[key]) for key in _TITLE_KEYS if given.get(key)), "")
    line = about.splitlines()[0][:200] if about else ""
    return f"{name} {line}".strip()


def shown(value: Any) -> str:
    """JSON as text of a reasonable length."""
    return json.dumps(value, ensure_ascii=False)[:KEPT_TEXT]


def _retry_detail(message: Mapping[str, Any]) -> str:
    status = message.get("error_status") or ""
    return (
        f"{message.get('error') or 'error'} {status}, attempt {message.get('attempt')} of {message.get('max_retries')}"
    )


def _result_text(block: Mapping[str, Any]) -> str:
    content = block.get("content")
    if isinstance(content, str):
        return content[:KEPT_TEXT]
    texts = [str(part.get("text") or f"[{part.get('type')}]") for part in _blocks(content)]
    return "\n".join(texts)[:KEPT_TEXT]


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
