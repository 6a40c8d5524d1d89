"""After a cancelled turn: end the commands that the program left running (facts: codex-acp does)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync

from quarterdeck import proctree

if TYPE_CHECKING:
    from quarterdeck.sidecar.session import Session

# The program may be about to end them itself.
_GRACE_SECONDS = 1.0


def begin(session: Session, since_ticks: int) -> None:
    """Sweep what was started since then; until it is known what that is, no other task is handed over."""
    if session.work is not None:
        session.sweeping = True
        session.work.start_soon(_sweep, session, since_ticks, name="sweep")


async def _sweep(session: Session, since_ticks: int) -> None:
    program = session.life.opened.pid if session.life and session.life.opened else None
    try:
        left = await run_sync(proctree.begun_since, since_ticks, session.spec.id, session.cgroup, program)
    finally:
        session.sweeping = False
    session.pump()
    if not left:
        return
    await anyio.sleep(_GRACE_SECONDS)
    if killed := await run_sync(proctree.kill_trees, left, program):
        session.note(f"{killed} process(es) of the cancelled task were still running and were ended")
