"""What goes on while one looks: waiting for tasks, the live list, the log as it grows.

All of it asks the hub with a cursor, so that a hub that is restarted in between is only a pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from quarterdeck.cli.hubclient import HubClient, path_of
from quarterdeck.cli.words import Json
from quarterdeck.errors import NotFound, QuarterdeckError, Unavailable

FINAL = ("succeeded", "failed", "canceled", "lost")
ENDED = ("stopped", "failed", "canceled", "deleted")
_WAIT_SECONDS = 20
_RETRY_SECONDS = 0.5
_LOG_POLL_SECONDS = 0.4
_LOG_PAGE = 50


def changes(
    hub: HubClient, names: list[str] | None, *, patience_seconds: float = 0, wait_seconds: float = _WAIT_SECONDS
) -> Iterator[Json]:
    """Every answer of `/api/wait`, for ever; the first holds everything.

    A hub that does not answer is asked again for `patience_seconds`. Raises what the hub answers.
    """
    cursor: str | None = None
    unanswered_since: float | None = None
    while True:
        try:
            given = ",".join(names) if names else None
            answer = hub.get("/api/wait", agents=given, cursor=cursor, timeout=wait_seconds)
        except Unavailable:
            now = time.monotonic()
            unanswered_since = unanswered_since or now
            if now - unanswered_since > patience_seconds:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        unanswered_since = None
        cursor = answer["cursor"]
        yield answer


def find_task(hub: HubClient, name: str, task_id: str | None) -> Json | None:
    """A task of an agent by its id, else the newest; None while it has none."""
    page = 1
    while True:
        answer = hub.get(path_of(name, "tasks"), page=page, page_size=100)
        found: Json | None = next((t for t in answer["tasks"] if task_id in (None, t["id"])), None)
        if found is not None or not answer["has_next_page"]:
            return found
        page += 1


def wait_for_task(hub: HubClient, name: str, task_id: str | None, changed: Callable[[Json], None]) -> Json:
    """Wait until a task (or the first one there is) has ended; the task. `changed` gets the agent each time.

    Raises `Unavailable` when the agent ended without it, `NotFound` when it was deleted.
    """
    for answer in changes(hub, [name], patience_seconds=30):
        if name in answer["deleted"]:
            raise NotFound(f"agent {name} was deleted while its task was waited for")
        for agent in answer["changed"]:
            changed(agent)
        # First, for an agent may well have ended with its task, as by its budget.
        over = _is_over(hub, name, task_id)
        if over is not None:
            return over
        for agent in answer["changed"]:
            if agent["status"] in ENDED:
                raise Unavailable(
                    f"agent {name} is {agent['status']}" + (f": {agent['failure']}" if agent["failure"] else ""),
                    hint=f"qd agents show {name}, then qd agents restart {name}",
                )
    raise AssertionError


def _is_over(hub: HubClient, name: str, task_id: str | None) -> Json | None:
    try:
        task = find_task(hub, name, task_id)
    except QuarterdeckError:
        return None
    return task if task is not None and task["state"] in FINAL else None


def wait_until_up(hub: HubClient, name: str, changed: Callable[[Json], None]) -> Json:
    """Wait until an agent is idle or busy; its line. Raises `Unavailable` when it failed, `NotFound` when deleted."""
    for answer in changes(hub, [name], patience_seconds=30):
        if name in answer["deleted"]:
            raise NotFound(f"agent {name} was deleted while it was waited for")
        for agent in answer["changed"]:
            changed(agent)
            if agent["status"] in ("idle", "busy"):
                line: Json = agent
                return line
            if agent["status"] in ENDED:
                raise Unavailable(
                    f"agent {name} is {agent['status']}" + (f": {agent['failure']}" if agent["failure"] else ""),
                    hint=f"qd agents show {name}",
                )
    raise AssertionError


class Roll:
    """The agents as a watcher sees them, kept current from the answers of `changes`."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self.agents: dict[str, Json] = {}
        self.asked: dict[str, list[Json]] = {}

    def take(self, answer: Json) -> list[str]:
        """Bring it up to date; the names of those that changed or are gone."""
        for agent in answer["changed"]:
            self.agents[agent["name"]] = agent
            self._ask(agent)
        for name in answer["deleted"]:
            self.agents.pop(name, None)
            self.asked.pop(name, None)
        return [*(agent["name"] for agent in answer["changed"]), *answer["deleted"]]

    def _ask(self, agent: Json) -> None:
        self.asked.pop(agent["name"], None)
        if agent["needs_attention"]:
            items = attention(self._hub, agent["name"])
            if items:
                self.asked[agent["name"]] = items

    def listed(self) -> list[Json]:
        """In the order they were created."""
        return sorted(self.agents.values(), key=lambda agent: (agent["created_at"], agent["name"]))


def attention(hub: HubClient, name: str) -> list[Json]:
    """What an agent asks now; nothing when it is gone meanwhile."""
    try:
        found: list[Json] = hub.get(path_of(name))["needs_attention"]
    except NotFound:
        return []
    return found


def log_pieces(hub: HubClient, name: str, *, last: int) -> Iterator[tuple[Json, str]]:
    """The last entries of an agent's log and then each new one, with the text that is new in it.

    An entry that grows (streamed words, a tool call that ends) comes again with what was added.
    """
    seen: dict[int, tuple[str, Any]] = {}
    newest = 0
    first = True
    while True:
        for entry in reversed(_newest_entries(hub, name, last if first else _LOG_PAGE, newest)):
            text, state = entry["text"], entry["data"].get("status")
            known = seen.get(entry["id"])
            seen[entry["id"]] = (text, state)
            newest = max(newest, entry["id"])
            if known is None:
                yield entry, text
            elif known != (text, state):
                yield entry, text[len(known[0]) :] if text.startswith(known[0]) else text
        first = False
        for old in sorted(seen)[:-_LOG_PAGE]:
            del seen[old]
        time.sleep(_LOG_POLL_SECONDS)


def _newest_entries(hub: HubClient, name: str, count: int, after: int) -> list[Json]:
    """The newest entries, newest first: at least `count`, and every one after the id `after` where one is given."""
    found: list[Json] = []
    page = 1
    while True:
        answer = hub.get(path_of(name, "log"), page=page, page_size=min(100, max(1, count)))
        found += answer["entries"]
        if not answer["has_next_page"] or (len(found) >= count and (not after or found[-1]["id"] <= after)):
            return list({entry["id"]: entry for entry in found}.values())
        page += 1
