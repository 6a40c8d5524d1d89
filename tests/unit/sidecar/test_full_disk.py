"""With a full disk the sidecar lives on, tells nobody what is not recorded, and loses nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from quarterdeck.config import Watchdog
from quarterdeck.errors import StorageRefused
from quarterdeck.sidecar.session import Session
from quarterdeck.sidecar.spec import DATABASE_FILE
from quarterdeck.sidecar.store import Store
from support.mounts import filled, mounted
from support.session import WAIT_FOR_GO, give, living, new_session, until
from support.sidecar import sidecar

pytestmark = pytest.mark.anyio


def fill(store: Store) -> None:
    """No page more, and the last ones full: SQLite answers what it answers when the disk is full."""
    (pages,) = store.db.execute("PRAGMA page_count").fetchone()
    store.db.execute(f"PRAGMA max_page_count={pages}")
    for size in (3000, 100, 1):
        for _ in range(2000):
            try:
                store.log("filler", "x" * size, incarnation=0)
                store.add_event("filler", {"x": "x" * size}, incarnation=0)
            except StorageRefused:
                break


def room(store: Store) -> None:
    store.db.execute("PRAGMA max_page_count=1073741823")


async def settled(waiting: Callable[[], Awaitable[object]]) -> None:
    """What waits for room has not changed for two seconds: the rest of the turn was heard, its end as well."""
    known, since = await waiting(), time.monotonic()
    with anyio.fail_after(60):
        while time.monotonic() - since < 2:
            await anyio.sleep(0.1)
            if (now := await waiting()) != known:
                known, since = now, time.monotonic()


def agent_pid(session: Session) -> int:
    assert session.life is not None
    assert session.life.opened is not None
    assert session.life.opened.pid is not None
    return session.life.opened.pid


async def test_the_program_dies_while_the_disk_is_full(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, "@hang")
        await until(lambda: session.store.task(task.id).started_at)
        fill(session.store)
        os.kill(agent_pid(session), signal.SIGKILL)
        await until(lambda: len(session.backlog))
        await anyio.sleep(1)
        assert session.state == "starting", "no life begins before the end of the last one is recorded"
        assert session.store.task(task.id).state == "started"
        assert any("cannot be written" in note for note in session.notes)
        room(session.store)
        await until(lambda: session.state == "running")
        ended = session.store.task(task.id)
        assert (ended.state, ended.exit_code) == ("lost", -signal.SIGKILL)
        assert session.incarnation == 2


async def test_what_had_succeeded_is_never_lost(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, WAIT_FOR_GO)
        await until(lambda: session.store.task(task.id).started_at)
        fill(session.store)
        (tmp_path / "work" / "go").touch()
        await until(lambda: len(session.backlog) >= 2)

        async def waiting() -> int:
            return len(session.backlog)

        await settled(waiting)
        os.kill(agent_pid(session), signal.SIGKILL)
        await until(lambda: session.state == "starting")
        session.note("said while nothing could be written")
        room(session.store)
        await until(lambda: session.state == "running")
        assert session.store.task(task.id).state == "succeeded"
        entries, _ = session.store.log_entries(before=None, offset=0, limit=100)
        assert [e.text for e in entries if e.kind == "note"].count("said while nothing could be written") == 1


class NoHandOver(Store):
    """Takes a task, and then has no room for handing it over: the last page was just enough."""

    refusals = 3

    def mark_sent(self, task_id: str, incarnation: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StorageRefused("the agent's database cannot be written: full; nothing was changed")
        super().mark_sent(task_id, incarnation)


async def test_a_task_that_was_taken_is_not_refused(tmp_path: Path) -> None:
    session = new_session(tmp_path, NoHandOver(tmp_path / DATABASE_FILE))
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, "@once done")
        await until(lambda: session.store.task(task.id).ended_at)
        assert session.store.task(task.id).state == "succeeded"
        assert (tmp_path / "work" / "done").read_text().count("\n") == 1
        assert session.store.tasks(offset=0, limit=9).total_count == 1


async def test_a_stuck_agent_is_still_looked_after(tmp_path: Path) -> None:
    watchdog = Watchdog(silent_seconds=1, tool_seconds=1, cancel=True)
    session = new_session(tmp_path, watchdog=watchdog)
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, "@hang")
        await until(lambda: session.store.task(task.id).started_at)
        fill(session.store)
        await anyio.sleep(2.5)
        assert session.store.task(task.id).state == "started"
        room(session.store)
        await until(lambda: session.store.task(task.id).ended_at)
        assert session.store.task(task.id).state == "canceled"
        assert any("said nothing" in note for note in session.notes)


async def test_it_can_be_stopped(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, "@hang")
        await until(lambda: session.store.task(task.id).started_at)
        fill(session.store)
        session.stop("asked to stop")
        await until(lambda: session.state == "stopped")
        room(session.store)
        await until(lambda: session.store.task(task.id).ended_at)
        assert session.store.task(task.id).state == "canceled"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    with mounted(tmp_path / "small", "size=3m") as folder:
        yield folder


async def test_a_disk_that_is_full_from_the_start_is_told_as_such(small_disk: Path) -> None:
    Store(small_disk / "old.db").close()
    with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    for name in ("old.db", "new.db"):
        with pytest.raises(StorageRefused, match="cannot be opened"):
            Store(small_disk / name).begin_incarnation("acp")
    (small_disk / "filler").unlink()
    store = Store(small_disk / "old.db")
    assert store.begin_incarnation("acp") == 1
    store.close()


async def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path) -> None:
    async with sidecar(
        small_disk / "agent", tmp_path / "work", env={"QD_SCRIPTED_HOME": str(tmp_path / "scripted")}
    ) as side:
        facts = await side.until(status="idle")
        task = await side.task(WAIT_FOR_GO + "\n@say " + "much " * 4000 + "\n@run touch said")
        await side.until(status="busy", activity="working")
        with filled(small_disk):
            # What is journaled already may be overwritten in place: go on until nothing is taken any more.
            with anyio.fail_after(60):
                while (await side.http.post("/v1/report", json={"summary": "x" * 160})).status_code != 507:
                    pass
            (side.workspace / "go").touch()
            with anyio.fail_after(60):
                while not (side.workspace / "said").exists() or "wait for room" not in str(
                    (await side.get("/health"))["problems"]
                ):
                    await anyio.sleep(0.02)

            async def waiting() -> object:
                return re.findall(r"(\d+) change\(s\) wait for room", str((await side.get("/health"))["problems"]))

            await settled(waiting)
            os.kill(facts["agent_pid"], signal.SIGKILL)
            await side.until(status="starting")
            await side.get("/v1/log")
            refused = await side.http.post("/v1/tasks", json={"description": "@say more", "queue": True})
            assert refused.status_code == 507
        assert (await side.end_of(task))["state"] == "succeeded"
        after = await side.until(status="idle")
        assert (after["incarnation"], after["sidecar_pid"]) == (facts["incarnation"] + 1, facts["sidecar_pid"])
        assert (await side.get("/health"))["problems"] == []
        assert (await side.get("/v1/tasks"))["total_count"] == 1
