"""The limit of busy agents: who is held, in which order they run, and what they are told of their place."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.errors import Conflict
from quarterdeck.events import Bus
from quarterdeck.fleet.bringup import Crew
from quarterdeck.fleet.model import AgentRecord, LinkView, Unreachable, summarize
from quarterdeck.fleet.queue import BusyLimit
from quarterdeck.fleet.roster import Roster
from quarterdeck.sidecar.model import SidecarFacts, Task


class Agents:
    """Agents that take tasks as sidecars do, without processes: the crew that the limit looks at."""

    def __init__(self, *names: str) -> None:
        self.links: dict[str, Any] = {}
        self.records: dict[str, AgentRecord] = {}
        self.roster = Roster(Bus(), lambda name: self.links[name].view, self.records.get)
        self.clock = itertools.count(1)
        self.most = 0
        self.order: list[str] = []
        self.refuses: set[str] = set()
        self.kept_back: set[str] = set()
        for name in names:
            self.records[name] = AgentRecord(
                id=name, name=name, project="p", role="coder", provider="x", repo="/r", base="main", created_at=1,
                provisioned_at=1, started_at=1,
            )  # fmt: skip
            facts = SidecarFacts(
                agent=name, incarnation=1, revision=1, observed_at=1, session="running", status="idle", activity=None,
                needs_attention=[], sidecar_pid=1, sidecar_started_at=1,
            )  # fmt: skip
            self.links[name] = SimpleNamespace(view=LinkView(facts=facts), refresh=self._refresh)
        self.limit = BusyLimit(0, cast(Crew, self), self._client)  # the limit proper is set by the tests

    def keeps_back(self, name: str) -> bool:
        """As the crew says it of an agent whose first task was called off."""
        return name in self.kept_back

    async def _refresh(self, deadline: float) -> None:
        return None

    async def _client(self, name: str) -> Any:
        async def release(task_id: str) -> None:
            if name in self.refuses:
                raise Conflict("gone meanwhile")
            self.begin(name)

        return SimpleNamespace(release=release)

    def facts(self, name: str) -> SidecarFacts:
        found = self.links[name].view.facts
        assert found is not None
        return found

    def change(self, name: str, **changes: Any) -> None:
        self.links[name].view = LinkView(facts=replace(self.facts(name), **changes))
        self.roster.look(name)

    def give(self, name: str) -> Task:
        """A task as `start_task` gives it."""
        held = self.limit.must_hold(name)
        at = float(next(self.clock))
        task = Task(id=f"{name}-{at:.0f}", description="", state="queued", queued_at=at, held=held)
        self.change(name, next_task=task, queue=1)
        if not held:
            self.begin(name)
        return self.limit.with_position(name, task)

    def begin(self, name: str) -> None:
        task = self.facts(name).next_task
        assert task is not None
        self.order.append(task.id)
        self.change(
            name, current_task=replace(task, state="started", held=False), next_task=None, queue=0, status="busy"
        )
        known = [link.view.facts for link in self.links.values() if link.view.facts is not None]
        self.most = max(self.most, sum(1 for facts in known if facts.current_task))

    def end(self, name: str) -> None:
        task = self.facts(name).current_task
        assert task is not None
        last = replace(task, state="succeeded", ended_at=time.time())
        self.change(name, current_task=None, last_task=last, status="idle")


def with_limit(limit: int, *names: str) -> Agents:
    agents = Agents(*names)
    agents.limit = BusyLimit(limit, cast(Crew, agents), agents._client)
    return agents


@pytest.mark.anyio
async def test_first_come_first_served() -> None:
    agents = with_limit(2, "a", "b", "c", "d", "e")
    first, second = agents.give("a"), agents.give("b")
    assert (first.held, second.held) == (False, False)
    third, fourth, fifth = agents.give("e"), agents.give("d"), agents.give("c")
    assert [(t.held, t.position) for t in (third, fourth, fifth)] == [(True, 1), (True, 2), (True, 3)]
    line = summarize(agents.records["d"], agents.links["d"].view)
    shown = agents.limit.place(line).task
    assert shown is not None
    assert shown.position == 2
    await agents.limit._release()
    assert agents.order == [first.id, second.id]
    agents.end("b")
    await agents.limit._release()
    assert agents.order[2:] == [third.id]
    agents.end("a")
    agents.end("e")
    await agents.limit._release()
    assert agents.order[3:] == [fourth.id, fifth.id]
    assert agents.most == 2


@pytest.mark.anyio
async def test_nobody_overtakes_those_who_wait() -> None:
    agents = with_limit(1, "a", "b", "c")
    agents.give("a")
    waits = agents.give("b")
    agents.end("a")
    late = agents.give("c")  # there is a place, but b was first
    assert late.held
    assert late.position == 2
    await agents.limit._release()
    assert agents.order[-1] == waits.id


@pytest.mark.anyio
async def test_one_that_cannot_run_holds_nobody_up() -> None:
    agents = with_limit(1, "a", "b", "c")
    agents.give("a")
    agents.give("b")
    after = agents.give("c")
    agents.refuses.add("b")
    agents.end("a")
    await agents.limit._release()
    assert agents.order[-1] == after.id


@pytest.mark.anyio
async def test_two_at_the_same_moment_do_not_share_a_place() -> None:
    agents = with_limit(1, "a", "b")
    assert not agents.limit.must_hold("a")
    assert agents.limit.must_hold("b"), "the place of a is taken though it does not show as busy yet"


def test_a_refused_task_gives_back_only_its_own_place() -> None:
    agents = with_limit(1, "a", "b")
    with agents.limit.place_for("a") as hold:  # a task is on its way to a
        assert not hold
        with pytest.raises(Conflict), agents.limit.place_for("a"):
            raise Conflict("a has a task already")
        assert agents.limit.must_hold("b"), "the place of the first task is taken still"
    agents = with_limit(1, "a", "b")
    with pytest.raises(Conflict), agents.limit.place_for("a"):
        raise Conflict("refused")
    assert not agents.limit.must_hold("b"), "nobody has the place any more"


@pytest.mark.anyio
async def test_a_hub_that_begins_waits_until_it_knows_who_is_busy() -> None:
    agents = with_limit(1, "a", "b", "c")
    agents.give("a")
    waits = agents.give("b")
    agents.links["a"].view = LinkView()
    await agents.limit._release()
    assert waits.id not in agents.order, "a may be busy"
    agents.change("b", next_task=None, queue=0)
    assert agents.limit.must_hold("c")
    assert agents.limit.is_reached_without("c")
    assert not agents.limit.must_hold("a"), "it is given its first task before it is heard of"
    agents = with_limit(1, "a", "b")
    agents.give("a")
    waits = agents.give("b")
    agents.links["a"].view = LinkView(unreachable=Unreachable(reason="silent", since=1))
    await agents.limit._release()
    assert agents.order[-1] == waits.id, "one that cannot be reached holds nobody up for ever"


@pytest.mark.anyio
async def test_released_as_soon_as_there_is_a_place() -> None:
    agents = with_limit(1, "a", "b")
    async with anyio.create_task_group() as group:
        group.start_soon(agents.limit.run)
        agents.give("a")
        agents.give("b")
        await anyio.sleep(0.05)
        assert agents.facts("b").current_task is None, "there was no place yet"
        agents.end("a")
        with anyio.fail_after(10):
            while agents.facts("b").current_task is None:
                await anyio.sleep(0.005)
        assert agents.facts("a").current_task is None
        group.cancel_scope.cancel()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from(["give", "end"]), st.sampled_from("abcde")), max_size=60))
def test_the_limit_is_kept_and_all_get_their_turn(limit: int, script: list[tuple[str, str]]) -> None:
    async def run() -> None:
        agents = with_limit(limit, *"abcde")
        given_ids: list[str] = []
        for what, name in script:
            facts = agents.facts(name)
            if what == "give" and facts.current_task is None and facts.next_task is None:
                given_ids.append(agents.give(name).id)
            elif what == "end" and facts.current_task is not None:
                agents.end(name)
            await agents.limit._release()
            assert sum(1 for n in "abcde" if agents.facts(n).current_task) <= limit
        for _ in range(12):
            for name in "abcde":
                if agents.facts(name).current_task is not None:
                    agents.end(name)
            await agents.limit._release()
        assert agents.order == given_ids, "first come, first served"

    anyio.run(run)
