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

from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.node.probe import Alive
from quarterdeck.node.results import Usage
from quarterdeck.node.runtime import Container, Details

ENDED_UNSEEN = (
    "podman still calls it running, but its process is gone, and so is conmon, which would have told its end: "
    "only a new container can run again"
)
# Conmon writes an end down before it goes, and podman reads that when it is asked: this is plenty.
_WRITTEN_SECONDS = 0.2

# Containers that one question names: over REST the names stand in the URL, whose length is limited.
_AT_ONCE = 200
# Enough to find two or three among those.
_MORE_QUESTIONS = 40

Look = Callable[[str], Awaitable[Details]]
HasProcesses = Callable[[str], Awaitable[bool]]
Usages = Callable[[Sequence[str]], Awaitable[Mapping[str, Usage]]]


class UnseenEnds:
    """Corrects what one podman says. `look` inspects a container as podman tells it; `has_processes` is whether
    podman finds a process in it (`top`). Both raise `Unavailable` where it does not answer."""

    def __init__(self, look: Look, has_processes: HasProcesses) -> None:
        self._look, self._has_processes = look, has_processes
        # By id, the process whose end was missed: it cannot come back, though its number may, as another's.
        self._ended: dict[str, int] = {}
        # Podman sees other processes than we do (the agent runs in a container without --pid host): its word holds.
        self._apart = False
        self._judging = anyio.CapacityLimiter(8)

    async def corrected(self, container: Container) -> Container:
        """The container as it is: *exited*, with no exit code and a message, where podman missed its end."""
        if not self._is_doubtful(container):
            return container
        if self._ended.get(container.id) != container.pid:
            try:
                async with self._judging:
                    container = await self._judged(container)
            except QuarterdeckError:
                # It is being removed, or podman is silent: what was told first is all that is known.
                return container
        if container.state == "running" and self._ended.get(container.id) == container.pid:
            return replace(container, state="exited", exit_code=None, health="none", message=ENDED_UNSEEN)
        return container

    async def all_corrected(self, containers: Sequence[Container]) -> tuple[Container, ...]:
        """A whole listing."""
        for gone in set(self._ended) - {each.id for each in containers}:
            del self._ended[gone]
        found = list(containers)

        async def one(index: int) -> None:
            found[index] = await self.corrected(found[index])

        async with anyio.create_task_group() as group:
            for index, each in enumerate(containers):
                if self._is_doubtful(each):
                    group.start_soon(one, index)
        return tuple(found)

    def _is_doubtful(self, container: Container) -> bool:
        if container.state != "running" or container.pid <= 0 or self._apart:
            return False
        return self._ended.get(container.id) == container.pid or not _runs(container.pid)

    async def _judged(self, container: Container) -> Container:
        """Find out whether its end was missed; the container as podman tells it now."""
        details = await self._look(container.id)
        if _moved(details.container, container) or _runs(_conmon(details)):
            # It has ended in the ordinary way, or conmon is about to tell.
            return details.container
        # Asked twice: podman fails for other reasons, too, and tells all of them in the same way.
        for _ in range(2):
            if await self._has_processes(container.id):
                self._apart = True
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


class NotAll(Unavailable):
    """Podman did not tell what containers use, since there is one of which it cannot."""


async def usage_of(containers: Sequence[Container], ask: Usages) -> dict[str, Usage]:
    """What the running ones use. Podman tells of all that are asked for or, where one has just ended, say, of none:
    then each half is asked for. `ask` raises `NotAll` in that case; raises it when podman tells of nearly none."""
    ids = [each.id for each in containers if each.state == "running"]
    found: dict[str, Usage] = {}
    parts = [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]
    questions = len(parts) + _MORE_QUESTIONS
    while parts:
        part = parts.pop()
        questions -= 1
        try:
            found |= await ask(part)
        except NotAll:
            if not questions or (not parts and not found and len(ids) > 1 and len(part) == 1):
                raise
            middle = len(part) // 2
            parts += [each for each in (part[:middle], part[middle:]) if len(part) > 1]
    return found
