"""An agent's history read from its file when its sidecar does not run: nothing of it is lost with the process."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from quarterdeck.errors import Unavailable
from quarterdeck.sidecar.model import LogEntry, SidecarFacts, TaskPage, after_death
from quarterdeck.sidecar.spec import DATABASE_FILE
from quarterdeck.sidecar.store import Store


@contextmanager
def _store(folder: Path) -> Iterator[Store | None]:
    """The agent's file; None before its sidecar has made it."""
    file = folder / DATABASE_FILE
    if not file.exists():
        yield None
        return
    try:
        store = Store(file, read_only=True)
        try:
            yield store if store.is_made() else None
        finally:
            store.close()
    except sqlite3.Error as error:
        raise Unavailable(f"the agent's history cannot be read: {error}") from error


def tasks(folder: Path, *, offset: int, limit: int, dead: bool = False, deleted: bool = False) -> TaskPage:
    """Tasks, newest first, and the notes of their time. Raises `Unavailable` when the file cannot be read.

    `dead` says that the sidecar is certainly dead: what it was at is told as the lost task that it is.
    `deleted` says that nothing of it will ever run again.
    """
    with _store(folder) as store:
        page = store.tasks(offset=offset, limit=limit) if store else TaskPage(tasks=[], total_count=0)
    return replace(page, tasks=[after_death(t, deleted=deleted) for t in page.tasks]) if dead or deleted else page


def log_entries(folder: Path, *, offset: int, limit: int) -> tuple[list[LogEntry], int]:
    """Log entries, newest first, and how many there are. Raises `Unavailable` when the file cannot be read."""
    with _store(folder) as store:
        return store.log_entries(before=None, offset=offset, limit=limit) if store else ([], 0)


def facts(folder: Path, name: str, provider: str) -> SidecarFacts | None:
    """What was last known of an agent that nobody has heard of since this hub began; None before its first life.

    Its sidecar must be certainly dead. Raises `Unavailable` when the file cannot be read.
    """
    with _store(folder) as store:
        if store is None:
            return None
        found = store.tasks(offset=0, limit=1).tasks
        waiting = [task for task in store.open_tasks() if task.sent_at is None]
        return SidecarFacts(
            agent=name,
            incarnation=store.last_incarnation(),
            revision=0,
            observed_at=time.time(),
            session="stopped",
            status="stopped",
            activity=None,
            needs_attention=[],
            sidecar_pid=0,
            sidecar_started_at=0,
            provider=provider,
            last_event_at=store.last_event_at(),
            last_event_seq=store.last_seq(),
            last_task=after_death(found[0]) if found and found[0] not in waiting else None,
            queue=len(waiting),
            next_task=waiting[0] if waiting else None,
            report=store.report(),
            usage=store.usage(),
        )
