"""Pull requests across the fleet: grouping, and what is told to whom, how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from quarterdeck.errors import Conflict, QuarterdeckError, Unavailable
from quarterdeck.fleet.facts import Gathered
from quarterdeck.fleet.pull_request_memory import MEMORY_KEY
from quarterdeck.fleet.pull_requests import Decision, FeedbackRounds, Given, GivenUp, decide, grouped


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
    assert [d.tasks for d in decide(later, attempts=3)] == [()]


def test_a_request_for_changes_comes_with_its_text_quoted() -> None:
    review = {"id": "r1", "author": "bob", "text": "use a set\nnot a list", "url": "https://h/r1"}
    facts = {"pull_request_check_status": "passing", "pull_request_change_requests": [review]}
    [decision] = decide([agent("a", **facts)], attempts=3)
    assert "> use a set\n> not a list" in decision.tasks[0].prompt
    assert decision.tasks[0].key.endswith(":review:r1")


def review(number: int, author: str = "bob") -> dict[str, Any]:
    return {"id": str(number), "author": author, "text": f"change {number}", "url": "https://h/r"}


def asked(name: str, *reviews: dict[str, Any], **facts: Any) -> Gathered:
    return agent(
        name, **{"pull_request_check_status": "passing", "pull_request_change_requests": list(reviews), **facts}
    )


class Memories:
    """Rounds of decisions, each agent remembering what it is told to."""

    def __init__(self, attempts: int = 3) -> None:
        self.values: dict[str, Any] = {}
        self._attempts = attempts

    def round(self, *fleet: Gathered) -> list[tuple[str, str]]:
        """Agent and remembered event of each task of a round."""
        with_memory = [remembering(g, self.values.get(g.agent)) if g.state == "known" else g for g in fleet]
        found: list[Decision] = decide(with_memory, attempts=self._attempts)
        for decision in found:
            for keeper in decision.keepers:
                assert decision.remember is not None
                self.values[keeper] = decision.remember.to_value()
        return [(task.agent, task.event) for decision in found for task in decision.tasks]


def test_a_review_is_told_once_however_often_is_pushed() -> None:
    memories = Memories(attempts=2)
    assert memories.round(asked("a", review(1))) == [("a", "review:1")]
    for n in range(5):
        assert memories.round(asked("a", review(1), pull_request_head=f"{n}" * 40)) == []
    assert memories.values["a"]["attempts"] == {"review": 1}
    # The attempts are not used up by that: what a reviewer says next is told.
    assert memories.round(asked("a", review(2), pull_request_head="9" * 40)) == [("a", "review:2")]
    assert memories.values["a"]["gave_up"] == []


def test_several_reviewers_of_one_commit_are_one_attempt() -> None:
    memories = Memories(attempts=1)
    one, two, three = (review(n, f"r{n}") for n in (1, 2, 3))
    assert len(memories.round(asked("a", one, two))) == 2
    assert memories.round(asked("a", one, two, three)) == [("a", "review:3")]
    assert memories.values["a"]["attempts"] == {"review": 1}
    assert memories.round(asked("a", review(4), pull_request_head="b" * 40)) == []
    assert memories.values["a"]["gave_up"] == ["review"]


def test_no_other_is_told_while_the_one_that_was_does_not_answer() -> None:
    memories = Memories()
    assert memories.round(agent("a"), agent("b")) == [("a", f"{'a' * 12}:checks")]
    away = Gathered(agent="a", state="unreachable", error="no answer within 1 s")
    assert memories.round(away, agent("b")) == []
    pushed = {"pull_request_head": "b" * 40}
    assert memories.round(away, agent("b", **pushed)) == [], "two would work on the same"
    assert memories.round(agent("a", **pushed), agent("b", **pushed)) == [("a", f"{'b' * 12}:checks")]
    # One that was stopped does nothing about it; so the other takes over.
    ended = replace(away, ended=True)
    stopped = Memories()
    stopped.values = dict(memories.values)
    assert stopped.round(ended, agent("b", pull_request_head="d" * 40)) == [("b", f"{'d' * 12}:checks")]
    # Gone for good, or at another branch: the other takes over, and is told nothing twice.
    assert memories.round(agent("b", **pushed)) == []
    assert memories.round(agent("b", pull_request_head="c" * 40)) == [("b", f"{'c' * 12}:checks")]


def test_what_is_told_is_of_one_moment() -> None:
    """The agent that is told may know less than the one that asked the forge last."""
    old = agent("a", pull_request_failing_checks=[{"name": "of the commit before", "url": "u"}])
    new = agent(
        "b", git_head="0" * 40, pull_request_head="b" * 40, pull_request_failing_checks=[{"name": "new", "url": "u"}]
    )
    new = replace(new, data={**new.data, "pull_request_number": {"value": 7, "age_seconds": 0.1}})
    [decision] = decide([old, new], attempts=3)
    assert decision.agent == "a"
    assert "b" * 40 in decision.tasks[0].prompt
    assert "- new: u" in decision.tasks[0].prompt
    assert "of the commit before" not in decision.tasks[0].prompt


def test_the_memory_is_never_too_large_to_be_stored() -> None:
    memories = Memories(attempts=10**6)
    facts = {"pull_request_repository": "host/" + "group/" * 300 + "shop"}
    for n in range(200):
        reviews = [review(10**9 + n), {**review(0), "id": "by:" + "long" * 60 + str(n)}]
        assert len(memories.round(asked("a", *reviews, pull_request_head=f"{n:040}", **facts))) == 2
    assert len(msgspec.json.encode(memories.values["a"])) < 4096
    assert memories.round(asked("a", *reviews, pull_request_head="f" * 40, **facts)) == []


class Port:
    """Agents that remember, as sidecars do; may fail between task and memory."""

    def __init__(self) -> None:
        self.tasks: dict[str, str] = {}
        self.memory: dict[str, Any] = {}
        self.fails_to_remember = False
        self.notes: dict[str, str] = {}
        self.withdrawn: list[tuple[str, str, str]] = []
        self.unwilling: type[QuarterdeckError] | None = None

    async def withdraw_task(self, agent: str, task_id: str, reason: str) -> None:
        self.withdrawn.append((agent, task_id, reason))
        if self.unwilling is not None:
            raise self.unwilling("no")

    async def give_task(self, agent: str, prompt: str, *, title: str, idempotency_key: str) -> str:
        return self.tasks.setdefault(idempotency_key, f"task-{len(self.tasks)}")

    async def note(self, agent: str, text: str, *, idempotency_key: str) -> None:
        self.notes.setdefault(idempotency_key, text)

    async def set_metadata(self, agent: str, values: Mapping[str, Any]) -> None:
        if self.fails_to_remember:
            raise Unavailable("gone")
        self.memory.update(values)


@pytest.mark.anyio
async def test_a_crash_between_task_and_memory_gives_no_second_task() -> None:
    port = Port()
    port.fails_to_remember = True
    first = await FeedbackRounds(port, attempts=3).round([agent("a")])
    port.fails_to_remember = False
    rounds = FeedbackRounds(port, attempts=3)  # a new hub
    second = await rounds.round([agent("a")])
    assert first == second == [Given("a", "task-0", "checks", f"h/o/r#7@{'a' * 12}:checks")]
    assert len(port.tasks) == 1
    assert await rounds.round([remembering(agent("a"), port.memory[MEMORY_KEY])]) == []


@pytest.mark.anyio
async def test_a_task_is_reported_once_though_it_cannot_be_remembered() -> None:
    port = Port()
    port.fails_to_remember = True
    rounds = FeedbackRounds(port, attempts=3)
    assert len(await rounds.round([agent("a")])) == 1
    for _ in range(3):
        assert await rounds.round([agent("a")]) == []


@pytest.mark.anyio
async def test_giving_up_is_reported_once() -> None:
    port = Port()
    rounds = FeedbackRounds(port, attempts=1)
    await rounds.round([agent("a")])
    told = []
    for head in ("b", "c", "d"):
        told += await rounds.round([remembering(agent("a", pull_request_head=head * 40), port.memory[MEMORY_KEY])])
    assert told == [GivenUp("a", "checks", "h/o/r#7")]
    [(key, text)] = port.notes.items()
    assert key == f"h/o/r#7@{'a' * 12}:checks:given-up"
    assert text.startswith("Pull request h/o/r#7: its checks failed again after tasks for 1 commit;")


@pytest.mark.anyio
async def test_a_giving_up_that_cannot_be_remembered_is_noted_once_and_the_next_one_again() -> None:
    port = Port()
    await FeedbackRounds(port, attempts=1).round([agent("a")])
    before = port.memory[MEMORY_KEY]
    port.fails_to_remember = True
    for _ in range(2):  # two hubs, one after the other
        told = await FeedbackRounds(port, attempts=1).round(
            [remembering(agent("a", pull_request_head="b" * 40), before)]
        )
        assert told == [GivenUp("a", "checks", "h/o/r#7")]
    assert len(port.notes) == 1
    port.fails_to_remember = False
    port.unwilling = Conflict  # each task has run
    rounds = FeedbackRounds(port, attempts=1)
    states = [{"pull_request_head": "b" * 40}, {"pull_request_check_status": "passing"}]
    states += [{"pull_request_head": head * 40} for head in "cd"]
    for state in states:
        await rounds.round([remembering(agent("a", **state), port.memory[MEMORY_KEY])])
    assert [key[8:9] for key in port.notes] == ["a", "c"]


CLOSED = {"pull_request_state": "merged"}
NEWER = {"pull_request_head": "b" * 40}
WAITS = f"{'a' * 12}:checks"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (CLOSED, "pull request 7 is merged"),
        ({"pull_request_state": "closed"}, "pull request 7 is closed"),
        ({**NEWER, "pull_request_check_status": "passing"}, f"pull request 7 has a newer commit, {'b' * 12}"),
        ({**NEWER, "pull_request_check_status": "pending"}, f"pull request 7 has a newer commit, {'b' * 12}"),
        (NEWER, f"pull request 7 has a newer commit, {'b' * 12}"),  # it has a task of its own
        ({"pull_request_check_status": "pending"}, None),  # the same commit is tested again
        ({"pull_request_check_status": "passing"}, None),
    ],
)
async def test_a_task_that_is_for_nothing_by_now_is_taken_back(now: dict[str, Any], reason: str | None) -> None:
    port = Port()
    rounds = FeedbackRounds(port, attempts=3)
    await rounds.round([agent("a")])
    assert port.memory[MEMORY_KEY]["waiting"] == {WAITS: ["a", "task-0"]}
    await rounds.round([remembering(agent("a", **now), port.memory[MEMORY_KEY])])
    assert port.withdrawn == ([] if reason is None else [("a", "task-0", reason)])
    assert (WAITS in port.memory[MEMORY_KEY]["waiting"]) == (reason is None)
    # Once; also when it ran already.
    await rounds.round([remembering(agent("a", **now), port.memory[MEMORY_KEY])])
    assert len(port.withdrawn) == (0 if reason is None else 1)


@pytest.mark.anyio
async def test_a_task_from_before_a_success_is_no_attempt_of_the_next_failure() -> None:
    port = Port()
    rounds = FeedbackRounds(port, attempts=3)
    await rounds.round([agent("a")])  # its task still waits when the same commit passes at the second try
    for state in ({"pull_request_check_status": "passing"}, NEWER):
        await rounds.round([remembering(agent("a", **state), port.memory[MEMORY_KEY])])
    assert [event[1] for event in port.withdrawn] == ["task-0"]
    assert port.memory[MEMORY_KEY]["attempts"] == {"checks": 1}
    # One that was counted and never began is counted no more.
    await rounds.round([remembering(agent("a", pull_request_head="c" * 40), port.memory[MEMORY_KEY])])
    assert port.memory[MEMORY_KEY]["attempts"] == {"checks": 1}


@pytest.mark.anyio
async def test_a_newer_commit_that_gets_no_task_leaves_the_one_of_the_older() -> None:
    port = Port()
    rounds = FeedbackRounds(port, attempts=1)
    await rounds.round([agent("a")])
    assert await rounds.round([remembering(agent("a", **NEWER), port.memory[MEMORY_KEY])]) == [
        GivenUp("a", "checks", "h/o/r#7")
    ]
    assert port.withdrawn == []


@pytest.mark.anyio
async def test_a_review_that_is_approved_by_now_is_taken_back() -> None:
    port = Port()
    rounds = FeedbackRounds(port, attempts=3)
    decided = {"pull_request_review_decision": "changes_requested"}
    await rounds.round([asked("a", review(1), **decided)])
    await rounds.round([remembering(asked("a", review(1), **decided, **NEWER), port.memory[MEMORY_KEY])])
    assert port.withdrawn == [], "it stands, however often is pushed"
    approved = asked("a", pull_request_review_decision="approved")
    await rounds.round([remembering(approved, port.memory[MEMORY_KEY])])
    assert port.withdrawn == [("a", "task-0", "nobody asks for changes any more")]


@pytest.mark.anyio
@pytest.mark.parametrize(("unwilling", "times"), [(Conflict, 1), (Unavailable, 2)])
async def test_a_task_whose_agent_cannot_be_asked_is_taken_back_later(
    unwilling: type[QuarterdeckError], times: int
) -> None:
    port = Port()
    rounds = FeedbackRounds(port, attempts=3)
    await rounds.round([agent("a")])
    port.unwilling = unwilling
    for _ in range(2):
        await rounds.round([remembering(agent("a", **CLOSED), port.memory[MEMORY_KEY])])
    assert len(port.withdrawn) == times


@pytest.mark.anyio
async def test_what_was_taken_back_before_it_began_was_no_attempt() -> None:
    port = Port()
    rounds = FeedbackRounds(port, attempts=2)
    await rounds.round([agent("a")])
    for head in "bcdef":
        pushed = agent("a", pull_request_head=head * 40, pull_request_check_status="pending")
        assert await rounds.round([remembering(pushed, port.memory[MEMORY_KEY])]) == []
        assert port.memory[MEMORY_KEY]["attempts"] == {}
        failing = remembering(agent("a", pull_request_head=head * 40), port.memory[MEMORY_KEY])
        [told] = await rounds.round([failing])
        assert isinstance(told, Given)
    port.unwilling = Conflict  # this one the agent began
    pushed = agent("a", pull_request_head="1" * 40, pull_request_check_status="pending")
    await rounds.round([remembering(pushed, port.memory[MEMORY_KEY])])
    assert port.memory[MEMORY_KEY]["attempts"] == {"checks": 1}
