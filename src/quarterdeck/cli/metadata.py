"""`qd metadata`: an agent's facts on the command line, and the stand-alone server.

`get`, `set`, `rm` and `watch` talk to the hub (`/api/agents/NAME/metadata...`, the mirror of the sidecar's
API). Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from quarterdeck.cli import options
from quarterdeck.cli.hubclient import HubClient


def _path(agent: str, *rest: str) -> str:
    return "/".join(["/api/agents", quote(agent, safe=""), "metadata", *(quote(part, safe="") for part in rest)])


@click.group("metadata")
def group() -> None:
    """Facts about agents' workspaces: stored by somebody, or collected."""


@group.command("serve")
@click.option("--workspace", type=click.Path(path_type=Path), default=Path(), help="The folder that facts are about.")
@click.option("--port", type=click.IntRange(0, 65535), default=7411, show_default=True, help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another one than loopback needs a token.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), help="File (mode 0600) with the token callers must show."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Where facts are stored (default: the state folder).")
@click.option("--agent", help="The name in answers (default: the workspace's).")
def serve_command(
    workspace: Path, port: int, host: str, token_file: Path | None, folder: Path | None, agent: str | None
) -> None:
    """Serve one workspace's metadata until stopped."""
    from functools import partial

    import anyio

    from quarterdeck import config
    from quarterdeck.metadata.server import serve
    from quarterdeck.telemetry import setup_logging

    setup_logging(config.variable("QD_LOG_LEVEL") or "info")
    call = partial(
        serve,
        workspace,
        port=port,
        host=host,
        token_file=token_file,
        folder=folder,
        agent=agent,
        announce=lambda url: click.echo(f"{url}/metadata"),
    )
    anyio.run(call, backend_options={"use_uvloop": True})


@group.command("get")
@click.argument("agent")
@click.argument("key", required=False)
@click.option("--source", help="Only facts of this source: stored, git, github, ...")
@click.option("--prefix", help="Only keys that begin with this.")
@click.option("--fresh", is_flag=True, help="Collect now instead of showing what is known.")
@options.as_json
def get_command(
    agent: str, key: str | None, source: str | None, prefix: str | None, fresh: bool, as_json: bool
) -> None:
    """Show an agent's facts, or one of them."""
    hub = HubClient.find()
    if key is not None:
        if fresh:
            hub.get(_path(agent), keys=key, fresh="true")
        entry = hub.get(_path(agent, key))
        if as_json:
            options.emit(entry)
            return
        click.echo(_shown(entry["value"]))
        if entry.get("error"):
            click.echo(f"error: {entry['error']}", err=True)
        return
    given = {"source": source, "prefix": prefix, "fresh": "true" if fresh else None}
    answer = hub.get(_path(agent), **given)
    if as_json:
        options.emit(answer)
        return
    width = max((len(name) for name in answer["data"]), default=0)
    for name, entry in answer["data"].items():
        doubt = f"  ({entry['error']})" if entry["error"] else "  (stale)" if entry["stale"] else ""
        click.echo(f"{name:<{width}}  {_shown(entry['value'])}{doubt}")


@group.command("set")
@click.argument("agent")
@click.argument("pairs", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--json", "as_json", is_flag=True, help="Values are JSON instead of text.")
def set_command(agent: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Store facts with an agent: all of them or none."""
    data: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.UsageError(f"{pair!r} is not KEY=VALUE")
        if key in data:
            raise click.UsageError(f"{key!r} is given more than once")
        try:
            data[key] = _decode(text) if as_json else text
        except json.JSONDecodeError as error:
            raise click.UsageError(f"{text!r} is not JSON: {error}") from None
    done = HubClient.find().post(_path(agent), {"data": data})
    for key in done["created"]:
        click.echo(f"{key} stored")
    for key in done["updated"]:
        click.echo(f"{key} updated")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise click.UsageError(f"a value has the key {twice!r} more than once")
    return result


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise click.UsageError(f"{text} is no number that JSON knows")
    return number


# What the metadata server refuses in a body: decoded leniently here, it would never get to see it.
_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_number, parse_constant=_number).decode


@group.command("rm")
@click.argument("agent")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def rm_command(agent: str, keys: tuple[str, ...]) -> None:
    """Delete stored facts of an agent; one that is not there is no error."""
    hub = HubClient.find()
    for key in keys:
        hub.delete(_path(agent, key))


@group.command("watch")
@click.argument("agent")
@click.option("--since", type=int, help="Show what came after this revision (default: from now on).")
def watch_command(agent: str, since: int | None) -> None:
    """Show an agent's facts as they change, until interrupted."""
    event = ""
    known: dict[str, Any] = {}
    pictured = since is not None  # otherwise the first picture is what there was before, and is not shown
    for line in HubClient.find().lines(_path(agent, "watch"), since=since):
        if line.startswith("event:"):
            event = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data = json.loads(line.removeprefix("data:"))["data"]
            shown = _news(known, data, whole=event == "snapshot")
            for key, entry in shown.items() if pictured else ():
                click.echo(f"{key}  {'(gone)' if entry is None else _shown(entry['value'])}")
            pictured = True


def _news(known: dict[str, Any], data: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """What an event of the stream tells that is not known yet, and take it into what is known.

    A whole picture also comes when we were too slow: of it, only what differs is news, and what it does not name
    is gone.
    """
    if whole:
        news = {key: entry for key, entry in data.items() if key not in known or known[key] != entry["value"]}
        news |= {key: None for key in known if key not in data}
        known.clear()
    else:
        news = data
    for key, entry in data.items():
        if entry is None:
            known.pop(key, None)
        else:
            known[key] = entry["value"]
    return news


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
