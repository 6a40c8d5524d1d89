"""What an ACP agent says in `session/update`, as updates of ours. Pure, and lenient: an agent may be newer than us."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args

from quarterdeck.sidecar.ports import Outcome, Plan, Text, ToolCall, ToolStatus, Update, Usage
from quarterdeck.sidecar.providers.jsonline import amount, count

KEPT_TEXT = 20_000
# Said at any time, also before the prompt was read: no receipt of a turn.
NOT_OF_A_TURN = frozenset(
    {"available_commands_update", "current_mode_update", "config_option_update", "session_info_update", "usage_update"}
)
_STATUSES = frozenset(get_args(ToolStatus))
_STOP_REASONS: dict[str, tuple[Outcome, str]] = {
    "end_turn": ("succeeded", ""),
    "cancelled": ("canceled", ""),
    "refusal": ("failed", "the model refused to go on"),
    "max_tokens": ("failed", "the model stopped at its limit of tokens"),
    "max_turn_requests": ("failed", "the agent stopped at its limit of model requests in one turn"),
}


def outcome_of(stop_reason: Any) -> tuple[Outcome, str]:
    """How a turn ended, and why where it failed."""
    return _STOP_REASONS.get(str(stop_reason), ("failed", f"the agent stopped with the unknown reason {stop_reason!r}"))


class UpdateReader:
    """Translates updates of one process; remembers what is needed to group words and to count increments."""

    def __init__(self) -> None:
        self._turn = ""
        self._message = 0
        self._speaking: str | None = None
        self._cost = 0.0

    def new_turn(self, turn_id: str) -> None:
        """What follows is a new message; the turn's id keeps message ids apart from one life to the next."""
        self._turn = turn_id
        self._message = 0
        self._speaking = None

    def read(self, update: Mapping[str, Any]) -> Iterator[Update]:
        """The updates that one `session/update` means: none, for what nobody needs to know."""
        kind = update.get("sessionUpdate")
        if kind in ("agent_message_chunk", "agent_thought_chunk"):
            if text := _content_text(update.get("content")):
                yield Text(self._message_id(update, str(kind)), text, thought=kind == "agent_thought_chunk")
            return
        if kind == "usage_update":
            yield self._usage(update)
            return
        self._speaking = None
        if kind in ("tool_call", "tool_call_update"):
            yield _tool_call(update)
        elif kind == "plan":
            yield Plan(
                tuple(
                    (str(entry.get("content", "")), str(entry.get("status", "pending")))
                    for entry in update.get("entries") or []
                    if isinstance(entry, Mapping)
                )
            )

    def turn_usage(self, result: Mapping[str, Any]) -> Usage | None:
        """The tokens of a turn, as its answer tells them; None where it does not."""
        usage = result.get("usage")
        if isinstance(usage, Mapping):
            out = count(usage.get("outputTokens"))
            return Usage(
                input_tokens=max(count(usage.get("totalTokens")) - out, count(usage.get("inputTokens"))),
                output_tokens=out,
            )
        quota = (result.get("_meta") or {}).get("quota")
        counts = quota.get("token_count") if isinstance(quota, Mapping) else None
        if isinstance(counts, Mapping):  # Gemini's way
            return Usage(
                input_tokens=count(counts.get("input_tokens")), output_tokens=count(counts.get("output_tokens"))
            )
        return None

    def _message_id(self, update: Mapping[str, Any], kind: str) -> str:
        if given := update.get("messageId"):
            return str(given)
        if self._speaking != kind:
            self._speaking = kind
            self._message += 1
        return f"{self._turn}-m{self._message}"

    def _usage(self, update: Mapping[str, Any]) -> Usage:
        cost = update.get("cost")
        spent: float | None = None
        if isinstance(cost, Mapping) and cost.get("currency", "USD") == "USD":
            total = amount(cost.get("amount"))
            if total is not None:
                # Cumulative; a smaller figure means that the agent began to count anew.
                spent = total - self._cost if total >= self._cost else total
                self._cost = total
        return Usage(
            cost_usd=spent,
            context_used=count(update.get("used")) if "used" in update else None,
            context_size=count(update.get("size")) if "size" in update else None,
        )


def _tool_call(update: Mapping[str, Any]) -> ToolCall:
    status = update.get("status")
    if update.get("sessionUpdate") == "tool_call" and status is None:
        status = "pending"
    given = update.get("rawInput")
    return ToolCall(
        call_id=str(update.get("toolCallId", "")),
        status=cast("ToolStatus", status) if status in _STATUSES else None,
        title=_maybe(update.get("title")),
        kind=_maybe(update.get("kind")),
        input=None if given is None else shown(given),
        output=_tool_output(update),
    )


def _tool_output(update: Mapping[str, Any]) -> str | None:
    parts: list[str] = []
    for item in update.get("content") or []:
        if not isinstance(item, Mapping):
            continue
        if item.get("type") == "content":
            parts.append(_content_text(item.get("content")))
        elif item.get("type") == "diff":
            parts.append(f"{item.get('path')}:\n{item.get('newText', '')}")
    if text := "\n".join(part for part in parts if part):
        return text[:KEPT_TEXT]
    raw = update.get("rawOutput")
    return None if raw is None else shown(raw)


def shown(value: Any) -> str:
    """Any JSON value as text of a reasonable length."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:KEPT_TEXT]


def _content_text(content: Any) -> str:
    if not isinstance(content, Mapping):
        return ""
    if content.get("type") == "text":
        return str(content.get("text", ""))
    if content.get("type") == "resource_link":
        return str(content.get("uri", ""))
    return f"[{content.get('type', 'content')}]"


def _maybe(value: Any) -> str | None:
    return None if value is None else str(value)
