"""Which definition a rollback deploys. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from quarterdeck.errors import NotFound
from quarterdeck.node.model import ServiceDef
from quarterdeck.node.results import HistoryEntry


def rollback_target(
    service: str, entries: Sequence[HistoryEntry], current: int | None, wanted: int | None
) -> ServiceDef:
    """The definition that a rollback deploys. Raises `NotFound` when history has no such one."""
    before = [each for each in entries if not each.current and (current is None or each.generation < current)]
    if wanted is not None:
        chosen = next((each for each in entries if each.generation == wanted), None)
    else:
        now = next((each.definition for each in entries if each.current), None)
        chosen = next((each for each in before if each.ok and each.definition != now), None)
    if chosen is None:
        there = ", ".join(f"{each.generation}{'' if each.ok else ' (failed)'}" for each in entries) or "none"
        what = f"generation {wanted}" if wanted is not None else "an earlier generation that went well"
        raise NotFound(f"history of {service!r} has no {what}", hint=f"generations: {there}")
    return chosen.definition
