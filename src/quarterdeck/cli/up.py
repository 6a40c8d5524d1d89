"""`qd up`, `qd down`, `qd status`, `qd token`: the hub's own life."""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck import __version__, config, proctree
from quarterdeck.cli import launch
from quarterdeck.cli.hubclient import HubClient, path_of
from quarterdeck.cli.options import as_json, emit, emit_line, told
from quarterdeck.errors import Unavailable

if TYPE_CHECKING:
    from quarterdeck.fleet.git.repository import RepoFacts


def client_configuration(url: str, token: str) -> dict[str, Any]:
    """How MCP clients are told of this hub: the commands for Claude Code, and the JSON form for others."""
    qd = launch.qd_command()
    called = shlex.join(qd)
    stdio: dict[str, Any] = {"command": qd[0], "args": [*qd[1:], "mcp"]}
    add = "claude mcp add quarterdeck"
    if config.variable("QD_STATE_DIR"):
        # The client starts `qd mcp` elsewhere and without it, which would be another hub.
        state = str(config.state_dir())
        stdio["env"] = {"QD_STATE_DIR": state}
        # After the name: `-e` takes every word up to the next option for a variable.
        setting = f"QD_STATE_DIR={shlex.quote(state)}"
        add, called = f"{add} -e {setting}", f"{setting} {called}"
    return {
        "claude_stdio": f"{add} -- {shlex.join([*qd, 'mcp'])}",
        "claude_http": f"claude mcp add --transport http quarterdeck {url}/mcp "
        f'--header "Authorization: Bearer $({called} token)"',
        "stdio": {"mcpServers": {"quarterdeck": stdio}},
        "http": {
            "mcpServers": {
                "quarterdeck": {
                    "type": "http",
                    "url": f"{url}/mcp",
                    "headers": {"Authorization": f"Bearer {token}"},
                }
            }
        },
    }


@click.command()
@click.option("--host", help="Where to listen; loopback only. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="0 takes a free one. [default: 7400]")
@click.option("--foreground/--detach", default=True, help="Stay here with a short log (default), or in the background.")
@click.option("--say/--say-nothing", default=True, hidden=True)  # its own log is no place for the token
@as_json
def up(host: str | None, port: int | None, foreground: bool, say: bool, as_json: bool) -> None:
    """Start the hub, with the git repository you stand in as the project.

    It prints where it listens and how an MCP client is told. Ctrl-C ends the hub; agents work on, and the
    next hub finds them again.
    """
    repo = launch.repository_here(Path.cwd())

    def ready(url: str, token: str) -> None:
        if not say:
            return
        if as_json:
            emit_line({"url": url, "folder": str(repo.worktree), "clients": client_configuration(url, token)})
        else:
            _welcome(url, repo, foreground=foreground)

    if not foreground:
        from quarterdeck.hub import place

        state = config.state_dir()
        info = launch.start_detached(repo.worktree, state=state, host=host, port=port)
        ready(info.url, place.token(state))
        return
    from quarterdeck.hub import app

    given = app.settings(repo.worktree, host=host, port=port)
    _log_shortly(given.log_level, plain=as_json)
    app.run(given, ready)


def _welcome(url: str, repo: RepoFacts, *, foreground: bool) -> None:
    clients = client_configuration(url, "$(qd token)")
    called = shlex.join(launch.qd_command())
    lines = [
        f"The hub is up: {click.style(url, bold=True)}",
        f"project {repo.worktree} ({repo.branch or 'detached HEAD'})",
    ]
    if repo.dirty:
        lines.append("It has uncommitted changes: agents start from the last commit, without them.")
    if repo.branch is None:
        lines.append("No branch is checked out: say in quarterdeck.toml, [projects.NAME] base, where work starts from.")
    lines += [
        "",
        "For an MCP client, one of:",
        f"  {clients['claude_stdio']}",
        f"  {clients['claude_http']}",
        f"  {json.dumps(clients['stdio'])}",
        "",
        f"Or from here: {called} agents create --task 'what is to be done', then {called} agents watch",
    ]
    if foreground:
        lines += ["Ctrl-C ends the hub, not the agents. What happens:", ""]
    else:
        lines.append(f"It runs in the background; {called} down ends it, not the agents.")
    click.echo("\n".join(lines), color=False if config.variable("NO_COLOR") else None)


class _Short(logging.Formatter):
    """The time of day and what happened, with secrets taken out."""

    def format(self, record: logging.LogRecord) -> str:
        from quarterdeck import telemetry

        record.message = record.getMessage()
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return telemetry.redacted(f"{time.strftime('%H:%M:%S')} {level}{record.message}{trace}")


def _log_shortly(level: str, *, plain: bool) -> None:
    """The usual log on standard error for programs; a shorter one for somebody who watches."""
    from quarterdeck import telemetry
    from quarterdeck.errors import InvalidInput

    try:
        telemetry.setup_logging(level)
    except ValueError:
        raise InvalidInput(f"QD_LOG_LEVEL is {level!r}", hint="debug, info, warning or error") from None
    if not plain:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_Short())


