"""What the node agent does by itself: start again what ended, and, where a service asks for it, undo drift.

Each step is an operation like a person's, so it never meets a deploy half-way; a service that is held by
somebody is left to them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import anyio.abc

from quarterdeck.errors import Conflict, NotFound, QuarterdeckError
from quarterdeck.node import reconcile
from quarterdeck.node.alerts import Alert, send
from quarterdeck.node.context import Context, event, transition
from quarterdeck.node.deploy import Deploy
from quarterdeck.node.drifting import ConfigWatch
from quarterdeck.node.guarded import spawn
from quarterdeck.node.lifecycle import Lifecycle
from quarterdeck.node.model import ComponentRecord, Event, Mutation, ServiceRecord
from quarterdeck.node.operations import Live, Operations
from quarterdeck.node.podman_json import LABEL_NODE
from quarterdeck.node.podman_real import anonymous_volumes
from quarterdeck.node.registry import Registry
from quarterdeck.node.restarts import Again, GiveUp, backoff, decide
from quarterdeck.node.results import ServiceResult

log = logging.getLogger(__name__)
ACTOR = "node agent"
# The node's own word that nothing is to be started again (`qd node pause`, and drain with --stop).
PAUSED = "paused"
Key = tuple[str, str]
Work = Callable[[Live[ServiceResult]], Awaitable[ServiceResult]]


class Healer:
    """Restarts and enforcement of one agent."""

    def __init__(
        self,
        context: Context,
        operations: Operations,
        group: anyio.abc.TaskGroup,
        *,
        ready: Callable[[], bool],
        config: ConfigWatch,
    ) -> None:
        self._context, self._operations, self._group, self._ready = context, operations, group, ready
        self._config = config
        self._waiting: set[Key] = set()
        self._next_try: dict[Key, tuple[float, int]] = {}
        self._gave_up: set[Key] = set()
        # Those whose end podman missed: until one runs again, it may have no container at all.
        self._anew: set[Key] = set()

    async def consider(self, service: ServiceRecord, record: ComponentRecord, *, paused: bool, first: bool) -> None:
        """Look at one component and begin what must be done. `first`: the node (or the agent) has just come up."""
        key = (service.name, record.name)
        if record.observed.state == "running":
            self._gave_up.discard(key)
            self._anew.discard(key)
        # Before recovery has looked, a container may be the half of a swap.
        if paused or not self._ready() or service.paused or not service.managed or key in self._waiting:
            return
        attempts = (await self._context.store.read(lambda registry: registry.attempts())).get(key, 0)
        decision = decide(record, attempts, self._context.options.monitor, anew=key in self._anew)
        if isinstance(decision, GiveUp):
            await self._give_up(key, record, _spent(record, decision))
        elif isinstance(decision, Again) and record.observed.ended_unseen and (loss := await self._loss(record)):
            await self._give_up(key, record, f"podman missed its end and cannot start it again; {loss}")
        elif isinstance(decision, Again):
            if record.observed.ended_unseen:
                self._anew.add(key)
            # After a reboot everything is down at once, and nothing of it has failed.
            delay = 0.0 if first and attempts == 0 else decision.delay
            self._waiting.add(key)
            spawn(self._group, f"restart {key[0]}/{key[1]}", self._again, key, delay, decision.attempts)
        elif service.enforce:
            await self._enforce(service, record)

    async def _loss(self, record: ComponentRecord) -> str:
        """What a new container would not have: then a person decides. Empty: nothing."""
        try:
            found = await self._context.runtime.inspect(record.container_name)
        except NotFound:
            return ""
        then = f"`qd service start {record.service}/{record.name}` makes it anew"
        if anonymous_volumes(found.raw):
            return f"a new container would not have the data of its anonymous volumes; {then}, and keeps them"
        if LABEL_NODE not in found.container.labels:
            return f"it was adopted, and a new container would be only what the definition says; {then}"
        return ""

    async def _give_up(self, key: Key, record: ComponentRecord, text: str) -> None:
        if key in self._gave_up:
            return
        self._gave_up.add(key)
        told = event(*key, "gave-up", text)
        fresh = await self._context.store.write(lambda registry: _once(registry, key, told))
        if fresh:
            await send(self._context, Alert("gave-up", *key, text, record.observed.state, record.desired))

    async def _again(self, key: Key, delay: float, attempts: int) -> None:
        try:
            await anyio.sleep(delay)
            # Made anew it has no container for a moment: killed then, the agent must go on, as with a person's start.
            kind = "start" if key in self._anew else "heal"
            await self._operate(kind, key, lambda live: self._start_again(key, attempts, live))
        finally:
            self._waiting.discard(key)

    async def _operate(self, kind: str, key: Key, work: Work) -> None:
        mutation = Mutation(actor=ACTOR, wait_seconds=0)
        try:
            await self._operations.run(kind, [key[0]], mutation, {"component": key[1]}, ServiceResult, work)
        except Conflict:
            # Somebody works on it: the next look decides again.
            return
        except QuarterdeckError as error:
            log.warning("%s %s/%s: %s", kind, *key, error.message)

    async def _start_again(self, key: Key, attempts: int, live: Live[ServiceResult]) -> ServiceResult:
        """Start it if that is still what is wanted."""
        service, record = await self._context.store.read(lambda registry: _to_heal(registry, key))
        if service is None or record is None or record.desired != "running":
            return ServiceResult(key[0], live.id, 0)
        watched = await self._context.look(record.container_name, record.observed)
        anew = watched.ended_unseen or (key in self._anew and watched.state in ("missing", "created"))
        if watched.state != "exited" and not anew:
            return ServiceResult(key[0], live.id, service.generation)
        try:
            text = f"attempt {attempts}"
            if anew:
                result = await Lifecycle(self._context, *key, operation=live.id, actor=ACTOR).start()
                text += "".join(f", {each.outcome}: {each.message}" for each in result.components)
            else:
                await self._context.runtime.start(record.container_name)
        except QuarterdeckError as error:
            text = f"attempt {attempts} failed: {error.message}"
        after = await self._context.look(record.container_name, record.observed)

        def write(registry: Registry) -> None:
            registry.count_restart(*key, attempts)
            registry.add_event(event(*key, "restart", text, actor=ACTOR))
            fresh = registry.service(key[0]).component(key[1])
            if fresh is not None:
                transition(registry, fresh, after)

        await self._context.store.write(write)
        return ServiceResult(key[0], live.id, service.generation)

    async def _enforce(self, service: ServiceRecord, record: ComponentRecord) -> None:
        key = (service.name, record.name)
        found = (*reconcile.drift(record), *self._config.of(record))
        due, tries = self._next_try.get(key, (0.0, 0))
        if not found:
            # Not before its new container was looked at: what a deploy does not mend would be tried for ever.
            if self._config.knows(record):
                self._next_try.pop(key, None)
            return
        if time.monotonic() < due or self._operations.busy(service.name):
            return
        options = self._context.options.monitor
        if tries >= options.restart_limit:
            return
        self._next_try[key] = (time.monotonic() + backoff(tries, options), tries + 1)
        self._waiting.add(key)
        spawn(self._group, f"enforce {key[0]}/{key[1]}", self._undo, key)

    async def _undo(self, key: Key) -> None:
        context = self._context

        async def work(live: Live[ServiceResult]) -> ServiceResult:
            # As it is now that nobody else changes it: what was seen before may be what somebody has just undone.
            service, record = await context.store.read(lambda registry: _to_heal(registry, key))
            if service is None or record is None or not service.enforce:
                return ServiceResult(key[0], live.id, 0)
            watched = await context.look(record.container_name, record.observed)
            found = reconcile.drift(replace(record, observed=watched))
            if not found and not self._config.of(record):
                return ServiceResult(key[0], live.id, service.generation)
            if found and found[0].kind == "state":
                lifecycle = Lifecycle(context, *key, operation=live.id, actor=ACTOR)
                return await (lifecycle.start() if record.desired == "running" else lifecycle.stop())
            # It looks at the real configuration itself, and changes nothing where that is as defined by now.
            deploy = Deploy(
                context, service.definition(), only=[record.name], operation=live.id, actor=ACTOR, kind="deploy",
                emit=live.emit,
            )  # fmt: skip
            return await deploy.run()

        try:
            await self._operate("enforce", key, work)
        finally:
            self._waiting.discard(key)


def _spent(record: ComponentRecord, decision: GiveUp) -> str:
    code = record.observed.exit_code
    end = "ended" if code is None else f"ended with exit code {code}"
    return f"{end} and was started again {decision.attempts} times"


def _to_heal(registry: Registry, key: Key) -> tuple[ServiceRecord | None, ComponentRecord | None]:
    """A component as it is now, where the agent may touch it: not while its service or the node is paused."""
    service = registry.find(key[0])
    if service is None or service.paused or not service.managed or registry.meta(PAUSED) == "1":
        return None, None
    return service, service.component(key[1])


def _once(registry: Registry, key: Key, told: Event) -> bool:
    """Record that it was given up, unless that is what was recorded last of it."""
    latest = [each for each in registry.events(service=key[0], component=key[1], limit=5) if each.kind != "state"]
    if latest and latest[-1].kind == "gave-up":
        return False
    registry.add_event(told)
    return True
