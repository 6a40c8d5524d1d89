"""The fleet's facts: filters, gathering with hanging and dead agents, grouping by request, feedback."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput, NotFound, Unavailable
from quarterdeck.fleet.facts import Gathered, parse_filter
from quarterdeck.fleet.metadata import Starting, gather
from quarterdeck.fleet.pull_requests import MEMORY_KEY, decide, give_feedback, grouped
from quarterdeck.metadata.model import iso


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("pull_request_number=123", {"pull_request_number": 123}, True),
        ("pull_request_number=123", {"pull_request_number": 124}, False),
        ("pull_request_number=123", {}, False),
        ("pull_request_number!=123", {}, True),
        ("git_branch=qd/*", {"git_branch": "qd/alice"}, True),
        ("git_branch=qd/*", {"git_branch": "main"}, False),
        ("git_dirty=true", {"git_dirty": True}, True),
        ("git_dirty=true", {"git_dirty": False}, False),
        ("git_dirty", {"git_dirty": False}, False),
        ("!git_dirty", {"git_dirty": False}, True),
        ("git_ahead>0", {"git_ahead": 2}, True),
        ("git_ahead>0", {"git_ahead": None}, False),
        ("git_ahead>=2, git_behind<1", {"git_ahead": 2, "git_behind": 0}, True),
        ("a=null", {"a": None}, True),
        ('note="a, b = c"', {"note": "a, b = c"}, True),
        ("tags=x", {"tags": ["y", "x"]}, True),
        ("note=[a]?", {"note": "[a]?"}, True),
        ("note=[a]?", {"note": "a!"}, False),
        ("n=1.5", {"n": 1.5}, True),
        ("n=", {"n": ""}, True),
    ],
)
def test_filters(text: str, values: Mapping[str, Any], expected: bool) -> None:
    assert parse_filter(text).matches(values) is expected


@pytest.mark.parametrize("text", ["", ",", "=1", "a b", 'a="', "a>x", "!a=1", "a=1,,b", "é=1"])
def test_filters_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_filter(text)


@given(st.text(max_size=30))
def test_a_filter_is_read_or_refused(text: str) -> None:
    try:
        found = parse_filter(text)
    except InvalidInput as error:
        assert error.hint  # noqa: PT017 - either is right
    else:
        assert found.matches({"a": 1}) in (True, False)


@dataclass
class Source:
    """An agent of a simulated fleet."""

    name: str
    kind: str = "ok"
    data: dict[str, Any] = field(default_factory=dict)

    async def metadata(self) -> Mapping[str, Any]:
        if self.kind == "hangs":
            await anyio.sleep_forever()
        if self.kind == "dead":
            raise Unavailable("connection refused")
        if self.kind == "none":
            raise NotFound("it has no metadata server")
        if self.kind == "starting":
            raise Starting("it is being brought up")
        await anyio.sleep(random.uniform(0, 0.01))
        at = time.time() + (3600 if self.kind == "ahead" else 0)
        return {"data": self.data, "meta": {"at": iso(at)}}


@pytest.mark.anyio
async def test_every_kind_of_silence_is_told_apart() -> None:
    kinds = ["ok", "hangs", "dead", "none", "starting", "ahead"]
    began = time.monotonic()
    found = await gather([Source(k, k) for k in kinds], agent_seconds=0.2)
    assert time.monotonic() - began < 0.5
    assert [g.state for g in found] == ["known", "unreachable", "unreachable", "none", "starting", "known"]
    assert found[0].clock_off_seconds is None
    assert found[5].clock_off_seconds == pytest.approx(3600, abs=2)
    assert "within 0.2 s" in (found[1].error or "")
    assert "refused" in (found[2].error or "")


@pytest.mark.anyio
async def test_a_thousand_agents_with_some_hanging_and_some_dead() -> None:
    kinds = ["hangs" if n % 20 == 0 else "dead" if n % 20 == 1 else "ok" for n in range(1000)]
    began = time.monotonic()
    found = await gather([Source(f"a{n}", kind) for n, kind in enumerate(kinds)])
    took = time.monotonic() - began
    assert took < 2
    assert sum(g.state == "known" for g in found) == 900
    assert [g.agent for g in found] == [f"a{n}" for n in range(1000)]


def agent(name: str, **facts: Any) -> Gathered:
    entry = {"error": None, "stale": False, "age_seconds": 1.0}
    pull = {
        "pull_request_number": 7, "pull_request_repository": "h/o/r", "pull_request_state": "open",
        "pull_request_url": "https://h/o/r/pull/7", "pull_request_title": "T", "pull_request_head": "a" * 40,
        "pull_request_check_status": "failing", "pull_request_review_decision": "none",
        "pull_request_failing_checks": [{"name": "unit", "url": "https://h/1"}],
        "pull_request_change_requests": [], "git_head": "a" * 40, **facts,
    }  # fmt: skip
    return Gathered(agent=name, state="known", data={key: {**entry, "value": value} for key, value in pull.items()})


def remembering(gathered: Gathered, value: Any) -> Gathered:
    return replace(gathered, data={**gathered.data, MEMORY_KEY: {"value": value}})


def test_grouping_by_request() -> None:
    fleet = [agent("b"), agent("a"), agent("c", pull_request_number=9, pull_request_state="merged"),
             agent("d", pull_request_number=None), agent("e", pull_request_number=8)]  # fmt: skip
    views = grouped(fleet)
    assert [(v.number, v.agents) for v in views] == [(8, ["e"]), (7, ["a", "b"]), (9, ["c"])]
    assert views[1].failing_checks == ["unit"]


def test_failing_checks_are_told_once_per_commit() -> None:
    [decision] = decide([agent("a")], attempts=3)
    [task] = decision.tasks
    assert task.key == f"h/o/r#7@{'a' * 12}:checks"
    assert "unit: https://h/1" in task.prompt
    assert decision.remember is not None
    told = remembering(agent("a"), decision.remember.to_value())
    assert decide([told], attempts=3) == []
    pushed = remembering(agent("a", pull_request_head="b" * 40), decision.remember.to_value())
    [again] = decide([pushed], attempts=3)
    assert again.tasks[0].key == f"h/o/r#7@{'b' * 12}:checks"


def test_attempts_end_and_begin_anew_after_success() -> None:
    memory: Any = None
    for n in range(5):
        found = decide([remembering(agent("a", pull_request_head=f"{n}" * 40), memory)], attempts=3)
        if n < 3:
            assert len(found[0].tasks) == 1
        elif n == 3:
            assert found[0].tasks == ()
            assert found[0].remember is not None
            assert found[0].remember.gave_up == ("checks",)
        else:
            assert found == []
        if found and found[0].remember:
            memory = found[0].remember.to_value()
    passing = remembering(agent("a", pull_request_check_status="passing"), memory)
    memory = decide([passing], attempts=3)[0].remember
    assert memory is not None
    assert memory.gave_up == ()
    broken = remembering(agent("a", pull_request_head="f" * 40), memory.to_value())
    assert len(decide([broken], attempts=3)[0].tasks) == 1


def test_closed_and_doubtful_requests_are_left_alone() -> None:
    assert decide([agent("a", pull_request_state="merged")], attempts=3) == []
    assert decide([agent("a", pull_request_state="closed")], attempts=3) == []
    stale = agent("a")
    entry = {**stale.data["pull_request_number"], "stale": True, "error": "no network"}
    assert decide([replace(stale, data={**stale.data, "pull_request_number": entry})], attempts=3) == []


def test_one_agent_per_request_is_told_and_stays_the_one() -> None:
    fleet = [agent("a", git_head="0" * 40), agent("b"), agent("c")]
    [decision] = decide(fleet, attempts=3)
    assert decision.agent == "b"
    assert decision.remember is not None
    later = [agent("a"), remembering(agent("b", git_head="0" * 40), decision.remember.to_value())]
    assert decide(later, attempts=3) == []


def test_a_request_for_changes_comes_with_its_text_quoted() -> None:
    review = {"id": "r1", "author": "bob", "text": "use a set\nnot a list", "url": "https://h/r1"}
    facts = {"pull_request_check_status": "passing", "pull_request_change_requests": [review]}
    [decision] = decide([agent("a", **facts)], attempts=3)
    assert "> use a set\n> not a list" in decision.tasks[0].prompt
    assert decision.tasks[0].key.endswith(":review:r1")


class Port:
    """Agents that remember, as sidecars do; may fail between task and memory."""

    def __init__(self) -> None:
        self.tasks: dict[str, str] = {}
        self.memory: dict[str, Any] = {}
        self.fails_to_remember = False

    async def give_task(self, agent: str, prompt: str, *, title: str, idempotency_key: str) -> str:
        return self.tasks.setdefault(idempotency_key, f"task-{len(self.tasks)}")

    async def set_metadata(self, agent: str, values: Mapping[str, Any]) -> None:
        if self.fails_to_remember:
            raise Unavailable("gone")
        self.memory.update(values)


@pytest.mark.anyio
async def test_a_crash_between_task_and_memory_gives_no_second_task() -> None:
    port = Port()
    port.fails_to_remember = True
    first = await give_feedback([agent("a")], attempts=3, port=port)
    port.fails_to_remember = False
    second = await give_feedback([agent("a")], attempts=3, port=port)
    assert [g.task_id for g in first] == [g.task_id for g in second] == ["task-0"]
    assert len(port.tasks) == 1
    third = await give_feedback([remembering(agent("a"), port.memory[MEMORY_KEY])], attempts=3, port=port)
    assert third == []
