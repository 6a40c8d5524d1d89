"""Snapshots of the registry: made beside it, checked, and put in place in one step; and back again.

Plain functions over SQLite files, called in the store's thread. A snapshot's name holds its time in UTC
(`registry-20261121T020000.123456Z.sqlite3`), so that names sort as they were made.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from quarterdeck.errors import InvalidInput, NotFound, StorageRefused
from quarterdeck.node.results import SnapshotInfo
from quarterdeck.node.schema import SCHEMA

_PREFIX, _SUFFIX = "registry-", ".sqlite3"


def take(connection: sqlite3.Connection, folder: Path, *, now: float, keep: int) -> SnapshotInfo:
    """Copy the open registry into `folder`, check the copy, give it its name, remove the oldest beyond `keep`.

    Raises `StorageRefused` when the disk does not take it; nothing half-made stays then.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _give_to_owner_of(folder.parent, folder)
    with _writing(folder):
        return _take(connection, folder, now=now, keep=keep)


def _take(connection: sqlite3.Connection, folder: Path, *, now: float, keep: int) -> SnapshotInfo:
    target = folder / f"{_PREFIX}{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S.%fZ}{_SUFFIX}"
    unfinished = folder / f".{target.name}.part"
    try:
        connection.execute("VACUUM INTO ?", (str(unfinished),))
        unfinished.chmod(0o600)
        _give_to_owner_of(folder, unfinished)
        check(unfinished)
        _sync(unfinished)
        unfinished.replace(target)
        _sync(folder)
    except (OSError, sqlite3.OperationalError) as error:
        raise StorageRefused(f"no snapshot was made: {error}", hint=f"free space in {folder}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    for old in listed(folder)[keep:]:
        Path(old.path).unlink(missing_ok=True)
    return info(target)


def listed(folder: Path) -> tuple[SnapshotInfo, ...]:
    """The snapshots in a folder, newest first; damaged files are left out."""
    found: list[SnapshotInfo] = []
    for path in sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"), reverse=True):
        with suppress(InvalidInput, ValueError):
            found.append(info(path))
    return tuple(found)


def info(path: Path) -> SnapshotInfo:
    """What a snapshot is. Raises `InvalidInput` when it is no registry."""
    stamp = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    at = datetime.strptime(stamp, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()
    with _reading(path) as database:
        schema = database.execute("PRAGMA user_version").fetchone()[0]
        services = database.execute("SELECT count(*) FROM services WHERE managed").fetchone()[0]
    return SnapshotInfo(str(path), at, path.stat().st_size, schema, services)


def find(folder: Path, name: str) -> Path:
    """The snapshot of this name or path; only those of the folder. Raises `NotFound`."""
    path = folder / Path(name).name
    if Path(name).name != name and Path(name).parent.resolve() != folder.resolve():
        raise NotFound(f"{name} is no snapshot of this node", hint=f"snapshots lie in {folder}")
    if len(os.fsencode(path.name)) > 255 or not path.is_file():
        there = ", ".join(Path(each.path).name for each in listed(folder)[:5]) or "none"
        raise NotFound(f"there is no snapshot {path.name}", hint=f"the newest: {there}")
    return path


def check(path: Path) -> None:
    """Make sure a file is a whole registry that this version can read. Raises `InvalidInput`."""
    with _reading(path) as database:
        answer = database.execute("PRAGMA integrity_check").fetchone()[0]
        schema = database.execute("PRAGMA user_version").fetchone()[0]
        broken = database.execute("PRAGMA foreign_key_check").fetchone()
    if answer != "ok" or broken is not None:
        raise InvalidInput(f"{path} is damaged: {answer}", hint="take an older one: qd node snapshots")
    if schema > SCHEMA or schema < 1:
        raise InvalidInput(f"{path} has schema {schema}, this version knows 1 to {SCHEMA}", hint="use a newer qd")


def put_back(snapshot: Path, registry: Path) -> None:
    """Copy a checked snapshot into the registry's place, atomically. The registry must be closed."""
    unfinished = registry.with_name(f".{registry.name}.restore")
    unfinished.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(f"file:{snapshot}?mode=ro&immutable=1", uri=True)) as source:
            source.execute("VACUUM INTO ?", (str(unfinished),))
        unfinished.chmod(0o600)
        _give_to_owner_of(registry.parent, unfinished)
        _sync(unfinished)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    # A log of the old file would be applied to the new one: it goes first (the old file is whole without it,
    # closing it wrote everything in).
    for ending in ("-wal", "-shm"):
        registry.with_name(registry.name + ending).unlink(missing_ok=True)
    unfinished.replace(registry)
    _sync(registry.parent)


def keep_aside(registry: Path, now: float) -> Path:
    """Give the closed registry a second name, with the log of what is not in it yet; that name.

    The registry stays where it is. Raises `OSError`.
    """
    kept = registry.with_name(f"{registry.name}.before-restore-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S.%fZ}")
    for ending in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            os.link(registry.with_name(registry.name + ending), kept.with_name(kept.name + ending))
    _sync(registry.parent)
    return kept


def _give_to_owner_of(folder: Path, path: Path) -> None:
    """What root makes in the agent's folder is to be read by the agent and by the daily snapshot."""
    owner = folder.stat()
    if os.geteuid() == 0 and path.stat().st_uid != owner.st_uid:
        os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make a snapshot: first what killed processes left unfinished is removed, unless another one (the daily timer's
    beside the agent's) is at work. The lock goes with its process, and nobody waits for a snapshot to be written."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in folder.glob(f".{_PREFIX}*.part*"):
                path.unlink(missing_ok=True)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
            yield database
    except sqlite3.DatabaseError as error:
        raise InvalidInput(f"{path} is no registry: {error}", hint="take another snapshot") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
