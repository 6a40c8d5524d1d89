"""What takes long and is asked for by a client, carried out in the fleet's own task group.

A client that goes away stops waiting; what it asked for goes on to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from quarterdeck.errors import Conflict, InternalError, QuarterdeckError, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")


class Errands:
    """One at a time under each name."""

    def __init__(self) -> None:
        self._tasks: TaskGroup | None = None
        self._going: set[str] = set()

    def begin(self, tasks: TaskGroup) -> None:
        """Where errands run from now on."""
        self._tasks = tasks

    async def carry_out(self, name: str, work: Callable[[], Awaitable[T]], *, twice: str) -> T:
        """Do it and wait for the end; who stops waiting does not stop it.

        Raises what the work raises, `Conflict` saying `twice` while the one before goes on.
        """
        if name in self._going:
            raise Conflict(twice, hint="wait for its end")
        assert self._tasks is not None
        done = anyio.Event()
        results: list[T] = []
        failed: QuarterdeckError = Unavailable(f"the hub ends: {name} was not finished", hint="ask again")

        async def run() -> None:
            nonlocal failed
            try:
                results.append(await work())
            except QuarterdeckError as error:
                failed = error
            except Exception as error:
                log.exception("%s failed", name)
                failed = InternalError(f"an error inside Quarterdeck: {error!r}", hint="the hub's log has all of it")
            finally:
                self._going.discard(name)
                done.set()

        self._going.add(name)
        self._tasks.start_soon(run, name=name)
        await done.wait()
        if results:
            return results[0]
        raise failed
