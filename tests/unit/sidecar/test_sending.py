"""Prompts that do not reach a program, cancels that are not heard, and the life that a caller means."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import anyio
import pytest

from provider_support import PROGRAMS
from quarterdeck.errors import Conflict
from quarterdeck.sidecar import facts
from quarterdeck.sidecar import session as session_module
from quarterdeck.sidecar.model import Report, Task
from quarterdeck.sidecar.session import Session
from support.session import give, living, new_session, until
from support.sidecar import MANY_PROCESSES, sidecar, started

pytestmark = pytest.mark.anyio
STEPS = [sys.executable, str(PROGRAMS / "step_command.py")]
# More than a pipe holds.
LONG = "word " * 100_000


def pid_of(session: Session) -> int:
    assert session.life is not None
    assert session.life.opened is not None
    assert session.life.opened.pid is not None
    return session.life.opened.pid


async def end_of(session: Session, task: Task) -> Task:
    await until(lambda: session.store.task(task.id).ended_at)
    return session.store.task(task.id)


# -- cancels ----------------------------------------------------------------------------------------------


async def test_a_program_that_does_not_read_is_ended_in_time(tmp_path: Path) -> None:
    session = new_session(tmp_path, cancel_seconds=1)
    async with living(session):
        await until(lambda: session.state == "running")
        os.kill(pid_of(session), signal.SIGSTOP)
        task = give(session, f"{LONG}\n@once ran")
        await anyio.sleep(0.2)
        began = time.monotonic()
        session.cancel(task.id)
        assert (await end_of(session, task)).state == "canceled"
        assert time.monotonic() - began < 20
        await until(lambda: session.state == "running")
        assert (await end_of(session, give(session, "@say well"))).state == "succeeded"
        assert not (tmp_path / "work" / "ran").exists()


async def test_a_cancelled_task_that_did_not_reach_the_program_is_never_sent(tmp_path: Path) -> None:
    session = new_session(tmp_path, cancel_seconds=30)
    async with living(session):
        await until(lambda: session.state == "running")
        os.kill(pid_of(session), signal.SIGSTOP)
        task = give(session, f"{LONG}\n@once ran")
        await anyio.sleep(0.2)
        session.cancel(task.id)
        os.kill(pid_of(session), signal.SIGKILL)
        assert (await end_of(session, task)).state == "canceled"
        await until(lambda: session.state == "running" and session.incarnation == 2)
        assert (await end_of(session, give(session, "@say well"))).state == "succeeded"
        assert not (tmp_path / "work" / "ran").exists()


async def test_a_life_that_we_ended_for_a_cancel_is_no_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_DEATHS", 2)
    session = new_session(tmp_path, cancel_seconds=0.1)
    async with living(session):
        for life in (1, 2):
            await until(lambda number=life: (session.state, session.incarnation) == ("running", number))  # type: ignore[misc]
            task = give(session, "@hang hard")
            await until(lambda number=task.id: session.store.task(number).started_at)  # type: ignore[misc]
            session.cancel(task.id)
            assert (await end_of(session, task)).state == "canceled"
        await until(lambda: session.state in ("running", "failed") and session.incarnation == 3)
        assert (await end_of(session, give(session, "@say well"))).state == "succeeded"
        assert not session.deaths


async def test_sigterm_comes_before_sigkill(tmp_path: Path) -> None:
    script = tmp_path / "deaf.sh"
    script.write_text("#!/bin/sh\ntrap 'echo term >> told; exit 0' TERM\ntrap '' INT\ntouch up\n"
                      "while :; do sleep 0.05; done\n")  # fmt: skip
    script.chmod(0o755)
    session = new_session(tmp_path, kind="command", command=[str(script)], cancel_seconds=2)
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, "work")
        await until((tmp_path / "work" / "up").exists)
        session.cancel(task.id)
        assert (await end_of(session, task)).state == "canceled"
        assert (tmp_path / "work" / "told").read_text() == "term\n"
        assert any("did not obey" in note for note in session.notes)


# -- prompts that no program takes ------------------------------------------------------------------------


async def lives_on(session: Session) -> None:
    ended = await end_of(session, give(session, "@say well"))
    assert (ended.state, session.incarnation, session.state) == ("succeeded", 1, "running")


@pytest.mark.parametrize(("prompt", "why"), [(LONG, "500"), ("zero \0 byte", "zero byte")])
async def test_a_prompt_that_is_no_argument_fails_once(tmp_path: Path, prompt: str, why: str) -> None:
    program = [sys.executable, "-c", "import sys; print(len(sys.argv[1]))", "{prompt}"]
    session = new_session(tmp_path, kind="command", command=program)
    async with living(session):
        await until(lambda: session.state == "running")
        task, behind = give(session, prompt), give(session, "short", queue=True)
        ended = await end_of(session, task)
        assert (ended.state, ended.started_at) == ("failed", None)
        assert why in ended.detail
        assert "standard input" in ended.detail
        assert (await end_of(session, behind)).detail.endswith("5")
        await lives_on(session)


async def test_a_program_that_cannot_be_executed_fails_its_task(tmp_path: Path) -> None:
    script = tmp_path / "no-shebang"
    script.write_text("\0\0 no program")
    script.chmod(0o755)
    session = new_session(tmp_path, kind="command", command=[str(script)])
    async with living(session):
        await until(lambda: session.state == "running")
        ended = await end_of(session, give(session, "work"))
        assert (ended.state, session.incarnation) == ("failed", 1)
        assert "Exec format error" in ended.detail
        script.unlink()
        ended = await end_of(session, give(session, "work"))
        assert (ended.state, session.incarnation, session.state) == ("failed", 1, "running")
        assert "No such file" in ended.detail
        script.write_text(f"#!/bin/sh\nexec {' '.join(STEPS)}\n")
        script.chmod(0o755)
        await lives_on(session)


async def test_a_prompt_that_cannot_be_written_fails_its_task(tmp_path: Path) -> None:
    session = new_session(tmp_path, kind="command", command=STEPS)
    async with living(session):
        await until(lambda: session.state == "running")
        (tmp_path / "prompt.txt").mkdir()
        ended = await end_of(session, give(session, "@say hello"))
        assert ended.state == "failed"
        assert "was not started" in ended.detail
        (tmp_path / "prompt.txt").rmdir()
        await lives_on(session)


async def test_instructions_that_cannot_be_noted_are_no_reason_to_fail(tmp_path: Path) -> None:
    session = new_session(tmp_path, instructions="be kind")
    (tmp_path / "instructed-session").mkdir()
    async with living(session):
        await until(lambda: session.state == "running")
        ended = await end_of(session, give(session, "@instructions"))
        assert ended.state == "succeeded"
        entries, _ = session.store.log_entries(before=None, offset=0, limit=50)
        assert any("be kind" in e.text for e in entries if e.kind == "text")
        await lives_on(session)


# -- deaths -----------------------------------------------------------------------------------------------


async def test_a_program_that_dies_again_and_again_has_failed(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    async with living(session):
        ends = []
        for life in range(1, 6):
            await until(lambda number=life: session.state == "running" and session.incarnation == number)  # type: ignore[misc]
            ends.append(await end_of(session, give(session, "@exit 7")))
        assert [(t.state, t.exit_code) for t in ends] == [("lost", 7)] * 5
        await until(lambda: session.state == "failed")
        assert session.failure is not None
        assert "died 5 times within a minute" in session.failure
        assert "exit code 7" in session.failure
        with pytest.raises(Conflict, match="died 5 times"):
            give(session, "@say no")
        assert session.incarnation == 5


async def test_a_turn_that_ends_well_forgets_the_deaths(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    async with living(session):
        for life in range(1, 8):
            await until(lambda number=life: session.state == "running" and session.incarnation == number)  # type: ignore[misc]
            assert (await end_of(session, give(session, "@say well"))).state == "succeeded"
            await end_of(session, give(session, "@exit 7"))
        await until(lambda: session.state == "running" and session.incarnation == 8)


# -- the life that is meant -------------------------------------------------------------------------------


async def test_a_life_that_is_over_is_refused_before_the_next_one_begins(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    async with living(session):
        await until(lambda: session.state == "running")
        session.refuse_stale(1, to_run=True)
        os.kill(pid_of(session), signal.SIGKILL)
        await until(lambda: session.state == "starting")
        for to_run in (True, False):
            with pytest.raises(Conflict, match="nothing was changed"):
                session.refuse_stale(1, to_run=to_run)
        await until(lambda: session.incarnation == 2)
        session.refuse_stale(2, to_run=True)
        assert session.life is not None
        assert session.life.number == 1, "the next life has its number before it begins"


async def test_a_life_that_is_being_ended_takes_no_tasks_but_reports(tmp_path: Path) -> None:
    session = new_session(tmp_path, cancel_seconds=1)
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, "@hang hard")
        await until(lambda: session.store.task(task.id).started_at)
        session.cancel(task.id)
        await until(lambda: session.life is not None and session.life.over)
        assert session.runs(task.id)
        with pytest.raises(Conflict, match="incarnation 1 of the agent is over"):
            session.refuse_stale(1, to_run=True)
        session.refuse_stale(1, to_run=False)
        session.report(Report(summary="last words"))
        assert (await end_of(session, task)).state == "canceled"


async def test_a_report_before_the_receipt_is_about_the_task_that_was_sent(tmp_path: Path) -> None:
    """ACP has no receipt: an agent may report, by MCP, before its first sign of the turn."""
    session = new_session(tmp_path, cancel_seconds=1)
    async with living(session):
        await until(lambda: session.state == "running")
        assert (await end_of(session, give(session, "@say the first"))).state == "succeeded"
        os.kill(pid_of(session), signal.SIGSTOP)
        task = give(session, "@say the second")
        await until(lambda: session.store.task(task.id).sent_at)
        assert session.report(Report(summary="reading", reported_at=time.time())).task_id == task.id
        os.kill(pid_of(session), signal.SIGCONT)
        assert (await end_of(session, task)).state == "succeeded"
        known = facts.current_task(session)
        assert known is not None
        assert (known["id"], known["note"]) == (task.id, "reading")
        assert known["updated_at"] < known["started_at"]
        await end_of(session, give(session, "@say the third"))
        assert "note" not in (facts.current_task(session) or {})


async def test_a_new_sidecar_serves_nothing_of_the_last_one(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work", "--slow-start", "4") as side:
        await side.until(status="idle")
        task = await side.task("@hang")
        await side.until(status="busy")
        side.process.kill()
        side.process.wait()
        async with started(side.folder, side.spec, before=MANY_PROCESSES) as again:
            refused = await again.http.post("/v1/tasks", json={"description": "@once stale"}, params={"incarnation": 1})
            late = await again.http.post(f"/v1/tasks/{task['id']}/cancel")
            facts = await again.facts()
            assert (refused.status_code, late.status_code) == (409, 409)
            assert (facts["incarnation"], facts["status"]) == (2, "starting")
            assert facts["last_task"]["state"] == "lost"
            taken = await again.post("/v1/tasks", {"description": "@once meant"}, incarnation=2)
            assert (await again.end_of(taken))["state"] == "succeeded"
            assert not (side.workspace / "stale").exists()
