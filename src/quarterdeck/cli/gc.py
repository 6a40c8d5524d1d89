"""`qd gc`: what deleted agents left over, told and removed."""

from __future__ import annotations

import sys

import click

from quarterdeck.cli import words
from quarterdeck.cli.hubclient import HubClient
from quarterdeck.cli.options import as_json, emit, working
from quarterdeck.errors import Conflict


@click.command()
@click.option("--dry-run", is_flag=True, help="Only tell.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def gc(dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove what deleted agents left: folders, worktrees, merged branches. Never what holds unsaved work.

    Each line says what happens to it and why. On a terminal it asks first; elsewhere --yes is needed.
    """
    hub = HubClient.find()
    with working("looking for what is left over"):
        found = hub.post("/api/gc", {"dry_run": True}, patient=True)
    if as_json and dry_run:
        emit(found)
        return
    doomed = [item for item in found if item["action"] == "remove"]
    if not as_json:
        _show(found)
    if dry_run:
        return
    if doomed and not yes:
        if not sys.stdin.isatty() or as_json:
            raise Conflict(f"{len(doomed)} things would be removed; nothing was", hint="qd gc --yes, or --dry-run")
        click.confirm(f"Remove {len(doomed)} of {len(found)}?", abort=True)
    with working("removing it"):
        done = hub.post("/api/gc", {"dry_run": False}, patient=True)
    if as_json:
        emit(done)
        return
    removed = [item for item in done if item["action"] == "remove"]
    freed = sum(item["bytes"] for item in removed)
    click.echo(f"removed {len(removed)}, {words.size(freed)} freed; kept {len(done) - len(removed)}")
    wanted = {item["what"] for item in doomed}
    for item in done:
        if item["action"] == "keep" and item["what"] in wanted:
            click.echo(f"could not be removed: {item['what']}: {item['reason']}")


def _show(found: list[words.Json]) -> None:
    if not found:
        click.echo("nothing is left over")
        return
    from quarterdeck.cli import render

    render.show(render.leftovers(found))
