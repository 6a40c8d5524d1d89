"""What the fleet derives from records and facts, and whether there is room for another agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.errors import Unavailable
from quarterdeck.fleet import admission
from quarterdeck.fleet.model import AgentRecord, LinkView, Unreachable, derive_status, failure_of, summarize
from quarterdeck.sidecar.model import STATUSES, Activity, SidecarFacts, Task

RECORD = AgentRecord(
    id="a-1", name="a", project="p", role="coder", provider="scripted", repo="/r", base="main", created_at=1,
    provisioned_at=2, started_at=3,
)  # fmt: skip
FACTS = SidecarFacts(
    agent="a", incarnation=1, revision=1, observed_at=5, session="running", status="idle", activity=None,
    needs_attention=[], sidecar_pid=1, sidecar_started_at=1,
)  # fmt: skip
COMING = {"provisioned_at": None, "started_at": None}


@pytest.mark.parametrize(
    ("record", "facts", "status", "activity"),
    [
        (COMING, None, "pending", None),
        ({**COMING, "branch": "qd/a"}, None, "starting", None),
        ({"started_at": None}, None, "starting", None),
        ({"started_at": None}, {"status": "idle"}, "starting", None),  # facts of the life before a restart
        ({}, None, "starting", None),
        ({}, {"status": "starting", "session": "starting"}, "starting", None),
        ({}, {"status": "idle"}, "idle", None),
        ({}, {"status": "busy", "activity": "working"}, "busy", "working"),
        ({}, {"status": "busy", "activity": "waiting_permission"}, "busy", "waiting_permission"),
        ({}, {"status": "busy", "activity": "waiting_input"}, "busy", "waiting_input"),
        ({}, {"status": "busy", "activity": "retrying"}, "busy", "retrying"),
        ({}, {"status": "busy", "activity": "stuck"}, "busy", "stuck"),
        ({}, {"status": "canceling"}, "canceling", None),
        ({}, {"status": "stopping", "session": "stopping"}, "stopping", None),
        ({}, {"status": "stopped", "session": "stopped"}, "stopped", None),
        ({}, {"status": "failed", "session": "failed"}, "failed", None),
        ({"wanted": "stopped"}, {"status": "busy", "activity": "working"}, "stopping", None),
        ({"wanted": "stopped"}, {"status": "stopped", "session": "stopped"}, "stopped", None),
        ({"wanted": "stopped"}, None, "stopped", None),
        ({"failed_at": 4}, {"status": "idle"}, "failed", None),
        ({"gone_at": 4}, {"status": "busy", "activity": "working"}, "failed", None),
        ({"canceled_at": 4, "failed_at": 4}, None, "canceled", None),
        ({"deleting_at": 4, "canceled_at": 4, "failed_at": 4}, {"status": "idle"}, "deleting", None),
        ({"deleted_at": 5, "deleting_at": 4}, None, "deleted", None),
    ],
)
def test_the_status_of_an_agent(
    record: dict[str, Any], facts: dict[str, Any] | None, status: str, activity: Activity | None
) -> None:
    link = LinkView(facts=replace(FACTS, **facts) if facts else None)
    assert derive_status(replace(RECORD, **record), link) == (status, activity)
    assert status in STATUSES


def test_unreachable_keeps_what_was_known() -> None:
    facts = replace(FACTS, status="busy", activity="working")
    link = LinkView(facts=facts, unreachable=Unreachable(reason="silent", since=9))
    line = summarize(RECORD, link)
    assert (line.status, line.activity) == ("busy", "working")
    assert line.unreachable == Unreachable(reason="silent", since=9)


def test_why_it_is_not_where_it_should_be() -> None:
    failed = replace(FACTS, failure="the program is missing")
    assert failure_of(RECORD, None) is None
    assert failure_of(RECORD, failed) == "the program is missing"
    assert failure_of(RECORD, replace(FACTS, budget_exceeded="too dear")) == "too dear"
    assert failure_of(replace(RECORD, gone_reason="killed"), failed) == "killed"


def test_the_task_that_a_line_shows() -> None:
    def task(name: str) -> Task:
        return Task(id=name, description="", state="queued", queued_at=1)

    facts = replace(FACTS, current_task=task("now"), next_task=task("next"), last_task=task("last"))
    for gone in ("", "current_task", "next_task", "last_task"):
        if gone:
            facts = replace(facts, **{gone: None})
        wanted = facts.current_task or facts.next_task or facts.last_task
        assert summarize(RECORD, LinkView(facts=facts)).task == wanted
    assert summarize(RECORD, LinkView()).task is None


def test_admission_tells_both_figures() -> None:
    room = admission.Room(memory=400_000_000, disk=900_000_000)
    admission.check(room, free_memory_mb=400, free_disk_mb=900)
    with pytest.raises(Unavailable) as refused:
        admission.check(room, free_memory_mb=401, free_disk_mb=901)
    message = refused.value.message
    for figure in ("400 MB of memory", "401 MB", "900 MB of disk", "901 MB"):
        assert figure in message
    assert refused.value.details == {"free_memory_mb": 400, "free_disk_mb": 900}
    with pytest.raises(Unavailable) as refused:
        admission.check(room, free_memory_mb=0, free_disk_mb=901)
    assert "memory" not in refused.value.message


def test_room_is_measured_also_where_nothing_is_yet(tmp_path: Path) -> None:
    room = admission.measure(tmp_path / "not" / "yet")
    assert room.memory > 0
    assert room.disk > 0
