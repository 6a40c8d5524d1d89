"""The metadata of one agent, for the program that runs beside it: open it, read, write, subscribe."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio
import msgspec

from quarterdeck.config import MetadataTable
from quarterdeck.errors import Conflict, NotFound
from quarterdeck.metadata import model, reported
from quarterdeck.metadata.facts import Fact, Facts
from quarterdeck.metadata.gathering import Gathering
from quarterdeck.metadata.model import Change, Meta, MetadataAnswer, Schema, Written
from quarterdeck.metadata.store import Put, Result, Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from quarterdeck import web
    from quarterdeck.metadata.journal import StoredEntry

log = logging.getLogger(__name__)
Task = Callable[[], Mapping[str, Any] | None]
Match = Callable[[str, int | None], bool]


class MetadataService:
    """Everything that is known of one agent's workspace. Made by `MetadataService.open`."""

    def __init__(self, store: Store, agent: str) -> None:
        self.agent = agent
        self._store = store
        self._facts = Facts()
        self._gathering: Gathering
        self._reporting = anyio.Lock()
        self.reads = 0
        for key, entry in store.entries.items():
            self._facts.set_stored(key, _stored_fact(key, entry))
        store.on_change(self._take_stored)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        workspace: Path,
        *,
        agent: str,
        config: MetadataTable | None = None,
        config_folder: Path | None = None,
        task: Task | None = None,
        takes_reports: bool = False,
        base: str | None = None,
    ) -> AsyncIterator[Self]:
        """Load what is stored in `folder` and keep the facts of `workspace` known until the block ends.

        `config` is `[metadata]` of a quarterdeck.toml; with `config_folder` that folder's file is read
        again whenever it changes. `task` gives the agent's current task; with `takes_reports` it is the one
        that `report_task` was told. `base` is the branch that the work goes home to. Raises `Conflict` when
        another server works in the folder, `StorageRefused` when the folder cannot be made.
        """
        failure: Exception | None = None
        folder, workspace = _absolute(folder), _absolute(workspace)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(Store.open(folder))
            service = cls(store, agent)
            service._gathering = Gathering(service._facts, store.changes, store.in_order, workspace, folder)
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            stack.callback(store.changes.close)
            told = task or (service._reported_task if takes_reports else None)
            await service._gathering.start(group, config or MetadataTable(), config_folder, told, base)
            # An error of the block goes out as it is, not wrapped in the groups of our tasks.
            try:
                yield service
            except Exception as error:  # noqa: BLE001 - raised again below
                failure = error
        if failure is not None:
            raise failure

    @property
    def revision(self) -> int:
        """The number of the last change that reads show and streams have told."""
        return self._store.changes.recorded

    # ---------------------------------------------------------------- reading

    async def read(
        self,
        *,
        source: str | None = None,
        prefix: str | None = None,
        keys: Iterable[str] | None = None,
        fresh: bool = False,
    ) -> MetadataAnswer:
        """The facts that pass all filters; with `fresh`, collected now instead of as known."""
        facts, milliseconds = await self.select(source=source, prefix=prefix, keys=keys, fresh=fresh)
        now = time.time()
        return MetadataAnswer({fact.key: fact.entry(now) for fact in facts}, self.meta(now, milliseconds))

    async def select(
        self, *, source: str | None, prefix: str | None, keys: Iterable[str] | None, fresh: bool
    ) -> tuple[list[Fact], float]:
        """The facts for an answer, and the milliseconds that collecting for it took."""
        self.reads += 1
        if not fresh:
            self._gathering.peek()
            return self._facts.select(source, prefix, keys), 0.0
        began = time.perf_counter()
        await self._gathering.fresh(source, prefix, None if keys is None else frozenset(keys))
        milliseconds = (time.perf_counter() - began) * 1000
        return self._facts.select(source, prefix, keys), milliseconds

    @property
    def flushing(self) -> bool:
        """Whether a write is on its way to the disk."""
        return self._store.flushing

    def meta(self, now: float, milliseconds: float = 0.0) -> Meta:
        """What an answer says about itself."""
        return Meta(model.API_VERSION, self.agent, self.revision, model.iso(now), round(milliseconds, 3))

    def fact(self, key: str) -> Fact:
        """One fact. Raises `NotFound`."""
        self.reads += 1
        if key in self._gathering.peeked:
            self._gathering.peek()
        fact = self._facts.get(key)
        if fact is None:
            source = self._gathering.owner(key)
            why = f"{source} found nothing for it here" if source else "it is neither stored nor collected"
            raise NotFound(
                f"there is no {key[: model.MAX_KEY_CHARACTERS]!r}: {why}", hint="GET /metadata lists every key"
            )
        return fact

    def summary(self) -> dict[str, Any]:
        """Key to value of the facts that a list of agents shows, as known now."""
        self._gathering.peek()
        return {fact.key: fact.value for fact in self._facts if fact.schema.include_in_list}

    # ---------------------------------------------------------------- writing

    async def write(self, values: Mapping[str, Any]) -> Written:
        """Store all of it or nothing; durable when it returns.

        Raises `TooLarge` or `Unprocessable` for what breaks a limit or a rule, `Conflict` for a key that
        a collector owns, `StorageRefused` when the disk refuses.
        """
        # The keys first: what is said of a value names its key.
        for key in values:
            model.check_key(key)
        return await self.put({key: Put(model.encode_value(key, value)) for key, value in values.items()})

    async def put(self, puts: Mapping[str, Put], match: Match | None = None) -> Written:
        """`write` with schemas, and a precondition that is given each key's revision (None: not stored)."""
        done = await self._put(puts, match)
        return Written(list(done.created), list(done.updated), done.revision)

    async def put_one(self, key: str, put: Put, match: Match | None = None) -> tuple[bool, Fact]:
        """`put` of one key: whether it is new, and the fact that this write stored, whatever came right after it."""
        done = await self._put({key: put}, match)
        return bool(done.created), _stored_fact(key, done.stored[key])

    async def _put(self, puts: Mapping[str, Put], match: Match | None) -> Result:
        for key in puts:
            model.check_key(key)
            self._refuse_collected(key)
        return await self._store.write(puts, match=_on_revision(match))

    async def delete(self, key: str, match: Match | None = None) -> bool:
        """Delete a stored fact; whether it was there. Raises as `put` does.

        One that a collected fact hides can be deleted too: it was stored before the collector came.
        """
        if model.check_key(key) not in self._store.entries:
            self._refuse_collected(key)
        done = await self._store.write({}, (key,), match=_on_revision(match))
        return bool(done.deleted)

    async def report_task(self, report: Mapping[str, str]) -> None:
        """Take over what is said of the current task; durable, and told by the task collector, when it returns.

        Raises as `write` does.
        """
        async with self._reporting:
            task = reported.merged(self._reported_task(), report, time.time())
            await self.write({reported.KEY: task})
        await self.select(source="task", prefix=None, keys=None, fresh=True)

    def _reported_task(self) -> Mapping[str, Any] | None:
        entry = self._store.entries.get(reported.KEY)
        task = None if entry is None else msgspec.json.decode(entry.value)
        # Anybody may write this fact by its name.
        return task if isinstance(task, dict) else None

    def _refuse_collected(self, key: str) -> None:
        source = self._gathering.owner(key)
        if source is not None:
            raise Conflict(
                f"{key!r} is collected by {source} and cannot be written",
                hint="choose another key",
                details={"key": key, "source": source},
            )

    def _take_stored(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            entry = self._store.entries.get(key)
            self._facts.set_stored(key, None if entry is None else _stored_fact(key, entry))

    # ---------------------------------------------------------------- changes

    async def subscribe(self, since: int | None = None) -> AsyncIterator[Change]:
        """Every change after `since` (a revision), as it comes; a whole picture first when `since` is None or
        too long ago, and again for a reader that is too slow. Ends when the service is closed.
        """
        async for revision, facts, whole in self.follow(since):
            now = time.time()
            data = {key: fact.entry(now) if fact else None for key, fact in facts.items()}
            yield Change(revision, data, whole)

    async def follow(self, since: int | None = None) -> AsyncIterator[tuple[int, dict[str, Fact | None], bool]]:
        """`subscribe` with facts instead of entries, and whether they are the whole picture: what it does not
        name is gone. It comes again whenever the reader fell further behind than changes are remembered.
        """
        changes = self._store.changes
        with changes.listening():
            while True:
                missed = None if since is None else changes.since(since)
                if missed is None:
                    since = changes.recorded
                    yield since, {fact.key: fact for fact in self._facts}, True
                elif missed:
                    since = max(missed.values())
                    yield since, {key: self._facts.get(key) for key in missed}, False
                else:
                    await changes.wait(since or 0)
                if changes.closed:
                    return

    def poke(self) -> None:
        """The workspace has probably changed (a tool was called, a turn ended): look soon."""
        self._gathering.poke()

    def close_streams(self) -> None:
        """End every stream of changes, so that a server can stop."""
        self._store.changes.close()

    # ---------------------------------------------------------------- about itself

    def health(self) -> dict[str, Any]:
        """`status` (ok or degraded), the `problems` in words, and figures."""
        store = self._store
        problems = [
            *store.problems,
            *store.kept_aside(),
            *([store.refused] if store.refused else []),
            *_told_hidden(self._facts.hidden()),
            *self._gathering.problems,
        ]
        return {
            "status": "degraded" if problems else "ok",
            "problems": problems,
            "agent": self.agent,
            "revision": self.revision,
            "stored_keys": len(store.entries),
            "stored_bytes": store.total_bytes,
            "stored_bytes_limit": model.MAX_TOTAL_BYTES,
            "writes": store.writes,
            "flushes": store.flushes,
            "reads": self.reads,
            "watchers": store.changes.listeners,
            **self._gathering.health(),
        }

    def routes(self) -> list[web.Route]:
        """The `/metadata` calls as a table, for an app and its OpenAPI document."""
        from quarterdeck.metadata.api import routes

        return routes(self)

    def asgi(self) -> ASGIApp:
        """The same calls as one lean ASGI callable for exactly the `/metadata` paths."""
        from quarterdeck.metadata.api import MetadataApi

        return MetadataApi(self)


def readiness(service: MetadataService, sees_all: bool) -> dict[str, Any]:
    """That what is stored is loaded; with figures and problems only for who may see paths and commands' errors."""
    health = service.health()
    return {"ready": True, **(health if sees_all else {"status": health["status"]})}


def _told_hidden(keys: list[str]) -> list[str]:
    if not keys:
        return []
    shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
    return [f"stored facts are hidden by collected ones of the same name: {shown} (DELETE removes what is stored)"]


def _absolute(path: Path) -> Path:
    return path.absolute()


def _stored_fact(key: str, entry: StoredEntry) -> Fact:
    return Fact(
        key,
        bytes(entry.value),
        source=model.STORED,
        observed=entry.updated_at,
        revision=entry.revision,
        schema=Schema(entry.description, entry.include_in_list),
    )


def _on_revision(match: Match | None) -> Callable[[str, StoredEntry | None], bool] | None:
    if match is None:
        return None
    return lambda key, entry: match(key, None if entry is None else entry.revision)
