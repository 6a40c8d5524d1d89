"""The current task as an agent reports it to a stand-alone server, where no sidecar knows of it. Pure.

It is kept as a stored fact, so that it survives a restart, and told by the task collector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quarterdeck.metadata.model import iso

KEY = "reported_task"
_ENDED = ("succeeded", "failed")


def merged(before: Any, report: Mapping[str, str], now: float) -> dict[str, Any]:
    """The task after a report of some of `state`, `title`, `progress` and `note`; `before` is what was known of it.

    Another title, or `started` after an end, is another task: nothing of the one before is kept. `started` anew is
    a new attempt at the same one: it keeps the title alone.
    """
    known = dict(before) if isinstance(before, Mapping) else {}
    starts = report.get("state") == "started"
    if report.get("title", known.get("title")) != known.get("title") or (starts and known.get("state") in _ENDED):
        known = {}
    elif starts:
        known = {name: known[name] for name in ("title", "state", "started_at") if name in known}
    if starts and known.get("state") != "started":
        known["started_at"] = iso(now)
    return known | dict(report) | {"updated_at": iso(now)}
