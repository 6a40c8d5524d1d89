"""The service as a sidecar uses it: stored and collected facts, changes, limits, and a second start."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from quarterdeck.config import FieldTable, MetadataTable
from quarterdeck.errors import Conflict, TooLarge, Unprocessable
from quarterdeck.metadata.collector import Trigger
from quarterdeck.metadata.model import MAX_TOTAL_BYTES, Schema
from quarterdeck.metadata.service import MetadataService
from quarterdeck.metadata.store import Put

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> float:
    """Wait for a condition; the seconds it took."""
    began = time.monotonic()
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)
    return time.monotonic() - began


async def test_stored_and_collected_facts_side_by_side(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="alice") as service:
        written = await service.write({"note": "naïve ☃", "n": {"a": [1, None]}})
        assert sorted(written.created) == ["n", "note"]
        answer = await service.read(fresh=True)
        assert answer.meta.agent == "alice"
        assert answer.meta.version == "1.0"
        assert answer.data["note"].value == "naïve ☃"
        assert answer.data["note"].source == "stored"
        assert answer.data["git_branch"].value == "main"
        assert answer.data["git_branch"].source == "git"
        assert set((await service.read(source="stored")).data) == {"note", "n"}
        assert set((await service.read(prefix="git_a")).data) == {"git_ahead"}
        assert set((await service.read(keys=["n", "none"])).data) == {"n"}
        assert service.summary()["git_subject"] == "first"
        assert "note" not in service.summary()


async def test_a_second_start_finds_everything_and_revisions_never_repeat(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.write({"k": 1})
        first = service.revision
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        assert (await service.read(keys=["k"])).data["k"].value == 1
        assert service.revision > first
        assert await service.delete("k") is True
        assert await service.delete("k") is False
        assert service.health()["status"] == "ok"


async def test_a_collected_key_belongs_to_its_collector(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        with pytest.raises(Conflict, match="collected by git"):
            await service.write({"fine": 1, "git_branch": "other"})
        with pytest.raises(Conflict):
            await service.delete("git_branch")
        assert (await service.read(keys=["fine"])).data == {}


async def test_a_stored_fact_that_a_collected_one_hides_is_told_and_can_be_deleted(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.write({"coverage": 1})
    table = MetadataTable(fields={"coverage": FieldTable(run=["echo", "2"])})
    async with MetadataService.open(tmp_path / "a", repo, agent="a", config=table) as service:
        assert (await service.read(fresh=True)).data["coverage"].value == 2
        assert "coverage" in service.health()["problems"][0]
        assert service.health()["stored_keys"] == 1
        with pytest.raises(Conflict):
            await service.write({"coverage": 3})
        assert await service.delete("coverage")
        assert service.health()["status"] == "ok"
        assert service.health()["stored_keys"] == 0
        assert service.fact("coverage").value == 2
        with pytest.raises(Conflict):
            await service.delete("coverage")


async def test_limits(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        with pytest.raises(TooLarge, match="4097 bytes, at most 4096"):
            await service.write({"k": "x" * 4097})
        await service.write({"k": "é" * 2048})
        with pytest.raises(TooLarge, match="257 characters"):
            await service.write({"k" * 257: 1})
        for bad in ("a\x00b", "\x1b[31m", "\ud800", "\x9b", ["ok", {"x": "\x07"}], float("nan")):
            with pytest.raises(Unprocessable):
                await service.write({"fine": 1, "k": bad})
        for key in ("", "-a", "a b", "a\n", "é", "watch"):
            with pytest.raises(Unprocessable):
                await service.write({key: 1})
        assert set((await service.read(source="stored")).data) == {"k"}
        value = "x" * 4000
        with pytest.raises(TooLarge, match=str(MAX_TOTAL_BYTES)):
            await service.write({f"k{n}": value for n in range(260)})
        await service.write({f"k{n}": value for n in range(240)})
        assert service.health()["stored_bytes"] > 240 * 4100
        assert service.health()["stored_bytes"] < MAX_TOTAL_BYTES


async def test_names_and_descriptions_count_too(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        with pytest.raises(TooLarge, match=str(MAX_TOTAL_BYTES)):
            await service.write({f"{n}": None for n in range(10_000)})
        described = {f"{n}": Put(b"1", "d" * 1024) for n in range(1000)}
        with pytest.raises(TooLarge, match=str(MAX_TOTAL_BYTES)):
            await service.put(described)
        await service.put({key: described[key] for key in list(described)[:800]})
        await service.write(dict.fromkeys(list(described)[:800], 2))  # keeps the descriptions, and counts them
        with pytest.raises(TooLarge):
            await service.put({key: described[key] for key in list(described)[800:]})
        counted = service.health()["stored_bytes"]
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        assert service.health()["stored_bytes"] == counted
        for n in range(800):
            await service.delete(f"{n}")
        assert service.health()["stored_bytes"] == 0


async def test_only_one_server_per_folder(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a"):
        with pytest.raises(Conflict, match="another metadata server"):
            async with MetadataService.open(tmp_path / "a", repo, agent="b"):
                pass


async def test_errors_of_the_block_come_out_as_they_are(tmp_path: Path, repo: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with MetadataService.open(tmp_path / "a", repo, agent="a"):
            raise ZeroDivisionError


async def test_changes_are_told_in_order_and_after_a_revision(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.read(fresh=True)
        since = service.revision
        await service.write({"a": 1})
        await service.write({"b": 2})
        await service.delete("a")
        stream = service.subscribe(since)
        change = await anext(stream)
        assert {key: entry and entry.value for key, entry in change.data.items()} == {"b": 2, "a": None}
        assert change.revision == service.revision
        whole = await anext(service.subscribe(None))
        assert whole.data["b"] is not None
        assert "git_branch" in whole.data


async def test_a_changed_file_is_seen_without_being_asked(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await until(lambda: service.summary().get("git_dirty") is False)
        await until(lambda: service.health()["file_watch"] == "watching")
        began = time.monotonic()
        for number in itertools.count():
            # The watcher says that it begins, not that the system has begun: new files until one was seen.
            (repo / f"new{number}.txt").write_text("x")
            with anyio.move_on_after(0.5):
                await until(lambda: service.summary()["git_dirty"] is True)
                break
            assert time.monotonic() - began < 10, "by age alone it were a minute"


async def test_branch_and_commit_are_always_current(tmp_path: Path, repo: Path, git: Callable[..., str]) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.read(fresh=True)
        git(repo, "checkout", "-q", "-b", "other")
        # No await between the change and the read could have let a watcher in.
        assert service.summary()["git_branch"] == "other"
        git(repo, "commit", "-q", "--allow-empty", "-m", "second")
        assert service.fact("git_head").value == git(repo, "rev-parse", "HEAD")
        await until(lambda: service.summary()["git_subject"] == "second")


async def test_the_current_task(tmp_path: Path, repo: Path) -> None:
    task: dict[str, Any] | None = {"id": "t1", "title": "fix \x1b[0m it", "state": "started"}
    async with MetadataService.open(tmp_path / "a", repo, agent="a", task=lambda: task) as service:
        data = (await service.read(source="task", fresh=True)).data
        assert data["task_title"].value == "fix \ufffd[0m it"
        assert data["task_state"].value == "started"
        task = None
        data = (await service.read(source="task", fresh=True)).data
        assert {key: entry.value for key, entry in data.items()} == {"task_id": None}


async def test_a_task_file_that_other_tools_write(tmp_path: Path, repo: Path) -> None:
    config = MetadataTable(task_file="task.json")
    async with MetadataService.open(tmp_path / "a", repo, agent="a", config=config) as service:
        assert (await service.read(source="task", fresh=True)).data["task_id"].value is None
        (repo / "task.json").write_text('{"id": "7", "state": "started", "other": 1}')
        assert (await service.read(source="task", fresh=True)).data["task_id"].value == "7"
        (repo / "task.json").write_text('{"id": ')
        entry = (await service.read(source="task", fresh=True)).data["task_id"]
        assert entry.value == "7"
        assert entry.stale
        assert "not a JSON object" in (entry.error or "")


async def test_one_collector_never_holds_up_another_and_one_taken_away_holds_up_nobody(
    tmp_path: Path, repo: Path
) -> None:
    class Hanging:
        name = "hanging"
        deadline = 0.5
        max_age = 60.0
        trigger: Trigger = "age"
        keys: Mapping[str, Schema] = {"never": Schema()}
        begun = False

        async def collect(self, workspace: Path) -> Mapping[str, Any]:
            self.begun = True
            await anyio.sleep_forever()
            raise AssertionError

    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        gathering = service._gathering
        gathering.add("hanging", Hanging())
        answer = await service.read(fresh=True)
        assert answer.data["never"].error == "hanging did not answer within 0.5 s"
        assert answer.data["never"].value is None
        assert answer.data["never"].stale
        assert answer.data["git_branch"].error is None
        gathering.remove("hanging")
        stuck = Hanging()
        stuck.deadline = 60
        gathering.add("stuck", stuck)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(service.read, fresh=True, source="hanging"))
                await until(lambda: stuck.begun)
                gathering.remove("stuck")
        assert "never" not in (await service.read()).data


async def test_a_collector_of_a_third_party_fails_alone(tmp_path: Path, repo: Path) -> None:
    class Broken:
        name = "broken"
        deadline = 1.0
        max_age = 60.0
        trigger: Trigger = "age"
        keys: Mapping[str, Schema] = {"b": Schema("is broken")}
        answers: ClassVar[list[Any]] = [{"b": 1}, ZeroDivisionError("oops"), {"b": "\x1b"}, {"b": "x" * 5000}, {}]

        async def collect(self, workspace: Path) -> Mapping[str, Any]:
            answer = self.answers.pop(0) if self.answers else {}
            if isinstance(answer, Exception):
                raise answer
            found: Mapping[str, Any] = answer
            return found

    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        service._gathering.add("broken", Broken())
        await until(lambda: "b" in service._gathering._runners["broken"][0].known)
        expected = [(1, "ZeroDivisionError: oops"), (1, "U+001B"), (None, "5000 bytes")]
        for value, words in expected:
            entry = (await service.read(fresh=True, source="broken")).data["b"]
            assert entry.value == value
            assert words in (entry.error or "")
        assert (await service.read(fresh=True, source="broken")).data == {}
