"""The fleet's facts: filters, gathering with hanging and dead agents, grouping by request, feedback."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput, NotFound, Unavailable
from quarterdeck.fleet.facts import Gathered, parse_filter
from quarterdeck.fleet.metadata import AT_ONCE, Ended, Starting, gather
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
        if self.kind == "ended":
            raise Ended("it was stopped")
        await anyio.sleep(random.uniform(0, 0.01))
        at = time.time() + (3600 if self.kind == "ahead" else 0)
        return {"data": self.data, "meta": {"at": iso(at)}}


@pytest.mark.anyio
async def test_every_kind_of_silence_is_told_apart() -> None:
    kinds = ["ok", "hangs", "dead", "none", "starting", "ahead", "ended"]
    began = time.monotonic()
    found = await gather([Source(k, k) for k in kinds], agent_seconds=3, whole_seconds=30)
    assert time.monotonic() - began < 20
    states = ["known", "unreachable", "unreachable", "none", "starting", "known", "unreachable"]
    assert [g.state for g in found] == states
    assert [g.ended for g in found] == [False] * 6 + [True]
    assert found[0].clock_off_seconds is None
    assert found[5].clock_off_seconds == pytest.approx(3600, abs=2)
    assert "within 3 s" in (found[1].error or "")
    assert "refused" in (found[2].error or "")


@pytest.mark.anyio
async def test_by_default_all_that_hang_together_cost_less_than_two_seconds() -> None:
    sources = [Source(f"h{n}", "hangs") for n in range(AT_ONCE)] + [Source(f"a{n}") for n in range(20)]
    began = time.monotonic()
    found = await gather([*sources, *(Source(f"x{n}", "hangs") for n in range(2 * AT_ONCE))])
    assert 1.0 <= time.monotonic() - began < 2.8  # 1.8 s, and what a busy machine adds
    assert [g.state for g in found[AT_ONCE : AT_ONCE + 20]] == ["known"] * 20
    assert found[0].error == "no answer within 1 s"
    assert found[-1].error == "no answer within the 1.8 s for all"


@pytest.mark.anyio
async def test_a_thousand_agents_with_some_hanging_and_some_dead() -> None:
    kinds = ["hangs" if n % 20 == 0 else "dead" if n % 20 == 1 else "ok" for n in range(1000)]
    began = time.monotonic()
    sources = [Source(f"a{n}", kind) for n, kind in enumerate(kinds)]
    found = await gather(sources, agent_seconds=10, whole_seconds=30)
    took = time.monotonic() - began
    assert took < 25
    assert sum(g.state == "known" for g in found) == 900
    assert [g.agent for g in found] == [f"a{n}" for n in range(1000)]


def test_what_could_not_be_collected_is_neither_found_nor_ruled_out() -> None:
    def of(name: str, **entries: Any) -> Gathered:
        return Gathered(agent=name, state="known", data=entries)

    failed = {"value": None, "error": "github refuses the token (HTTP 401)"}
    fleet = [
        of("has", pr={"value": 7, "error": None}, branch={"value": "x", "error": None}),
        of("old", pr={"value": 7, "error": "no network"}, branch={"value": "x", "error": None}),
        of("none", pr={"value": None, "error": None}, branch={"value": "x", "error": None}),
        of("fails", pr=failed, branch={"value": "x", "error": None}),
        of("elsewhere", pr=failed, branch={"value": "y", "error": None}),
        Gathered(agent="away", state="unreachable", error="no answer within 1 s"),
    ]
    found, unknown = parse_filter("branch=x,pr=7").split(fleet)
    assert found == {"has", "old"}
    assert [(u.agent, u.state, u.error) for u in unknown] == [
        ("fails", "not_collected", failed["error"]),
        ("away", "unreachable", "no answer within 1 s"),
    ]
    found, unknown = parse_filter("!pr").split(fleet)
    assert found == {"none"}
    assert [u.agent for u in unknown] == ["fails", "elsewhere", "away"]
