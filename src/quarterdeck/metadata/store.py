"""Stored facts in memory and on disk: many writers, one flush.

Writers leave what they want in a queue and wait. One task takes all that is queued, decides it in order
against the state (preconditions see the writes before them), has it written by one call in a thread, and
only then changes the state and answers. So a write is durable when it is answered, and the more writers
there are, the more share one flush.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import anyio
import msgspec
from anyio.to_thread import run_sync

from quarterdeck.errors import PreconditionFailed, QuarterdeckError, TooLarge
from quarterdeck.metadata import journal, locking
from quarterdeck.metadata.changes import LIFE, Changes
from quarterdeck.metadata.journal import Journal, Loaded, Record, Snapshot, StoredEntry
from quarterdeck.metadata.model import MAX_TOTAL_BYTES

log = logging.getLogger(__name__)
FOLD_BYTES = 4 * 1024 * 1024
# Revision, moment and names of the fields, beside key, value and description.
ENTRY_BYTES = 100


@dataclass(frozen=True)
class Put:
    """A value to store, already checked and encoded. None leaves what the schema said."""

    value: bytes
    description: str | None = None
    include_in_list: bool | None = None


@dataclass(frozen=True)
class Result:
    """What a write did; `stored` are the entries as it left them, though a later one may have changed them since."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    deleted: tuple[str, ...]
    revision: int
    stored: Mapping[str, StoredEntry] = field(default_factory=dict)


@dataclass(eq=False)
class _Wish:
    """One queued write and the answer it waits for."""

    put: Mapping[str, Put]
    delete: tuple[str, ...]
    match: Callable[[str, StoredEntry | None], bool] | None
    answer: asyncio.Future[Result]


@dataclass
class _Batch:
    """The wishes that were granted together: what they set (None: deleted) and their journal lines."""

    state: dict[str, StoredEntry | None] = field(default_factory=dict)
    total: int = 0
    lines: list[bytes] = field(default_factory=list)
    granted: list[tuple[_Wish, Result]] = field(default_factory=list)


