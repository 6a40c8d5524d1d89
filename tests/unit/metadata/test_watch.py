"""Following changes: what a reader knows in the end is what there is, however slow it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from quarterdeck.cli.metadata import _news
from quarterdeck.errors import InvalidInput, StorageRefused
from quarterdeck.metadata import api
from quarterdeck.metadata.api import watch_response
from quarterdeck.metadata.changes import HISTORY
from quarterdeck.metadata.journal import Journal
from quarterdeck.metadata.service import MetadataService

pytestmark = pytest.mark.anyio


async def write_more_than_is_remembered(service: MetadataService) -> None:
    async with anyio.create_task_group() as group:
        for n in range(HISTORY + 100):
            group.start_soon(service.write, {f"n{n % 7}": n})


def parsed(event: bytes) -> tuple[str, dict[str, Any]]:
    """Name and data of an event; every line of it is one that a reader of the stream knows."""
    lines = event.decode().removesuffix("\n\n").split("\n")
    assert [line.partition(":")[0] for line in lines] == ["event", "id", "data"]
    return lines[0].removeprefix("event: "), json.loads(lines[2].removeprefix("data: "))["data"]


async def test_who_falls_behind_is_given_the_whole_picture_as_such(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.write({"gone": 1})
        stream = service.subscribe(service.revision - 1)
        assert not (await anext(stream)).whole
        await service.delete("gone")
        await write_more_than_is_remembered(service)
        change = await anext(stream)
        assert change.whole
        assert "gone" not in change.data
        assert "n1" in change.data


async def test_a_slow_reader_of_the_stream_learns_of_every_deletion(tmp_path: Path, repo: Path) -> None:
    known: dict[str, Any] = {}
    names: list[str] = []
    began, goes_on = anyio.Event(), anyio.Event()

    async def read(service: MetadataService) -> None:
        async for event in api._events(service, None):
            if event.startswith(b"event:"):
                name, data = parsed(event)
                names.append(name)
                if name == "snapshot":
                    known.clear()
                known.update(data)
                began.set()
                await goes_on.wait()

    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        await service.write({"gone": 1, "stays": 1})
        async with anyio.create_task_group() as group:
            group.start_soon(read, service)
            with anyio.fail_after(120):
                await began.wait()
                assert "gone" in known
                await service.delete("gone")
                await write_more_than_is_remembered(service)
                goes_on.set()
                while known.get("n1", {}).get("value") != service.fact("n1").value:
                    await anyio.sleep(0.01)
            assert names.count("snapshot") == 2
            assert {key for key, entry in known.items() if entry} == {fact.key for fact in service._facts}
            service.close_streams()


async def test_a_stream_of_a_life_that_the_disk_refused_can_be_resumed(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageRefused("the disk is full")

    monkeypatch.setattr(Journal, "append", refuse)
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        monkeypatch.undo()
        assert service.revision > 10**15
        await service.write({"k": 1})
        since = service.revision
        await service.write({"k": 2})
        scopes: list[dict[str, Any]] = [
            {"query_string": f"since={since}".encode(), "headers": []},
            {"query_string": b"", "headers": [(b"last-event-id", str(since).encode())]},
        ]
        heard: list[tuple[str, Any]] = []

        async def read(scope: dict[str, Any]) -> None:
            async for event in watch_response(service, scope).body_iterator:
                if isinstance(event, bytes) and event.startswith(b"event:"):
                    name, data = parsed(event)
                    if "k" in data:  # what is collected comes, too
                        heard.append((name, data["k"]["value"]))

        async with anyio.create_task_group() as group:
            for scope in scopes:
                group.start_soon(read, scope)
            with anyio.fail_after(10):
                while len(heard) < 2:
                    await anyio.sleep(0.01)
            service.close_streams()
        assert heard == [("change", 2)] * 2
        for wrong in (2**53, 10**30, "0" * 17 + "9" * 4400, "0" * 17 + "1"):
            with pytest.raises(InvalidInput, match="is not a revision"):
                watch_response(service, {"query_string": f"since={wrong}".encode(), "headers": []})


def test_the_command_line_shows_of_a_whole_picture_only_what_is_new() -> None:
    known: dict[str, Any] = {}
    one, two = {"value": 1}, {"value": 2}
    assert _news(known, {"a": one, "b": one}, whole=True) == {"a": one, "b": one}
    assert _news(known, {"a": two, "c": one}, whole=False) == {"a": two, "c": one}
    assert _news(known, {"c": None}, whole=False) == {"c": None}
    assert _news(known, {"a": two, "d": one}, whole=True) == {"d": one, "b": None}
    assert known == {"a": 2, "d": 1}
