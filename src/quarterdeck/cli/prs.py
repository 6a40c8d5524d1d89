"""`qd prs`: the fleet by pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli import options
from quarterdeck.cli.hubclient import HubClient

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {
    "passing": "green", "failing": "bold red", "pending": "yellow", "open": "green", "merged": "magenta",
    "closed": "dim", "approved": "green", "changes_requested": "bold red",
}  # fmt: skip


@click.command("prs")
@options.as_json
def prs(as_json: bool) -> None:
    """Pull and merge requests: number, agents on them, checks, reviews, and how old that knowledge is."""
    found = HubClient.find().get("/api/pull-requests")
    if as_json:
        options.emit(found)
        return
    from quarterdeck.cli import render

    if found["pull_requests"]:
        render.show(table_of(found["pull_requests"]))
    elif found["not_known"]:
        click.echo("no pull request is known")
    else:
        click.echo("no agent works on a pull request")
    options.tell_unknown(found["not_known"])


def table_of(requests: list[dict[str, Any]]) -> Table:
    """The requests as a table."""
    from rich.text import Text

    from quarterdeck.cli import render, words

    table = render.table("REQUEST", "STATE", "CHECKS", "REVIEWS", "AGENTS", "KNOWN", "TITLE")
    for request in requests:
        state = "draft" if request["draft"] and request["state"] == "open" else request["state"]
        checks = request["checks"] or "-"
        if request["failing_checks"]:
            checks += f": {', '.join(request['failing_checks'][:3])}"
        age = request["age_seconds"]
        known = "-" if age is None else f"{words.duration(age)} ago"
        table.add_row(
            Text(f"{request['repository']}#{request['number']}", style="bold"),
            Text(state, style=_STYLES.get(state, "")),
            Text(checks, style=_STYLES.get(request["checks"], "")),
            Text(request["reviews"] or "-", style=_STYLES.get(request["reviews"], "")),
            Text(", ".join(request["agents"])),
            Text(
                known + (f" ({request['error']})" if request["error"] else ""), style="red" if request["error"] else ""
            ),
            Text(request["title"]),  # not markup, whatever somebody wrote there
        )
    return table
