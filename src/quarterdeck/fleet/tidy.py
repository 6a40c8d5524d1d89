"""`qd gc`: what no living agent has, removed or told; never what holds unsaved work."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from quarterdeck.errors import QuarterdeckError
from quarterdeck.fleet.git.leftover_plan import Leftover
from quarterdeck.fleet.git.usage import find_leftovers, remove_leftover
from quarterdeck.fleet.service import Fleet

log = logging.getLogger(__name__)
KEPT_HISTORY_SECONDS = 90 * 86400


async def collect(fleet: Fleet, state: Path, *, dry_run: bool) -> list[Leftover]:
    """The plan, carried out unless `dry_run`. What could not be removed is told as kept, with the reason."""
    records = fleet.records.all()
    repositories: dict[Path, str | None] = {Path(r.repo): r.base for r in [*records, *fleet.records.deleted()]}
    for name in fleet.projects.names():
        repositories.setdefault(fleet.projects.repo(name), fleet.projects.table(name).base)
    living = {r.name for r in records} | set(fleet.records.unreadable)

    async def find() -> list[Leftover]:
        return await find_leftovers(state / "agents", living, repositories, scratch_folder=state / "scratch")

    if dry_run:
        return await find()
    removed: list[Leftover] = []
    kept: list[Leftover] = []
    # A branch is held by the folder that used it: it becomes removable when that is gone, in a second round.
    for _ in range(2):
        kept = []
        for leftover in await find():
            if leftover.action == "keep":
                kept.append(leftover)
                continue
            try:
                await remove_leftover(leftover)
                removed.append(leftover)
            except QuarterdeckError as error:
                kept.append(replace(leftover, action="keep", reason=error.message))
    forgotten = fleet.records.forget(time.time() - KEPT_HISTORY_SECONDS)
    if forgotten:
        log.info("the history of agents deleted long ago was removed: %s", ", ".join(forgotten))
    return [*removed, *kept]
