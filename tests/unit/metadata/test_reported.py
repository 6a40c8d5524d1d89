"""`report_task` without a sidecar: one task at a time, told by the task collector, and still known after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from quarterdeck.errors import TooLarge
from quarterdeck.metadata import reported
from quarterdeck.metadata.service import MetadataService

pytestmark = pytest.mark.anyio
FIRST = {"state": "failed", "title": "A", "progress": "90%", "note": "disk full"}


def without_times(task: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in task.items() if not name.endswith("_at")}


@pytest.mark.parametrize(
    ("report", "after"),
    [
        ({"state": "started", "title": "B"}, {"state": "started", "title": "B"}),
        ({"title": "B"}, {"title": "B"}),
        ({"state": "started"}, {"state": "started"}),
        ({"state": "started", "title": "A"}, {"state": "started", "title": "A"}),
        ({"note": "enough room"}, {**FIRST, "note": "enough room"}),
        ({"title": "A", "state": "succeeded"}, {**FIRST, "state": "succeeded"}),
    ],
    ids=range(6),
)
def test_another_task_has_nothing_of_the_one_before(report: dict[str, str], after: dict[str, str]) -> None:
    before = reported.merged(None, FIRST, 1000.0)
    assert without_times(reported.merged(before, report, 2000.0)) == after


def test_a_new_attempt_keeps_the_title_and_began_when_it_began() -> None:
    task = reported.merged("no task", {"title": "A"}, 1000.0)
    task = reported.merged(task, {"state": "started", "progress": "1%"}, 2000.0)
    assert task["started_at"] == task["updated_at"]
    again = reported.merged(task, {"state": "started", "note": "n"}, 3000.0)
    assert without_times(again) == {"title": "A", "state": "started", "note": "n"}
    assert again["started_at"] == task["started_at"]
    assert again["updated_at"] > task["updated_at"]


async def told(service: MetadataService) -> dict[str, Any]:
    answer = await service.read(prefix="task_")
    assert all(entry.source == "task" for entry in answer.data.values())
    return without_times({key.removeprefix("task_"): entry.value for key, entry in answer.data.items()})


async def test_what_is_reported_is_told_by_the_task_collector_and_survives(tmp_path: Path, repo: Path) -> None:
    opened = MetadataService.open(tmp_path / "a", repo, agent="a", takes_reports=True)
    async with opened as service:
        await service.read(fresh=True)
        assert await told(service) == {"id": None}
        await service.report_task(FIRST)
        assert await told(service) == {"id": None, **FIRST}
        async with anyio.create_task_group() as group:  # none of two that come at once is lost
            group.start_soon(service.report_task, {"title": "B", "state": "started"})
            group.start_soon(service.report_task, {"note": "well"})
        assert await told(service) == {"id": None, "title": "B", "state": "started", "note": "well"}
        with pytest.raises(TooLarge):
            await service.report_task({"note": "x" * 5000})
    opened = MetadataService.open(tmp_path / "a", repo, agent="a", takes_reports=True)
    async with opened as service:
        await service.read(fresh=True)
        assert await told(service) == {"id": None, "title": "B", "state": "started", "note": "well"}
        await service.write({reported.KEY: ["nonsense"]})
        await service.read(fresh=True)
        assert await told(service) == {"id": None}
