"""Programs that misbehave, with the scripted agent and with commands: what no contract could ask of a real agent."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from provider_support import PROGRAMS, Case, driving, make_case
from quarterdeck.errors import InvalidInput, NotFound, Unavailable
from quarterdeck.scripted.model_api import ModelApi
from quarterdeck.sidecar import ports
from quarterdeck.sidecar.providers import command as command_provider
from quarterdeck.sidecar.providers.claude_requests import ToolRequests

pytestmark = pytest.mark.anyio
AGENT = (sys.executable, "-m", "quarterdeck.scripted.agent")
STEPS = (sys.executable, str(PROGRAMS / "step_command.py"))


def no_api() -> ModelApi:
    raise AssertionError("no model is needed here")


@pytest.fixture
def acp() -> Case:
    return make_case("acp", no_api)


@pytest.fixture
def command() -> Case:
    return make_case("command", no_api)


async def test_garbage_partial_json_and_ten_megabytes_are_noise(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path) as driver:
        await driver.start()
        ended = await driver.run("@garbage\n@partial\n@unknown\n@longline 10000000\n@garbage 1000000\n@say still here")
        assert ended.outcome == "succeeded"
        assert driver.said == "still here\n"
        noise = [u.text for u in driver.every(ports.Noise)]
        assert len(noise) == 5
        assert all(len(text) < 1000 for text in noise)
        assert "10000174 bytes" in noise[3] or "bytes was dropped" in noise[3]


NASTY = [
    "null", "[]", "3", "{}", '{"id": null}', '{"id": 99, "result": 5}', '{"id": 99, "error": "no"}', '{"id": []}',
    '{"id": "turn-9", "result": {}}', '{"method": 5}', '{"method": "session/update"}',
    '{"method": "session/update", "params": []}', '{"method": "session/update", "params": {"update": 5}}',
    '{"method": "session/update", "params": {"update": {"sessionUpdate": "plan", "entries": 5}}}',
    '{"method": "session/update", "params": {"update": {"sessionUpdate": "tool_call", "content": 5}}}',
    '{"method": "session/update", "params": {"update": {"sessionUpdate": "usage_update", "used": "x", "cost": 3}}}',
    '{"id": 7, "method": "session/request_permission", "params": {"options": 5, "toolCall": 5}}',
    '{"id": 7, "method": "session/request_permission", "params": {"toolCall": {"locations": 5}, "options": [5]}}',
    '{"id": 8, "method": "elicitation/create", "params": {"requestedSchema": {"properties": {"a": 5}}}}',
    '{"id": 8, "method": "elicitation/create", "params": {"requestedSchema": 5}}',
    '{"id": 9, "method": "fs/read_text_file", "params": {"path": 5, "line": "x"}}',
    '{"id": 9, "method": "fs/write_text_file"}', '{"id": 9, "method": "terminal/create", "params": {}}',
    '{"method": "session/update", "params": {"update": {"sessionUpdate": "usage_update", "used": Infinity, '
    '"size": NaN, "cost": {"amount": Infinity}}}}',
    '{"method": "$/progress"}', '{"method": "_own/thing"}', "[" * 100_000, '"\\ud800"', "\x00\xff",
]  # fmt: skip


@pytest.mark.parametrize("permissions", ["ask", "edits"])
async def test_no_message_can_end_the_reading(acp: Case, tmp_path: Path, permissions: str) -> None:
    async with driving(acp, tmp_path, permissions=permissions) as driver:
        await driver.start()
        lines = "\n".join(f"@raw {line}" for line in NASTY)
        ended = await driver.run(f"{lines}\n@say still here")
        assert ended.outcome == "succeeded"
        assert "still here" in driver.said
        asked = [u.request_id for u in driver.every(ports.Permission) + driver.every(ports.Question)]
        assert sorted(asked) == sorted(u.request_id for u in driver.every(ports.Withdrawn))
        assert (await driver.run("@say and again", "turn-2")).outcome == "succeeded"


async def test_half_a_character_does_not_reach_us(acp: Case, tmp_path: Path) -> None:
    """A JavaScript agent may cut its text within a surrogate pair; that could neither be stored nor sent on."""
    async with driving(acp, tmp_path) as driver:
        await driver.start()
        content = r'{"type": "text", "text": "a\ud83d|\ud83d\ude00"}'
        update = '{"sessionUpdate": "agent_message_chunk", "content": ' + content + "}"
        await driver.run('@raw {"method": "session/update", "params": {"update": ' + update + "}}")
        assert driver.said == "a\ufffd|\U0001f600"
        driver.said.encode()


async def test_a_line_just_under_the_limit_passes(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path) as driver:
        await driver.start()
        await driver.run("@longline 4000000")
        assert len(driver.said) == 4_000_000


async def test_a_prompt_of_a_megabyte_passes(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path) as driver:
        await driver.start()
        assert (await driver.run("word " * 200_000 + "\n@say read it all")).outcome == "succeeded"
        assert "read it all" in driver.said


async def test_a_death_is_told_at_once_though_a_grandchild_holds_the_pipe(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path) as driver:
        opened = await driver.start()
        await driver.provider.prompt("turn-1", "@child 600\n@hang")
        await driver.of(ports.Text)
        assert opened.pid is not None
        began = time.monotonic()
        os.kill(opened.pid, signal.SIGKILL)
        exited = await driver.of(ports.Exited)
        assert time.monotonic() - began < 5, "it waited for the grandchild"
        assert exited.returncode == -signal.SIGKILL
        assert driver.processes(), "the grandchild still lives: only close ends it"
        await driver.provider.close(0)
        assert driver.processes() == []
        with pytest.raises(Unavailable):
            await driver.provider.prompt("turn-2", "hello?")


async def test_a_turn_that_ended_before_the_death_has_ended(acp: Case, tmp_path: Path) -> None:
    """The very last words of a program are read before its death is told, also when the pipe stays open."""
    async with driving(acp, tmp_path) as driver:
        opened = await driver.start()
        assert opened.pid is not None
        os.kill(opened.pid, signal.SIGSTOP)
        await driver.provider.prompt("turn-1", "@child 600\n@say quick")
        os.kill(opened.pid, signal.SIGCONT)
        # Our loop is kept from reading until the program has answered and is dead.
        time.sleep(3)
        os.kill(opened.pid, signal.SIGKILL)
        time.sleep(0.1)
        await driver.of(ports.Exited)
        kinds = [type(u) for u in driver.updates if not isinstance(u, ports.Noise)]
        assert kinds == [ports.Accepted, ports.Started, ports.Text, ports.Text, ports.TurnEnded, ports.Exited]


async def test_exit_in_mid_turn_carries_the_code_and_the_last_words(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@exit 7")
        exited = await driver.of(ports.Exited)
        assert (exited.returncode, exited.detail) == (7, "told to exit")
        assert driver.every(ports.TurnEnded) == []


async def test_an_agent_without_a_login_says_so(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path, command=(*AGENT, "--auth")) as driver:
        with pytest.raises(Unavailable, match="not logged in") as caught:
            await driver.start()
        assert "Log in" in caught.value.hint
        assert driver.processes() == []


async def test_a_slow_agent_is_waited_for(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path, command=(*AGENT, "--slow-start", "1")) as driver:
        await driver.start()
        assert (await driver.run("@say at last")).outcome == "succeeded"


async def test_load_replays_nothing_and_no_resume_is_refused(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path, command=(*AGENT, "--load-only")) as driver:
        opened = await driver.start()
        await driver.run("@say long ago\n@run echo hello")
        await driver.provider.close(0)
        second = await driver.again(opened.session_id)
        await anyio.sleep(0.2)
        assert second.updates == []
        await second.run("@if-resumed @say taken up")
        assert second.said == "taken up\n"
        await second.provider.close(0)
        with pytest.raises(ports.ResumeRefused, match="neither resume nor load"):
            await driver.again(opened.session_id, command=(*AGENT, "--no-resume"))


async def test_instructions_are_given_once_per_session_even_when_it_was_resumed_unused(
    acp: Case, tmp_path: Path
) -> None:
    async with driving(acp, tmp_path, instructions="be a SEAFARER") as driver:
        opened = await driver.start()
        await driver.provider.close(0)
        second = await driver.again(opened.session_id)
        await second.run("@instructions")
        assert second.said == "instructions: be a SEAFARER\n"
        await second.run("@instructions", "turn-2")
        await second.provider.close(0)
        third = await driver.again(opened.session_id)
        await third.run("@instructions")
        await third.provider.close(0)
        files = list((tmp_path / "home" / ".quarterdeck-scripted").iterdir())
        assert "".join(f.read_text() for f in files).count('"instructions":') == 1


async def test_files_are_read_and_written_inside_only(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path) as driver:
        await driver.start()
        (tmp_path / "secret.txt").write_text("secret")
        (driver.launch.cwd / "link").symlink_to(tmp_path / "secret.txt")
        ended = await driver.run("@fswrite deep/a.txt hello\n@fsread deep/a.txt")
        assert ended.outcome == "succeeded"
        assert driver.said == "read: hello\n"
        for number, step in enumerate(["@fsread ../secret.txt", "@fsread link", "@fswrite link changed"]):
            ended = await driver.run(step, f"turn-out-{number}")
            assert (ended.outcome, "outside of the workspace" in ended.detail) == ("failed", True)
        assert (tmp_path / "secret.txt").read_text() == "secret"


async def test_a_declined_question_and_a_declined_permission(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path, permissions="ask") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "@question Who?\n@ask May I?\n@write no.txt x\n@say end")
        asked = await driver.of(ports.Question)
        await driver.provider.answer(asked.request_id, ports.Answer(declined=True))
        wanted = await driver.of(ports.Permission)
        await driver.provider.answer(wanted.request_id, ports.Answer(declined=True))
        assert (await driver.ended()).outcome == "succeeded"
        assert driver.said == "answer: decline\nMay I?: rejected\nend\n"
        assert not (driver.launch.cwd / "no.txt").exists()


async def test_the_turns_id_reaches_the_agent(acp: Case, tmp_path: Path) -> None:
    async with driving(acp, tmp_path) as driver:
        await driver.start()
        await driver.run("@once ran.txt", "turn-a")
        await driver.run("@once ran.txt", "turn-b")
        assert (driver.launch.cwd / "ran.txt").read_text() == "turn-a\nturn-b\n"


async def test_a_plain_command_with_the_prompt_as_its_argument(command: Case, tmp_path: Path) -> None:
    how = (*STEPS, "--plain", "--argument", "{prompt}")
    async with driving(command, tmp_path, command=how, output="plain", instructions="be kind") as driver:
        await driver.start()
        ended = await driver.run("@instructions kind\n@say $HOME `id` ; rm -rf /")
        assert ended == ports.TurnEnded("turn-1", "succeeded", "$HOME `id` ; rm -rf /", 0)
        assert driver.said == "instructions: found\n$HOME `id` ; rm -rf /\n"
        with pytest.raises(Unavailable, match="one argument"):
            await driver.provider.prompt("turn-2", "x" * 200_000)
        assert (await driver.run("@say after", "turn-3")).outcome == "succeeded"


async def test_a_commands_prompt_file_is_private_and_its_exit_code_told(command: Case, tmp_path: Path) -> None:
    async with driving(command, tmp_path) as driver:
        await driver.start()
        ended = await driver.run("@garbage\n@fail it broke")
        assert (ended.outcome, ended.exit_code) == ("failed", 3)
        assert "it broke" in ended.detail
        assert driver.every(ports.Noise) == [ports.Noise("x" * 20)]
        assert (driver.launch.folder / "prompt.txt").stat().st_mode & 0o777 == 0o600
        with pytest.raises(NotFound):
            await driver.provider.answer("ask-1", ports.Answer(text="x"))


async def test_a_command_that_leaves_a_child_behind_has_ended(command: Case, tmp_path: Path) -> None:
    async with driving(command, tmp_path) as driver:
        await driver.start()
        with anyio.fail_after(10):
            assert (await driver.run("@child 600\n@say gone")).outcome == "succeeded"
        assert "gone" in driver.said
        assert driver.processes()
        assert (await driver.run("@say next", "turn-2")).outcome == "succeeded"
        await driver.provider.close(0)
        assert driver.processes() == []


async def test_claudes_questions_of_one_request_are_asked_one_by_one(acp: Case, tmp_path: Path) -> None:
    """Claude Code may put several questions into one request; it gets one answer to all of them."""
    said: list[ports.Update] = []
    sent: list[tuple[str, dict[str, Any]]] = []

    async def respond(control_id: str, response: dict[str, Any]) -> None:
        sent.append((control_id, response))

    questions = [
        {"question": "First?", "options": [{"label": "a", "description": "the first"}, {"label": "b"}]},
        {"question": "Second?", "options": []},
    ]
    given = {"questions": questions}
    async with driving(acp, tmp_path) as driver:
        requests = ToolRequests(driver.launch, driver.tasks, said.append, respond)
        requests.can_use_tool("c1", {"tool_name": "AskUserQuestion", "input": given})
        first = (ports.Option("a", "a: the first"), ports.Option("b", "b"))
        assert said == [ports.Question("ask-1", "First?", first, free_text=True)]
        with pytest.raises(InvalidInput):
            await requests.answer("ask-1", ports.Answer())
        await requests.answer("ask-1", ports.Answer(option_id="b"))
        assert said[1:] == [ports.Question("ask-2", "Second?", (), free_text=True)]
        await requests.answer("ask-2", ports.Answer(text="why not"))
        answers = {"First?": "b", "Second?": "why not"}
        assert sent == [("c1", {"behavior": "allow", "updatedInput": {"questions": questions, "answers": answers}})]
        requests.can_use_tool("c2", {"tool_name": "AskUserQuestion", "input": given})
        requests.cancelled("c2")
        assert said[-1] == ports.Withdrawn("ask-3")
        several = {"questions": [{"question": "Which?", "options": [{"label": "reject"}, {"label": "b"}],
                                  "multiSelect": True}]}  # fmt: skip
        for number, (answer, words) in enumerate(
            [(ports.Answer(option_ids=("reject", "b")), "reject, b"), (ports.Answer(option_id="reject"), "reject")], 4
        ):
            requests.can_use_tool(f"c{number}", {"tool_name": "AskUserQuestion", "input": several})
            asked = said[-1]
            assert isinstance(asked, ports.Question)
            assert asked.multiple
            await requests.answer(asked.request_id, answer)
            assert sent[-1][1] == {"behavior": "allow", "updatedInput": {**several, "answers": {"Which?": words}}}


async def test_a_chatty_child_does_not_keep_a_command_from_ending(command: Case, tmp_path: Path) -> None:
    chatty = ("sh", "-c", "(while :; do echo still here; sleep 0.02; done) & echo done")
    async with driving(command, tmp_path, command=chatty, output="plain") as driver:
        await driver.start()
        began = time.monotonic()
        ended = await driver.run("go")
        assert (ended.outcome, ended.exit_code) == ("succeeded", 0)
        assert time.monotonic() - began < 8
        assert driver.runs("still here"), "what it left lives as long as the agent"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({"method": "session/request_permission", "params": {"toolCall": {"title": "rm"}, "options": []}},
         {"outcome": {"outcome": "cancelled"}}),
        ({"method": "elicitation/create", "params": {"message": "Which?"}}, {"action": "cancel"}),
    ],
)  # fmt: skip
async def test_what_is_asked_after_a_cancel_is_answered_cancelled(
    acp: Case, tmp_path: Path, request_: dict[str, Any], answer: dict[str, Any]
) -> None:
    """The agent sends its request before it reads of the cancel: nobody is to be asked for it any more."""
    script = tmp_path / "asks_late.py"
    script.write_text(LATE.replace("REQUEST", repr({"jsonrpc": "2.0", "id": 77, **request_})))
    async with driving(acp, tmp_path, command=(sys.executable, str(script)), permissions="ask") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "work")
        await driver.of(ports.Started)
        await driver.provider.cancel()
        ended = await driver.ended()
        assert ended.outcome == "canceled"
        assert driver.every(ports.Permission) == driver.every(ports.Question) == []
        assert driver.said == repr(answer)


LATE = """
import json, sys

