"""What is found on the disk after a bad day, and what the next server makes of it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from quarterdeck.errors import StorageRefused
from quarterdeck.metadata import durable, journal, locking
from quarterdeck.metadata.changes import LIFE
from quarterdeck.metadata.journal import FILE, JOURNAL, NEW, PREVIOUS, Journal
from quarterdeck.metadata.model import encode_value
from quarterdeck.metadata.store import Put, Store
from support.killing import Killed, killed_after

pytestmark = pytest.mark.anyio


def values(found: Store | journal.Loaded) -> dict[str, Any]:
    return {key: msgspec.json.decode(entry.value) for key, entry in found.entries.items()}


async def write(found: Store, data: dict[str, Any]) -> None:
    await found.write({key: Put(encode_value(key, value)) for key, value in data.items()})


def asides(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if "unreadable" in path.name]


async def some_lives(folder: Path, lives: int = 3) -> dict[str, Any]:
    for n in range(lives):
        async with Store.open(folder) as found:
            await write(found, {f"k{n}": n})
    return {f"k{n}": n for n in range(lives)}


def refuse_to_fold(*_: object) -> None:
    raise StorageRefused("the disk is full")


async def killed(folder: Path, data: dict[str, Any]) -> None:
    """One life that writes and is killed: the files stay as they are then."""
    async with Store.open(folder) as found:
        await write(found, data)
        copy = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    for name, content in copy.items():
        (folder / name).write_bytes(content)


async def test_a_write_behind_a_torn_line_is_not_glued_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await killed(tmp_path, {"a": 1})
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"crc":"01234567","revision":10' + b"x" * 100_000)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "fold", refuse_to_fold)  # a full disk, which becomes free later
        await killed(tmp_path, {"b": 2})
    loaded = journal.load(tmp_path)
    assert values(loaded) == {"a": 1, "b": 2}
    assert loaded.problems == []


async def test_a_fold_after_a_corrupt_file_leaves_the_last_good_copy_until_it_is_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every system call of it is made to be the last one, in turn."""

    reached_the_end = False
    for last in range(16):
        folder = tmp_path / str(last)
        expected = await some_lives(folder)
        (folder / FILE).write_bytes(b"corrupt")
        with killed_after(monkeypatch, journal, ("fsync", "open"), last), contextlib.suppress(Killed):
            loaded = journal.load(folder)
            snapshot = journal.Snapshot(journal.SCHEMA_VERSION, loaded.revision, loaded.entries)
            Journal(folder, afresh=loaded.afresh).fold(snapshot)
            reached_the_end = True
        async with Store.open(folder) as found:
            assert values(found) == expected, last
        # Whatever it was, the last good copy can be relied on again.
        (folder / FILE).write_bytes(b"corrupt again")
        async with Store.open(folder) as found:
            assert values(found) == expected, last
    assert reached_the_end


async def test_a_snapshot_that_was_written_but_not_put_in_place_counts(tmp_path: Path) -> None:
    expected = await some_lives(tmp_path)
    (tmp_path / FILE).rename(tmp_path / (FILE + NEW))
    for name in (FILE + PREVIOUS, JOURNAL + PREVIOUS):
        (tmp_path / name).write_bytes(b"corrupt\n")
    async with Store.open(tmp_path) as found:
        assert values(found) == expected


async def test_a_missing_file_is_told_and_the_copy_before_it_loaded(tmp_path: Path) -> None:
    expected = await some_lives(tmp_path)
    (tmp_path / FILE).unlink()
    async with Store.open(tmp_path) as found:
        assert values(found) == expected
        assert found.problems == ["metadata.json is missing", "the last good copy was loaded"]
    async with Store.open(tmp_path) as found:
        assert found.problems == []
        assert values(found) == expected


async def test_a_bad_line_is_told_once_and_kept_aside_once(tmp_path: Path) -> None:
    await killed(tmp_path, {"a": 1})
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b"not a line of ours\n")
    async with Store.open(tmp_path) as found:
        assert len(found.problems) == 1
    for _ in range(2):
        async with Store.open(tmp_path) as found:
            assert found.problems == []
            assert values(found) == {"a": 1}
    assert len(asides(tmp_path)) == 1
    (tmp_path / FILE).write_bytes(b"")  # the copy that was made instead is a good one
    async with Store.open(tmp_path) as found:
        assert values(found) == {"a": 1}


async def test_a_file_that_cannot_be_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = await some_lives(tmp_path)
    read = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path.name == FILE:
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    async with Store.open(tmp_path) as found:
        assert values(found) == expected
        assert "cannot be read (Input/output error)" in found.problems[0]
    assert len(asides(tmp_path)) == 1


