"""Stored facts on disk: one JSON file, a journal of what came since, and the copies before both.

    metadata.json            everything up to a revision (schema-versioned, mode 0600)
    metadata.journal         what came since: JSON lines, each with a checksum
    metadata.json.previous   the file before that one, and
    metadata.journal.previous  the journal between the two: together the last good copy
    metadata.lock            held by the one server that may write here

All functions block; the store calls them from a thread. A line is durable when `append` returned.
"""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from quarterdeck.errors import QuarterdeckError, StorageRefused
from quarterdeck.metadata import durable, model

SCHEMA_VERSION = 1
FILE = "metadata.json"
JOURNAL = "metadata.journal"
PREVIOUS = ".previous"
NEW = ".new"
ASIDE = ".unreadable-"
_CRC = b'{"crc":"'
_HEAD = len(_CRC) + 8 + 2  # {"crc":"01234567",
_raw = msgspec.json.Encoder(order="deterministic")


class StoredEntry(msgspec.Struct, frozen=True):
    """One stored fact: its value as JSON, the revision and moment of its last change, what it means."""

    value: msgspec.Raw
    revision: int
    updated_at: float
    description: str = ""
    include_in_list: bool = False


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the journal: what one write set and deleted, all at one revision."""

    revision: int
    set: dict[str, StoredEntry] = {}
    delete: list[str] = []


class Snapshot(msgspec.Struct, frozen=True):
    """The JSON file."""

    schema_version: int
    revision: int
    entries: dict[str, StoredEntry]


class _Unreadable(Exception):
    """This file is not a snapshot of ours; the text says why."""


@dataclass
class Loaded:
    """What was found: entries and revision, and `problems` in words for `/health` (empty: all was well)."""

    entries: dict[str, StoredEntry] = field(default_factory=dict)
    revision: int = 0
    problems: list[str] = field(default_factory=list)
    # The journal can only be appended to when the snapshot it follows is the one that was loaded.
    needs_fold: bool = False
    # Something on the disk cannot be believed: the next fold must not make it the last good copy.
    afresh: bool = False
    # Of that, what could not be kept aside yet: the next fold must not replace it before.
    unkept: list[Path] = field(default_factory=list)

    def distrust(self, problem: str) -> None:
        """Tell a problem, and have the next fold write everything anew."""
        self.problems.append(problem)
        self.needs_fold = self.afresh = True


def load(folder: Path) -> Loaded:
    """Read what is there; a file that cannot be read is kept aside under another name and told of."""
    found = Loaded()
    snapshot = _snapshot(folder / FILE, found)
    previous, previous_journal = folder / (FILE + PREVIOUS), folder / (JOURNAL + PREVIOUS)
    # A fold never leaves the folder without the file: when only copies are there, somebody took it away.
    if snapshot is None and not found.problems and (previous.exists() or previous_journal.exists()):
        found.distrust(f"{FILE} is missing")
    if snapshot is None and found.problems:
        copies = [_snapshot(previous, found), _new_snapshot(folder / (FILE + NEW), found)]
        snapshot = max((copy for copy in copies if copy is not None), key=lambda copy: copy.revision, default=None)
        found.problems.append(
            "the last good copy was loaded" if snapshot else "no good copy was found: only the journal was loaded"
        )
    if snapshot is not None:
        found.entries = dict(snapshot.entries)
        found.revision = snapshot.revision
    _replay(previous_journal, found)
    _replay(folder / JOURNAL, found)
    return found


def _snapshot(path: Path, found: Loaded) -> Snapshot | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        found.distrust(f"{path.name} cannot be read ({error.strerror}); it is {_keep_aside(path, found)}")
        return None
    try:
        return _fitting(path, _checked_snapshot(data), found)
    except _Unreadable as error:
        found.distrust(f"{path.name} {error}; it is {_keep_aside(path, found)}")
        return None


def _new_snapshot(path: Path, found: Loaded) -> Snapshot | None:
    """What a fold had written when it was killed, should it have come to the end of it."""
    try:
        return _fitting(path, _checked_snapshot(path.read_bytes()), found)
    except (OSError, _Unreadable):
        return None


def _checked_snapshot(data: bytes) -> Snapshot:
    try:
        version = msgspec.json.decode(data, type=dict[str, Any]).get("schema_version")
        if version != SCHEMA_VERSION:
            raise _Unreadable(f"has schema_version {version!r}, this program knows {SCHEMA_VERSION}")
        return msgspec.json.decode(data, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Unreadable(f"is torn or corrupt ({error})") from None


def _fitting(path: Path, snapshot: Snapshot, found: Loaded) -> Snapshot:
    """The snapshot without what can be no fact, which is told: anybody may have edited the file."""
    fit = _fit_entries(snapshot.entries)
    unfit = [key for key in snapshot.entries if key not in fit]
    if unfit:
        names = ", ".join(ascii(key[:100]) for key in unfit[:5])
        found.distrust(
            f"{path.name} has {len(unfit)} entries that can be no facts ({names}); they are left out,"
            f" and it is {_keep_aside(path, found)}"
        )
    return msgspec.structs.replace(snapshot, entries=fit)


def _fit_entries(entries: Mapping[str, StoredEntry]) -> dict[str, StoredEntry]:
    return {key: fit for key, entry in entries.items() if (fit := _fit(key, entry)) is not None}


def _fit(key: str, entry: StoredEntry) -> StoredEntry | None:
    """The entry with its value as compact as a write makes it; None when no write could have made it."""
    raw = bytes(entry.value)
    try:
        model.check_key(key)
        model.check_description(key, entry.description)
        model.encode_value(key, msgspec.json.decode(raw))
        if raw[:1] in b"{[":  # the file is indented for people to read, which is no part of the value
            raw = msgspec.json.format(raw, indent=-1)
    except (QuarterdeckError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if entry.revision < 0 or not 0 <= entry.updated_at < 1e11:  # later than the calendar goes
        return None
    return msgspec.structs.replace(entry, value=msgspec.Raw(raw))


def asides(folder: Path) -> list[str]:
    """The names of the files that were kept aside and that nobody has removed yet."""
    try:
        with os.scandir(folder) as found:
            return sorted(entry.name for entry in found if ASIDE in entry.name)
    except OSError:
        return []


def _keep_aside(path: Path, found: Loaded) -> str:
    """Keep a file that cannot be read under another name; what became of it, in words."""
    try:
        return f"kept as {_kept_aside(path)}"
    except OSError as error:
        found.unkept.append(path)
        return f"left as it is, and kept aside before it is replaced ({error.strerror})"


def _kept_aside(path: Path) -> str:
    """The other name of a file, durably. Raises `OSError` when the disk does not take it."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for number in range(1000):
        aside = path.with_name(f"{path.name}{ASIDE}{stamp}-{number}")
        if not aside.exists():
            break
    # A second name, not a move: nothing is lost should we be killed before the next fold replaces the first.
    durable.second_name(path, aside)
    durable.sync_folder(path.parent)
    return aside.name


