"""Tables for people and JSON for programs, for what nodes answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.config import variable
from quarterdeck.errors import QuarterdeckError

if TYPE_CHECKING:
    from quarterdeck.node.model import Event, Observed
    from quarterdeck.node.results import ComponentResult, DeployPlan, DeployProgress, Drift, FieldChange

GOOD, BAD, DIM, NOTE = "green", "red", "bright_black", "yellow"
_STATE_COLOUR = {"running": GOOD, "exited": BAD, "missing": BAD, "unknown": NOTE, "paused": NOTE}
_OUTCOME_COLOUR = {"failed": BAD, "restored": BAD, "skipped": NOTE, "unchanged": DIM, "ignored": DIM}


def paint(text: str, colour: str | None) -> str:
    """The text in a colour, on a terminal that wants one."""
    return click.style(text, fg=colour) if colour and variable("NO_COLOR") is None else text


def say_json(value: Any) -> None:
    """Dataclasses and structs as JSON on standard output."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def answer(value: Any, text: str, *, as_json: bool) -> None:
    """What a command did: JSON for programs, a line for people."""
    if as_json:
        say_json(value)
    else:
        click.echo(text)


def errors_json(errors: Mapping[str, QuarterdeckError]) -> dict[str, Any]:
    """Nodes that gave no answer, for JSON."""
    return {name: error.to_json()["error"] for name, error in errors.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they need; a dash for what is empty."""
    lines = [[cell or "-" for cell in row] for row in rows]
    widths = [max(len(click.unstyle(row[i])) for row in [head, *lines]) for i in range(len(head))]
    for index, row in enumerate([head, *lines]):
        cells = [cell + " " * (widths[i] - len(click.unstyle(cell))) for i, cell in enumerate(row)]
        line = "  ".join(cells).rstrip()
        click.echo(paint(line, DIM) if index == 0 else line)


def state(desired: str, observed: Observed, *, done: bool = False) -> str:
    """The state as it is, in colour, with what should be where that differs. `done` is a job that has ended well."""
    text: str = observed.state
    if observed.state == "exited":
        text += " (unseen)" if observed.ended_unseen else f" ({observed.exit_code})"
    if observed.health in ("unhealthy", "starting"):
        text += f", {observed.health}"
    colour = _STATE_COLOUR.get(observed.state)
    if (desired == "stopped" and observed.state != "running") or done:
        colour = DIM
    if observed.health == "unhealthy":
        colour = BAD
    wanted = desired in ("running", "stopped") and observed.state != "unknown" and not done
    if wanted and (desired == "running") != (observed.state == "running"):
        return paint(text, BAD) + paint(f", should be {desired}", NOTE)
    return paint(text, colour)


def since(at: float | None, now: float | None = None) -> str:
    """How long ago, short: `5s`, `3m`, `2h`, `4d`."""
    if not at:
        return ""
    seconds = max(0.0, (time.time() if now is None else now) - at)
    for limit, unit, size in ((60, "s", 1), (3600, "m", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def size(count: float) -> str:
    """Bytes for people, in units of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def moment(at: float) -> str:
    """A time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))


def progress(step: DeployProgress) -> None:
    """One step of a deploy, on standard error."""
    if step.step == "done":
        return
    where = f"{step.service}/{step.component}" if step.component else step.service
    if step.step == "component-done" and step.result is not None:
        result(step.service, step.result, err=True)
        return
    text = f"{where}: {step.step}" + (f": {step.message}" if step.message else "")
    click.echo(paint(text, DIM), err=True)


def result(service: str, each: ComponentResult, *, err: bool = False) -> None:
    """What became of one component."""
    word = paint(each.outcome, _OUTCOME_COLOUR.get(each.outcome, GOOD))
    took = f" in {each.seconds:.1f} s" if each.seconds >= 0.05 else ""
    click.echo(f"{service}/{each.component}: {word}{took}" + (f": {each.message}" if each.message else ""), err=err)


def outcome_colour(word: str) -> str:
    """The colour of an outcome."""
    return _OUTCOME_COLOUR.get(word, GOOD)


def outcome(word: str) -> str:
    """An outcome in its colour."""
    return paint(word, outcome_colour(word))


def plan(found: DeployPlan) -> None:
    """What a deploy would do."""
    if found.changes_nothing:
        click.echo(f"{found.service}: nothing would change (generation {found.generation})")
    for action in found.actions:
        colour = {"keep": DIM, "remove": BAD, "fail": BAD, "replace": NOTE}.get(action.action, GOOD)
        reason = f": {action.reason}" if action.reason else ""
        click.echo(f"{found.service}/{action.component}: {paint(action.action, colour)}{reason}")
        changes(action.changes)


def changes(found: Iterable[FieldChange]) -> None:
    """Fields before and after."""
    for each in found:
        before, after = paint(each.before or "(none)", BAD), paint(each.after or "(none)", GOOD)
        click.echo(f"    {each.field}: {before} -> {after}")


def drift(found: Iterable[Drift]) -> None:
    """What differs from what should be."""
    for each in found:
        click.echo(
            f"    {paint('drift', BAD)} {each.component}.{each.field}:"
            f" should be {paint(each.desired or '(none)', GOOD)}, is {paint(each.actual or '(none)', BAD)}"
        )


def event(each: Event) -> str:
    """One event in a line."""
    where = "/".join(part for part in (each.service, each.component) if part) or "node"
    states = f" {each.from_state} -> {each.to_state}" if each.to_state else ""
    text = f": {each.message}" if each.message else ""
    return f"{paint(moment(each.at), DIM)} {where} {each.kind}{states}{text}"
