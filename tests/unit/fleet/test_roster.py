"""Cursors: whoever passes them on knows in the end what there is, whatever happened in between."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.events import AgentChanged, Bus, Event
from quarterdeck.fleet.model import AgentRecord, LinkView
from quarterdeck.fleet.roster import Roster
from quarterdeck.sidecar.model import SidecarFacts, Status

NAMES = ["a", "b", "c"]
STATES: list[Status] = ["idle", "busy", "failed"]


class World:
    """The truth that a roster looks at, and the roster of one hub's life."""

    def __init__(self) -> None:
        self.records: dict[str, AgentRecord] = {}
        self.views: dict[str, LinkView] = {}
        self.events: list[Event] = []
        self.begin_hub()

    def begin_hub(self) -> None:
        bus = Bus()
        bus.subscribe(self.events.append)
        self.roster = Roster(bus, lambda name: self.views.get(name, LinkView()), self.records.get)
        for name in self.records:
            self.roster.look(name)

    def set(self, name: str, status: Status) -> None:
        self.records.setdefault(
            name,
            AgentRecord(
                id=name, name=name, project="p", role="coder", provider="x", repo="/r", base="main", created_at=1,
                provisioned_at=1, started_at=1,
            ),
        )  # fmt: skip
        facts = SidecarFacts(
            agent=name, incarnation=1, revision=1, observed_at=1, session="running", status=status, activity=None,
            needs_attention=[], sidecar_pid=1, sidecar_started_at=1,
        )  # fmt: skip
        self.views[name] = LinkView(facts=facts)
        self.roster.look(name)

    def delete(self, name: str) -> None:
        if self.records.pop(name, None) is not None:
            self.views.pop(name, None)
            self.roster.removed(name)

    def truth(self) -> dict[str, Status]:
        return {name: view.facts.status for name, view in self.views.items() if view.facts}


class Reader:
    """A client that only passes cursors on."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self.known: dict[str, Status] = {}

    async def read(self, world: World) -> None:
        before = self.cursor
        answer = await world.roster.wait(None, self.cursor, 0)
        if before is None or before.partition("-")[0] != answer.cursor.partition("-")[0]:
            self.known = {}  # a new hub tells everything anew
        self.cursor = answer.cursor
        for line in answer.changed:
            self.known[line.name] = line.status
        for name in answer.deleted:
            self.known.pop(name, None)


steps = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(NAMES), st.sampled_from(STATES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("read"), st.integers(0, 1)),
    st.tuples(st.just("hub")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40))
def test_no_change_is_missed(script: list[tuple[object, ...]]) -> None:
    async def run() -> None:
        world, readers = World(), [Reader(), Reader()]
        for step in script:
            match step:
                case ("set", str(name), status):
                    world.set(name, status)  # type: ignore[arg-type]
                case ("delete", str(name)):
                    world.delete(name)
                case ("read", int(number)):
                    await readers[number].read(world)
                    assert readers[number].known == world.truth()
                case _:
                    world.begin_hub()
        for reader in readers:
            await reader.read(world)
            assert reader.known == world.truth()

    anyio.run(run)


@pytest.mark.anyio
async def test_only_what_a_list_shows_counts_as_a_change() -> None:
    world = World()
    world.set("a", "idle")
    cursor, events = world.roster.cursor, len(world.events)
    facts = world.views["a"].facts
    assert facts is not None
    world.views["a"] = LinkView(facts=replace(facts, revision=9, observed_at=9, last_event_at=9, last_event_seq=9))
    world.roster.look("a")
    assert world.roster.cursor == cursor
    assert len(world.events) == events
    world.set("a", "busy")
    assert world.roster.cursor != cursor
    assert isinstance(world.events[-1], AgentChanged)


@pytest.mark.anyio
async def test_a_waiter_is_woken_at_once_and_by_its_own_agents_only() -> None:
    world = World()
    world.set("a", "idle")
    cursor = world.roster.cursor
    answers: list[list[str]] = []

    async def wait() -> None:
        answers.append([line.name for line in (await world.roster.wait(["a"], cursor, 5)).changed])

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(0.05)
            world.set("b", "idle")
            await anyio.sleep(0.05)
            assert answers == []
            world.set("a", "busy")
    assert answers == [["a"]]


@pytest.mark.anyio
async def test_a_deletion_is_told_also_when_the_name_lives_again() -> None:
    world = World()
    world.set("a", "idle")
    cursor = world.roster.cursor
    world.delete("a")
    answer = await world.roster.wait(None, cursor, 0)
    assert (answer.changed, answer.deleted) == ([], ["a"])
    world.set("a", "busy")
    answer = await world.roster.wait(None, answer.cursor, 0)
    assert [line.status for line in answer.changed] == ["busy"]
    assert answer.deleted == []


@pytest.mark.anyio
@pytest.mark.parametrize("cursor", ["nonsense", "abc-x", "-", "abc--1"])
async def test_what_is_no_cursor(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="no cursor"):
        await World().roster.wait(None, cursor, 0)


@pytest.mark.anyio
async def test_a_cursor_from_the_future_gets_everything() -> None:
    world = World()
    world.set("a", "idle")
    epoch = world.roster.cursor.partition("-")[0]
    answer = await world.roster.wait(None, f"{epoch}-999", 0)
    assert [line.name for line in answer.changed] == ["a"]
