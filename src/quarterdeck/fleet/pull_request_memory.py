"""What is remembered of the feedback on one pull request, in the metadata of the agents on it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

MEMORY_KEY = "pull_request_feedback"
REMEMBERED = 60
WAITING = 10
MEMORY_BYTES = 3500


@dataclass(frozen=True)
class Memory:
    """What was told about one request, and to whom. `attempts` counts the commits since it last went well for
    which something was told, `heads` has the last of them; each event in `sent` is told once. `waiting` has the
    tasks that may still wait in a queue: event to agent and task.
    """

    request: str
    agent: str = ""
    sent: tuple[str, ...] = ()
    attempts: Mapping[str, int] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    gave_up: tuple[str, ...] = ()
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def without(self, taken_back: Sequence[str]) -> Memory:
        """After these events' tasks were taken back before they began: nothing was attempted for their commits."""
        attempts = dict(self.attempts)
        if "checks" in attempts:
            attempts["checks"] -= sum(event.endswith(":checks") for event in taken_back)
        return replace(self, attempts={kind: count for kind, count in attempts.items() if count > 0})

    def to_value(self) -> dict[str, Any]:
        """As it is stored in the agents' metadata; the oldest events are left out where it would be too large."""
        value: dict[str, Any] = {
            "request": self.request,
            "agent": self.agent,
            "sent": list(self.sent[-REMEMBERED:]),
            "attempts": dict(self.attempts),
            "heads": dict(self.heads),
            "gave_up": list(self.gave_up),
            "waiting": {event: list(task) for event, task in list(self.waiting.items())[-WAITING:]},
        }
        while value["sent"] and len(msgspec.json.encode(value)) > MEMORY_BYTES:
            value["sent"] = value["sent"][1:]
        return value


def request_name(repository: str, number: int) -> str:
    """How a request is called in keys."""
    return f"{short(repository, 200)}#{number}"


def short(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read_memory(value: Any, request: str) -> Memory:
    """What is remembered of this request; empty when it is about another, or not ours."""
    if not isinstance(value, Mapping) or value.get("request") != request:
        return Memory(request)
    sent, attempts, gave_up = value.get("sent"), value.get("attempts"), value.get("gave_up")
    heads, agent, waiting = value.get("heads"), value.get("agent"), value.get("waiting")
    return Memory(
        request,
        agent if isinstance(agent, str) else "",
        tuple(map(str, sent)) if isinstance(sent, list) else (),
        {str(k): v for k, v in attempts.items() if isinstance(v, int)} if isinstance(attempts, Mapping) else {},
        {str(k): str(v) for k, v in heads.items()} if isinstance(heads, Mapping) else {},
        tuple(map(str, gave_up)) if isinstance(gave_up, list) else (),
        {str(k): (str(v[0]), str(v[1])) for k, v in waiting.items() if isinstance(v, list) and len(v) == 2}
        if isinstance(waiting, Mapping)
        else {},
    )
