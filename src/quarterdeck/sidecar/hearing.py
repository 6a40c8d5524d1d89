"""What the agent's program says, taken into the session: receipts, words, questions, usage, the end of a turn."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quarterdeck.sidecar import ports, sweep

if TYPE_CHECKING:
    from quarterdeck.sidecar.session import Session


def take(session: Session, update: ports.Update) -> None:
    """Record one update; within a transaction, which may be repeated."""
    task = session.turns.current
    task_id = task.id if task else None
    session.retrying = isinstance(update, ports.State) and update.activity == "retrying"
    match update:
        case ports.Accepted(turn_id):
            session.turns.receipt(turn_id, "accepted", session.incarnation)
        case ports.Started(turn_id):
            session.turns.receipt(turn_id, "started", session.incarnation)
        case ports.Permission() | ports.Question():
            session.conversation.flush()
            session.desk.asked(update, incarnation=session.incarnation, task_id=task_id)
        case ports.Withdrawn(request_id):
            session.desk.withdrawn(request_id, incarnation=session.incarnation)
        case ports.TurnEnded():
            _turn_ended(session, update)
        case _:
            session.conversation.record(update, task_id)
            if isinstance(update, ports.Usage):
                _used(session, update, task_id)
            elif isinstance(update, ports.ToolCall) and update.status in ("completed", "failed"):
                session.workspace_changed()


def _turn_ended(session: Session, update: ports.TurnEnded) -> None:
    session.conversation.turn_over()
    task = session.turns.current
    if task is None or task.id != update.turn_id:
        return
    session.desk.close_all("the turn ended", incarnation=session.incarnation)
    if update.outcome == "succeeded":
        # A turn that ended was started, and began with the prompt being taken.
        session.turns.receipt(update.turn_id, "started", session.incarnation)
    session.turns.end(update.outcome, session.incarnation, detail=update.detail, exit_code=update.exit_code)
    session.deaths.clear()
    session.workspace_changed()
    if update.outcome == "canceled":
        session.backlog.afterwards(partial(sweep.begin, session, session.handed_over_ticks))


def _used(session: Session, update: ports.Usage, task_id: str | None) -> None:
    session.store.add_usage(
        task_id, input_tokens=update.input_tokens, output_tokens=update.output_tokens, cost_usd=update.cost_usd
    )
    used, size = session.context
    session.context = (
        update.context_used if update.context_used is not None else used,
        update.context_size if update.context_size is not None else size,
    )
    session.check_budget()
    if session.budget_reason and session.life is not None and not session.life.over:
        if session.turns.current is not None:
            session.turns.request_cancel(session.incarnation)
        session.note(session.budget_reason)
        session.backlog.afterwards(partial(session.life.end, grace_seconds=1))
