"""The contract of `sidecar.ports.Provider`, held by every provider with a real program."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest

from provider_support import ALL, PROGRAMS, Case, Driver, driving, make_case
from quarterdeck.errors import InvalidInput, NotFound, Unavailable
from quarterdeck.scripted.model_api import ModelApi
from quarterdeck.sidecar import ports

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def api() -> Iterator[ModelApi]:
    with ModelApi() as server:
        yield server


@pytest.fixture(params=ALL)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param, lambda: request.getfixturevalue("api"))


# What a command line cannot do; and what only the scripted agent can be told.
living = pytest.mark.parametrize("case", [name for name in ALL if name != "command"], indirect=True)
scripted = pytest.mark.parametrize("case", ["acp"], indirect=True)


def check_order(updates: list[ports.Update], turn: str) -> None:
    """Receipts first, one end last, and nothing of the turn after it."""
    place = {
        kind: [n for n, u in enumerate(updates) if isinstance(u, kind) and u.turn_id == turn]
        for kind in (ports.Accepted, ports.Started, ports.TurnEnded)
    }
    assert [len(found) for found in place.values()] == [1, 1, 1], updates
    accepted, started, ended = (found[0] for found in place.values())
    assert accepted < started < ended
    work = [n for n, u in enumerate(updates) if isinstance(u, ports.Text | ports.ToolCall | ports.Plan)]
    assert all(started < n < ended for n in work), updates


async def test_a_turn_is_received_worked_on_and_ended(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        opened = await driver.start()
        assert opened.session_id
        assert (opened.pid is not None) == case.lives
        ended = await driver.run("please\n@write made.txt one line\n@say all done")
        assert ended.outcome == "succeeded", ended
        assert (driver.launch.cwd / "made.txt").read_text() == "one line\n"
        assert "all done" in driver.said
        check_order(driver.updates, "turn-1")


async def test_a_command_is_run_and_its_output_told(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        ended = await driver.run("@write check.py print(6 * 7)\n@run python3 check.py")
        assert ended.outcome == "succeeded"
        calls: dict[str, list[ports.ToolCall]] = {}
        for call in driver.every(ports.ToolCall):
            calls.setdefault(call.call_id, []).append(call)
        told = [c for c in calls.values() if any(u.title and "python3 check.py" in u.title for u in c)]
        assert len(told) == 1
        assert told[0][-1].status == "completed"
        assert "42" in "".join(u.output or "" for u in told[0])


async def test_turns_follow_each_other_in_one_session(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        for number in (1, 2, 3):
            first = len(driver.updates)
            ended = await driver.run(f"@say number {number}", f"turn-{number}")
            assert ended.outcome == "succeeded"
            assert f"number {number}" in driver.said
            check_order(driver.updates[first:], f"turn-{number}")


async def test_a_turn_that_fails_tells_why_and_the_next_one_works(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        ended = await driver.run("@fail the reason is blue")
        assert ended.outcome == "failed"
        assert "the reason is blue" in ended.detail
        assert (await driver.run("@say better", "turn-2")).outcome == "succeeded"


async def test_the_instructions_reach_the_model(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, instructions="You are a SEAFARER of old.") as driver:
        await driver.start()
        await driver.run("@instructions SEAFARER")
        assert "found" in driver.said or "SEAFARER" in driver.said
        assert "missing" not in driver.said


async def test_a_cancelled_turn_ends_soon_and_the_agent_stays(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@say working\n@run python3 -c 'import time; time.sleep(600)'")
        await driver.until(lambda us: next((u for u in us if isinstance(u, ports.ToolCall)), None))
        await anyio.sleep(0.3)
        with anyio.fail_after(30):
            await driver.provider.cancel()
            ended = await driver.ended()
        assert ended.outcome == "canceled", ended
        check_order(driver.updates, "turn-1")
        assert (await driver.run("@say still here", "turn-2")).outcome == "succeeded"


async def test_a_cancel_at_once_is_not_lost(case: Case, tmp_path: Path) -> None:
    """The cancel may come before the program has begun: the turn must not run on for ever."""
    async with driving(case, tmp_path) as driver:
        await driver.start()
        for number in range(3):
            turn = f"turn-{number}"
            await driver.provider.prompt(turn, "@run python3 -c 'import time; time.sleep(600)'")
            await anyio.sleep(0.01 * number)
            await driver.provider.cancel()
            assert (await driver.ended(turn)).outcome == "canceled"


async def test_a_cancel_without_a_turn_does_nothing(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.cancel()
        assert (await driver.run("@say hello")).outcome == "succeeded"
        await driver.provider.cancel()
        assert (await driver.run("@say hello", "turn-2")).outcome == "succeeded"


async def kill_at_work(driver: Driver) -> ports.Exited:
    """SIGKILL the program in the middle of a command."""
    await driver.provider.prompt("turn-1", "@say at work\n@run python3 -c 'import time; time.sleep(600)'")
    await driver.until(lambda us: next((u for u in us if isinstance(u, ports.ToolCall)), None))
    await anyio.sleep(0.3)
    if driver.case.lives:
        assert driver.opened is not None
        assert driver.opened.pid is not None
        os.kill(driver.opened.pid, signal.SIGKILL)
    else:
        for process in driver.processes():
            with suppress(psutil.Error):  # it ends while it is looked at
                if "step_command" in " ".join(process.cmdline()):
                    process.send_signal(signal.SIGKILL)
    return await driver.of(ports.Exited)


async def test_a_death_in_mid_turn_is_told_once_and_as_a_death(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        exited = await kill_at_work(driver)
        # claude-agent-acp is a shell's child: what the shell makes of the signal is 128 + 9 at most.
        assert exited.returncode in (-signal.SIGKILL, 137)
        await anyio.sleep(0.3)
        assert len(driver.every(ports.Exited)) == 1
        assert driver.every(ports.TurnEnded) == []
        assert isinstance(driver.updates[-1], ports.Exited)
        await driver.provider.close(0.5)
        assert driver.processes() == []


async def test_a_killed_agent_takes_up_its_session_and_repeats_nothing(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, instructions="be a SEAFARER") as driver:
        opened = await driver.start()
        await driver.run("@say before", "turn-0")
        await kill_at_work(driver)
        await driver.provider.close(0)
        if not case.resumes:
            with pytest.raises(ports.ResumeRefused):
                await driver.again(opened.session_id)
            return
        second = await driver.again(opened.session_id)
        try:
            assert second.opened is not None
            assert second.opened.session_id == opened.session_id
            await anyio.sleep(0.3)
            assert [u for u in second.updates if not isinstance(u, ports.Noise | ports.Usage)] == []
            assert (await second.run("@say and after", "turn-2")).outcome == "succeeded"
            assert "before" not in second.said
            check_order(second.updates, "turn-2")
        finally:
            await second.provider.close(0.5)


async def test_a_session_that_does_not_exist_is_refused(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        with pytest.raises(ports.ResumeRefused):
            await driver.again("12345678-1234-4234-8234-123456789012")
        assert driver.processes() == []


async def test_a_missing_program_says_so(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, command=("/nowhere/no-such-agent",)) as driver:
        with pytest.raises(Unavailable) as caught:
            await driver.start()
        assert "no-such-agent" in caught.value.message
        assert caught.value.hint


@living
async def test_a_program_that_never_gets_ready_is_ended(case: Case, tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    async with driving(case, tmp_path, command=command, start_seconds=1) as driver:
        with pytest.raises(Unavailable, match="1 s"):
            await driver.start()
        assert driver.processes() == []
        assert driver.updates == []


@living
async def test_a_program_that_dies_at_its_start_tells_its_last_words(case: Case, tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no mast to climb')")
    async with driving(case, tmp_path, command=command) as driver:
        with pytest.raises(Unavailable, match="no mast to climb"):
            await driver.start()
        assert driver.every(ports.Exited) == []


async def test_close_leaves_nothing_not_even_a_child_in_its_own_session(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@child 600\n@run python3 -c 'import time; time.sleep(600)'")
        await driver.until(lambda us: next((u for u in us if isinstance(u, ports.ToolCall) and u.title), None))

        with anyio.fail_after(20):
            while not driver.runs("sleep 600"):
                await anyio.sleep(0.05)
        said = len(driver.updates)
        await driver.provider.close(0.5)
        assert driver.processes() == []
        await driver.provider.close(0.5)
        assert [u for u in driver.updates[said:] if isinstance(u, ports.Exited)] == []


@scripted
async def test_a_program_deaf_to_sigterm_is_killed(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@hang hard")
        await driver.of(ports.Started)
        await anyio.sleep(0.3)
        await driver.provider.cancel()
        await anyio.sleep(0.3)
        assert driver.every(ports.TurnEnded) == []
        with anyio.fail_after(20):
            await driver.provider.close(0.3)
        assert driver.processes() == []


async def test_usage_is_told_in_increments(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.run("@usage 100 10 0.5\n@say one")
        first = sum(u.input_tokens + u.output_tokens for u in driver.every(ports.Usage))
        assert first == 110
        await driver.run("@usage 200 20 0.25\n@say two", "turn-2")
        assert sum(u.input_tokens for u in driver.every(ports.Usage)) == 300
        assert sum(u.output_tokens for u in driver.every(ports.Usage)) == 30
        costs = [u.cost_usd for u in driver.every(ports.Usage) if u.cost_usd]
        assert costs
        if not case.real:
            assert sum(costs) == pytest.approx(0.75)


async def test_an_answer_to_nothing_is_refused(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        with pytest.raises(NotFound):
            driver.provider.check_answer("ask-99", ports.Answer(option_id="yes"))
        with pytest.raises(NotFound):
            await driver.provider.answer("ask-99", ports.Answer(option_id="yes"))


@living
async def test_a_permission_is_asked_for_and_obeyed(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, permissions="ask") as driver:
        await driver.start()
        for number, kind in enumerate(["reject_once", "allow_once"], 1):
            turn = f"turn-{number}"
            await driver.provider.prompt(turn, f"@ask May I {number}?\n@write made{number}.txt x\n@say went on")
            await answer_permissions(driver, turn, kind)
        assert not (driver.launch.cwd / "made1.txt").exists()
        assert (driver.launch.cwd / "made2.txt").exists()


async def answer_permissions(driver: Driver, turn: str, kind: str) -> None:
    """Answer everything in a turn with the option of this kind: one question or, of real agents, one for each tool."""
    answered: set[str] = {u.request_id for u in driver.every(ports.Permission)}
    asked = 0

    def news(updates: list[ports.Update]) -> ports.Permission | ports.TurnEnded | None:
        for update in updates:
            if isinstance(update, ports.Permission) and update.request_id not in answered:
                return update
            if isinstance(update, ports.TurnEnded) and update.turn_id == turn:
                return update
        return None

    while isinstance(found := await driver.until(news), ports.Permission):
        asked += 1
        answered.add(found.request_id)
        assert found.title
        chosen = next(o for o in found.options if o.kind == kind)
        await driver.provider.answer(found.request_id, ports.Answer(option_id=chosen.id))
        with pytest.raises(NotFound):
            await driver.provider.answer(found.request_id, ports.Answer(option_id=chosen.id))
    assert asked


@living
async def test_a_cancel_withdraws_what_is_asked(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, permissions="ask") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@ask May I?\n@say went on")
        asked = await driver.of(ports.Permission)
        await driver.provider.cancel()
        assert (await driver.ended()).outcome == "canceled"
        assert ports.Withdrawn(asked.request_id) in driver.updates
        with pytest.raises(NotFound):
            await driver.provider.answer(asked.request_id, ports.Answer(option_id="yes"))
        assert (await driver.run("@say hello", "turn-2")).outcome == "succeeded"


@living
async def test_edits_are_allowed_inside_the_workspace_only(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, permissions="edits") as driver:
        await driver.start()
        outside = tmp_path / "outside.txt"
        step = "write" if case.real else "ask-edit"
        ended = await driver.run(f"@{step} inside.txt x\n@say fine")
        assert ended.outcome == "succeeded"
        assert driver.every(ports.Permission) == []
        await driver.provider.prompt("turn-2", f"@{step} {outside} x\n@say fine")
        await answer_permissions(driver, "turn-2", "reject_once")
        assert not outside.exists()


@living
async def test_a_question_is_asked_and_answered(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@question Which colour?|red|blue\n@answers")
        question = await driver.of(ports.Question)
        assert "Which colour?" in question.text
        assert [o.id for o in question.options][:2] == ["red", "blue"]
        await driver.provider.answer(question.request_id, ports.Answer(option_id="blue"))
        assert (await driver.ended()).outcome == "succeeded"
        assert "blue" in driver.said


@living
async def test_what_is_no_answer_is_refused_before_anything_is_done(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path, permissions="ask") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@ask May I?\n@say went on")
        asked = await driver.of(ports.Permission)
        for wrong in (ports.Answer(text="perhaps"), ports.Answer(option_id="perhaps")):
            with pytest.raises(InvalidInput):
                driver.provider.check_answer(asked.request_id, wrong)
            with pytest.raises(InvalidInput):
                await driver.provider.answer(asked.request_id, wrong)
        chosen = next(o for o in asked.options if o.kind == "reject_once")
        driver.provider.check_answer(asked.request_id, ports.Answer(option_id=chosen.id))
        await driver.provider.answer(asked.request_id, ports.Answer(option_id=chosen.id))
        with pytest.raises(NotFound):
            driver.provider.check_answer(asked.request_id, ports.Answer(option_id=chosen.id))
        assert (await driver.ended()).outcome == "succeeded"


@living
async def test_a_question_says_whether_it_takes_any_words(case: Case, tmp_path: Path) -> None:
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@question Which colour?|red|blue\n@answers")
        question = await driver.of(ports.Question)
        assert question.free_text == case.real
        words = ports.Answer(text="neither, take mauve")
        if question.free_text:
            driver.provider.check_answer(question.request_id, words)
        else:
            with pytest.raises(InvalidInput):
                driver.provider.check_answer(question.request_id, words)
            words = ports.Answer(option_id="red")
        await driver.provider.answer(question.request_id, words)
        assert (await driver.ended()).outcome == "succeeded"
        assert (words.text or "red") in driver.said


@scripted
async def test_a_form_is_checked_field_by_field_and_kept_as_it_was(case: Case, tmp_path: Path) -> None:
    fields = '{"size": {"type": "integer"}, "colours": {"type": "array", "items": {"enum": ["red", "blue"]}}}'
    async with driving(case, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", f"@form Which?|{fields}")
        size = await driver.of(ports.Question)
        assert (size.free_text, size.multiple) == (True, False)
        for _ in range(2):
            with pytest.raises(InvalidInput):
                driver.provider.check_answer(size.request_id, ports.Answer(text="about three"))
            driver.provider.check_answer(size.request_id, ports.Answer(text="3"))
        await driver.provider.answer(size.request_id, ports.Answer(text="3"))
        colours = await driver.of(ports.Question, 2)
        assert (colours.free_text, colours.multiple) == (False, True)
        with pytest.raises(InvalidInput):
            driver.provider.check_answer(colours.request_id, ports.Answer(text="red, mauve"))
        await driver.provider.answer(colours.request_id, ports.Answer(option_ids=("red", "blue")))
        assert (await driver.ended()).outcome == "succeeded"
        assert 'form: accept {"colours": ["red", "blue"], "size": 3}' in driver.said


@living
async def test_the_sidecars_tools_are_handed_over(case: Case, tmp_path: Path) -> None:
    server = ports.McpServer(
        "quarterdeck", (sys.executable, str(PROGRAMS / "echo_mcp.py")), {"SECRET": "s3cret", "PATH": os.environ["PATH"]}
    )
    async with driving(case, tmp_path, mcp=server, permissions="ask") as driver:
        await driver.start()
        ended = await driver.run('@mcp echo {"text": "ahoy"}\n@answers')
        assert ended.outcome == "succeeded"
        assert "ahoy s3cret" in driver.said
        assert driver.every(ports.Permission) == [], "our own tools need nobody's leave"
        for file in driver.launch.folder.iterdir():
            assert file.stat().st_mode & 0o077 == 0, f"{file.name} can be read by others"
