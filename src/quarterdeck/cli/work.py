"""`qd agents`: an agent's work, its own life, and where agents can be made."""

from __future__ import annotations

import time
from urllib.parse import quote

import click

from quarterdeck.cli.hubclient import HubClient, path_of
from quarterdeck.cli.options import agent, as_json, budget_options, emit, told, working


@click.command()
@agent
@click.option("--patch/--stat", default=False, help="The whole patch, or a summary (default).")
@click.option("--max-bytes", type=int, default=200_000, show_default=True, help="Where the text is cut.")
@as_json
def diff(name: str, patch: bool, max_bytes: int, as_json: bool) -> None:
    """An agent's work against its base, uncommitted files included."""
    found = HubClient.find().get(path_of(name, "diff"), form="patch" if patch else "stat", max_bytes=max_bytes)
    if as_json:
        emit(found)
        return
    from quarterdeck.cli import render

    render.show_text(render.diff(found))


@click.command()
@agent
@click.option("--rebase", is_flag=True, help="Replay the commits instead of making a merge commit.")
@click.option("-m", "--message", default="", help="Message of the merge commit.")
@as_json
def merge(name: str, rebase: bool, message: str, as_json: bool) -> None:
    """Bring an agent's commits home to the base branch, checked; a conflict leaves everything as it was.

    It waits as long as the check takes. Interrupted, the merge goes on: `qd agents show` tells what became of it.
    """
    body = {"method": "rebase" if rebase else "merge", "message": message}
    hub = HubClient.find()
    with working(f"merging the work of {name}, and checking it"):
        done = hub.post(path_of(name, "merge"), body, patient=True)
    if as_json:
        emit(done)
        return
    if not done["commits"]:
        click.echo(f"{done['base']} has all the work of {name} already")
        return
    checked = ", after its check passed" if done["checked"] else ""
    many = "commit" if done["commits"] == 1 else "commits"
    click.echo(f"{done['base']} now has {done['commits']} {many} of {name}{checked}: {done['after'][:10]}")
    for file in done["files"]:
        click.echo(f"  {file}")


@click.command()
@agent
@budget_options
@as_json
def restart(name: str, budget_usd: float | None, budget_tokens: int | None, as_json: bool) -> None:
    """Bring an agent back in a new incarnation, with its history; a running task is canceled, not repeated.

    One that has used up its budget needs a larger one; what it has used before counts.
    """
    made = HubClient.find().post(path_of(name, "restart"), {"budget": {"usd": budget_usd, "tokens": budget_tokens}})
    told(made, as_json, f"agent {name} is coming up again: qd agents watch {name}")


@click.command()
@agent
@as_json
def stop(name: str, as_json: bool) -> None:
    """End an agent but keep its workspace, history and session; restart brings it back."""
    made = HubClient.find().post(path_of(name, "stop"))
    told(made, as_json, f"agent {name} is {made['status']}; qd agents restart {name} brings it back")


@click.command()
@agent
@as_json
def delete(name: str, as_json: bool) -> int:
    """Delete an agent, also a busy one. Unsaved work is first committed to a rescue ref, which is told."""
    hub = HubClient.find()
    done = hub.delete(path_of(name))
    end = time.monotonic() + 120
    while not done["done"] and time.monotonic() < end:
        done = hub.delete(path_of(name))
    if as_json:
        emit(done)
        return 0 if done["done"] else 1
    click.echo(f"agent {name} is deleted" if done["done"] else f"agent {name} is still being deleted")
    if done["rescue_ref"]:
        click.echo(f"its unsaved work is in {done['rescue_ref']}: git show {done['rescue_ref']}")
    if done["branch_kept"]:
        click.echo(f"its commits are on branch {done['branch_kept']}, which is kept")
    for note in done["notes"]:
        click.echo(note)
    return 0 if done["done"] else 1


@click.command()
@as_json
def projects(as_json: bool) -> None:
    """The projects in which agents can be created; the first is the default."""
    found = HubClient.find().get("/api/projects")
    if as_json:
        emit(found)
        return
    from quarterdeck.cli import render

    made = render.table("PROJECT", "BASE", "PROVIDER", "AGENTS", "REPOSITORY")
    for item in found:
        where = f"{item['repo']}: {item['problem']}" if item["problem"] else item["repo"]
        made.add_row(item["name"], item["base"] or "-", item["provider"], str(item["agents"]), render.cut(where))
    render.show(made)


@click.command()
@click.argument("project", required=False)
@as_json
def roles(project: str | None, as_json: bool) -> None:
    """The roles that an agent can have in a project; in the default one when left out."""
    hub = HubClient.find()
    project = project or hub.get("/api/projects")[0]["name"]
    found = hub.get(f"/api/projects/{quote(project, safe='')}/roles")
    if as_json:
        emit(found)
        return
    from quarterdeck.cli import render

    made = render.table("ROLE", "FROM", "DESCRIPTION")
    for item in found:
        made.add_row(item["name"], item["source"], render.cut(item["description"]))
    render.show(made)
