"""What happened in the fleet, as frozen values; whoever cares subscribes (log, event file, streams)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. `at` is in seconds since the epoch."""

    at: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class AgentEvent(Event):
    """Something that concerns one agent."""

    agent: str


@dataclass(frozen=True, kw_only=True)
class AgentCreated(AgentEvent):
    """Its record was written; it is being brought up."""

    project: str
    role: str
    provider: str


@dataclass(frozen=True, kw_only=True)
class AgentChanged(AgentEvent):
    """What a list shows of it changed: status, activity, task, attention, reachability."""

    revision: int
    status: str
    activity: str | None
    task_id: str | None
    task_state: str | None
    needs_attention: int
    unreachable: str | None


@dataclass(frozen=True, kw_only=True)
class SidecarDied(AgentEvent):
    """Its sidecar is gone without having been told to go."""

    reason: str
    restart: bool


@dataclass(frozen=True, kw_only=True)
class AgentFailed(AgentEvent):
    """It could not be brought up or carried on."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class PullRequestFeedback(AgentEvent):
    """A failing check or a request for changes became a task; `key` names request, commit and event."""

    task_id: str
    kind: str
    key: str


@dataclass(frozen=True, kw_only=True)
class WorkMerged(AgentEvent):
    """Its commits were brought home: how many, and where the base branch is now."""

    base: str
    after: str
    commits: int


@dataclass(frozen=True, kw_only=True)
class MergeFailed(AgentEvent):
    """Its work was not brought home; everything is as it was."""

    base: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PullRequestGivenUp(AgentEvent):
    """As many attempts as are allowed did not mend the checks, or content the reviewers: a person has to look."""

    kind: str
    request: str


@dataclass(frozen=True, kw_only=True)
class AgentDeleted(AgentEvent):
    """It is gone; where its unsaved work went, if there was any."""

    rescue_ref: str | None


Subscriber = Callable[[Event], None]


class Bus:
    """Hands every event to every subscriber, in order. A failing subscriber hurts nobody else."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` for every event from now on; returns what ends that. It must not block."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def publish(self, event: Event) -> None:
        """Tell everybody."""
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                log.exception("a subscriber failed on %s", type(event).__name__)
