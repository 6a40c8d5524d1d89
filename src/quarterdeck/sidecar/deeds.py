"""What a session records of its own doing, each in one transaction that a full disk may put off."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from quarterdeck.sidecar.backlog import Deed
from quarterdeck.sidecar.life import Life
from quarterdeck.sidecar.model import SessionState

if TYPE_CHECKING:
    from quarterdeck.sidecar.session import Session


def entered(session: Session, data: dict[str, Any], incarnation: int) -> None:
    """The session came into a state."""
    session.store.add_event("state", data, incarnation=incarnation)


def stopping(session: Session, state: SessionState, reason: str) -> None:
    """The end of everything was asked for: the running task is cancelled with it."""
    if session.turns.current is not None:
        session.turns.request_cancel(session.incarnation)
    session.store.add_event("state", {"state": state, "detail": reason}, incarnation=session.incarnation)


def life_ended(session: Session, life: Life, *, stopped: bool) -> None:
    """The program is gone: how its task ended, and why the life did."""
    session.conversation.turn_over()
    session.desk.close_all("the agent's program ended", incarnation=life.number)
    task = session.turns.current
    if task is not None:
        if task.cancel_requested_at is not None or stopped:
            detail = session.budget_reason or "canceled; the agent's program was ended for it"
            session.turns.end("canceled", life.number, detail=detail, exit_code=session.exit_code)
        else:
            session.turns.end("lost", life.number, detail=life.ending, exit_code=session.exit_code)
    reason = "stopped" if stopped else session.budget_reason or life.ending
    session.store.end_incarnation(life.number, exit_code=session.exit_code, reason=reason)
    session.store.add_event("life_ended", {"exit_code": session.exit_code, "reason": reason}, incarnation=life.number)


def noted(session: Session, text: str, incarnation: int) -> None:
    """Something beside the tasks was told to the user."""
    session.store.log("note", text, incarnation=incarnation)
    session.store.add_event("note", {"text": text}, incarnation=incarnation)


def keep(session: Session) -> Deed:
    """What puts everything back that a deed may change in memory."""
    restores = (session.conversation.keep(), session.turns.keep(), session.desk.keep())
    notes, reason, context = list(session.notes), session.budget_reason, session.context

    def restore() -> None:
        for each in restores:
            each()
        session.notes = deque(notes, maxlen=session.notes.maxlen)
        session.budget_reason, session.context = reason, context

    return restore
