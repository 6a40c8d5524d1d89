"""Ends that podman did not see: it calls such a container running for ever.

Podman learns of a container's end from conmon alone. Where conmon was killed with it (SIGKILL, the OOM killer, a
session that is torn down) `ps`, `inspect` and `ps --sync` go on saying *running*, `start` does nothing and says that
all is well, `stop` leaves it *stopping*, and `stats` fails for every container of the node (measured, podman 4.3.1).
Only `rm --force` gets rid of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import anyio

from quarterdeck.errors import QuarterdeckError
from quarterdeck.node.probe import Alive
from quarterdeck.node.results import Usage
from quarterdeck.node.runtime import Container, Details

ENDED_UNSEEN = (
    "podman still calls it running, but its process is gone, and so is conmon, which would have told its end: "
    "only a new container can run again"
)
# Conmon writes an end down before it goes, and podman reads that when it is asked: this is plenty.
_WRITTEN_SECONDS = 0.2

Look = Callable[[str], Awaitable[Details]]
HasProcesses = Callable[[str], Awaitable[bool]]
Usages = Callable[[Sequence[str]], Awaitable[Mapping[str, Usage]]]


class UnseenEnds:
    """Corrects what one podman says. `look` inspects a container as podman tells it; `has_processes` is whether
    podman finds a process in it (`top`). Both raise `Unavailable` where it does not answer."""

    def __init__(self, look: Look, has_processes: HasProcesses) -> None:
        self._look, self._has_processes = look, has_processes
        # By id, the process that was judged: none of them can come back.
        self._ended: dict[str, int] = {}
        self._elsewhere: dict[str, int] = {}

    async def corrected(self, container: Container) -> Container:
        """The container as it is: *exited*, with no exit code and a message, where podman missed its end."""
        if container.state != "running" or container.pid <= 0 or _runs(container.pid):
            return container
        if self._elsewhere.get(container.id) == container.pid:
            return container
        if self._ended.get(container.id) != container.pid:
            try:
                container = await self._judged(container)
            except QuarterdeckError:
                # It is being removed, or podman is silent: what was told first is all that is known.
                return container
        if self._ended.get(container.id) == container.pid:
            return replace(container, state="exited", exit_code=None, health="none", message=ENDED_UNSEEN)
        return container

    async def all_corrected(self, containers: Sequence[Container]) -> tuple[Container, ...]:
        """A whole listing."""
        there = {each.id for each in containers}
        for known in (self._ended, self._elsewhere):
            for gone in set(known) - there:
                del known[gone]
        return tuple([await self.corrected(each) for each in containers])

    async def _judged(self, container: Container) -> Container:
        """Find out whether its end was missed; the container as podman tells it now."""
        details = await self._look(container.id)
        if _moved(details.container, container) or _runs(_conmon(details)):
            # It has ended in the ordinary way, or conmon is about to tell.
            return details.container
        if await self._has_processes(container.id):
            # Podman sees other processes than we do: the agent runs in a container of its own, without --pid host.
            self._elsewhere[container.id] = container.pid
            return container
        await anyio.sleep(_WRITTEN_SECONDS)
        details = await self._look(container.id)
        if not _moved(details.container, container):
            self._ended[container.id] = container.pid
        return details.container


def _moved(now: Container, before: Container) -> bool:
    return now.state != "running" or now.pid != before.pid


def _conmon(details: Details) -> int:
    return int((details.raw.get("State") or {}).get("ConmonPid") or 0)


def _runs(pid: int) -> bool:
    alive = Alive(pid)
    try:
        return bool(alive)
    finally:
        alive.close()


async def usage_of(containers: Sequence[Container], ask: Usages) -> dict[str, Usage]:
    """What the running ones use. Podman tells of all or of none: where one has just ended, of each half again."""

    async def part(ids: Sequence[str]) -> dict[str, Usage]:
        try:
            return dict(await ask(ids)) if ids else {}
        except QuarterdeckError:
            if len(ids) == 1:
                return {}
        middle = len(ids) // 2
        return await part(ids[:middle]) | await part(ids[middle:])

    return await part([each.id for each in containers if each.state == "running"])