@click.command()
@click.option("--agents", "stop_agents", is_flag=True, help="Stop all agents first; their work and history stay.")
@as_json
def down(stop_agents: bool, as_json: bool) -> None:
    """End the hub. Its agents work on, and the next hub finds them."""
    from quarterdeck.hub import place

    state = config.state_dir()
    info = place.running(state)
    if info is None:
        raise Unavailable(f"no hub runs on {state}", hint="there is nothing to end")
    names: list[str] = []
    if stop_agents:
        names = stop_all(HubClient(info.url, place.token(state)))
    launch.end(info)
    if as_json:
        emit({"ended": info.pid, "stopped_agents": names})
        return
    click.echo(f"the hub at {info.url} has ended" + (f"; stopped: {', '.join(names)}" if names else ""))


def stop_all(hub: HubClient, *, seconds: float = 30) -> list[str]:
    """Stop every agent that is up; their names. Returns when the processes beside them are gone, too.

    Raises `Unavailable` when one is not stopped in time.
    """
    asleep = {"stopped", "failed", "canceled"}
    beside: dict[str, tuple[int, str] | None] = {}
    for agent in hub.get("/api/agents", limit=1000)["agents"]:
        if agent["status"] not in asleep:
            beside[agent["name"]] = _process_beside(hub, agent["name"])
            hub.post(path_of(agent["name"], "stop"))
    names = sorted(beside)
    end = time.monotonic() + seconds
    while beside:
        for agent in hub.get("/api/agents", limit=1000)["agents"]:
            known = beside.get(agent["name"])
            if agent["status"] in asleep and (known is None or not proctree.is_alive(*known)):
                beside.pop(agent["name"], None)
        if beside and time.monotonic() > end:
            raise Unavailable(f"not stopped within {seconds:g} s: {', '.join(sorted(beside))}; the hub still runs")
        time.sleep(0.05)
    return names


def _process_beside(hub: HubClient, name: str) -> tuple[int, str] | None:
    """The process of an agent's sidecar, and its identity; None when it has none here."""
    pid = hub.get(path_of(name))["sidecar_pid"]
    known = proctree.identity(pid) if pid else None
    return (pid, known) if known is not None else None


@click.command()
@as_json
def status(as_json: bool) -> None:
    """Whether a hub runs, where, and how its agents are. Exits with 5 when none runs."""

    hub = HubClient.find(timeout_seconds=10)
    facts = hub.get("/api/hub")
    agents = hub.get("/api/agents", limit=1000)["agents"]
    counts = Counter(agent["status"] for agent in agents)
    asking = [agent["name"] for agent in agents if agent["needs_attention"]]
    unreachable = [agent["name"] for agent in agents if agent["unreachable"]]
    if as_json:
        emit({**facts, "url": hub.url, "statuses": counts, "needs_attention": asking, "unreachable": unreachable})
        return
    told = ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"
    click.echo(f"hub      {hub.url}, version {facts['version']}")
    click.echo(f"project  {facts['folder']}\nstate    {facts['state']}\nagents   {told}")
    if asking:
        click.echo(f"asking   {', '.join(asking)}: see qd agents list")
    if unreachable:
        click.echo(f"unreachable: {', '.join(unreachable)}")
    for name, reason in facts["unreadable"].items():
        click.echo(f"the record of {name} cannot be read: {reason}")
    if facts["version"] != __version__:
        click.echo(f"this qd is {__version__}: `qd down` and `qd up` bring the hub to the same version")


@click.command()
@as_json
def token(as_json: bool) -> None:
    """Print the hub's token; it is made when there is none yet."""
    from quarterdeck.hub import place

    given = config.variable("QD_TOKEN") or place.token(config.state_dir())
    told({"token": given}, as_json, given)
