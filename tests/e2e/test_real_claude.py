"""The real `claude` program against the scripted model API: whole pieces of work in a real repository."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from provider_support import Case, Driver, driving, make_case
from quarterdeck.scripted.model_api import ModelApi
from quarterdeck.sidecar import ports

pytestmark = [pytest.mark.anyio, pytest.mark.real_agent]
# What `make demo` has its agents do, in the same words that the scripted agent takes.
WORK = """Add a function and its test.
@write calc.py def add(a, b):\\n    return a + b
@write test_calc.py from calc import add\\nassert add(2, 3) == 5\\nprint('1 passed')
@run python3 -B test_calc.py
@commit Add calc
@say calc.py is there and its test passes
"""


@pytest.fixture(scope="module")
def api() -> Iterator[ModelApi]:
    with ModelApi() as server:
        yield server


@pytest.fixture
def case(api: ModelApi) -> Case:
    return make_case("claude-code", lambda: api)


async def test_it_does_the_demos_work(case: Case, repo: Path, tmp_path: Path, git: Any) -> None:
    async with driving(case, tmp_path, cwd=repo) as driver:
        opened = await driver.start()
        assert opened.version.startswith("Claude Code 2.")
        ended = await driver.run(WORK)
        assert (ended.outcome, ended.detail) == ("succeeded", "calc.py is there and its test passes")
        assert git(repo, "log", "--format=%s") == "Add calc\nfirst"
        assert sorted(git(repo, "show", "--name-only", "--format=").split()) == ["calc.py", "test_calc.py"]
        assert "1 passed" in "".join(call.output or "" for call in driver.every(ports.ToolCall))


async def test_an_existing_file_is_changed(case: Case, repo: Path, tmp_path: Path) -> None:
    async with driving(case, tmp_path, cwd=repo) as driver:
        await driver.start()
        assert (await driver.run("@write README.md changed\n@append README.md more\n@say done")).outcome == "succeeded"
        assert (repo / "README.md").read_text() == "changed\nmore\n"


async def test_receipts_come_from_the_program_while_the_model_hangs(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@hang")
        await driver.of(ports.Started)
        await anyio.sleep(0.5)
        assert driver.updates == [ports.Accepted("turn-1"), ports.Started("turn-1")]
        await driver.provider.cancel()
        assert (await driver.ended()).outcome == "canceled"


async def test_retries_are_told(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        assert (await driver.run("@overloaded 1\n@say through")).outcome == "succeeded"
        assert [state.activity for state in driver.every(ports.State)] == ["retrying", "working"]
        assert "529" in driver.every(ports.State)[0].detail


async def test_without_a_key_the_turn_says_how_to_log_in(case: Case, tmp_path: Path) -> None:
    case.env.pop("ANTHROPIC_API_KEY")
    async with driving(case, tmp_path) as driver:
        await driver.start()
        ended = await driver.run("@say hello")
        assert ended.outcome == "failed"
        assert "not logged in" in ended.detail
        assert "ANTHROPIC_API_KEY" in ended.detail


async def test_killed_in_a_tool_it_is_resumed_and_finishes(
    case: Case, repo: Path, tmp_path: Path, git: Any, api: ModelApi
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
        # The shell that it started may live on in a session of its own, until the provider is closed.
        await driver.provider.close(0)
        assert driver.processes() == []
        before = len(api.requests)
        second = await driver.again(opened.session_id)
        await anyio.sleep(0.5)
        assert len(api.requests) == before, "resuming prompts nothing by itself"
        ended = await second.run(
            "See what took effect.\n@run cat ran.txt\n@commit What was done\n@say finished", "turn-2"
        )
        await second.provider.close(0.5)
        assert ended.outcome == "succeeded"
        assert (repo / "ran.txt").read_text() == "work\n"
        assert git(repo, "log", "-1", "--format=%s") == "What was done"
        history = str(api.requests[-1]["messages"])
        assert "time.sleep(600)" in history, "the model sees what was before the kill"


async def test_always_allowing_lasts_for_the_session_and_leaves_no_file(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, permissions="ask") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@write a.txt x\n@write b.txt x\n@say done")
        asked = await driver.of(ports.Permission)
        await driver.provider.answer(asked.request_id, ports.Answer(option_id="always"))
        assert (await driver.ended()).outcome == "succeeded"
        assert len(driver.every(ports.Permission)) == 1
        assert sorted(path.name for path in driver.launch.cwd.iterdir()) == ["a.txt", "b.txt"]


async def test_a_rejection_with_words_reaches_the_model(case: Case, tmp_path: Path, api: ModelApi) -> None:
    async with driving(case, tmp_path, permissions="ask") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@write a.txt x\n@say well")
        asked = await driver.of(ports.Permission)
        await driver.provider.answer(asked.request_id, ports.Answer(text="use another NAME", declined=True))
        assert (await driver.ended()).outcome == "succeeded"
        assert "use another NAME" in str(api.requests[-1]["messages"])
        assert not (driver.launch.cwd / "a.txt").exists()


async def test_two_questions_are_asked_one_after_the_other(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@question First?|a|b\n@answers\n@question Second?|c|d\n@answers")
        for number, words in enumerate(["a", "something else"], 1):
            asked = await driver.of(ports.Question, number)
            await driver.provider.answer(asked.request_id, ports.Answer(text=words))
        assert (await driver.ended()).outcome == "succeeded"
        assert 'First?"="a"' in driver.said
        assert "something else" in driver.said


async def _work(driver: Driver, number: int) -> ports.TurnEnded:
    await driver.start()
    return await driver.run(f"@write file{number}.txt x\n@run python3 -c 'print({number})'\n@say ok {number}")


async def test_several_work_side_by_side(case: Case, tmp_path: Path) -> None:
    ended: list[ports.TurnEnded] = []

    async def one(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        async with driving(case, folder) as driver:
            ended.append(await _work(driver, number))

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(one, number)
    assert sorted(end.detail for end in ended) == ["ok 0", "ok 1", "ok 2"]
