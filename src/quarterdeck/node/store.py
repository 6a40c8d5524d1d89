"""Opens the registry and runs its transactions, one at a time, in a thread.

`read` and `write` take a function of a `Registry`; a `write` is one BEGIN IMMEDIATE transaction that is
on the disk (synchronous=FULL) when it returns, or did not happen.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar, cast

import anyio
from anyio.to_thread import run_sync

from quarterdeck.errors import InternalError, StorageRefused
from quarterdeck.node import snapshot
from quarterdeck.node.model import ServiceRecord
from quarterdeck.node.registry import Registry
from quarterdeck.node.results import SnapshotInfo
from quarterdeck.node.schema import MIGRATIONS, SCHEMA

T = TypeVar("T")
_REFUSED = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


class _Rehearsed(Exception):
    def __init__(self, result: object) -> None:
        # No error: it ends a transaction that is to be undone.
        super().__init__()
        self.result = result


class Store:
    """The open registry. Made by `Store.open`."""

    def __init__(self, path: Path, snapshots: Path, keep: int) -> None:
        self._path, self._snapshots, self._keep = path, snapshots, keep
        self._one = anyio.CapacityLimiter(1)
        self._db = _connect(path, snapshots, keep)
        self._news = anyio.Event()
        self._writes = 0
        self._listed: tuple[int, tuple[ServiceRecord, ...]] = (-1, ())

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, *, snapshots: Path, keep: int) -> AsyncIterator[Store]:
        """Open the file, making and migrating it where needed (after a snapshot).

        Raises `InternalError` when it cannot be read or is newer than this version.
        """
        store = await run_sync(cls, path, snapshots, keep)
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await run_sync(store._db.close, limiter=store._one)

    async def read(self, work: Callable[[Registry], T]) -> T:
        """Look, in one consistent view."""
        return await run_sync(self._transaction, "BEGIN", work, limiter=self._one)

    async def write(self, work: Callable[[Registry], T]) -> T:
        """Change, all or nothing. Raises `StorageRefused` when the disk does not take it."""
        before = self._news
        try:
            result, events = await run_sync(self._counted, work, limiter=self._one)
        finally:
            self._writes += 1
        if events:
            self._news = anyio.Event()
            before.set()
        return result

    async def rehearse(self, work: Callable[[Registry], T]) -> T:
        """What a change would give and leave to look at; it is undone."""

        def undone(registry: Registry) -> T:
            raise _Rehearsed(work(registry))

        try:
            return await run_sync(self._transaction, "BEGIN IMMEDIATE", undone, limiter=self._one)
        except _Rehearsed as done:
            return cast(T, done.result)

    async def services(self) -> tuple[ServiceRecord, ...]:
        """Every service, by name; read again only when something was written since."""
        # Counted before the read: should a write come between, what is kept is already void.
        writes = self._writes
        if self._listed[0] != writes:
            self._listed = (writes, await self.read(lambda registry: registry.services()))
        return self._listed[1]

    async def news(self) -> None:
        """Wait until events were added."""
        await self._news.wait()

    def _counted(self, work: Callable[[Registry], T]) -> tuple[T, int]:
        def counted(registry: Registry) -> tuple[T, int]:
            return work(registry), registry.events_added

        return self._transaction("BEGIN IMMEDIATE", counted)

    def _transaction(self, begin: str, work: Callable[[Registry], T]) -> T:
        try:
            self._db.execute(begin)
            try:
                result = work(Registry(self._db))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error
        return result

    def _translated(self, error: sqlite3.DatabaseError) -> StorageRefused | InternalError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _REFUSED:
            return StorageRefused(
                f"the registry cannot be written ({error}); nothing was changed", hint=f"free space for {self._path}"
            )
        return InternalError(f"the registry failed: {error}", hint=f"snapshots lie in {self._snapshots}")

    async def take_snapshot(self) -> SnapshotInfo:
        """A checked copy beside the registry."""
        return await run_sync(
            lambda: snapshot.take(self._db, self._snapshots, now=time.time(), keep=self._keep), limiter=self._one
        )

    async def snapshots(self) -> tuple[SnapshotInfo, ...]:
        """The snapshots there are, newest first."""
        return await run_sync(snapshot.listed, self._snapshots)

    async def restore(self, name: str) -> SnapshotInfo:
        """Put a snapshot in the registry's place, after one of what is there; the snapshot restored.

        Raises `NotFound`, `InvalidInput` (damaged) and `StorageRefused`; the registry is as it was then.
        """
        try:
            return await run_sync(self._restore, name, limiter=self._one)
        finally:
            self._writes += 1

    def _restore(self, name: str) -> SnapshotInfo:
        chosen = snapshot.find(self._snapshots, name)
        snapshot.check(chosen)
        restored = snapshot.info(chosen)
        # One more is kept, or the copy that is about to be made could push the chosen one out.
        snapshot.take(self._db, self._snapshots, now=time.time(), keep=self._keep + 1)
        latest = _latest_event(self._db)
        self._db.close()
        try:
            snapshot.put_back(chosen, self._path)
        except (OSError, sqlite3.DatabaseError) as error:
            raise StorageRefused(
                f"{chosen.name} was not restored: {error}", hint="the registry is as before"
            ) from error
        finally:
            self._db = _connect(self._path, self._snapshots, self._keep)
        # It is restored, whether this can be written or not.
        with suppress(sqlite3.DatabaseError):
            _number_events_after(self._db, latest)
        return restored


def _latest_event(database: sqlite3.Connection) -> int:
    row = database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(row[0]) if row else 0


def _number_events_after(database: sqlite3.Connection, latest: int) -> None:
    """Use no number of an event twice: who follows them would take a restored registry's next ones for old ones."""
    if latest > _latest_event(database):
        # Not in one transaction: should the second not be taken, the numbers go on from the events that there are.
        database.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
        database.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)", (latest,))


def _connect(path: Path, snapshots: Path, keep: int) -> sqlite3.Connection:
    database: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        path.chmod(0o600)
        database.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -8000"):
            database.execute(f"PRAGMA {pragma}")
        migrate(database, snapshots, keep)
    except (sqlite3.DatabaseError, OSError, InternalError) as error:
        if database is not None:
            database.close()
        if isinstance(error, InternalError):
            raise
        raise InternalError(f"the registry {path} cannot be opened: {error}", hint=_advice(snapshots)) from error
    return database


def _advice(snapshots: Path) -> str:
    there = snapshot.listed(snapshots)
    return f"restore the newest snapshot, {there[0].path}: qd node restore" if there else "there is no snapshot yet"


def migrate(database: sqlite3.Connection, snapshots: Path, keep: int) -> None:
    """Bring the tables up to date, each step in a transaction of its own; done twice, nothing happens.

    Raises `InternalError` when the file is newer than this version.
    """
    reached = database.execute("PRAGMA user_version").fetchone()[0]
    if reached > SCHEMA:
        raise InternalError(
            f"the registry has schema {reached}, this version knows up to {SCHEMA}",
            hint=f"use the newer version again, or restore an older snapshot from {snapshots}",
        )
    if 0 < reached < SCHEMA:
        snapshot.take(database, snapshots, now=time.time(), keep=keep)
    for number, statements in enumerate(MIGRATIONS[reached:], start=reached + 1):
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number}")
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise
