"""What a sidecar tells of its agent, put together from the session at one moment."""

from __future__ import annotations

import os
import time
from typing import Any

from quarterdeck import proctree
from quarterdeck.metadata.model import iso
from quarterdeck.sidecar.model import SidecarFacts, UsageTotals, derive
from quarterdeck.sidecar.session import Session

_PID = os.getpid
TITLE_CHARACTERS = 100
_started: dict[int, float] = {}


def _process_start() -> float:
    pid = _PID()
    if pid not in _started:
        _started[pid] = proctree.started_at(pid) or 0.0
    return _started[pid]


def build(session: Session, metadata: dict[str, Any]) -> SidecarFacts:
    """The facts now, with the status that follows from them."""
    turns, life = session.turns, session.life
    attention = session.desk.open
    status, activity = derive(
        session=session.state,
        task=turns.current,
        attention=attention,
        retrying=session.retrying,
        stuck=session.stuck_since is not None,
    )
    waiting = turns.waiting()
    total = session.store.usage()
    used, size = session.context
    opened = life.opened if life is not None else None
    return SidecarFacts(
        agent=session.spec.name,
        incarnation=session.incarnation,
        revision=session.pulse.revision,
        observed_at=time.time(),
        session=session.state,
        status=status,
        activity=activity,
        needs_attention=attention,
        sidecar_pid=_PID(),
        sidecar_started_at=_process_start(),
        agent_pid=opened.pid if opened and session.state in ("running", "stopping") else None,
        session_id=opened.session_id if opened else None,
        resumed=life.resumed if life else False,
        provider=session.spec.provider,
        provider_version=opened.version if opened else "",
        started_at=session.started_at,
        stopped_at=session.stopped_at,
        last_event_at=session.last_event_at,
        last_event_seq=session.store.last_seq(),
        stuck_since=session.stuck_since,
        failure=session.failure,
        exit_code=session.exit_code,
        current_task=turns.current,
        last_task=session.store.last_ended_task(),
        queue=len(waiting),
        next_task=turns.with_position(waiting[0]) if waiting else None,
        report=session.store.report(),
        usage=UsageTotals(
            input_tokens=total.input_tokens,
            output_tokens=total.output_tokens,
            cost_usd=total.cost_usd,
            context_used=used,
            context_size=size,
        ),
        budget_exceeded=session.budget_reason,
        metadata=metadata,
        notes=list(session.notes),
    )


def current_task(session: Session) -> dict[str, Any] | None:
    """The current task, for the metadata's own collector, in the words of its keys."""
    task = session.turns.current or session.store.last_ended_task()
    if task is None:
        return None
    first = next((line.strip() for line in task.description.splitlines() if line.strip()), "")
    facts = {
        "id": task.id,
        "title": first if len(first) <= TITLE_CHARACTERS else first[: TITLE_CHARACTERS - 1] + "…",
        "state": task.state,
        "started_at": iso(task.started_at) if task.started_at is not None else None,
    }
    report = session.store.report()
    # What the agent said when it had another task is about that one. (Not a matter of times: an agent may report
    # before its protocol has told that the turn began.)
    if report is not None and report.task_id == task.id:
        facts |= {"progress": report.state, "note": report.summary, "updated_at": iso(report.reported_at)}
    return facts