def _replay(path: Path, found: Loaded) -> None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        found.distrust(f"{path.name} cannot be read ({error.strerror}); it is {_keep_aside(path, found)}")
        return
    lines = data.split(b"\n")
    torn = lines.pop()  # what follows the last line end was being written when the end came: never answered
    bad = [number for number, line in enumerate(lines, 1) if not _apply(line, found)]
    if torn:
        found.needs_fold = True
    if bad:
        shown = ", ".join(map(str, bad[:5]))
        found.distrust(f"{path.name} has {len(bad)} unreadable lines ({shown}); it is {_keep_aside(path, found)}")


def _apply(line: bytes, found: Loaded) -> bool:
    body = b"{" + line[_HEAD:]
    if line[: len(_CRC)] != _CRC or line[len(_CRC) : len(_CRC) + 8] != b"%08x" % zlib.crc32(body):
        return False
    try:
        record = msgspec.json.decode(body, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    fit = _fit_entries(record.set)
    if record.revision > found.revision:
        found.entries.update(fit)
        for key in record.delete:
            found.entries.pop(key, None)
        found.revision = record.revision
    return len(fit) == len(record.set)


def line_of(record: Record) -> bytes:
    """A record as a line of the journal, checksum first."""
    body = _raw.encode(record)
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"


class Journal:
    """The open journal. After a failed append it is shortened to its last good end.

    `afresh` (see `Loaded`): what is on the disk is not kept as the last good copy by the next fold, which keeps
    what is `unkept` aside first.
    """

    def __init__(self, folder: Path, *, afresh: bool = False, unkept: Sequence[Path] = ()) -> None:
        self._folder = folder
        self.afresh = afresh
        self._unkept = list(unkept)
        self._descriptor: int | None = None
        self.size = 0
        self._torn = False

    def append(self, data: bytes) -> None:
        """Write whole lines and wait until they are on the disk. Raises `StorageRefused`."""
        try:
            descriptor = self._open()
            if self._torn:
                self._cut(descriptor)
            # The file is opened with O_DSYNC: one call that comes back when the bytes are durable,
            # and so one wait for the interpreter instead of two.
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(28, "No space left on device")
            self.size += written
        except OSError as error:
            self._torn = self._descriptor is not None
            if self._descriptor is not None:
                with contextlib.suppress(OSError):
                    self._cut(self._descriptor)
            raise _refused(self._folder, error) from error

    def _cut(self, descriptor: int) -> None:
        """Take away what a refused write left, so that it cannot come back at the next start."""
        os.ftruncate(descriptor, self.size)
        os.fdatasync(descriptor)
        self._torn = False

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = self._opened()
        return self._descriptor

    def _opened(self) -> int:
        """The file, ready to be appended to; one that cannot be got ready is closed, and as it was."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_DSYNC", os.O_SYNC)
        descriptor = os.open(self._folder / JOURNAL, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            self.size = _end_of_lines(descriptor, size)
            if self.size != size:
                self._cut(descriptor)  # a line that was never answered: what comes next must not be glued to it
            durable.sync_folder(self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def fold(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the JSON file and start an empty journal; the ones before are kept as `.previous`,
        or the snapshot itself where those before cannot be believed.

        Killed at any point, the next load finds everything. Raises `StorageRefused`; the journal goes on then.
        """
        file, journal = self._folder / FILE, self._folder / JOURNAL
        new = self._folder / (FILE + NEW)
        link = self._folder / (FILE + ".link")
        try:
            while self._unkept:
                with contextlib.suppress(FileNotFoundError):  # somebody took it away
                    _kept_aside(self._unkept[0])
                del self._unkept[0]
            text = msgspec.json.format(_raw.encode(snapshot), indent=2) + b"\n"
            durable.write(new, text)
            if file.exists() and not self.afresh:
                link.unlink(missing_ok=True)
                durable.second_name(file, link)
                link.replace(self._folder / (FILE + PREVIOUS))
            new.replace(file)
            durable.sync_folder(self._folder)
            if self.afresh:
                durable.write(link, text)
                link.replace(self._folder / (FILE + PREVIOUS))
                durable.sync_folder(self._folder)
            self.close()
            if self.afresh:
                (self._folder / (JOURNAL + PREVIOUS)).unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
            elif journal.exists():
                journal.replace(self._folder / (JOURNAL + PREVIOUS))
            durable.sync_folder(self._folder)
            self.size, self._torn, self.afresh = 0, False, False
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise _refused(self._folder, error) from error

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _end_of_lines(descriptor: int, size: int) -> int:
    """The length of the file up to its last line end."""
    end = size
    while end > 0:
        begin = max(0, end - 65536)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _refused(folder: Path, error: OSError) -> StorageRefused:
    return StorageRefused(
        f"the disk refused the write in {folder.name}: {error.strerror}; nothing was stored, reads go on",
        hint="free some space, or make the folder writable, and write again",
    )
