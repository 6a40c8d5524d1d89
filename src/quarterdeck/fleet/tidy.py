"""`qd gc`: what no living agent has, removed or told; never what holds unsaved work."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from anyio.to_thread import run_sync

from quarterdeck.errors import QuarterdeckError
from quarterdeck.fleet.git.leftover_plan import Leftover
from quarterdeck.fleet.git.usage import disk_use, find_leftovers, remove_leftover
from quarterdeck.fleet.model import AgentRecord
from quarterdeck.fleet.records import Records
from quarterdeck.fleet.service import Fleet

KEPT_HISTORY_DAYS = 90


async def collect(fleet: Fleet, state: Path, *, dry_run: bool) -> list[Leftover]:
    """The plan, carried out unless `dry_run`. What could not be removed is told as kept, with the reason."""
    records = fleet.records.all()
    repositories: dict[Path, str | None] = {Path(r.repo): r.base for r in [*records, *fleet.records.deleted()]}
    for name in fleet.projects.names():
        repositories.setdefault(fleet.projects.repo(name), fleet.projects.table(name).base)
    living = {r.name for r in records} | set(fleet.records.unreadable)

    async def find() -> list[Leftover]:
        return await find_leftovers(state / "agents", living, repositories, scratch_folder=state / "scratch")

    old = await _old_histories(fleet.records)
    if dry_run:
        return [*await find(), *(leftover for _, leftover in old)]
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
    for record, leftover in old:
        try:
            await run_sync(fleet.records.forget, record)
            removed.append(leftover)
        except QuarterdeckError as error:
            kept.append(replace(leftover, action="keep", reason=error.message))
    return [*removed, *kept]


async def _old_histories(records: Records) -> list[tuple[AgentRecord, Leftover]]:
    """What agents did that were deleted long ago, oldest last."""
    found: list[tuple[AgentRecord, Leftover]] = []
    for record in records.deleted():
        days = (time.time() - (record.deleted_at or 0)) / 86400
        if days > KEPT_HISTORY_DAYS:
            grave = records.grave(record)
            reason = f"agent {record.name} was deleted {days:.0f} days ago, histories are kept for {KEPT_HISTORY_DAYS}"
            item = Leftover(
                kind="history", what=str(grave), action="remove", reason=reason, bytes=await disk_use(grave)
            )
            found.append((record, item))
    return found
