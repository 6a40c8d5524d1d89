"""When to start a container again that ended, and when to give up. Pure.

Podman's own restart policy knows no backoff (146 restarts in 15 s were measured), so the node agent does it.
"""

from __future__ import annotations

from dataclasses import dataclass

from quarterdeck.node.model import ComponentRecord
from quarterdeck.node.options import MonitorOptions


@dataclass(frozen=True, slots=True)
class Again:
    """Start it after `delay` seconds; `attempts` is how often it will have been tried then."""

    delay: float
    attempts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It failed too often; somebody must look."""

    attempts: int


def decide(
    record: ComponentRecord, attempts: int, options: MonitorOptions, *, anew: bool = False
) -> Again | GiveUp | None:
    """What to do about a component as last observed; None when it is right as it is.

    `attempts` is how often it was started again since it last ran for `settled_seconds`. `anew`: it was being made
    anew, so that it may have no container, or one that never started.
    """
    seen, policy = record.observed, record.spec.restart
    down = seen.state == "exited" or (anew and seen.state in ("missing", "created"))
    if record.desired != "running" or not down or policy == "no":
        return None
    if policy == "on-failure" and seen.exit_code == 0:
        return None
    if ran_for(record) >= options.settled_seconds:
        attempts = 0
    if attempts >= options.restart_limit:
        return GiveUp(attempts)
    return Again(backoff(attempts, options), attempts + 1)


def ran_for(record: ComponentRecord) -> float:
    """How long the ended container had run, in seconds."""
    seen = record.observed
    if seen.started_at is None or seen.finished_at is None:
        return 0
    return max(0.0, seen.finished_at - seen.started_at)


def backoff(attempts: int, options: MonitorOptions) -> float:
    """Seconds to wait after so many attempts: doubled each time, up to the limit."""
    # Beyond 2**60 a float would still do, but no limit is that high.
    return float(min(options.backoff_seconds * 2 ** min(attempts, 60), options.backoff_max_seconds))