async def test_folders_that_are_made_are_made_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = durable.sync_folder
    monkeypatch.setattr(durable, "sync_folder", lambda folder: (synced.append(folder), sync(folder)))
    os.close(locking.lock(tmp_path / "a" / "b" / "c"))
    assert synced == [tmp_path / "a" / "b", tmp_path / "a", tmp_path]
    synced.clear()
    os.close(locking.lock(tmp_path / "a" / "b" / "c"))
    assert synced == []


async def test_only_the_owner_may_read_what_is_stored(tmp_path: Path) -> None:
    await some_lives(tmp_path / "s")
    await killed(tmp_path / "s", {"a": 1})
    async with Store.open(tmp_path / "s") as found:
        await write(found, {"b": 1})
        (tmp_path / "s" / FILE).write_bytes(b"corrupt")
    async with Store.open(tmp_path / "s") as found:
        await write(found, {"c": 1})
        modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "s").iterdir() if p.name in (FILE, JOURNAL)}
        assert modes == {FILE: 0o600, JOURNAL: 0o600}


NESTED = {
    "object": {"a b": [1, {"c": None}, "  kept  as, it: is "], "é☃": {"\\n": 'line\nline\ttab " \\ /'}},
    "list": [[], {}, [1.5, -0.0, 1e300, 12345678901234567], "{ }"],
    "text": '{\n  "a": 1,\n  "b": [ 2 ]\n}',
    "number": 1.5,
    "empty": {},
}


