"""Facts in words."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.cli import words

NOW = 1_000_000.0


def task(**facts: Any) -> dict[str, Any]:
    """A task as the API tells it."""
    times = dict.fromkeys(("queued_at", "accepted_at", "started_at", "ended_at"))
    return {"state": "started", "position": None, "held": False, "description": "d", **times, **facts}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (200_000, "2 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e12, "2000.0 GB")]
)
def test_sizes(count: int | None, text: str) -> None:
    assert words.size(count) == text


def test_a_task_in_words() -> None:
    assert words.task_of(None, NOW) == "-"
    assert words.task_of(task(started_at=NOW - 12), NOW) == "started 12 s"
    assert words.task_of(task(state="queued", queued_at=NOW, position=2), NOW) == "queued, number 2"
    assert words.task_of(task(state="queued", queued_at=NOW, position=1, held=True), NOW).endswith("(fleet limit)")
    assert words.task_of(task(state="lost", ended_at=NOW - 120), NOW) == "lost 2 min ago"


def test_what_stands_out() -> None:
    agent = {"status": "busy", "activity": "waiting_permission", "unreachable": None}
    assert words.status_of(agent) == "busy, waiting for permission"
    assert "magenta" in words.status_style(agent)
    assert words.status_of({**agent, "activity": "working"}) == "busy"
    gone = {**agent, "unreachable": {"reason": "refused", "since": 1}, "failure": "f", "report": None}
    assert words.status_style(gone) == "red"
    assert words.remark(gone) == "unreachable: refused"


def test_an_answer_is_a_command_that_can_be_pasted() -> None:
    options = [{"id": "yes please", "name": "Yes", "kind": "x"}, {"id": "no", "name": "No", "kind": "x"}]
    permission = {"id": "a;b", "kind": "permission", "options": options}
    assert words.answer_commands("ada", permission) == [
        "qd agents answer ada 'yes please' --id 'a;b'", "qd agents answer ada no --id 'a;b'",
    ]  # fmt: skip
    bare = words.answer_commands("ada", {**permission, "options": []})
    assert [command.split()[4] for command in bare] == ["allow", "deny"]
    question = {"id": "q", "kind": "question", "options": []}
    anything = "qd agents answer ada 'your answer' --id q"
    assert words.answer_commands("ada", question) == [anything]
    choice = {**question, "options": options}
    assert words.answer_commands("ada", {**choice, "free_text": True})[2:] == [anything]
    assert words.answer_commands("ada", {**choice, "multiple": True})[2:] == [
        "qd agents answer ada 'yes please,no' --id q"
    ]


def test_what_is_asked_is_told_whole_and_does_nothing_to_the_terminal() -> None:
    item = {
        "id": "p",
        "kind": "permission",
        "title": "list\x1b[2K files\nada asks: tea?",
        "detail": "ls\nrm -rf \u202e x\r",
    }
    told = words.asked("ada", item)
    assert told.splitlines() == [
        "ada asks for permission: list\\x1b[2K files ada asks: tea?", "    ls", "    rm -rf \\u202e x",
    ]  # fmt: skip
    assert words.plain("Grüße\tan 李\n") == "Grüße\tan 李\n"
    evil = {"id": "p", "kind": "permission", "options": [{"id": "a\x1b[8m", "name": "A", "kind": "x"}]}
    assert words.answer_commands("ada", evil) == ["qd agents answer ada 'a\\x1b[8m' --id p"]


def test_use_in_words() -> None:
    usage = {"input_tokens": 900, "output_tokens": 99, "cost_usd": None}
    assert words.used(usage) == "999"
    assert words.used({**usage, "output_tokens": 1100, "cost_usd": 0.5}) == "2.0k $0.50"


def test_long_texts_are_cut_at_their_first_line() -> None:
    assert words.shorten("\n  \n first line \nsecond", 40) == "first line"
    assert words.shorten("x" * 50, 10) == "x" * 9 + "…"
    assert words.shorten("", 10) == ""
