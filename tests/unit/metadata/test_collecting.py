"""Collectors that misbehave, and the order in which what they find is told."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from quarterdeck.errors import InvalidInput, StorageRefused, Unavailable
from quarterdeck.metadata import gathering
from quarterdeck.metadata.collector import Known
from quarterdeck.metadata.collectors.git import GitCollector
from quarterdeck.metadata.model import Schema
from quarterdeck.metadata.service import MetadataService

pytestmark = pytest.mark.anyio


class Scripted:
    """A third party's collector that gives what it is told to."""

    name: Any = "scripted"
    deadline: Any = 10.0
    max_age: Any = 60.0
    trigger: Any = "age"
    keys: Any = {"s": Schema("scripted")}  # noqa: RUF012 - a protocol's attribute

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        if isinstance(self.answer, Exception):
            raise self.answer
        found: Mapping[str, Any] = self.answer
        return found


class Peeks(Scripted):
    """One that looks at every read."""

    peeked = frozenset({"s"})
    seen: Any = None

    def peek(self, workspace: Path) -> Mapping[str, Any]:
        if isinstance(self.seen, Exception):
            raise self.seen
        return {"s": self.seen, "not declared": 1}


class Odd:
    """No JSON."""

    def __repr__(self) -> str:
        return "Odd()"  # the same in every process: it names a test


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "gave a NoneType"),
        ([1], "gave a list"),
        ({'a"b': 1, "s": 1}, "cannot be a key"),
        ({1: 1, "s": 1}, "TypeError"),
        ({"watch": 1, "s": 1}, "cannot be a key"),
        ({"s": Odd()}, None),
        ({"s": Known(1, "e\x1b", 1e300)}, None),
        (TimeoutError("its own"), "TimeoutError: its own"),
        (ExceptionGroup("g", [ExceptionGroup("h", [ValueError("x"), Unavailable("gone", hint="h")])]), "gone (h)"),
        (RecursionError("deep"), "deep"),
    ],
    ids=str,
)
async def test_whatever_a_collector_gives_the_others_answer(
    tmp_path: Path, repo: Path, answer: Any, words: str | None
) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        service._gathering.add("plugin:x", Scripted(answer))
        transport = httpx2.ASGITransport(app=service.asgi())
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
            body = json.loads((await client.get("/metadata?fresh=true")).content)
        assert body["data"]["git_branch"]["value"] == "main"
        assert all(key.isascii() and '"' not in key for key in body["data"])
        error = service.health()["collectors"]["plugin:x"]["error"]
        assert error is None if words is None else words in error
        if isinstance(answer, dict) and 1 in answer.values():
            assert body["data"]["s"]["value"] == 1  # a key that cannot be one does not spoil the others
        if answer == {"s": Known(1, "e\x1b", 1e300)}:
            assert body["data"]["s"]["observed_at"] is None
            assert body["data"]["s"]["error"] == "e\ufffd"
        # It is still asked: the next answer counts.
        service._gathering._runners["plugin:x"][0].collector.answer = {"s": 2}  # type: ignore[attr-defined]
        assert (await service.read(source="scripted", fresh=True)).data["s"].value == 2


async def test_of_two_collectors_with_one_key_the_one_that_fails_hides_nothing(tmp_path: Path, repo: Path) -> None:
    one, two = Scripted(Unavailable("down")), Scripted({})
    one.name, two.name = "one", "two"
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:

        async def told() -> tuple[Any, str | None, str]:
            for name in ("one", "two"):
                await service.read(fresh=True, source=name)
            fact = (await service.read(keys=frozenset({"s"}))).data["s"]
            return fact.value, fact.error, fact.source

        service._gathering.add("plugin:one", one)
        await service.read(fresh=True, source="one")
        service._gathering.add("plugin:two", two)
        assert await told() == (None, "down", "one")
        two.answer = {"s": 5}
        assert await told() == (5, None, "two")
        assert await told() == (5, None, "two"), "its error does not come back"
        one.answer = {"s": 6}
        assert await told() == (5, None, "two"), "who has a value keeps it"
        two.answer = Unavailable("down, too")
        assert await told() == (5, "down, too", "two"), "also when it cannot look again"
        two.answer = {}
        await service.read(fresh=True, source="two")
        assert await told() == (6, None, "one")


