"""The agent's SQLite file, and the session's promise that a full disk loses nothing that was said."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.errors import Conflict, InternalError, NotFound, StorageRefused
from quarterdeck.sidecar import journal, offline, ports
from quarterdeck.sidecar.attention import Desk
from quarterdeck.sidecar.conversation import Conversation
from quarterdeck.sidecar.model import Report, TaskPage
from quarterdeck.sidecar.providers import make_provider
from quarterdeck.sidecar.session import Session
from quarterdeck.sidecar.spec import DATABASE_FILE, LaunchSpec
from quarterdeck.sidecar.store import Store
from quarterdeck.sidecar.turns import Turns


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / DATABASE_FILE)
    yield made
    made.close()


def add(store: Store, task_id: str = "t1", key: str | None = None) -> None:
    store.add_task(task_id, "do it", key=key, origin="", held=False)


def full(store: Store) -> None:
    """No page more: what SQLite answers is what it answers when the disk is full."""
    (pages,) = store.db.execute("PRAGMA page_count").fetchone()
    store.db.execute(f"PRAGMA max_page_count={pages}")


def room(store: Store) -> None:
    store.db.execute("PRAGMA max_page_count=1073741823")


# -- tasks ------------------------------------------------------------------------------------------------


def test_the_key_gives_the_same_task(store: Store) -> None:
    first, new = store.add_task("t1", "do it", key="k", origin="", held=False)
    again, second = store.add_task("t2", "do it", key="k", origin="", held=False)
    assert (new, second) == (True, False)
    assert again == first
    with pytest.raises(Conflict, match="t1"):
        store.add_task("t3", "something else", key="k", origin="", held=False)
    assert store.tasks(offset=0, limit=10).total_count == 1


def test_a_task_ends_once(store: Store) -> None:
    add(store)
    assert store.step_task("t1", "started", incarnation=1)
    assert store.step_task("t1", "succeeded", incarnation=1)
    ended = store.task("t1")
    for state in ("lost", "failed", "canceled", "started", "accepted"):
        assert not store.step_task("t1", state, incarnation=2)  # type: ignore[arg-type]
    assert store.task("t1") == ended
    kinds = [e.data["state"] for e in store.events_after(0) if e.kind == "task"]
    assert kinds == ["queued", "started", "succeeded"]


def test_the_file_is_private_and_survives_a_kill(tmp_path: Path, store: Store) -> None:
    add(store)
    store.mark_sent("t1", 1)
    assert (tmp_path / DATABASE_FILE).stat().st_mode & 0o777 == 0o600
    second = Store(tmp_path / DATABASE_FILE)  # the first was not closed, as after a kill -9
    assert second.task("t1").sent_at is not None
    second.close()


def test_a_damaged_and_a_newer_file_are_left_alone(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database " * 500)
    with pytest.raises(InternalError, match="damaged"):
        Store(damaged)
    assert damaged.read_bytes().startswith(b"no database")
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(InternalError, match="version 99"):
        Store(newer)


def test_what_was_handed_over_is_lost_and_what_was_not_still_waits(store: Store) -> None:
    turns = Turns(store, lambda: None, task_bytes=1000)
    for n in range(3):
        turns.submit(f"task {n}", key=None, queue=True, origin="", held=False, incarnation=1)
    first = turns.next()
    assert first is not None
    assert turns.hand_over(first, 1) == "task 0"
    after = Turns(store, lambda: None, task_bytes=1000)  # the sidecar was killed between mark_sent and prompt
    (lost,) = after.recover(1)
    assert (store.task(lost.id).state, lost.id) == ("lost", first.id)
    assert [t.description for t in after.waiting()] == ["task 1", "task 2"]
    second = after.next()
    assert second is not None
    text = after.hand_over(second, 2)
    assert "'task 0'" in text
    assert "not given to you again" in text
    assert text.endswith("task 1")
    after.receipt(second.id, "started", 2)
    after.end("succeeded", 2)
    assert Turns(store, lambda: None, task_bytes=1000).recover(3) == []
    assert store.task(second.id).state == "succeeded"


def test_a_cancel_that_was_asked_for_before_a_death_is_a_cancel(store: Store) -> None:
    turns = Turns(store, lambda: None, task_bytes=1000)
    task, _ = turns.submit("x", key=None, queue=False, origin="", held=False, incarnation=1)
    turns.hand_over(task, 1)
    assert turns.request_cancel(1)
    assert not turns.request_cancel(1)
    Turns(store, lambda: None, task_bytes=1000).recover(1)
    assert store.task(task.id).state == "canceled"


# -- notes ------------------------------------------------------------------------------------------------


def test_a_note_is_taken_once_in_all_lives(store: Store) -> None:
    first, new = store.add_note("look", key="k", incarnation=1)
    again, second = store.add_note("look again", key="k", incarnation=2)
    assert (new, second, again) == (True, False, first)
    assert (first.kind, first.text, first.incarnation) == ("note", "look", 1)
    assert [e.data for e in store.events_after(0) if e.kind == "note"] == [{"text": "look"}]
    full(store)
    with pytest.raises(StorageRefused):
        store.add_note("x" * 100_000, key="other", incarnation=2)
    room(store)
    assert store.add_note("y", key="other", incarnation=2)[1]


def test_each_page_of_tasks_has_the_notes_of_its_time(tmp_path: Path) -> None:
    clock = iter(range(1000))
    store = Store(tmp_path / DATABASE_FILE, clock=lambda: float(next(clock)))
    store.log("note", "before all", incarnation=1)
    for n in range(5):
        add(store, f"t{n}")
        store.log("note", f"after t{n}", incarnation=1)
        store.log("text", "no note", incarnation=1)

    def page(offset: int, limit: int) -> tuple[list[str], list[str]]:
        found = store.tasks(offset=offset, limit=limit)
        assert found.total_count == 5
        return [t.id for t in found.tasks], [n.text for n in found.notes]

    assert page(0, 2) == (["t4", "t3"], ["after t4", "after t3"])
    assert page(2, 2) == (["t2", "t1"], ["after t2", "after t1"])
    assert page(4, 2) == (["t0"], ["after t0", "before all"])
    assert page(0, 9)[1][-1] == "before all"
    assert page(6, 2) == ([], [])
    store.close()
    kept = offline.tasks(tmp_path, offset=0, limit=1, dead=True)
    assert [n.text for n in kept.notes] == ["after t4"]


def test_what_somebody_had_noted_is_kept_whatever_is_said_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEPT_LOG", 10)
    store.add_note("look", key="k", incarnation=1)
    with store.transaction():
        for n in range(1000):
            store.log("note" if n < 900 else "text", f"own {n}", incarnation=1)
    found = [n.text for n in store.tasks(offset=0, limit=5).notes]
    assert found == ["look"], "of our own there are none among the 10 newest entries"
    with store.transaction():
        for n in range(150):
            store.log("note", f"own {n}", incarnation=1)
    found = [n.text for n in store.tasks(offset=0, limit=5).notes]
    assert found == [*(f"own {n}" for n in range(149, 49, -1)), "look"]
    assert not store.add_note("look", key="k", incarnation=2)[1]


def test_notes_of_an_agent_that_had_no_task(store: Store) -> None:
    store.add_note("look", key="k", incarnation=1)
    found = store.tasks(offset=0, limit=5)
    assert ([n.text for n in found.notes], found.tasks, found.total_count) == (["look"], [], 0)


def test_the_file_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    file = tmp_path / DATABASE_FILE
    store = Store(file)
    store.log("note", "from before", incarnation=1)
    for statement in (
        "DROP INDEX log_notes",
        "ALTER TABLE attention DROP COLUMN closed_because",
        "PRAGMA user_version=1",
    ):
        store.db.execute(statement)
    store.close()
    after = Store(file)
    plan = after.db.execute("EXPLAIN QUERY PLAN SELECT id FROM log WHERE kind='note' AND at >= 0").fetchall()
    assert "log_notes" in str(plan)
    after.forget_attention()
    assert [n.text for n in after.notes(since=0, before=None)] == ["from before"]
    after.close()


# -- questions --------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_question_that_was_closed_was_not_answered(store: Store) -> None:
    desk = Desk(store, lambda: None, time.time)

    closed, answered, left = (desk.ask_human(q, [], incarnation=1, task_id=None) for q in ("one?", "two?", "three?"))
    await desk.answer(answered, "blue", incarnation=1, asker=None)
    assert await desk.human_answer(answered, 0) == ("blue", None)
    assert await desk.human_answer(closed, 0) == (None, None)
    desk.close_all("the turn ended", incarnation=1)
    assert await desk.human_answer(closed, 0) == (None, "the turn ended")
    with pytest.raises(Conflict, match="closed before: the turn ended"):
        await desk.answer(closed, "red", incarnation=1, asker=None)
    with pytest.raises(Conflict, match="closed before: blue"):
        await desk.answer(answered, "red", incarnation=1, asker=None)
    told = {e.data["id"]: e.data for e in store.events_after(0) if e.kind == "attention_closed"}
    assert told[answered] == {"id": answered, "answer": "blue"}
    assert told[left] == {"id": left, "closed_because": "the turn ended"}
    lost = desk.ask_human("four?", [], incarnation=1, task_id=None)
    store.forget_attention()  # the sidecar was killed
    assert await Desk(store, lambda: None, time.time).human_answer(lost, 0) == (None, "the agent was restarted")


def test_a_file_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    made = Store(tmp_path / "old.db")
    add(made)
    made.db.execute("ALTER TABLE attention DROP COLUMN closed_because")
    made.db.execute("PRAGMA user_version=1")
    made.close()
    again = Store(tmp_path / "old.db")
    assert again.task("t1").description == "do it"
    again.forget_attention()
    again.close()


def test_a_file_that_no_disk_takes_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="cannot be opened"):
        Store(tmp_path)


# -- what is read while nobody runs -----------------------------------------------------------------------


def test_offline(tmp_path: Path) -> None:
    assert offline.tasks(tmp_path, offset=0, limit=5) == TaskPage(tasks=[], total_count=0)
    (tmp_path / DATABASE_FILE).touch()  # a sidecar is just making it
    assert offline.tasks(tmp_path, offset=0, limit=5) == TaskPage(tasks=[], total_count=0)
    (tmp_path / DATABASE_FILE).unlink()
    made = Store(tmp_path / DATABASE_FILE)
    add(made)
    made.log("note", "hello", incarnation=0)
    # Beside the writer, and after it ended in good order.
    assert [t.id for t in offline.tasks(tmp_path, offset=0, limit=5).tasks] == ["t1"]
    made.close()
    assert [t.id for t in offline.tasks(tmp_path, offset=0, limit=5).tasks] == ["t1"]
    assert [e.text for e in offline.log_entries(tmp_path, offset=0, limit=5)[0]] == ["hello"]


# -- a full disk ------------------------------------------------------------------------------------------


def test_a_write_is_whole_or_not_at_all(store: Store) -> None:
    full(store)
    with pytest.raises(StorageRefused, match="nothing was changed"):
        store.add_task("big", "x" * 200_000, key=None, origin="", held=False)
    with pytest.raises(NotFound):
        store.task("big")
    with pytest.raises(StorageRefused):
        store.save_report(Report(summary="x" * 160, link="y" * 100_000), incarnation=1)
    assert store.report() is None
    room(store)
    add(store, "after")
    assert store.task("after").state == "queued"


def test_a_full_disk_loses_nothing_that_was_said(tmp_path: Path, store: Store) -> None:
    spec = LaunchSpec(
        id="x", name="x", workspace=str(tmp_path), kind="acp", provider="scripted", command=[sys.executable]
    )
    session = Session(spec, tmp_path, store, make_provider)
    session.incarnation = store.begin_incarnation("acp")
    session.conversation = Conversation(store, session.incarnation)
    task, _ = session.turns.submit(
        "work", key=None, queue=False, origin="", held=False, incarnation=session.incarnation
    )
    session.turns.hand_over(task, session.incarnation)
    full(store)
    said: list[ports.Update] = [ports.Accepted(task.id), ports.Started(task.id)]
    said += [ports.Text(f"m{n}", f"word {n} " + "x" * 3000) for n in range(30)]
    said += [ports.ToolCall("c1", "in_progress", "Run", output="y" * 9000), ports.ToolCall("c1", "completed")]
    said += [ports.Permission("r1", "May I?", options=(ports.Option("a", "Allow", "allow_once"),))]
    said += [ports.Usage(input_tokens=5, cost_usd=0.5), ports.TurnEnded(task.id, "succeeded")]
    for update in said:
        session._take(session.incarnation, update)
    assert len(session.backlog), "the disk was not full: the test tests nothing"
    assert store.task(task.id).ended_at is None
    assert "cannot be written" in session.notes[-1]
    room(store)
    session.retry()
    session.flush()
    assert not len(session.backlog)
    ended = store.task(task.id)
    assert (ended.state, ended.usage.input_tokens, ended.usage.cost_usd) == ("succeeded", 5, 0.5)
    entries, _ = store.log_entries(before=None, offset=0, limit=100)
    texts = [e.text for e in reversed(entries) if e.kind == "text"]
    assert texts == [f"word {n} " + "x" * 3000 for n in range(30)]
    assert [e.data["status"] for e in entries if e.kind == "tool"] == ["completed"]
    assert len([e for e in entries if e.kind == "permission"]) == 1
    assert session.desk.open == []


# -- the conversation -------------------------------------------------------------------------------------


def test_pieces_of_a_message_travel_together(store: Store) -> None:
    talk = Conversation(store, 1)
    for word in ("one ", "two ", "three"):
        talk.record(ports.Text("m1", word), "t1")
    assert talk.pending
    assert store.log_entries(before=None, offset=0, limit=9)[0] == []
    talk.record(ports.Text("m1", "hm", thought=True), "t1")  # another kind ends the piece
    talk.flush()
    talk.record(ports.Text("m1", " four"), "t1")
    talk.flush()
    entries, _ = store.log_entries(before=None, offset=0, limit=9)
    assert [(e.kind, e.text) for e in reversed(entries)] == [("text", "one two three four"), ("thought", "hm")]
    pieces = [e.data["text"] for e in store.events_after(0) if e.kind == "text"]
    assert pieces == ["one two three", " four"]


def test_a_huge_message_is_cut_and_says_so(store: Store) -> None:
    talk = Conversation(store, 1)
    talk.record(ports.Text("m1", "x" * 10_000_000), "t1")
    talk.flush()
    (entry,), _ = store.log_entries(before=None, offset=0, limit=9)
    assert len(entry.text) <= 64 * 1024
    assert "10000000 characters in all" in entry.text


def test_a_message_that_grows_beyond_the_limit_tells_its_true_length(store: Store) -> None:
    talk = Conversation(store, 1)
    for _ in range(50):
        talk.record(ports.Text("m1", "x" * 4999 + "\n"), "t1")
        talk.flush()
    (entry,), _ = store.log_entries(before=None, offset=0, limit=9)
    assert len(entry.text) <= 64 * 1024
    assert entry.text.endswith("[cut: 250000 characters in all]")
    assert entry.text.count("[cut:") == 1
    store.log("text", "", incarnation=1, ref="text:m1")  # a change of something else
    talk.record(ports.Text("m1", "!"), "t1")
    talk.flush()
    (entry,), _ = store.log_entries(before=None, offset=0, limit=9)
    assert "250001 characters" in entry.text


def test_a_tool_call_is_one_entry(store: Store) -> None:
    talk = Conversation(store, 1)
    talk.record(ports.ToolCall("c1", "in_progress", "Run tests", input="pytest"), "t1")
    assert talk.tools_open == {"c1"}
    talk.record(ports.ToolCall("c1", "completed", output="2 passed"), "t1")
    assert talk.tools_open == set()
    (entry,), _ = store.log_entries(before=None, offset=0, limit=9)
    assert (entry.text, entry.data["status"], entry.data["input"], entry.data["output"]) == (
        "Run tests", "completed", "pytest", "2 passed",
    )  # fmt: skip
    talk.record(ports.ToolCall("c2", "in_progress", "Left open"), "t1")
    talk.turn_over()
    assert talk.tools_open == set()
