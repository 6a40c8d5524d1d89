"""One component from its old container to a new one, and back again when the new one is not well.

The order, each step leaving a state that recovery understands: create the new one beside the old under
`NAME.qd-new`; rename the old to `NAME.qd-old` and the new to `NAME` (both while the old still runs); stop
the old; start the new; probe it; write the registry (from here on the new one is the one); remove the old.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from quarterdeck.errors import NotFound, QuarterdeckError, StorageRefused
from quarterdeck.node.context import NEW, OLD, Context, Emit, Made, progress, seen
from quarterdeck.node.guarded import told
from quarterdeck.node.model import ComponentRecord, ComponentSpec, Observed
from quarterdeck.node.probe import trouble
from quarterdeck.node.results import ComponentResult, Outcome, Step
from quarterdeck.node.runtime import Container, Image

log = logging.getLogger(__name__)


class Swap:
    """The work on one component within one operation."""

    def __init__(
        self,
        context: Context,
        made: Made,
        image: Image,
        *,
        name: str,
        generation: int,
        operation: str,
        old: ComponentRecord | None,
        emit: Emit,
        make_way: Callable[[ComponentSpec], Awaitable[None]],
        by_id: bool = False,
    ) -> None:
        self._context, self._runtime, self._made, self._image = context, context.runtime, made, image
        self._name, self._generation, self._operation = name, generation, operation
        self._old = old if old is not None and old.observed.state not in ("missing", "unknown") else None
        self._record = old
        self._emit_to, self._make_way, self._by_id = emit, make_way, by_id
        self._began = time.monotonic()

    def _emit(self, step: Step, message: str = "") -> None:
        self._emit_to(progress(self._made.service, self._made.spec.name, step, message))

    async def run(self) -> ComponentResult:
        """Do it; every failure is in the result, with what runs now."""
        try:
            identity = await self._create()
        except Exception as error:  # noqa: BLE001 - told in the result
            reason = told(error)
            await self._drop(self._name + NEW if self._old else self._name, only_ours=True)
            return self._failed(reason)
        reason, container = await self._put_in_place(identity)
        if reason:
            return await self._put_back(reason)
        try:
            await self._commit(container)
        except Exception as error:  # noqa: BLE001 - told in the result
            # The registry still names the old one: that one must be what runs.
            return await self._put_back(f"it could not be written down: {told(error)}")
        if self._old is not None:
            await self._remove_old()
        self._emit("healthy")
        outcome: Outcome = "replaced" if self._old is not None else "created"
        digest = f"sha256:{self._image.id}"
        return ComponentResult(self._made.spec.name, outcome, "", identity, digest, self._seconds())

    async def _create(self) -> str:
        """The new container, not started yet."""
        self._emit("creating")
        name = self._name
        if self._old is not None:
            name += NEW
            # What an earlier swap could not remove: the running one has the plain name, so neither is needed.
            for leftover in (name, self._name + OLD):
                await self._runtime.remove(leftover)
        request = self._context.request(
            self._made,
            name=name,
            generation=self._generation,
            operation=self._operation,
            image=self._image.id if self._by_id else "",
        )
        return await self._runtime.create(request)

    async def _put_in_place(self, identity: str) -> tuple[str, Container | None]:
        """Old out, new in and started; what is wrong with the new one (empty: nothing)."""
        runtime, spec = self._runtime, self._made.spec
        try:
            if self._old is not None:
                await runtime.rename(self._name, self._name + OLD)
                await runtime.rename(self._name + NEW, self._name)
                self._emit("stopping-old")
                await runtime.stop(self._name + OLD, grace_seconds=self._old.spec.stop_seconds)
            await self._make_way(spec)
            self._emit("starting")
            await runtime.start(identity)
            self._emit("probing")
            return await trouble(runtime, identity, spec, seconds=self._context.options.probe_seconds)
        except Exception as error:  # noqa: BLE001 - told in the result
            return told(error), None

    async def _commit(self, container: Container | None) -> None:
        """The new one is the one from now on."""
        record = self._context.record(
            self._made, self._name, self._generation, f"sha256:{self._image.id}", seen(container, Observed())
        )
        await self._context.store.write(lambda registry: registry.put_component(record))

    async def _remove_old(self) -> None:
        try:
            await self._runtime.remove(self._name + OLD)
        except QuarterdeckError as error:
            # It is stopped and out of the way; the next swap and the next start of the agent remove it.
            log.warning("the old container %s was not removed: %s", self._name + OLD, error.message)

    async def _put_back(self, reason: str) -> ComponentResult:
        """The new one is not well: take it away and let the old one go on as it did."""
        reason = self._made.masked(await self._with_last_words(reason))
        self._emit("restoring", reason)
        if self._old is None:
            await self._drop(self._name, only_ours=True)
            return self._failed(reason)
        try:
            await self._drop(self._name + NEW, only_ours=True)
            if await self._exists(self._name + OLD):
                await self._drop(self._name, only_ours=True)
                await self._runtime.rename(self._name + OLD, self._name)
            if self._old.observed.state == "running":
                await self._runtime.start(self._name)
            watched = await self._context.look(self._name, self._old.observed)
        except Exception as error:  # noqa: BLE001 - told in the result
            return self._failed(f"{reason}; and the old one could not be put back: {told(error)}")
        old = self._old
        with suppress(StorageRefused):
            await self._context.store.write(lambda registry: registry.observe(old.service, old.name, watched))
        return ComponentResult(
            self._made.spec.name, "restored", reason, watched.container_id, watched.image_digest, self._seconds()
        )

    async def _with_last_words(self, reason: str) -> str:
        """The reason and the last lines that the container wrote."""
        lines: list[str] = []
        with suppress(QuarterdeckError):
            lines = [line.text[:200] async for line in self._runtime.logs(self._name, tail=3) if line.text.strip()]
        return f"{reason}; it said: {' | '.join(lines[-3:])}" if lines else reason

    async def _exists(self, name: str) -> bool:
        try:
            await self._runtime.inspect(name)
        except NotFound:
            return False
        return True

    async def _drop(self, name: str, *, only_ours: bool) -> None:
        """Remove a container that this operation made; another's of the same name is left alone."""
        with suppress(NotFound):
            labels = (await self._runtime.inspect(name)).container.labels
            if not only_ours or labels.get("io.quarterdeck.operation") == self._operation:
                await self._runtime.remove(name)

    def _failed(self, message: str) -> ComponentResult:
        return ComponentResult(self._made.spec.name, "failed", self._made.masked(message), seconds=self._seconds())

    def _seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)
