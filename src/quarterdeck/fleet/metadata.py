"""The facts of the whole fleet, gathered side by side. Needs only a `MetadataSource` per agent."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import anyio

from quarterdeck.errors import NotFound, QuarterdeckError, Unavailable
from quarterdeck.fleet.facts import Gathered, State

AGENT_SECONDS = 1.0
WHOLE_SECONDS = 1.8
AT_ONCE = 256
CLOCK_TOLERANCE_SECONDS = 5.0


class Starting(Unavailable):
    """The agent is being brought up: it cannot have facts yet."""


class Ended(Unavailable):
    """The agent was stopped, or failed: it does not work until somebody starts it again."""


class MetadataSource(Protocol):
    """One agent that can be asked for its facts.

    `metadata` gives the body of its `GET /metadata`. It raises `NotFound` when the agent has no metadata
    server, `Starting` while it comes up, `Ended` when it was stopped, and `Unavailable` when it cannot be reached.
    """

    @property
    def name(self) -> str:
        """The agent's name."""
        ...

    async def metadata(self) -> Mapping[str, Any]:
        """The body of `GET /metadata`."""
        ...


async def gather(
    sources: Sequence[MetadataSource], *, agent_seconds: float = AGENT_SECONDS, whole_seconds: float = WHOLE_SECONDS
) -> list[Gathered]:
    """Ask all side by side; one answer for each, in their order, within `whole_seconds`.

    One that hangs costs at most its own deadline, and never an answer of another.
    """
    answers: dict[int, Gathered] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(index: int, source: MetadataSource) -> None:
        async with limiter:
            answers[index] = await _asked(source, agent_seconds)

    with anyio.move_on_after(whole_seconds):
        async with anyio.create_task_group() as group:
            for index, source in enumerate(sources):
                group.start_soon(ask, index, source)
    late = f"no answer within the {whole_seconds:g} s for all"
    return [
        answers.get(index) or Gathered(agent=source.name, state="unreachable", error=late)
        for index, source in enumerate(sources)
    ]


async def _asked(source: MetadataSource, seconds: float) -> Gathered:
    began, clock = time.monotonic(), time.time()
    body: Mapping[str, Any] | None = None
    error: str | None = f"no answer within {seconds:g} s"
    state: State = "unreachable"
    ended = False
    with anyio.move_on_after(seconds):
        try:
            body = await source.metadata()
        except NotFound as problem:
            state, error = "none", problem.message
        except Starting as problem:
            state, error = "starting", problem.message
        except QuarterdeckError as problem:
            error, ended = problem.message, isinstance(problem, Ended)
    took = time.monotonic() - began
    if body is None:
        return Gathered(agent=source.name, state=state, ended=ended, error=error, took_seconds=took)
    data, meta = body.get("data"), body.get("meta")
    if not isinstance(data, Mapping) or not isinstance(meta, Mapping):
        return Gathered(
            agent=source.name, state="unreachable", error="it answered with something else", took_seconds=took
        )
    off = _clock_off(meta.get("at"), clock, clock + took)
    return Gathered(agent=source.name, state="known", data=data, clock_off_seconds=off, took_seconds=took)


def _clock_off(at: Any, sent: float, received: float) -> float | None:
    try:
        theirs = datetime.fromisoformat(str(at).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    if sent - CLOCK_TOLERANCE_SECONDS <= theirs <= received + CLOCK_TOLERANCE_SECONDS:
        return None
    return round(theirs - (sent + received) / 2, 3)
