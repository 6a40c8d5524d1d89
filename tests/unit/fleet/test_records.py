"""Records on disk: whole or not at all, and a crash between any two steps loses nothing."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from quarterdeck import files
from quarterdeck.errors import Conflict, StorageRefused
from quarterdeck.fleet.model import AgentRecord
from quarterdeck.fleet.records import RECORD_FILE, Records
from quarterdeck.sidecar import offline
from quarterdeck.sidecar.spec import DATABASE_FILE
from quarterdeck.sidecar.store import Store


def record(name: str, **more: Any) -> AgentRecord:
    base = {"id": f"{name}-1", "project": "p", "role": "coder", "provider": "x", "repo": "/r", "base": "main"}
    return AgentRecord(name=name, **{**base, "created_at": 1.0, **more})


def again(state: Path) -> Records:
    """What the next hub reads."""
    records = Records(state)
    records.load()
    return records


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.create(record("a", created_at=2.0, spec="be good"))
    records.create(record("b", created_at=1.0))
    records.change("a", branch="qd/a", notes=["one"])
    assert again(tmp_path).all() == records.all()
    assert [r.name for r in records.all()] == ["b", "a"]
    file = tmp_path / "agents" / "a" / RECORD_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.create(record("a"))
    with pytest.raises(Conflict, match="already"):
        records.create(record("a", id="a-2"))
    assert again(tmp_path).get("a") == record("a")


def test_a_crash_after_the_folder_and_before_the_record(tmp_path: Path) -> None:
    (tmp_path / "agents" / "a").mkdir(parents=True)
    records = again(tmp_path)
    assert records.all() == []
    records.create(record("a"))
    assert again(tmp_path).get("a") is not None


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "agents" / "a" / "worktree").mkdir(parents=True)
    with pytest.raises(Conflict, match="no agent"):
        again(tmp_path).create(record("a"))


def test_what_cannot_be_read_is_told_and_left_alone(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.create(record("good"))
    for name, content in (("cut", b'{"id": "cut-1", "na'), ("newer", b'{"schema": 99, "id": "x"}'), ("empty", b"")):
        folder = tmp_path / "agents" / name
        folder.mkdir()
        (folder / RECORD_FILE).write_bytes(content)
    next_hub = again(tmp_path)
    assert [r.name for r in next_hub.all()] == ["good"]
    assert set(next_hub.unreadable) == {"cut", "newer", "empty"}
    with pytest.raises(Conflict):
        next_hub.create(record("cut"))
    assert (tmp_path / "agents" / "cut" / RECORD_FILE).read_bytes() == b'{"id": "cut-1", "na'


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path)
    records.create(record("a"))

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(StorageRefused, match="No space"):
        records.change("a", spec="other")
    assert records.get("a") == record("a"), "what is known is what is written"
    monkeypatch.undo()
    assert again(tmp_path).get("a") == record("a")
    assert os.listdir(tmp_path / "agents" / "a") == [RECORD_FILE], "no temporary file is left"


def test_a_deleted_one_keeps_its_history_and_frees_its_name(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.create(record("a"))
    store = Store(tmp_path / "agents" / "a" / DATABASE_FILE)
    store.add_task("t", "do it", key=None, origin="", held=False)
    # The sidecar was killed: its journal is still beside the file.
    done = records.change("a", deleting_at=5.0, deleted_at=6.0)
    records.bury(done)
    store.close()
    assert records.get("a") is None
    assert not (tmp_path / "agents" / "a").exists()
    (grave,) = again(tmp_path).deleted()
    assert grave == done
    assert [t.id for t in offline.tasks(records.grave(grave), offset=0, limit=5).tasks] == ["t"]
    records.create(record("a", id="a-2"))
    assert again(tmp_path).get("a") == record("a", id="a-2")


@pytest.mark.parametrize("step", range(4))
def test_a_crash_at_any_step_of_the_burial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Whatever was done before the crash, the next hub buries to the end and the history is there."""
    records = Records(tmp_path)
    records.create(record("a"))
    store = Store(tmp_path / "agents" / "a" / DATABASE_FILE)
    store.add_task("t", "do it", key=None, origin="", held=False)
    store.close()
    done = records.change("a", deleting_at=5.0, deleted_at=6.0)

    class Killed(BaseException):
        pass

    count = iter(range(10))
    originals = {"mkdir": Path.mkdir, "replace": Path.replace}

    def counted(name: str) -> Any:
        def call(self: Path, *args: Any, **more: Any) -> Any:
            if next(count) == step:
                raise Killed
            return originals[name](self, *args, **more)

        return call

    for name in originals:
        monkeypatch.setattr(Path, name, counted(name))
    with contextlib.suppress(Killed):
        records.bury(done)
    monkeypatch.undo()
    next_hub = again(tmp_path)
    left = next_hub.get("a")
    if left is not None:
        assert left.deleting_at is not None
        next_hub.bury(left)
    assert again(tmp_path).all() == []
    (grave,) = next_hub.deleted()
    assert [t.id for t in offline.tasks(next_hub.grave(grave), offset=0, limit=5).tasks] == ["t"]


def test_a_grave_is_forgotten(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for name, at in (("old", 10.0), ("young", 1000.0)):
        records.create(record(name))
        records.bury(records.change(name, deleted_at=at))
    young, old = records.deleted()
    records.forget(old)
    records.forget(old)
    assert records.deleted() == [young]


def test_what_a_full_disk_refuses_is_known_and_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path)
    for name in ("a", "b"):
        records.create(record(name))

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(files.os, "fsync", refuse)
        assert records.note("a", gone_at=5.0).gone_at == 5.0
        records.write_noted()
        assert records.get("a") == record("a", gone_at=5.0)
        assert again(tmp_path).get("a") == record("a")
        with pytest.raises(StorageRefused):
            records.change("a", spec="other")
        records.note("b", gone_at=6.0)
    records.bury(records.change("b", deleted_at=7.0))
    records.write_noted()
    assert again(tmp_path).all() == [record("a", gone_at=5.0)], "and nobody buried comes back"
