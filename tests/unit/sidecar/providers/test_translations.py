"""The pure translations: ACP updates, Claude Code's messages, a command's JSON lines."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.sidecar import ports
from quarterdeck.sidecar.providers import acp_updates, claude_messages
from quarterdeck.sidecar.providers.command import read_json_line


def acp(*updates: dict[str, Any]) -> list[ports.Update]:
    reader = acp_updates.UpdateReader()
    reader.new_turn("t")
    return [ours for update in updates for ours in reader.read(update)]


def chunk(text: str, kind: str = "agent_message_chunk") -> dict[str, Any]:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": text}}


def test_pieces_of_one_message_share_an_id_until_something_else_happens() -> None:
    tool = {"sessionUpdate": "tool_call", "toolCallId": "c", "title": "x"}
    found = acp(chunk("a"), chunk("b"), chunk("hm", "agent_thought_chunk"), chunk("c"), tool, chunk("d"))
    ids = [u.message_id for u in found if isinstance(u, ports.Text)]
    assert ids == ["t-m1", "t-m1", "t-m2", "t-m3", "t-m4"]


def test_cost_is_told_as_what_was_added() -> None:
    def usage(amount: float, currency: str = "USD") -> dict[str, Any]:
        return {
            "sessionUpdate": "usage_update", "used": 5, "size": 9, "cost": {"amount": amount, "currency": currency},
        }  # fmt: skip

    found = acp(usage(0.5), usage(0.75), usage(0.1), usage(9, "EUR"))
    assert [u.cost_usd for u in found if isinstance(u, ports.Usage)] == [0.5, 0.25, 0.1, None]


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"sessionUpdate": "of_the_future"},
        {"sessionUpdate": "agent_message_chunk", "content": None},
        {"sessionUpdate": "usage_update", "cost": "free"},
        {"sessionUpdate": "plan", "entries": [None, 3]},
    ],
)
def test_strange_acp_updates_are_survived(update: dict[str, Any]) -> None:
    assert all(isinstance(u, ports.Plan | ports.Usage) for u in acp(update))


def test_a_tool_call_keeps_what_it_knows() -> None:
    diff = {"type": "diff", "path": "/w/a", "newText": "new"}
    (call,) = acp(
        {"sessionUpdate": "tool_call_update", "toolCallId": "c", "status": "of the future", "content": [diff]}
    )
    assert call == ports.ToolCall("c", None, output="/w/a:\nnew")


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("end_turn", "succeeded"), ("cancelled", "canceled"), ("refusal", "failed"), ("max_tokens", "failed"),
        ("max_turn_requests", "failed"), ("of_the_future", "failed"), (None, "failed"),
    ],
)  # fmt: skip
def test_stop_reasons(reason: Any, outcome: str) -> None:
    found, detail = acp_updates.outcome_of(reason)
    assert found == outcome
    assert bool(detail) == (outcome == "failed")


def result(**more: Any) -> dict[str, Any]:
    return {"type": "result", "subtype": "success", "is_error": False, **more}


@pytest.mark.parametrize(
    ("message", "cancelled", "outcome"),
    [
        (result(result="ok", terminal_reason="completed"), False, "succeeded"),
        (result(result="ok", terminal_reason="completed"), True, "succeeded"),
        (result(is_error=True, terminal_reason="api_error", result="API Error: 400"), False, "failed"),
        (result(is_error=True, terminal_reason="api_error", result="API Error: 400"), True, "failed"),
        (result(is_error=True, terminal_reason="aborted_tools"), True, "canceled"),
        (result(terminal_reason="aborted_streaming"), True, "canceled"),
        (result(is_error=True, terminal_reason="aborted_streaming"), False, "failed"),
    ],
)
def test_claude_subtypes_are_not_believed(message: dict[str, Any], cancelled: bool, outcome: str) -> None:
    assert claude_messages.outcome_of(message, cancelled=cancelled)[0] == outcome


def test_claude_without_a_login_says_how_to_get_one() -> None:
    message = result(is_error=True, terminal_reason="api_error", result="Not logged in · Please run /login")
    assert claude_messages.LOGIN_HINT in claude_messages.outcome_of(message, cancelled=False)[1]


def test_claude_totals_are_not_counted_twice() -> None:
    reader = claude_messages.MessageReader()

    def said(number: int) -> dict[str, Any]:
        usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}
        content = [{"type": "text", "text": "x"}]
        return {"type": "assistant", "message": {"id": f"m{number}", "usage": usage, "content": content}}

    used: list[ports.Usage] = []
    for message in (said(1), said(1), said(2)):
        used += [u for u in reader.read(message) if isinstance(u, ports.Usage)]
    total = {"a": {"inputTokens": 20, "cacheReadInputTokens": 180, "outputTokens": 30, "contextWindow": 1000}}
    used.append(reader.total_usage({"total_cost_usd": 0.5, "modelUsage": total}))
    used.append(reader.total_usage({"total_cost_usd": 0.5, "modelUsage": total}))
    assert sum(u.input_tokens for u in used) == 200
    assert sum(u.output_tokens for u in used) == 30
    assert sum(u.cost_usd or 0 for u in used) == 0.5
    assert used[-1].context_size == 1000


def test_claude_calls_that_an_interruption_left_open_are_closed() -> None:
    reader = claude_messages.MessageReader()
    block = {"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "make\nmore"}}
    (call, *_) = reader.read({"type": "assistant", "message": {"id": "m", "content": [block]}})
    assert call == ports.ToolCall(
        "c1", "in_progress", title="Bash make", kind="execute", input='{"command": "make\\nmore"}'
    )
    assert list(reader.end_of_turn()) == [ports.ToolCall("c1", "failed", output="interrupted")]
    assert list(reader.end_of_turn()) == []


def test_claude_retries_are_a_state_until_the_model_speaks() -> None:
    reader = claude_messages.MessageReader()
    retry = {"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 3, "error_status": 529}
    (state,) = reader.read(retry)
    assert isinstance(state, ports.State)
    assert (state.activity, "529" in state.detail) == ("retrying", True)
    words = {"type": "assistant", "message": {"id": "m", "content": [{"type": "text", "text": "hi"}]}}
    assert next(iter(reader.read(words))) == ports.State("working")


def test_a_commands_json_lines() -> None:
    def read(data: dict[str, Any]) -> list[ports.Update]:
        return list(read_json_line(data, "t"))

    assert read({"type": "text", "text": "hi"}) == [ports.Text("t-out", "hi\n")]
    assert read({"type": "thought", "text": "hm"}) == [ports.Text("t-out", "hm\n", thought=True)]
    assert read({"result": "ok"}) == [ports.Text("t-out", "ok\n")]
    assert read({"type": "tool", "id": 1, "status": "odd"}) == [ports.ToolCall("1")]
    assert read({"type": "plan", "entries": [["a", "pending"], "odd"]}) == [ports.Plan((("a", "pending"),))]
    assert read({"type": "usage", "input_tokens": -3, "cost_usd": "x"}) == [ports.Usage()]
    assert read({"type": "of the future"}) == []
