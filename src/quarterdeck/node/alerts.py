"""Alerts: when a condition is told, when again, when it is over; and the command that tells.

The conditions lie in the registry, so that neither a restart of the agent nor a crash loop of it makes a
second alert within the cooldown.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from quarterdeck.errors import QuarterdeckError
from quarterdeck.node.context import Context, event
from quarterdeck.node.registry import Registry
from quarterdeck.process import run

log = logging.getLogger(__name__)
Notice = Literal["raise", "over"]
# `since` of a condition that does not hold: kept only for the time of its last alert.
INACTIVE = 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """What is remembered: since when it holds (`INACTIVE`: it does not), when an alert was last sent."""

    since: float = INACTIVE
    sent_at: float | None = None


def step(
    known: Condition | None, *, holds: bool, now: float, hold_seconds: float, cooldown_seconds: float
) -> tuple[Condition | None, Notice | None]:
    """The condition after looking, and what to tell.

    Told once it has held for `hold_seconds`, at most once per `cooldown_seconds`; its end is told when its
    beginning was.
    """
    before = known or Condition()
    if not holds:
        told = before.since != INACTIVE and before.sent_at is not None and before.sent_at >= before.since
        rests = before.sent_at is not None and now - before.sent_at < cooldown_seconds
        return Condition(INACTIVE, before.sent_at) if rests else None, "over" if told else None
    since = before.since if before.since != INACTIVE else now
    due = now - since >= hold_seconds and (before.sent_at is None or now - before.sent_at >= cooldown_seconds)
    return Condition(since, now if due else before.sent_at), "raise" if due else None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to tell: `kind` drift, flap, gave-up or runtime (or with `-over`), about what, and why."""

    kind: str
    service: str
    component: str
    message: str
    state: str = ""
    desired: str = ""

    def variables(self, node: str) -> dict[str, str]:
        """The environment of the alert command."""
        return {
            "QD_ALERT": self.kind,
            "QD_NODE": node,
            "QD_SERVICE": self.service,
            "QD_COMPONENT": self.component,
            "QD_MESSAGE": self.message,
            "QD_STATE": self.state,
            "QD_DESIRED": self.desired,
            "QD_AT": f"{time.time():.3f}",
        }


def judge(
    registry: Registry,
    alert: Alert,
    known: Mapping[tuple[str, str, str], tuple[float, float | None]],
    *,
    holds: bool,
    now: float,
    hold_seconds: float,
    cooldown_seconds: float,
) -> Alert | None:
    """Look at one condition inside a transaction: remember it, record the event, give what must be told."""
    key = (alert.service, alert.component, alert.kind)
    row = known.get(key)
    if row is None and not holds:
        return None
    before = Condition(*row) if row else None
    after, notice = step(before, holds=holds, now=now, hold_seconds=hold_seconds, cooldown_seconds=cooldown_seconds)
    if after != before:
        if after is None:
            registry.remove_alert(*key)
        else:
            registry.put_alert(*key, after.since, after.sent_at)
    if notice is None:
        return None
    told = (
        alert
        if notice == "raise"
        else Alert(f"{alert.kind}-over", *key[:2], "as it should be again", alert.state, alert.desired)
    )
    registry.add_event(event(told.service, told.component, told.kind, told.message))
    return told


async def send(context: Context, alert: Alert) -> None:
    """Run the alert command; that it failed is an event, not an error."""
    options = context.options.monitor
    if not options.alert_command:
        return
    try:
        await run(
            options.alert_command,
            env=alert.variables(context.options.node_name),
            timeout_seconds=options.alert_timeout_seconds,
        )
    except QuarterdeckError as error:
        log.warning("alert %s for %s was not sent: %s", alert.kind, alert.service or "the node", error.message)
        failure = event(alert.service, alert.component, "alert-failed", f"{alert.kind}: {error.message}")
        await context.store.write(lambda registry: registry.add_event(failure))
