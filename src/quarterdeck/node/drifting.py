"""Asking podman how containers differ from their definitions: one by one, and now and then all of them.

A listing tells states and labels only. What somebody changed on a container (a network connected by hand) is seen
by looking at it, which costs a millisecond over REST and thirty with the command; so each round looks at some.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from quarterdeck.errors import NotFound, QuarterdeckError
from quarterdeck.node.configdrift import config_drift
from quarterdeck.node.context import Context
from quarterdeck.node.model import ComponentRecord, ServiceRecord
from quarterdeck.node.podman_real import hidden_names, real_spec
from quarterdeck.node.results import Drift
from quarterdeck.node.runtime import Details, Image

# How long a round of looking may take before it leaves the rest to the next, and how often each is looked at.
ROUND_SECONDS = 0.05
EVERY_ROUNDS = 2


async def examined(
    context: Context, record: ComponentRecord, details: Details, images: dict[str, Image | None] | None = None
) -> tuple[Drift, ...]:
    """How a container's real configuration differs from its component's definition.

    `images` are those already looked up. Raises `Unavailable`.
    """
    spec = record.spec
    known = {} if images is None else images
    identity = details.container.image_id
    if identity not in known:
        try:
            known[identity] = await context.runtime.image(identity)
        except NotFound:
            known[identity] = None
    image = known[identity]
    real, _ = real_spec(details.raw, image, component=spec.name, defined=spec.env)
    if record.image_digest == f"sha256:{identity}":
        # The image that was deployed, by whatever name podman tells it: made from an id, it tells none.
        real = replace(real, image=spec.image)
    labelled = hidden_names(details.container.labels)
    hidden = labelled | {each.target or each.name for each in spec.secrets if each.kind == "env"}
    return config_drift(spec, real, image=image, hidden=hidden, labelled=labelled)


class ConfigWatch:
    """What was last seen of the configuration of running components."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._every = EVERY_ROUNDS * context.options.monitor.list_seconds
        self._images: dict[str, Image | None] = {}
        # By component: the container and definition that were compared, when, and what differed.
        self._seen: dict[tuple[str, str], tuple[tuple[str, str], float, tuple[Drift, ...]]] = {}

    def of(self, record: ComponentRecord) -> tuple[Drift, ...]:
        """The differences found in a component's container, as long as both it and the definition are the same."""
        found = self._seen.get((record.service, record.name))
        if found is None or found[0] != _compared(record) or not _comparable(record):
            return ()
        return found[2]

    def knows(self, record: ComponentRecord) -> bool:
        """Whether that there are no differences is known, rather than not looked at yet."""
        found = self._seen.get((record.service, record.name))
        return not _comparable(record) or (found is not None and found[0] == _compared(record))

    async def round(self, services: Sequence[ServiceRecord]) -> None:
        """Look at those that were not looked at for the longest time, as far as a round's time goes."""
        there = {
            (each.service, each.name): each for service in services if service.managed for each in service.components
        }
        self._seen = {key: found for key, found in self._seen.items() if key in there}
        now = time.monotonic()
        due = sorted((at, key) for key in there if (at := self._due(there[key])) <= now)
        for _, key in due:
            await self._look(there[key])
            if time.monotonic() - now > ROUND_SECONDS:
                break
        if not due:
            self._images.clear()

    def _due(self, record: ComponentRecord) -> float:
        """When to look at it, on the monotonic clock: at once where container or definition are new."""
        if not _comparable(record):
            return float("inf")
        found = self._seen.get((record.service, record.name))
        return 0.0 if found is None or found[0] != _compared(record) else found[1] + self._every

    async def _look(self, record: ComponentRecord) -> None:
        found: tuple[Drift, ...] = ()
        compared = _compared(record)
        try:
            details = await self._context.runtime.inspect(record.container_name)
            if details.container.id == record.observed.container_id:
                found = await examined(self._context, record, details, self._images)
        except QuarterdeckError:
            # Gone, or podman is silent: the listing tells.
            return
        self._seen[record.service, record.name] = (compared, time.monotonic(), found)


def _compared(record: ComponentRecord) -> tuple[str, str]:
    return record.observed.container_id, record.spec_hash


def _comparable(record: ComponentRecord) -> bool:
    """Whether its container is one that its definition describes; another is told by its hash already."""
    seen = record.observed
    return record.desired == "running" and seen.state == "running" and seen.spec_hash == record.spec_hash
