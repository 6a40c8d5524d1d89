"""The demo itself: three agents are created, watched while they work, and believed only after a look at git."""

from __future__ import annotations

import time
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from quarterdeck.cli import words
from quarterdeck.cli.follow import ENDED, FINAL, changes
from quarterdeck.cli.launch import qd_command
from quarterdeck.cli.render import cut, table
from quarterdeck.demo import requests
from quarterdeck.demo import stage as stages
from quarterdeck.demo.sample import FILES, WORK
from quarterdeck.demo.stage import Stage
from quarterdeck.demo.truth import Outcome, git, look
from quarterdeck.errors import Unavailable

WORK_SECONDS = 180.0
_FRAME_SECONDS = 0.25
Json = dict[str, Any]


def play(console: Console, *, provider: str, keep: bool, live: bool) -> bool:
    """Run the demo; whether everything turned out true. `live` redraws a table, else each change is a line.

    Raises `Unavailable` when it cannot be set up.
    """
    began = time.monotonic()
    console.print(f"A sample repository with {len(FILES)} files, a hub for it, and three agents ({provider}).")
    stage = stages.set_up(provider)
    kept = False
    try:
        told = f"The hub is up at {stage.hub.url} after {time.monotonic() - began:.1f} s.\n"
        console.print(told, style="dim")
        base = git(stage.repo, "rev-parse", "main")
        for work in WORK:
            stage.client.post("/api/agents", {"name": work.agent, "task": work.task})
        _watch(stage, console, live=live)
        agents = {work.agent: stage.client.get(f"/api/agents/{work.agent}") for work in WORK}
        outcomes = [look(stage.repo, base, work, agents[work.agent]) for work in WORK]
        untouched = git(stage.repo, "rev-parse", "main") == base
        console.print(results(outcomes))
        console.print("\nA pull request is opened for each branch; a check of one fails ...", style="dim")
        stage.forge.open_requests(stage.repo)
        listed, told_task = requests.follow(stage.client)
        wrong = requests.problems(listed, told_task)
        console.print(requests.shown(listed, told_task, wrong))
        good = untouched and not wrong and not any(outcome.problems for outcome in outcomes)
        _verdict(console, stage, good=good, untouched=untouched, seconds=time.monotonic() - began)
        kept = keep
        if keep:
            console.print(how_to_go_on(stage))
        return good
    finally:
        if kept:
            stage.forge.close()
        else:
            stage.take_down()


def _watch(stage: Stage, console: Console, *, live: bool) -> None:
    """Show the agents until every task has ended. Raises `Unavailable` when that takes too long."""
    began = time.monotonic()
    agents: dict[str, Json] = {}
    view = _View(console, live=live)
    with view:
        for answer in changes(stage.client, None, wait_seconds=_FRAME_SECONDS):
            agents.update({agent["name"]: agent for agent in answer["changed"]})
            shown = [agents[work.agent] for work in WORK if work.agent in agents]
            view.show(shown)
            if len(shown) == len(WORK) and all(_is_over(agent) for agent in shown):
                return
            if time.monotonic() - began > WORK_SECONDS:
                raise Unavailable(f"the agents did not finish within {WORK_SECONDS:g} s")


class _View:
    """How progress is seen: a table that is redrawn, a line for each change, or one frame for a picture."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if live else None
        self._said: dict[str, str] = {}
        self._frame: RenderableType | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        elif self._frame is not None:
            self._console.print(self._frame)

    def show(self, agents: list[Json]) -> None:
        """Show how it stands."""
        if self._live:
            self._live.update(progress(agents), refresh=True)
        elif self._console.record:
            if len(agents) == len(WORK) and all(agent["status"] == "busy" and agent["report"] for agent in agents):
                self._frame = self._frame or progress(agents)
        else:
            self._lines(agents)

    def _lines(self, agents: list[Json]) -> None:
        for agent in agents:
            line = f"{agent['name']:<6} {words.status_of(agent):<9} {_doing(agent)}"
            if self._said.get(agent["name"]) != line:
                self._said[agent["name"]] = line
                self._console.print(Text(line))


def _is_over(agent: Json) -> bool:
    return agent["status"] in ENDED or bool(agent["task"] and agent["task"]["state"] in FINAL)


def _doing(agent: Json) -> str:
    if agent["failure"] or agent["unreachable"]:
        return words.remark(agent)
    if agent["report"]:
        return str(agent["report"]["summary"])
    return words.shorten(agent["task"]["description"], 70) if agent["task"] else "coming up"


def progress(agents: list[Json]) -> Table:
    """The agents while they work."""
    now = time.time()
    made = table("AGENT", "STATUS", "TASK", "USED", "WHAT IT DOES")
    for agent in agents:
        task = agent["task"]
        made.add_row(
            Text(agent["name"], style="bold"),
            Text(words.status_of(agent), style=words.status_style(agent)),
            Text(words.task_of(task, now), style=words.STYLES.get(task["state"], "") if task else ""),
            words.used(agent["usage"]),
            cut(_doing(agent)),
        )
    return made


def results(outcomes: list[Outcome]) -> RenderableType:
    """What each agent did, as git and the tests tell it."""
    blocks: list[RenderableType] = []
    for outcome in outcomes:
        passed = f"{outcome.tests_run} tests pass" if outcome.tests_passed else "the tests FAIL"
        told = Text("\n")
        told.append(outcome.agent, style="bold").append(f"  branch {outcome.branch}", style="cyan")
        told.append("  ").append(passed, style="green" if outcome.tests_passed else "bold red")
        for commit in outcome.commits:
            told.append("\n    commit    ", style="dim").append(commit)
        told.append("\n    files     ", style="dim").append(", ".join(sorted(outcome.files)) or "none")
        facts = ", ".join(f"{key}={value}" for key, value in sorted(outcome.metadata.items()))
        told.append("\n    metadata  ", style="dim").append(facts or "none")
        told.append("\n    report    ", style="dim").append(outcome.report or "none")
        for problem in outcome.problems:
            told.append("\n    NOT SO    ", style="bold red").append(problem)
        blocks.append(told)
    return Group(*blocks)


def _verdict(console: Console, stage: Stage, *, good: bool, untouched: bool, seconds: float) -> None:
    if good:
        told = "All of it is true: read from git, and from the tests run again on each branch"
        console.print(f"\n[green]✓[/green] {told} ({seconds:.1f} s).")
        return
    console.print("\n[bold red]✗[/bold red] Not everything is as it should be.")
    if not untouched:
        console.print("main was moved, and no agent was to do that")
    for work in WORK:
        for entry in reversed(stage.client.get(f"/api/agents/{work.agent}/log", page_size=6)["entries"]):
            console.print(Text(f"{work.agent}  {entry['kind']}  {words.shorten(entry['text'], 160)}", style="dim"))


def how_to_go_on(stage: Stage) -> Text:
    """The commands with which the kept demo is looked at and ended."""
    qd = " ".join(qd_command())
    return Text(
        f"\nThe hub goes on. To look around:\n"
        f"  export QD_STATE_DIR={stage.state}\n"
        f"  {qd} agents list\n"
        f"  {qd} agents diff ada --patch\n"
        f"  {qd} agents merge ada\n"
        f"  {qd} agents create --task '@write hello.txt hello'\n"
        f"To end it: {qd} down --agents" + (f"; kill {stage.model}" if stage.model else "") + f"; rm -r {stage.folder}"
    )
