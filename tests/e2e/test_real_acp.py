"""A real ACP agent (claude-agent-acp, driving the real `claude`) against the scripted model API."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from provider_support import Case, driving, make_case
from quarterdeck.errors import Unavailable
from quarterdeck.scripted.model_api import ModelApi
from quarterdeck.sidecar import ports

pytestmark = [pytest.mark.anyio, pytest.mark.real_agent]


@pytest.fixture(scope="module")
def api() -> Iterator[ModelApi]:
    with ModelApi() as server:
        yield server


@pytest.fixture
def case(api: ModelApi) -> Case:
    return make_case("claude-acp", lambda: api)


async def test_it_writes_tests_and_commits(case: Case, repo: Path, tmp_path: Path, git: Any) -> None:
    async with driving(case, tmp_path, cwd=repo) as driver:
        await driver.start()
        ended = await driver.run(
            "@write check.py assert 1 + 1 == 2; print('1 passed')\n@run python3 check.py\n@commit Checked\n@say done"
        )
        assert ended.outcome == "succeeded"
        assert git(repo, "log", "--format=%s") == "Checked\nfirst"
        assert "1 passed" in "".join(call.output or "" for call in driver.every(ports.ToolCall))
        assert "done" in driver.said
        assert driver.every(ports.Usage)


async def test_it_asks_first_where_it_is_told_to(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, permissions="ask") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@write a.txt x\n@say well")
        asked = await driver.of(ports.Permission)
        assert "a.txt" in asked.title
        assert not (driver.launch.cwd / "a.txt").exists()
        await driver.provider.answer(asked.request_id, ports.Answer(declined=True))
        ended = await driver.ended()
        assert ended.outcome in ("succeeded", "canceled"), ended
        assert not (driver.launch.cwd / "a.txt").exists()


async def test_a_cancel_reaches_through_to_the_running_command(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@run python3 -c 'import time; time.sleep(600)'")

        with anyio.fail_after(20):
            while not driver.runs("time.sleep(600)"):
                await anyio.sleep(0.05)
        await driver.provider.cancel()
        assert (await driver.ended()).outcome == "canceled"
        with anyio.fail_after(10):
            while driver.runs("time.sleep(600)"):
                await anyio.sleep(0.05)


async def test_killed_in_a_tool_it_is_resumed_and_finishes(
    case: Case, repo: Path, tmp_path: Path, api: ModelApi
) -> None:
    async with driving(case, tmp_path, cwd=repo) as driver:
        opened = await driver.start()
        await driver.provider.prompt("turn-1", "@once ran.txt work\n@run python3 -c 'import time; time.sleep(600)'")
        with anyio.fail_after(30):
            while not driver.runs("time.sleep(600)"):
                await anyio.sleep(0.05)
        assert opened.pid is not None
        os.kill(opened.pid, signal.SIGKILL)
        await driver.of(ports.Exited)
        await driver.provider.close(0)
        assert driver.processes() == []
        before = len(api.requests)
        second = await driver.again(opened.session_id)
        await anyio.sleep(0.5)
        assert len(api.requests) == before, "resuming prompts nothing by itself"
        assert (
            await second.run("See what took effect.\n@run cat ran.txt\n@say finished", "turn-2")
        ).outcome == "succeeded"
        await second.provider.close(0.5)
        assert (repo / "ran.txt").read_text() == "work\n"
        assert "time.sleep(600)" in str(api.requests[-1]["messages"])


async def test_without_a_key_it_says_that_it_is_not_logged_in(case: Case, tmp_path: Path) -> None:
    case.env.pop("ANTHROPIC_API_KEY")
    async with driving(case, tmp_path) as driver:
        try:
            await driver.start()
        except Unavailable as error:
            said = error.message + error.hint
        else:
            ended = await driver.run("@say hello")
            assert ended.outcome == "failed"
            said = ended.detail
        assert "not logged in" in said
        assert "pass_env" in said