async def test_values_stay_what_was_written_byte_for_byte_however_often_it_is_started(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as found:
        await write(found, NESTED)
        written = {key: bytes(entry.value) for key, entry in found.entries.items()}
        size = found.total_bytes
    assert b"\n  " in (tmp_path / FILE).read_bytes(), "the file is for people too"
    for life in range(3):
        async with Store.open(tmp_path) as found:
            assert {key: bytes(entry.value) for key, entry in found.entries.items() if key in NESTED} == written
            assert found.total_bytes == size + sum(len(f"k{n}") + 101 for n in range(life))
            await write(found, {f"k{life}": 1})
    await killed(tmp_path, {"object": NESTED["list"]})
    assert bytes(journal.load(tmp_path).entries["object"].value) == written["list"]


async def edited(folder: Path, edit: Any) -> None:
    """Somebody changes an entry of the file by hand."""
    async with Store.open(folder) as found:
        await write(found, {"fine": 1, "x": 2})
    data = msgspec.json.decode((folder / FILE).read_bytes())
    edit(data["entries"])
    (folder / FILE).write_bytes(msgspec.json.encode(data))


@pytest.mark.parametrize(
    "edit",
    [
        lambda entries: entries.update({'o"bj': entries.pop("x")}),
        lambda entries: entries.update({"watch": entries.pop("x")}),
        lambda entries: entries["x"].update(value="\x1b[31m"),
        lambda entries: entries["x"].update(value=["y" * 5000]),
        lambda entries: entries["x"].update(description="d" * 2000),
        lambda entries: entries["x"].update(updated_at=1e300),
    ],
    ids=range(6),
)
async def test_what_can_be_no_fact_is_left_out_told_and_kept_aside(tmp_path: Path, edit: Any) -> None:
    await edited(tmp_path, edit)
    async with Store.open(tmp_path) as found:
        assert values(found) == {"fine": 1}
        assert "metadata.json has 1 entries that can be no facts" in found.problems[0]
        (kept,) = asides(tmp_path)
        assert kept.name in found.problems[0]
        assert found.kept_aside() == [], "it is told already"
    async with Store.open(tmp_path) as found:
        assert values(found) == {"fine": 1}
        assert found.problems == []
        (told,) = found.kept_aside()
        assert kept.name in told
        kept.unlink()
        assert found.kept_aside() == []


async def test_a_line_with_one_fact_that_can_be_none_gives_the_others(tmp_path: Path) -> None:
    await killed(tmp_path, {"a": 1})
    entry = journal.StoredEntry(msgspec.Raw(b"1"), 10, 0.0)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(journal.line_of(journal.Record(2_000_000, {"b": entry, "not a key": entry})))
    async with Store.open(tmp_path) as found:
        assert values(found) == {"a": 1, "b": 1}
        assert "1 unreadable lines" in found.problems[0]


async def test_a_loss_is_told_at_every_start_until_what_was_kept_aside_is_removed(tmp_path: Path) -> None:
    await some_lives(tmp_path)
    for name in (FILE, FILE + PREVIOUS):
        (tmp_path / name).write_bytes(b"{")
    for name in (JOURNAL, JOURNAL + PREVIOUS):
        (tmp_path / name).unlink(missing_ok=True)
    async with Store.open(tmp_path) as found:
        assert found.problems
    for _ in range(2):
        async with Store.open(tmp_path) as found:
            assert values(found) == {}
            (told,) = found.kept_aside()
            assert all(path.name in told for path in asides(tmp_path))
    for n in range(100):
        (tmp_path / f"{FILE}.unreadable-x-{n}").touch()
    async with Store.open(tmp_path) as found:
        (told,) = found.kept_aside()
        assert "and 97 more" in told


@pytest.mark.parametrize("step", ["open", "fstat", "pread", "fsync"])
async def test_a_journal_that_cannot_be_got_ready_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for n in range(5):
        await killed(tmp_path, {f"k{n}": n})
    before = (tmp_path / JOURNAL).read_bytes()
    folder = os.stat(tmp_path)
    real, failing = getattr(os, step), True

    def fails(target: Any, *rest: Any, **more: Any) -> Any:
        # The folder's own sync, not the file's.
        concerns = step != "fsync" or os.path.samestat(os.stat(target), folder)
        if failing and concerns and (step != "open" or Path(target).name == JOURNAL):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(target, *rest, **more)

    monkeypatch.setattr(os, step, fails)
    opened = Journal(tmp_path)
    record = journal.Record(10**7, {"new": journal.StoredEntry(msgspec.Raw(b"1"), 10**7, 1.0)})
    for _ in range(2):
        with pytest.raises(StorageRefused, match="Too many open files"):
            opened.append(journal.line_of(record))
        assert (tmp_path / JOURNAL).read_bytes() == before
    failing = False
    opened.append(journal.line_of(record))
    opened.close()
    assert values(journal.load(tmp_path)) == {**{f"k{n}": n for n in range(5)}, "new": 1}


async def test_lives_whose_beginning_the_disk_refuses_have_revisions_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some_lives(tmp_path, 1)
    monkeypatch.setattr(Journal, "append", refuse_to_fold)
    monkeypatch.setattr(Journal, "fold", refuse_to_fold)
    now = 1_700_000_000.0
    begun = []
    for _ in range(3):
        now += 1
        monkeypatch.setattr(time, "time", lambda now=now: now)
        async with Store.open(tmp_path) as found:
            begun.append(found.changes.revision)
            assert found.refused is not None
    monkeypatch.undo()
    async with Store.open(tmp_path) as found:
        begun.append(found.changes.revision)
        await write(found, {"again": 1})
    assert len(set(begun)) == 4
    assert all(revision % LIFE == 0 and revision < 2**53 for revision in begun)


@pytest.mark.parametrize("copies", [True, False])
async def test_without_hard_links_files_are_copied_and_none_is_replaced_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    expected = await some_lives(tmp_path)
    (tmp_path / FILE).write_bytes(b"{torn")
    if copies:
        async with Store.open(tmp_path) as found:
            assert values(found) == expected
        assert [path.read_bytes() for path in asides(tmp_path)] == [b"{torn"]
        return
    real, room = durable.write, False

    def write_now(path: Path, data: bytes) -> None:
        if not room and ".unreadable-" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(durable, "write", write_now)
    async with Store.open(tmp_path) as found:
        assert values(found) == expected
        assert "left as it is, and kept aside before it is replaced (No space" in str(found.problems)
        assert (tmp_path / FILE).read_bytes() == b"{torn"
        assert asides(tmp_path) == []
        room = True
    assert [path.read_bytes() for path in asides(tmp_path)] == [b"{torn"]
    assert values(journal.load(tmp_path)) == expected


@pytest.mark.parametrize("step", ["exists", "open"])
def test_a_folder_that_may_not_be_searched_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    if step == "open":
        os.close(locking.lock(tmp_path / "a"))
    monkeypatch.setattr(Path if step == "exists" else os, step, denied)
    with pytest.raises(StorageRefused, match="cannot be written: Permission denied"):
        locking.lock(tmp_path / "a")


async def test_a_copy_that_does_not_fit_is_not_left_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = await some_lives(tmp_path)
    (tmp_path / FILE).write_bytes(b"{torn")
    real, room = os.write, False

    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def little(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "write", little)
    async with Store.open(tmp_path) as found:
        assert values(found) == expected
        assert asides(tmp_path) == [], "half of a copy would be taken for the whole"
        (tmp_path / FILE).rename(tmp_path / "taken away")  # by the person who was told
        room = True
        await write(found, {"more": 1})
    assert values(journal.load(tmp_path)) == {**expected, "more": 1}
