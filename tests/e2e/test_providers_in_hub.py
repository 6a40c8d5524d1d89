"""Providers other than the scripted one, all the way: hub, sidecar, program."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from provider_support import PROGRAMS, make_case
from quarterdeck.scripted.model_api import ModelApi
from support.hub import CONFIG, LiveHub, git, until_written, whole

pytestmark = pytest.mark.anyio
# A program that obeys late, on a loaded machine, is not killed for it.
PATIENT = CONFIG.replace("cancel_seconds = 1\n", "cancel_seconds = 20\n")
assert PATIENT != CONFIG


async def test_a_command_is_an_agent(repo: Path) -> None:
    command = json.dumps([sys.executable, str(PROGRAMS / "step_command.py")])
    config = f'{PATIENT}\n[providers.steps]\nkind = "command"\ncommand = {command}\noutput = "jsonl"\n'
    async with whole(repo, config) as live:
        await live.create("cmd", "@write a.txt hello\n@usage 7 3 0.5\n@say wrote it", provider="steps")
        first = await live.until_done("cmd")
        assert (first["state"], first["exit_code"], first["detail"]) == ("succeeded", 0, "wrote it")
        assert (first["usage"]["input_tokens"], first["usage"]["cost_usd"]) == (7, 0.5)
        assert (Path((await live.show("cmd"))["workspace"]) / "a.txt").read_text() == "hello\n"
        second = await live.task("cmd", "@fail it broke")
        hung = await live.task("cmd", "@child 300\n@write up x\n@hang", queue=True)
        ended = await live.until_done("cmd", second["id"])
        assert (ended["state"], ended["exit_code"]) == ("failed", 3)
        assert "it broke" in ended["detail"]
        await live.until("cmd", lambda line: line["status"] == "busy" and line["task"]["id"] == hung["id"])
        # "busy" it is while its program still imports, and may lose the interrupt.
        await until_written(Path((await live.show("cmd"))["workspace"]) / "up")
        await live.post("/api/agents/cmd/cancel", {})
        assert (await live.until_done("cmd", hung["id"]))["state"] == "canceled"
        history = await live.get("/api/agents/cmd/tasks")
        assert [(t["state"], t["exit_code"]) for t in history["tasks"]][1:] == [("failed", 3), ("succeeded", 0)]
        assert history["total_count"] == 3
        assert (await live.show("cmd"))["incarnation"] == 1


@pytest.fixture
def api() -> Iterator[ModelApi]:
    with ModelApi() as server:
        yield server


def agent_pid(live: LiveHub, name: str) -> int:
    facts = live.fleet.crew.view(name).facts
    assert facts is not None
    assert facts.agent_pid is not None
    return facts.agent_pid


@pytest.mark.real_agent
async def test_a_real_acp_agent_works_reports_is_cancelled_and_survives_its_death(
    repo: Path, tmp_path: Path, api: ModelApi
) -> None:
    case = make_case("claude-acp", lambda: api)
    (tmp_path / "home").mkdir()
    # The program lets root work only in what it takes for a sandbox, and takes "1" alone for one.
    env = json.dumps({**case.env, "HOME": str(tmp_path / "home"), "IS_SANDBOX": "1"})[1:-1].replace('": "', '" = "')
    config = f'{PATIENT}\n[providers.real]\nkind = "acp"\ncommand = {json.dumps(case.command)}\nenv = {{{env}}}\n'
    async with whole(repo, config) as live:
        await live.create("real", provider="real", spec="Mind the blue door.")
        await live.until_status("real", "idle", seconds=60)
        work = await live.task(
            "real",
            "@write check.py print('1 passed')\n@run python3 check.py\n@commit Checked\n"
            '@mcp report_task {"summary": "it is checked", "state": "complete"}\n@say done',
        )
        ended = await live.until_done("real", work["id"], seconds=60)
        assert ended["state"] == "succeeded", ended
        assert ended["accepted_at"] <= ended["started_at"] <= ended["ended_at"]
        assert git(repo, "log", "-1", "--format=%s", "qd/real") == "Checked"
        assert (await live.show("real"))["report"]["summary"] == "it is checked"

        slow = await live.task("real", "@once ran.txt one\n@run python3 -c 'import time; time.sleep(600)'")
        workspace = Path((await live.show("real"))["workspace"])
        with anyio.fail_after(30):
            while not (workspace / "ran.txt").exists():
                await anyio.sleep(0.05)
        await live.post("/api/agents/real/cancel", {})
        assert (await live.until_done("real", slow["id"]))["state"] == "canceled"

        killed = await live.task("real", "@once ran.txt two\n@run python3 -c 'import time; time.sleep(600)'")
        with anyio.fail_after(30):
            while "two" not in (workspace / "ran.txt").read_text():
                await anyio.sleep(0.05)
        os.kill(agent_pid(live, "real"), signal.SIGKILL)
        lost = await live.until_done("real", killed["id"])
        assert (lost["state"], lost["exit_code"]) == ("lost", -signal.SIGKILL)
        line = await live.until("real", lambda line: line["status"] == "idle", seconds=60)
        assert line["name"] == "real"
        shown = await live.show("real")
        assert (shown["incarnation"], shown["resumed"]) == (2, True)
        again = await live.task("real", "@say well again")
        assert (await live.until_done("real", again["id"], seconds=60))["state"] == "succeeded"
        assert (workspace / "ran.txt").read_text() == "one\ntwo\n", "no prompt was given twice"
