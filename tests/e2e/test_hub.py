"""The hub from outside: MCP, HTTP, its limits, and the fleet behind it, with real git and real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.hub import LiveHub, whole

pytestmark = pytest.mark.anyio


@pytest.fixture
async def live(repo: Path) -> AsyncIterator[LiveHub]:
    """A hub with scripted agents."""
    async with whole(repo) as hub:
        yield hub


async def test_an_agent_works_and_commits(live: LiveHub) -> None:
    made = await live.create("ada", "@write a.txt hello\n@commit add a")
    assert made["status"] == "starting"
    task = await live.until_done("ada")
    assert task["state"] == "succeeded"
    assert task["queued_at"] <= task["accepted_at"] <= task["started_at"] <= task["ended_at"]
    shown = await live.show("ada")
    assert (Path(shown["workspace"]) / "a.txt").read_text() == "hello\n"