class Blocking(Scripted):
    """One whose last step is in a thread, which no cancel ends."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer)
        self.begun, self.end = threading.Event(), threading.Event()

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        def wait() -> None:
            self.begun.set()
            self.end.wait(10)

        await anyio.to_thread.run_sync(wait)
        return await super().collect(workspace)


async def test_a_collector_that_is_replaced_while_it_collects_tells_nothing_more(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        old = Blocking({"s": "old"})
        service._gathering.add("plugin:x", old)
        await anyio.to_thread.run_sync(old.begun.wait, 10)
        service._gathering.remove("plugin:x")
        old.end.set()
        service._gathering.add("plugin:x", Scripted({"s": "new"}))
        await anyio.sleep(0.1)
        assert (await service.read(fresh=True, source="scripted")).data["s"].value == "new"


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("name", None, "has the name None"),
        ("trigger", "moon", "has the trigger 'moon'"),
        ("deadline", "5", "'5' as deadline"),
        ("max_age", 0, "0 as max_age"),
        ("keys", None, "not a mapping"),
        ("keys", {"s": "text"}, "not a mapping of keys to schemas"),
        ("keys", {'a"b': Schema()}, "cannot be a key"),
        ("collect", None, "no `collect`"),
    ],
)
async def test_what_is_no_collector_is_a_problem_that_health_tells(
    tmp_path: Path, repo: Path, attribute: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(workspace: Path) -> Any:
        assert workspace == repo
        bad = Scripted({"s": 1})
        setattr(bad, attribute, value)
        return bad

    points = [Point("bad", made), Point("worse", ZeroDivisionError), Point("good", lambda _: Scripted({"s": 1}))]
    monkeypatch.setattr(gathering, "entry_points", lambda group: points if group.endswith("collectors") else [])
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        problems = service.health()["problems"]
        assert service.health()["status"] == "degraded"
        assert words in problems[0]
        assert "collector bad cannot be loaded" in problems[0]
        assert "collector worse cannot be loaded" in problems[1]
        assert (await service.read(fresh=True, source="scripted")).data["s"].value == 1
        service.poke()
    bad = made(repo)
    with pytest.raises(InvalidInput):
        gathering.Runner(bad, repo, lambda *_: None)


class Point:
    """An entry point."""

    def __init__(self, name: str, loaded: Any) -> None:
        self.name = name
        self._loaded = loaded

    def load(self) -> Any:
        if isinstance(self._loaded, type):
            raise self._loaded("it cannot be imported")
        return self._loaded


async def test_a_peek_that_fails_fails_no_read(tmp_path: Path, repo: Path, caplog: pytest.LogCaptureFixture) -> None:
    collector = Peeks({"s": 1})
    collector.seen = ZeroDivisionError("oops")
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        service._gathering.add("plugin:x", collector)
        await service.read(fresh=True)
        with caplog.at_level(logging.WARNING):
            for _ in range(20):
                assert (await service.read(keys=["s"])).data["s"].value == 1
        assert len(caplog.records) == 1, "told at every read"
        assert "oops" in service.health()["collectors"]["plugin:x"]["error"]
        collector.seen = 5
        assert (await service.read(keys=["s"])).data["s"].value == 5
        assert "not declared" not in (await service.read()).data


async def test_any_number_of_failures_in_a_row_ends_nothing(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        service._gathering.add("plugin:x", Scripted(Unavailable("gone")))
        runner = service._gathering._runners["plugin:x"][0]
        runner._failed_in_a_row = 1023  # 2.0**1024 is no float
        for _ in range(3):
            await service.read(source="scripted", fresh=True)
        assert runner._failed_in_a_row >= 1025
        assert runner.error == "gone"
        runner.collector.answer = {"s": 1}  # type: ignore[attr-defined]
        assert (await service.read(source="scripted", fresh=True)).data["s"].value == 1


async def test_a_mistake_of_the_runner_itself_is_told_and_ends_nothing(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaves(Scripted):
        max_age = 0.01

        async def collect(self, workspace: Path) -> Mapping[str, Any]:
            raise SystemExit(3)

    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        service._gathering.add("plugin:x", Leaves({}))
        with monkeypatch.context() as patch:
            runner = service._gathering._runners["plugin:x"][0]
            patch.setattr(runner, "_publish", lambda *_: 1 / 0)
            with anyio.fail_after(20):
                await service.read(source="scripted", fresh=True)
                while (
                    service.health()["collectors"]["plugin:x"]["error"] != "it cannot be run; the log has the details"
                ):
                    await anyio.sleep(0.01)
        with anyio.fail_after(20):
            await service.read(source="scripted", fresh=True)
        assert service.health()["collectors"]["plugin:x"]["error"] == "SystemExit: 3"
        assert (await service.read(fresh=True)).data["git_branch"].value == "main"


async def test_a_failing_git_is_not_driven_by_reads(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.read(fresh=True)

        async def broken(*_: object) -> None:
            raise Unavailable("git cannot be asked")

        monkeypatch.setattr(GitCollector, "_status", broken)
        data = (await service.read(fresh=True, source="git")).data
        assert data["git_dirty"].error == "git cannot be asked"
        assert data["git_branch"].error is None, "it was looked at by this very read"
        await anyio.sleep(0.1)
        revision, collections = service.revision, service.health()["collectors"]["git"]["collections"]
        for _ in range(50):
            data = (await service.read()).data
            await anyio.sleep(0.002)
        assert service.revision == revision
        assert service.health()["collectors"]["git"]["collections"] == collections
        assert data["git_dirty"].error == "git cannot be asked"


async def test_a_fact_is_stale_only_when_its_collector_would_have_read_it_anew(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        collector = Scripted({"s": Known(1, None, time.time() - 200)})  # max_age is 60, the deadline 10
        service._gathering.add("plugin:x", collector)

        async def stale() -> bool:
            return (await service.read(source="scripted", fresh=True)).data["s"].stale

        assert await stale()
        for age, good_for, expected in ((200, 150, False), (230, 150, True), (65, 1, False), (200, None, True)):
            collector.answer = {"s": Known(1, None, time.time() - age, good_for)}
            assert await stale() is expected


class Slow(Scripted):
    """One that takes until it is let go."""

    def __init__(self) -> None:
        super().__init__({"s": 1})
        self.go = anyio.Event()

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        await self.go.wait()
        return await super().collect(workspace)


async def test_one_that_takes_long_does_not_keep_the_answer_of_all(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.read(fresh=True)
        slow = Slow()
        service._gathering.add("plugin:x", slow)
        with monkeypatch.context() as patch, anyio.fail_after(20):
            patch.setattr(gathering, "FRESH_SECONDS", 0.5)
            data = (await service.read(fresh=True)).data
        assert data["git_branch"].error is None
        assert (data["s"].value, data["s"].stale) == (None, True)
        assert data["s"].error == "scripted: not collected anew within 0.5 s; it goes on"
        slow.go.set()
        data = (await service.read(fresh=True)).data
        assert (data["s"].value, data["s"].error, data["s"].stale) == (1, None, False)


def hold_writes(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Flushes wait from here on: an event that says that one has begun, and one that lets them go."""
    append = service._store._journal.append
    begun, go = threading.Event(), threading.Event()

    def held(data: bytes) -> None:
        begun.set()
        go.wait(20)
        append(data)

    monkeypatch.setattr(service._store._journal, "append", held)
    return begun, go


