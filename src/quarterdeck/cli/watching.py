"""`qd agents watch`: the list of agents, live."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import click

from quarterdeck.cli import words
from quarterdeck.cli.follow import Roll, changes
from quarterdeck.cli.hubclient import HubClient
from quarterdeck.cli.options import emit_line
from quarterdeck.cli.words import Json
from quarterdeck.errors import QuarterdeckError

PATIENCE_SECONDS = 60.0
_REDRAW_SECONDS = 1.0
_Changed = Callable[[Json, list[Json]], None]
_Deleted = Callable[[str], None]


def watch_agents(hub: HubClient, names: list[str] | None, *, as_json: bool) -> None:
    """Follow until interrupted, or until every named agent is deleted. Raises what the hub answers."""
    with suppress(KeyboardInterrupt):
        if as_json:
            _as_lines(hub, names, lambda agent, asked: emit_line(agent), lambda name: emit_line({"deleted": name}))
        elif sys.stdout.isatty():
            _as_table(hub, names)
        else:
            _as_lines(hub, names, _line, lambda name: click.echo(f"{time.strftime('%H:%M:%S')} {name} deleted"))


def _line(agent: Json, asked: list[Json]) -> None:
    told = [f"{time.strftime('%H:%M:%S')} {agent['name']}", words.status_of(agent)]
    if agent["task"]:
        told.append(f"task {words.task_of(agent['task'], time.time())}")
    if said := words.remark(agent):
        told.append(words.shorten(said, 100))
    click.echo("  ".join(told))
    for item in asked:
        commands = words.answer_commands(agent["name"], item)
        click.echo("\n         ".join(["", *words.asked(agent["name"], item).splitlines(), " | ".join(commands)])[1:])
    sys.stdout.flush()


def _as_lines(hub: HubClient, names: list[str] | None, changed: _Changed, deleted: _Deleted) -> None:
    roll = Roll(hub)
    left = set(names or ())
    for answer in changes(hub, names, patience_seconds=PATIENCE_SECONDS):
        roll.take(answer)
        for agent in answer["changed"]:
            changed(agent, roll.asked.get(agent["name"], []))
        for name in answer["deleted"]:
            deleted(name)
        left -= set(answer["deleted"])
        if names and not left:
            return


def _as_table(hub: HubClient, names: list[str] | None) -> None:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text

    from quarterdeck.cli import render

    roll = Roll(hub)
    left = set(names or ())
    console = render.console()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for answer in _with_pauses(changes(hub, names, patience_seconds=PATIENCE_SECONDS)):
            if answer is not None:
                roll.take(answer)
                left -= set(answer["deleted"])
            shown: RenderableType = Text("no agents yet: qd agents create", style="dim")
            if roll.agents:
                shown = render.agents_table(roll.listed(), roll.asked, console.width)
            live.update(shown, refresh=True)
            if names and not left:
                return


def _with_pauses(answers: Iterator[Json]) -> Iterator[Json | None]:
    """The answers as they come, and None each second in between, so that the times on the screen go on."""
    arrived: queue.Queue[Json | QuarterdeckError] = queue.Queue()

    def read() -> None:
        try:
            for answer in answers:
                arrived.put(answer)
        except QuarterdeckError as error:
            arrived.put(error)

    threading.Thread(target=read, name="changes", daemon=True).start()
    while True:
        try:
            got = arrived.get(timeout=_REDRAW_SECONDS)
        except queue.Empty:
            yield None
            continue
        if isinstance(got, QuarterdeckError):
            raise got
        yield got
