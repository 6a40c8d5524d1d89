"""Which definition a rollback deploys, with which images. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from quarterdeck.errors import NotFound
from quarterdeck.node.results import HistoryEntry


def rollback_target(
    service: str, entries: Sequence[HistoryEntry], current: int | None, wanted: int | None
) -> HistoryEntry:
    """The generation that a rollback deploys again. Raises `NotFound` when history has no such one."""
    before = [each for each in entries if not each.current and (current is None or each.generation < current)]
    if wanted is not None:
        chosen = next((each for each in entries if each.generation == wanted), None)
    else:
        now = next((each for each in entries if each.current), None)
        chosen = next((each for each in before if each.ok and (now is None or _another(each, now))), None)
    if chosen is None:
        there = ", ".join(f"{each.generation}{'' if each.ok else ' (failed)'}" for each in entries) or "none"
        what = f"generation {wanted}" if wanted is not None else "earlier generation that went well and was another"
        raise NotFound(f"history of {service!r} has no {what}", hint=f"generations: {there}")
    return chosen


def _another(each: HistoryEntry, now: HistoryEntry) -> bool:
    """Whether going back to it would change anything: the definition, or the image behind one of its tags."""
    if each.definition != now.definition:
        return True
    return any(now.images.get(name, image) != image for name, image in each.images.items())
