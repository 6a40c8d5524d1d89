"""The pure model of a sidecar: status, stuck, budget, and what a person's answer means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.sidecar.attention import parse_answer
from quarterdeck.sidecar.model import (
    Attention,
    AttentionOption,
    StuckLimits,
    Task,
    UsageTotals,
    after_death,
    derive,
    more_budget,
    over_budget,
    stuck_since,
)
from quarterdeck.sidecar.ports import Answer

RUNNING = Task(id="t", description="x", state="started", queued_at=1)
CANCELING = Task(id="t", description="x", state="started", queued_at=1, cancel_requested_at=2)
PERMISSION = Attention(
    id="p",
    kind="permission",
    title="Delete?",
    options=[
        AttentionOption(id="a1", name="Always", kind="allow_always"),
        AttentionOption(id="o1", name="Once", kind="allow_once"),
        AttentionOption(id="r1", name="No, thanks", kind="reject_once"),
    ],
)
QUESTION = Attention(id="q", kind="question", title="Name?")
CHOICE = Attention(
    id="c",
    kind="question",
    title="Which?",
    options=[AttentionOption(id="1", name="red"), AttentionOption(id="2", name="blue")],
)
OPEN_CHOICE = replace(CHOICE, free_text=True)
SEVERAL = replace(CHOICE, multiple=True)


@pytest.mark.parametrize(
    ("facts", "status", "activity"),
    [
        ({"session": "starting"}, "starting", None),
        ({"session": "starting", "task": RUNNING}, "starting", None),
        ({"session": "running"}, "idle", None),
        ({"session": "running", "attention": [QUESTION]}, "idle", "waiting_input"),
        ({"session": "running", "task": RUNNING}, "busy", "working"),
        ({"session": "running", "task": RUNNING, "retrying": True}, "busy", "retrying"),
        ({"session": "running", "task": RUNNING, "attention": [PERMISSION]}, "busy", "waiting_permission"),
        ({"session": "running", "task": RUNNING, "attention": [QUESTION]}, "busy", "waiting_input"),
        ({"session": "running", "task": RUNNING, "attention": [QUESTION, PERMISSION]}, "busy", "waiting_permission"),
        ({"session": "running", "task": RUNNING, "attention": [QUESTION], "retrying": True}, "busy", "waiting_input"),
        ({"session": "running", "task": RUNNING, "stuck": True}, "busy", "stuck"),
        ({"session": "running", "task": RUNNING, "stuck": True, "attention": [QUESTION]}, "busy", "stuck"),
        ({"session": "running", "task": CANCELING}, "canceling", None),
        ({"session": "running", "task": CANCELING, "stuck": True}, "canceling", None),
        ({"session": "stopping", "task": RUNNING}, "stopping", None),
        ({"session": "stopped"}, "stopped", None),
        ({"session": "failed"}, "failed", None),
    ],
)
def test_status_and_activity(facts: dict[str, Any], status: str, activity: str | None) -> None:
    known = {"task": None, "attention": [], "retrying": False, "stuck": False}
    assert derive(**{**known, **facts}) == (status, activity)


@pytest.mark.parametrize(
    ("tool", "attention", "limit"), [(False, False, 10), (True, False, 100), (False, True, 1000), (True, True, 1000)]
)
def test_stuck_after_the_limit_that_applies(tool: bool, attention: bool, limit: float) -> None:
    def after(silence: float) -> float | None:
        return stuck_since(
            limits=StuckLimits(silent=10, tool=100, attention=1000), silence=silence, now=5000 + silence,
            tool_open=tool, attention_open=attention,
        )  # fmt: skip

    assert after(limit - 0.01) is None
    assert after(limit) == after(limit + 500) == 5000 + limit


@pytest.mark.parametrize(
    ("usage", "usd", "tokens", "reason"),
    [
        (UsageTotals(input_tokens=60, output_tokens=39), None, 100, None),
        (UsageTotals(input_tokens=60, output_tokens=40), None, 100, "the budget of 100 tokens is used up: 100 so far"),
        (UsageTotals(cost_usd=None), 0.01, None, None),
        (UsageTotals(cost_usd=0.49), 0.5, None, None),
        (UsageTotals(cost_usd=0.5), 0.5, None, "the budget of $0.50 is used up: $0.50 so far"),
        (UsageTotals(input_tokens=10**9, cost_usd=10**6), None, None, None),
    ],
)
def test_budget(usage: UsageTotals, usd: float | None, tokens: int | None, reason: str | None) -> None:
    assert over_budget(usage, usd=usd, tokens=tokens) == reason


def test_the_way_back_names_what_is_used_up() -> None:
    usage = UsageTotals(input_tokens=60, output_tokens=40, cost_usd=0.5)
    for usd, tokens, options in [
        (0.5, None, "--budget-usd AMOUNT"),
        (9, 99, "--budget-tokens NUMBER"),
        (0.1, 100, "--budget-usd AMOUNT --budget-tokens NUMBER"),
    ]:
        assert more_budget("ada", usage, usd=usd, tokens=tokens).endswith(f": qd agents restart ada {options}")


def test_what_a_death_makes_of_a_task() -> None:
    waiting = Task(id="t", description="x", state="queued", queued_at=1)
    sent = replace(waiting, sent_at=2)
    ended = replace(sent, state="succeeded", ended_at=3)
    assert after_death(waiting) == waiting
    assert after_death(waiting, deleted=True).state == "canceled"
    assert after_death(sent).state == "lost"
    assert after_death(replace(sent, state="started")).state == "lost"
    assert after_death(replace(sent, cancel_requested_at=2)).state == "canceled"
    assert after_death(ended, deleted=True) == ended


@pytest.mark.parametrize(
    ("attention", "text", "answer"),
    [
        (PERMISSION, "allow", Answer(option_id="o1")),
        (PERMISSION, "YES", Answer(option_id="o1")),
        (PERMISSION, "deny", Answer(option_id="r1")),
        (PERMISSION, " n ", Answer(option_id="r1")),
        (PERMISSION, "always", Answer(option_id="a1")),
        (PERMISSION, "a1", Answer(option_id="a1")),
        (PERMISSION, "no, thanks", Answer(option_id="r1")),
        (Attention(id="p", kind="permission", title="?"), "deny", Answer(declined=True)),
        (CHOICE, "2", Answer(option_id="2")),
        (CHOICE, "Blue", Answer(option_id="2")),
        (OPEN_CHOICE, "neither, take C", Answer(text="neither, take C")),
        (OPEN_CHOICE, "BLUE", Answer(option_id="2")),
        (SEVERAL, "red", Answer(option_id="1")),
        (SEVERAL, "red, 2,red", Answer(option_ids=("1", "2"))),
        (SEVERAL, '["Blue", "1"]', Answer(option_ids=("2", "1"))),
        (replace(SEVERAL, free_text=True), "red, mauve", Answer(text="red, mauve")),
        (QUESTION, "  any words ", Answer(text="  any words ")),
        (QUESTION, "yes", Answer(text="yes")),
    ],
)
def test_an_answer(attention: Attention, text: str, answer: Answer) -> None:
    assert parse_answer(attention, text) == answer


@pytest.mark.parametrize(
    ("attention", "text"),
    [(PERMISSION, "perhaps"), (PERMISSION, ""), (CHOICE, "green"), (CHOICE, "allow"),
     (SEVERAL, "red, mauve"), (SEVERAL, ","), (CHOICE, "red,blue"),
     (replace(PERMISSION, free_text=True, multiple=True), "perhaps"),
     (QUESTION, " \n"),
     (Attention(id="p", kind="permission", title="?"), "allow")],
)  # fmt: skip
def test_no_answer_lists_what_there_is(attention: Attention, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_answer(attention, text)
    for option in attention.options:
        assert option.id in refused.value.hint


@given(st.text())
def test_a_permission_is_never_allowed_by_accident(text: str) -> None:
    try:
        answer = parse_answer(PERMISSION, text)
    except InvalidInput:
        return
    if answer.option_id in ("a1", "o1"):
        assert text.strip().lower() in {"allow", "yes", "y", "approve", "ok", "a1", "o1", "always", "once"}