class Store:
    """The stored facts of one agent. Made by `Store.open`; one process at a time per folder."""

    def __init__(self, folder: Path, loaded: Loaded) -> None:
        self._folder = folder
        self._journal = Journal(folder, afresh=loaded.afresh, unkept=loaded.unkept)
        self._queue: list[_Wish] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="metadata-flush")
        self.entries: dict[str, StoredEntry] = loaded.entries
        self.problems = loaded.problems
        self._needs_fold = loaded.needs_fold
        self.refused: str | None = None
        self.changes = Changes((loaded.revision // LIFE + 1) * LIFE)
        self.total_bytes = sum(_size(key, entry) for key, entry in self.entries.items())
        self.flushing = False
        self.flushes = 0
        self.writes = 0
        self._deferred: list[Callable[[], None]] | None = None
        self._on_change: list[Callable[[tuple[str, ...]], None]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        """Load what is there and take writes until the end of the block, which folds the journal.

        Raises `Conflict` when another server works in the folder, `StorageRefused` when it cannot be made.
        """
        held = await run_sync(locking.lock, folder)
        try:
            store = cls(folder, await run_sync(journal.load, folder))
            for problem in store.problems:
                log.warning("%s: %s", folder, problem)
            await store._begin_life()
            async with anyio.create_task_group() as group:
                group.start_soon(store._flush_forever, name="metadata-flush")
                try:
                    yield store
                finally:
                    store._closing = True
                    store._wake.set()
            with anyio.CancelScope(shield=True):
                await store._stop()
        finally:
            os.close(held)

    def kept_aside(self) -> list[str]:
        """What is still to be told of files that could not be read, in an earlier life too: until they are removed."""
        told = "\n".join(self.problems)
        names = [name for name in journal.asides(self._folder) if name not in told]
        if not names:
            return []
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return [f"{shown} could not be read at an earlier start: facts may be lost; look at it, then remove it"]

    def on_change(self, call: Callable[[tuple[str, ...]], None]) -> None:
        """Have `call` told which keys changed, right after each write that changed some."""
        self._on_change.append(call)

    async def write(
        self,
        put: Mapping[str, Put],
        delete: tuple[str, ...] = (),
        match: Callable[[str, StoredEntry | None], bool] | None = None,
    ) -> Result:
        """Set and delete, all or nothing; durable when it returns.

        `match` is asked for each key with its entry at that moment. Raises `PreconditionFailed` when it
        says no, `TooLarge` over the limit of all, `StorageRefused` when the disk refuses.
        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(_Wish(put, delete, match, answer))
        self._wake.set()
        return await answer

    def in_order(self, call: Callable[[], None]) -> None:
        """Run `call`, which records changes of its own, now, or right after the flush that is on its way.

        A flush has taken its revisions; others must not come before them in the history.
        """
        if self._deferred is None:
            call()
        else:
            self._deferred.append(call)

    async def _begin_life(self) -> None:
        """Write down that this block of revisions is taken; a disk that refuses does not stop reads.

        The block is the moment's own then, which no other life has.
        """
        try:
            if self._needs_fold:
                await run_sync(self._journal.fold, self._snapshot())
            else:
                await run_sync(self._journal.append, journal.line_of(Record(self.changes.revision)))
        except QuarterdeckError as error:
            self.refused = error.message
            self.changes = Changes(max(int(time.time()) * LIFE, self.changes.revision))
            log.warning("%s", error.message)

    async def _stop(self) -> None:
        self.changes.close()
        for wish in self._queue:
            wish.answer.cancel()
        if self.changes.revision % LIFE or self._journal.size > 1000 or self._journal.afresh:
            try:
                await run_sync(self._journal.fold, self._snapshot())
            except QuarterdeckError as error:
                log.warning("the journal stays as it is: %s", error.message)
        self._journal.close()
        self._flusher.shutdown(wait=False)

    async def _flush_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                wishes, self._queue = self._queue, []
                batch = self._decide(wishes)
                self._deferred = []
                try:
                    if batch.lines:
                        await self._written(b"".join(batch.lines))
                except QuarterdeckError as error:
                    self.refused = error.message
                    _fail(batch, error)
                else:
                    self.refused = None if batch.lines else self.refused
                    self._apply(batch)
                finally:
                    deferred, self._deferred = self._deferred, None
                    for call in deferred:
                        call()
                if self._journal.size > FOLD_BYTES:
                    await self._fold()
            if self._closing:
                return

    async def _written(self, data: bytes) -> None:
        self.flushing = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._flusher, self._journal.append, data)
        finally:
            self.flushing = False

    async def _fold(self) -> None:
        try:
            await run_sync(self._journal.fold, self._snapshot())
        except QuarterdeckError as error:
            self.refused = error.message
            log.warning("the journal goes on: %s", error.message)

    def _snapshot(self) -> Snapshot:
        return Snapshot(journal.SCHEMA_VERSION, self.changes.revision, dict(sorted(self.entries.items())))

    def _decide(self, wishes: list[_Wish]) -> _Batch:
        batch = _Batch(total=self.total_bytes)
        now = time.time()
        for wish in wishes:
            if wish.answer.done():  # its caller went away before it began
                continue
            try:
                self._grant(batch, wish, now)
            except QuarterdeckError as error:
                wish.answer.set_exception(error)
        return batch

    def _grant(self, batch: _Batch, wish: _Wish, now: float) -> None:
        def current(key: str) -> StoredEntry | None:
            return batch.state[key] if key in batch.state else self.entries.get(key)

        before = {key: current(key) for key in (*wish.put, *wish.delete)}
        if wish.match is not None:
            for key, entry in before.items():
                if not wish.match(key, entry):
                    raise _mismatch(key, entry)
        revision = self.changes.revision + 1
        new = {key: _entry(put, before[key], revision, now) for key, put in wish.put.items()}
        total = batch.total + sum(_size(key, entry) for key, entry in new.items())
        total -= sum(_size(key, entry) for key, entry in before.items() if entry is not None)
        if wish.put and total > MAX_TOTAL_BYTES and total > batch.total:
            raise TooLarge(
                f"with this all facts together would have {total} bytes, at most {MAX_TOTAL_BYTES} are taken",
                hint="delete facts that nobody needs any more",
                details={"bytes": total, "limit": MAX_TOTAL_BYTES},
            )
        gone = tuple(key for key in wish.delete if before[key] is not None)
        if not wish.put and not gone:
            batch.granted.append((wish, Result((), (), (), self.changes.revision)))
            return
        self.changes.next()
        batch.lines.append(journal.line_of(Record(revision, new, list(gone))))
        batch.total = total
        batch.state.update(new)
        batch.state.update(dict.fromkeys(gone))
        created = tuple(key for key in new if before[key] is None)
        updated = tuple(key for key in new if before[key] is not None)
        batch.granted.append((wish, Result(created, updated, gone, revision, new)))

    def _apply(self, batch: _Batch) -> None:
        for key, entry in batch.state.items():
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry
        self.total_bytes = batch.total
        if batch.lines:
            self.flushes += 1
            self.writes += len(batch.lines)
        for wish, result in batch.granted:
            keys = result.created + result.updated + result.deleted
            if keys:
                for call in self._on_change:
                    call(keys)
                self.changes.record(result.revision, keys)
            if not wish.answer.done():
                wish.answer.set_result(result)


def _entry(put: Put, before: StoredEntry | None, revision: int, now: float) -> StoredEntry:
    description, listed = put.description, put.include_in_list
    if before is not None:
        description = before.description if description is None else description
        listed = before.include_in_list if listed is None else listed
    return StoredEntry(msgspec.Raw(put.value), revision, now, description or "", bool(listed))


def _size(key: str, entry: StoredEntry) -> int:
    """What an entry counts for: about what it takes in the file, so that many empty ones have a limit too."""
    return len(key) + len(memoryview(entry.value)) + len(entry.description.encode()) + ENTRY_BYTES


def _mismatch(key: str, entry: StoredEntry | None) -> QuarterdeckError:
    if entry is None:
        return PreconditionFailed(f"{key!r} is not stored, so it cannot match; nothing was changed")
    return PreconditionFailed(
        f"{key!r} has changed since (it is at revision {entry.revision}); nothing was changed",
        hint="read it again and decide anew",
        details={"key": key, "revision": entry.revision},
    )


def _fail(batch: _Batch, error: QuarterdeckError) -> None:
    for wish, _ in batch.granted:
        if not wish.answer.done():
            wish.answer.set_exception(type(error)(error.message, hint=error.hint, details=error.details))
