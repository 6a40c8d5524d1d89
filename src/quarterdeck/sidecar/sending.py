"""Giving a prompt to the agent's program, and taking it back: what can go wrong there, and what is recorded then."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import anyio

from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.sidecar import ports
from quarterdeck.sidecar.life import Life
from quarterdeck.sidecar.model import TaskState

if TYPE_CHECKING:
    from quarterdeck.sidecar.session import Session

log = logging.getLogger(__name__)
# A program that did not obey the cancel gets at most this long between SIGTERM and SIGKILL.
_TERM_SECONDS = 2.0


async def send(session: Session, life: Life, provider: ports.Provider, task_id: str, text: str) -> None:
    """Give the prompt of a task that is recorded as handed over."""
    try:
        await provider.prompt(task_id, text)
    except ports.PromptRefused as error:
        session.record(partial(_end, session, task_id, "failed", with_hint(error)))
    except Unavailable as error:
        log.warning("task %s was not handed over: %s", task_id, error)
        if not life.exited:
            session.record(partial(_take_back, session, task_id))
        life.end()
    except OSError as error:
        # Nobody knows how much of it was handed over: it is not given again, and nothing of it goes on.
        log.exception("task %s could not be handed over", task_id)
        session.record(partial(_end, session, task_id, "lost", f"it could not be handed over: {error}"))
        life.end()


def _end(session: Session, task_id: str, state: TaskState, detail: str) -> None:
    if session.runs(task_id):
        session.turns.end(state, session.incarnation, detail=detail)


def _take_back(session: Session, task_id: str) -> None:
    """It waits again; unless it was cancelled meanwhile, for then it must never be sent."""
    task = session.turns.current
    if task is None or task.id != task_id:
        return
    if task.cancel_requested_at is None:
        session.turns.not_handed_over()
    else:
        session.turns.end("canceled", session.incarnation, detail="canceled before it reached the agent's program")


async def escalate(session: Session, life: Life, task_id: str) -> None:
    """Interrupt in the protocol; when that is not obeyed in time, end the whole tree: SIGTERM, then SIGKILL."""
    seconds = session.spec.cancel_seconds
    async with anyio.create_task_group() as group:
        # A program that does not read keeps us from writing to it: that is not obeying, too.
        group.start_soon(_interrupt, life, task_id, name=f"interrupt-{task_id}")
        with anyio.move_on_after(seconds):
            while session.runs(task_id):
                await session.pulse.wait(session.pulse.revision)
        if session.runs(task_id) and session.life is life:
            session.note(f"task {task_id} did not obey the cancel within {seconds:g} s: its program is ended")
            life.end(grace_seconds=min(seconds, _TERM_SECONDS), called_off=True)
            group.cancel_scope.cancel()


async def _interrupt(life: Life, task_id: str) -> None:
    try:
        if life.provider is not None:
            await life.provider.cancel()
    except (QuarterdeckError, OSError) as error:
        log.warning("cancel of %s: %s", task_id, error)


def with_hint(error: Exception) -> str:
    """What happened and what to do, in one line."""
    hint = error.hint if isinstance(error, QuarterdeckError) else ""
    return f"{error} ({hint})" if hint else str(error)
