"""A session of the sidecar in this very process, with a real program; for what only its insides show."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from quarterdeck import proctree
from quarterdeck.sidecar.model import Task
from quarterdeck.sidecar.providers import make_provider
from quarterdeck.sidecar.session import Session
from quarterdeck.sidecar.spec import DATABASE_FILE, LaunchSpec
from quarterdeck.sidecar.store import Store

WAIT_FOR_GO = "@run sh -c 'until [ -e go ]; do sleep 0.02; done'"


def launch_spec(folder: Path, **changes: Any) -> LaunchSpec:
    """For the scripted agent, unless changed."""
    settings: dict[str, Any] = {
        "id": f"test-{os.urandom(6).hex()}",
        "name": "tester",
        "workspace": str(folder / "work"),
        "kind": "acp",
        "provider": "scripted",
        "command": [sys.executable, "-m", "quarterdeck.scripted.agent"],
        "env": {"QD_SCRIPTED_HOME": str(folder / "scripted")},
        "permissions": "allow",
        "cancel_seconds": 1,
    }
    return LaunchSpec(**{**settings, **changes})


def new_session(folder: Path, store: Store | None = None, **changes: Any) -> Session:
    """A session that does not run yet."""
    (folder / "work").mkdir(exist_ok=True)
    return Session(launch_spec(folder, **changes), folder, store or Store(folder / DATABASE_FILE), make_provider)


@asynccontextmanager
async def living(session: Session) -> AsyncIterator[Session]:
    """It runs; afterwards it is stopped, its file closed, and no process of it is left."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(session.run)
            yield session
            session.stop("the test is over")
            with anyio.move_on_after(15) as patience:
                while session.work is None or session.state not in ("stopped", "failed"):
                    await anyio.sleep(0.01)
            assert not patience.cancelled_caught, "the session did not end"
    finally:
        session.store.close()
        left = proctree.marked(session.spec.id)
        proctree.kill_everything(None, session.spec.id, None)
    assert left == []


def give(session: Session, description: str, *, queue: bool = False) -> Task:
    """Give a task."""
    return session.submit(description, key=None, queue=queue, origin="", held=False)[0]


async def until(found: Callable[[], object], seconds: float = 20) -> None:
    """Wait until it is so."""
    with anyio.move_on_after(seconds):
        while not found():
            await anyio.sleep(0.01)
        return
    raise AssertionError("it never came to be")
