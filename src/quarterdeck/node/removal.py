"""Components that a definition has no more: out of the way of those that take their ports, gone when all went well.

A component that was renamed is a new one and one to be removed, often with the same port. The old one is stopped just
before the new one starts, started again when the new one is not well, and removed only at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import anyio

from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck.node.configdrift import EVERY_ADDRESS
from quarterdeck.node.context import Context, Emit, progress
from quarterdeck.node.guarded import told
from quarterdeck.node.model import ComponentRecord, ComponentSpec, Port, ServiceRecord
from quarterdeck.node.results import ComponentResult, PlannedAction


class Removals:
    """What one deploy removes."""

    def __init__(
        self, context: Context, actions: Sequence[PlannedAction], current: ServiceRecord | None, emit: Emit
    ) -> None:
        self._context, self._emit = context, emit
        self._reasons = {each.component: each.reason for each in actions if each.action == "remove"}
        self._records = [each for each in (current.components if current else ()) if each.name in self._reasons]
        self._stopped: dict[str, str] = {}
        self._one = anyio.Lock()

    async def make_way(self, spec: ComponentSpec) -> None:
        """Stop those that hold a port which this one publishes. Raises what the runtime raises."""
        async with self._one:
            for each in self._records:
                if each.observed.state != "running" or each.name in self._stopped or not share_port(each.spec, spec):
                    continue
                self._stopped[each.name] = spec.name
                self._emit(progress(each.service, each.name, "stopping-old", f"{spec.name} takes its port"))
                await self._context.runtime.stop(each.container_name, grace_seconds=each.spec.stop_seconds)

    async def put_back(self, spec: ComponentSpec) -> str:
        """Start those again that were stopped for this one; what of it did not go well (empty: nothing)."""
        wrong: list[str] = []
        async with self._one:
            for each in self._records:
                if self._stopped.get(each.name) != spec.name:
                    continue
                try:
                    await self._context.runtime.start(each.container_name)
                    del self._stopped[each.name]
                    await self._look(each)
                except Exception as error:  # noqa: BLE001 - told in the component's result
                    wrong.append(f"; and {each.name} could not be started again: {told(error)}")
        return "".join(wrong)

    async def finish(self, *, well: bool) -> list[ComponentResult]:
        """Remove them if all others are `well`, otherwise say what stays."""
        return [await (self._remove(each) if well else self._kept(each)) for each in self._records]

    async def _remove(self, each: ComponentRecord) -> ComponentResult:
        self._emit(progress(each.service, each.name, "removing"))
        try:
            await remove(self._context, each)
        except Exception as error:  # noqa: BLE001 - told in the component's result
            return ComponentResult(each.name, "failed", told(error))
        return ComponentResult(each.name, "removed", self._reasons[each.name])

    async def _kept(self, each: ComponentRecord) -> ComponentResult:
        why = "not removed, as others did not go well"
        if each.name not in self._stopped:
            return ComponentResult(each.name, "skipped", f"{why}; it is as before")
        with suppress(QuarterdeckError):
            # Nobody is to start it for as long as another has its port.
            await self._context.store.write(lambda registry: registry.set_desired(each.service, [each.name], "stopped"))
            await self._look(each)
        return ComponentResult(each.name, "skipped", f"{why}; it is stopped: {self._stopped[each.name]} has its port")

    async def _look(self, each: ComponentRecord) -> None:
        watched = await self._context.look(each.container_name, each.observed)
        await self._context.store.write(lambda registry: registry.observe(each.service, each.name, watched))


async def remove(context: Context, each: ComponentRecord) -> None:
    """Stop and remove a component's container, then forget it. Raises what the runtime raises; it is known then."""
    # With its grace: what is not wanted any more may have something to write down.
    with suppress(NotFound):
        await context.runtime.stop(each.container_name, grace_seconds=each.spec.stop_seconds)
    await context.runtime.remove(each.container_name)
    await context.store.write(lambda registry: registry.remove_component(each.service, each.name))


def share_port(one: ComponentSpec, other: ComponentSpec) -> bool:
    """Whether both publish the same port of the node."""
    return any(_same(a, b) for a in one.ports for b in other.ports)


def _same(a: Port, b: Port) -> bool:
    anywhere = a.host_ip == b.host_ip or a.host_ip in EVERY_ADDRESS or b.host_ip in EVERY_ADDRESS
    return (a.host, a.protocol) == (b.host, b.protocol) and anywhere
