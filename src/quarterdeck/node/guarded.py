"""Tasks of the agent's own group: one that fails is told in the log and ends nothing but itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec

import anyio.abc

from quarterdeck.errors import QuarterdeckError

P = ParamSpec("P")
log = logging.getLogger(__name__)


def spawn(
    group: anyio.abc.TaskGroup, name: str, work: Callable[P, Awaitable[object]], *args: P.args, **more: P.kwargs
) -> None:
    """Start a task whose failure must not end the others, as a task group's would."""

    async def task() -> None:
        await guarded(name, work, *args, **more)

    group.start_soon(task, name=name)


async def guarded(name: str, work: Callable[P, Awaitable[object]], *args: P.args, **more: P.kwargs) -> bool:
    """Do it; whether it went well. What went wrong is in the log."""
    try:
        await work(*args, **more)
    except Exception as error:
        ours = first_of_ours(error)
        if ours is None:
            log.exception("%s failed", name)
        else:
            log.error("%s failed: %s", name, ours.message)
        return False
    return True


def first_of_ours(error: BaseException) -> QuarterdeckError | None:
    """The error that can be told, also out of the group that a task group makes of it; None for a foreign one."""
    if isinstance(error, QuarterdeckError):
        return error
    if isinstance(error, BaseExceptionGroup):
        # A foreign one among them is a bug, and is told as one.
        found = [first_of_ours(each) for each in error.exceptions]
        return None if None in found else found[0]
    return None


def told(error: Exception) -> str:
    """What went wrong, for a result; a foreign error is in the log with where it came from."""
    ours = first_of_ours(error)
    if ours is None:
        log.error("unexpected", exc_info=error)
    return ours.message if ours is not None else f"unexpected: {error!r}"