async def test_a_stream_never_says_that_a_write_was_told_before_it_was(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a flush is on its way, its revisions are given out but nobody has seen what they stand for."""
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.read(fresh=True)
        begun, go = hold_writes(service, monkeypatch)
        async with anyio.create_task_group() as group:
            group.start_soon(service.write, {"k": 1})
            with anyio.fail_after(10):
                while not begun.is_set():
                    await anyio.sleep(0.005)
            answer = await service.read()
            assert "k" not in answer.data
            whole = await anext(service.subscribe(None))
            assert "k" not in whole.data
            go.set()
        for known in (answer.meta.revision, whole.revision):
            with anyio.fail_after(10):
                change = await anext(service.subscribe(known))
            entry = change.data["k"]
            assert entry is not None, "the write is lost for who follows from here"
            assert entry.value == 1


async def test_branch_and_commit_are_current_while_a_write_is_on_its_way(
    tmp_path: Path, repo: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.read(fresh=True)
        since = service.revision
        begun, go = hold_writes(service, monkeypatch)
        git(repo, "checkout", "-q", "-b", "other")
        async with anyio.create_task_group() as group:
            group.start_soon(service.write, {"k": 1})
            with anyio.fail_after(10):
                while not begun.is_set():
                    await anyio.sleep(0.005)
            for _ in range(30):
                assert service.summary()["git_branch"] == "other"
            deferred = service._store._deferred
            assert deferred is not None
            assert len(deferred) <= 2, "each read left one more behind"
            go.set()
        # The history has the write before what was collected meanwhile, and all of it.
        told: dict[str, int] = {}
        async with anyio.create_task_group() as group:
            async for change in service.subscribe(since):
                told |= dict.fromkeys(change.data, change.revision)
                if {"k", "git_branch"} <= told.keys():
                    break
            group.cancel_scope.cancel()


async def test_a_refused_write_leaves_no_hole_in_the_history(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.read(fresh=True)
        since = service.revision

        def full(_: bytes) -> None:
            raise StorageRefused("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(service._store._journal, "append", full)
            with pytest.raises(StorageRefused):
                await service.write({"k": 1})
        assert service.revision == since
        await service.write({"k": 2})
        change = await anext(service.subscribe(since))
        entry = change.data["k"]
        assert entry is not None
        assert entry.value == 2
        assert msgspec.json.encode(entry)
