"""From a forge to a task: a failing check becomes the agent's fact, the fleet's line, and one task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterdeck.config import ForgeTable, MetadataTable
from quarterdeck.errors import Conflict
from quarterdeck.fleet.facts import parse_filter
from quarterdeck.fleet.metadata import gather
from quarterdeck.fleet.pull_request_memory import MEMORY_KEY
from quarterdeck.fleet.pull_requests import FeedbackRounds, Given, GivenUp, grouped
from quarterdeck.metadata.collectors import forge_collector
from quarterdeck.metadata.service import MetadataService
from quarterdeck.scripted.forge import scripted_forge

pytestmark = pytest.mark.anyio


@dataclass
class Agent:
    """An agent's metadata service, asked as the hub would: a body of JSON."""

    name: str
    service: MetadataService
    tasks: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    async def metadata(self) -> Mapping[str, Any]:
        answer = await self.service.read(fresh=True)
        body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
        return body


class Port:
    """Tasks and facts go straight to the agents."""

    def __init__(self, agents: list[Agent]) -> None:
        self._agents = {agent.name: agent for agent in agents}

    async def give_task(self, agent: str, prompt: str, *, title: str, idempotency_key: str) -> str:
        self._agents[agent].tasks.setdefault(idempotency_key, prompt)
        return idempotency_key

    async def withdraw_task(self, agent: str, task_id: str, reason: str) -> None:
        raise Conflict(f"task {task_id} is over already")

    async def note(self, agent: str, text: str, *, idempotency_key: str) -> None:
        self._agents[agent].notes.setdefault(idempotency_key, text)

    async def set_metadata(self, agent: str, values: Mapping[str, Any]) -> None:
        await self._agents[agent].service.write(values)


async def test_from_the_forge_to_a_task(
    tmp_path: Path, repo: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(forge_collector, "FRESH_SECONDS", 0.0)  # what the forge says changes within moments here
    async with AsyncExitStack() as stack:
        forge = await stack.enter_async_context(scripted_forge())
        git(repo, "remote", "add", "origin", forge.remote("acme/shop"))
        # A token, so that the interval is the configured one.
        (tmp_path / "token").write_text("some-token-of-a-forge")
        table = ForgeTable(
            hosts=[forge.url.partition("://")[2]], api=forge.url, token_file=str(tmp_path / "token"), interval=0.2
        )
        agents = []
        for name in ("alice", "bob"):
            tree = tmp_path / name
            git(repo, "worktree", "add", "-q", "-b", f"qd/{name}", str(tree))
            git(tree, "commit", "-q", "--allow-empty", "-m", name)
            opened = MetadataService.open(tmp_path / f"{name}.d", tree, agent=name, config=MetadataTable(github=table))
            agents.append(Agent(name, await stack.enter_async_context(opened)))
        alice, bob = agents
        sha = git(tmp_path / "alice", "rev-parse", "HEAD")
        pull = forge.open_pull("acme/shop", "qd/alice", sha=sha, title="Faster")
        forge.open_pull("acme/shop", "qd/bob", sha=git(tmp_path / "bob", "rev-parse", "HEAD"))
        forge.check("acme/shop", sha, "unit", "failure")
        port = Port(agents)

        fleet = await gather(agents, agent_seconds=8, whole_seconds=9)
        views = {view.number: asdict(view) for view in grouped(fleet)}
        assert views[pull.number]["agents"] == ["alice"]
        assert views[pull.number]["checks"] == "failing"
        assert views[pull.number]["failing_checks"] == ["unit"]
        wanted = parse_filter(f"pull_request_number={pull.number}")
        assert [g.agent for g in fleet if wanted.matches(g.values)] == ["alice"]
        assert alice.service.summary()["pull_request_number"] == pull.number

        feedback = FeedbackRounds(port, attempts=2)
        events: list[Given | GivenUp] = await feedback.round(fleet)
        assert [(event.agent, event.kind) for event in events] == [("alice", "checks")]
        assert "unit" in next(iter(alice.tasks.values()))
        assert bob.tasks == {}

        async def rounds() -> int:
            events.extend(await feedback.round(await gather(agents, agent_seconds=8, whole_seconds=9)))
            return len(alice.tasks)

        assert await rounds() == 1
        assert alice.service.fact(MEMORY_KEY).value["attempts"] == {"checks": 1}
        for expected in (2, 2):  # two more commits fail: the second is one attempt too many
            git(tmp_path / "alice", "commit", "-q", "--allow-empty", "-m", "try")
            pull.sha = git(tmp_path / "alice", "rev-parse", "HEAD")
            pull.touch()
            forge.check("acme/shop", pull.sha, "unit", "failure")
            assert await rounds() == expected
        assert alice.service.fact(MEMORY_KEY).value["gave_up"] == ["checks"]
        assert "its checks failed again after tasks for 2 commits" in next(iter(alice.notes.values()))
        assert events[-1] == GivenUp("alice", "checks", f"{forge.url.partition('://')[2]}/acme/shop#{pull.number}")
        forge.review("acme/shop", pull.number, "carol", "CHANGES_REQUESTED", "tests, please")
        assert await rounds() == 3
        assert "> tests, please" in list(alice.tasks.values())[-1]
        forge.close("acme/shop", pull.number)
        forge.review("acme/shop", pull.number, "dave", "CHANGES_REQUESTED", "too late")
        assert await rounds() == 3