def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

def say(text):
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
    send(method="session/update", params={"sessionId": "s", "update": update})

prompt = None
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method == "initialize":
        send(id=number, result={"protocolVersion": 1, "agentCapabilities": {}})
    elif method == "session/new":
        send(id=number, result={"sessionId": "s"})
    elif method == "session/prompt":
        prompt = number
        say("")
        send(method="session/update", params={"sessionId": "s", "update": {"sessionUpdate": "plan", "entries": []}})
    elif method == "session/cancel":
        print(json.dumps(REQUEST), flush=True)
    elif number == 77:
        say(repr(message["result"]))
        send(id=prompt, result={"stopReason": "cancelled"})
"""


async def test_an_interrupt_that_a_starting_command_lost_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython may lose a SIGINT while it imports; here the program is deaf to the first one, and says so."""
    monkeypatch.setattr(command_provider, "_DEAF_SECONDS", 5)
    deaf = (
        "import signal, time; "
        "signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, signal.SIG_DFL)); "
        "print('deaf', flush=True); time.sleep(600)"
    )
    case = Case("command", "command", (sys.executable, "-c", deaf), resumes=False, lives=False)
    async with driving(case, tmp_path, output="plain") as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "anything")
        await driver.until(lambda us: next((u for u in us if isinstance(u, ports.Text)), None))
        await driver.provider.cancel()
        assert (await driver.ended()).outcome == "canceled"


async def test_an_interrupt_that_claude_confirmed_and_forgot_is_said_again(tmp_path: Path) -> None:
    program = (sys.executable, str(PROGRAMS / "deaf_claude.py"))
    async with driving(Case("claude-code", "claude-code", program, resumes=False), tmp_path) as driver:
        await driver.start()
        await driver.provider.prompt("turn-1", "anything")
        await driver.until(lambda us: next((u for u in us if isinstance(u, ports.Started)), None))
        await driver.provider.cancel()
        assert (await driver.ended()).outcome == "canceled"
