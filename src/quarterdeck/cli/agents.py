"""`qd agents`: one call of the hub each, and its answer rendered."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import click

from quarterdeck.cli import words, work
from quarterdeck.cli.completion import agent_names
from quarterdeck.cli.hubclient import HubClient, path_of
from quarterdeck.cli.options import agent, as_json, budget_options, emit, emit_line, tell_unknown, text_from, told
from quarterdeck.cli.words import Json
from quarterdeck.errors import Conflict, InvalidInput

STATUSES = (
    "pending", "starting", "busy", "idle", "stopping", "stopped", "failed", "canceling", "canceled", "deleting",
    "deleted",
)  # fmt: skip


@click.group()
def agents() -> None:
    """Create agents, give them tasks, see what they do, and bring their work home."""


def _task_exit(task: Json) -> int:
    return 0 if task["state"] == "succeeded" else 1


# -- creating and looking -----------------------------------------------------------------------------------


@agents.command()
@click.argument("name", required=False)
@click.option("--project", help="Project; the hub's own repository when left out.")
@click.option("--role", default="coder", show_default=True, help="coder, operator, manager, or one of the project.")
@click.option("--spec", default="", help="Standing instructions, told to the AI before its first task.")
@click.option("--task", help="A first task, given as soon as the agent is up.")
@click.option("--task-file", metavar="FILE", help="The first task from a file; - reads standard input.")
@click.option("--provider", help="claude-code, codex, gemini, opencode, scripted, or one of the configuration.")
@click.option("--workspace", metavar="AGENT", shell_complete=agent_names, help="Share the workspace of this agent.")
@click.option("--permissions", type=click.Choice(["ask", "edits", "allow"]), help="What it may do unasked.")
@click.option("--restart", type=click.Choice(["never", "always"]), help="Whether it is brought back when it dies.")
@budget_options
@click.option("--wait", is_flag=True, help="Wait until it is up, or until its first task has ended.")
@as_json
def create(
    name: str | None, task: str | None, task_file: str | None, budget_usd: float | None, budget_tokens: int | None,
    wait: bool, as_json: bool, **given: Any,
) -> int:  # fmt: skip
    """Create an agent in a git worktree and on a branch of its own.

    Without NAME one is made up: 1 to 20 letters, digits and hyphens, unique.
    """
    hub = HubClient.find()
    if task_file is not None:
        task = text_from(task, task_file, "task")
    body = {"name": name, "task": task, **{key: value for key, value in given.items() if value is not None}}
    if budget_usd is not None or budget_tokens is not None:
        body["budget"] = {"usd": budget_usd, "tokens": budget_tokens}
    made = hub.post("/api/agents", body)
    for note in () if as_json else made["notes"]:
        click.echo(f"note: {note}", err=True)
    if not wait:
        told(made, as_json, f"agent {made['name']} is coming up: qd agents watch {made['name']}")
        return 0
    if task is None:
        from quarterdeck.cli.follow import wait_until_up

        line = wait_until_up(hub, made["name"], lambda agent: None)
        told(line, as_json, f"agent {made['name']} is {line['status']}, on branch {line['branch']}")
        return 0
    return _wait(hub, made["name"], None, as_json)


@agents.command(name="list")
@click.option("--status", type=click.Choice(STATUSES), help="Only agents with this status.")
@click.option("--project", help="Only agents of this project.")
@click.option("--metadata", metavar="KEY=VALUE", help="Only agents whose facts match, as in git_dirty=true.")
@click.option("--limit", type=int, default=1000, show_default=True, help="How many at most, 1 to 1000.")
@click.option("--cursor", help="next_cursor of the page before.")
@as_json
def list_(
    status: str | None, project: str | None, metadata: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """The agents, oldest first, with what they ask."""
    hub = HubClient.find()
    given = {"status": status, "project": project, "metadata_filter": metadata}
    page = hub.get("/api/agents", **given, limit=limit, cursor=cursor)
    if as_json:
        emit(page)
        return
    from quarterdeck.cli import follow, render

    found = page["agents"]
    tell_unknown(page["not_known"])
    if not found:
        click.echo("no agents" + ("" if any(given.values()) else ": qd agents create"))
        return
    asked = {a["name"]: follow.attention(hub, a["name"]) for a in found if a["needs_attention"]}
    render.show(render.agents_table(found, asked, render.console().width))
    if page["next_cursor"]:
        click.echo(f"{len(found)} of {page['total_count']}; the rest: --cursor {page['next_cursor']}")


@agents.command()
@agent
@as_json
def show(name: str, as_json: bool) -> None:
    """All of one agent: status, workspace, branch, usage, what it asks, every metadata key."""
    answer = HubClient.find().get(path_of(name))
    if as_json:
        emit(answer)
        return
    from quarterdeck.cli import render

    render.show(render.detail(answer))


# -- tasks --------------------------------------------------------------------------------------------------


@agents.command()
@agent
@click.argument("text", required=False)
@click.option("--file", metavar="FILE", help="The task from a file; - reads standard input.")
@click.option("--queue", is_flag=True, help="Wait behind the running task instead of being refused.")
@click.option("--key", help="Idempotency key: the same key again gives the same task.")
@click.option("--wait", is_flag=True, help="Wait for its end; exits with 1 unless it succeeded.")
@as_json
def task(name: str, text: str | None, file: str | None, queue: bool, key: str | None, wait: bool, as_json: bool) -> int:
    """Give an agent a task, as TEXT or with --file."""
    description = text_from(text, file, "task")
    hub = HubClient.find()
    headers = None if key is None else {"Idempotency-Key": key}
    made = hub.post(path_of(name, "tasks"), {"description": description, "queue": queue}, headers=headers)
    if wait:
        return _wait(hub, name, made["id"], as_json)
    where = f", number {made['position']} in the queue" if made["state"] == "queued" and made["position"] else ""
    told(made, as_json, f"task {made['id']} of {name} is {made['state']}{where}: qd agents log {name} --follow")
    return 0


def _wait(hub: HubClient, name: str, task_id: str | None, as_json: bool) -> int:
    """Wait for a task's end, telling people meanwhile what the agent asks; the exit code."""
    from quarterdeck.cli import follow

    shown: set[str] = set()

    def changed(line: Json) -> None:
        if not line["needs_attention"]:
            return
        items = follow.attention(hub, name)
        for item in items:
            if item["id"] not in shown:
                shown.add(item["id"])
                commands = words.answer_commands(name, item)
                click.echo(words.asked(name, item) + "\n  " + "\n  ".join(commands), err=True)

    ended = follow.wait_for_task(hub, name, task_id, changed)
    if as_json:
        emit(ended)
        return _task_exit(ended)
    detail = ended["detail"] or _last_words(hub, name, ended["id"])
    state = _PAST.get(ended["state"], ended["state"])
    click.echo(f"task {ended['id']} of {name} {state}" + (f": {words.plain(detail.strip())}" if detail else ""))
    return _task_exit(ended)


def _last_words(hub: HubClient, name: str, task_id: str) -> str:
    """What the agent said last in a task."""
    entries = hub.get(path_of(name, "log"), page_size=20)["entries"]
    said = (entry["text"] for entry in entries if entry["task_id"] == task_id and entry["kind"] == "text")
    return str(next(said, ""))


_PAST = {"succeeded": "succeeded", "failed": "failed", "canceled": "was canceled", "lost": "was lost"}


@agents.command()
@agent
@click.option("--task", "task_id", metavar="ID", help="Which task; the running one when left out.")
@as_json
def cancel(name: str, task_id: str | None, as_json: bool) -> None:
    """Cancel a task: in the agent's protocol first, by force when that is not obeyed."""
    answer = HubClient.find().post(path_of(name, "cancel"), {"task_id": task_id})
    text = f"agent {name} was called off while it came up"
    if answer["task"] is not None:
        state = answer["task"]["state"]
        text = f"task {answer['task']['id']} of {name} is {'canceled' if state == 'canceled' else 'being canceled'}"
    told(answer, as_json, text)


@agents.command()
@agent
@click.argument("words_of_answer", metavar="ANSWER")
@click.option("--id", "attention_id", help="What is answered; on a terminal only needed when it asks several things.")
@as_json
def answer(name: str, words_of_answer: str, attention_id: str | None, as_json: bool) -> None:
    """Answer what an agent asks: an option's id or name, allow or deny, or free text where it takes any.

    Several options, where they may be chosen, come with commas between. A request for permission is
    answered with --id, as the lists print it; without, on a terminal, it is shown first.
    """
    hub = HubClient.find()
    if attention_id is None:
        attention_id = _the_only_one(hub, name, words_of_answer, may_ask=sys.stdin.isatty() and not as_json)
    answered = hub.post(path_of(name, "attention", quote(attention_id, safe="")), {"answer": words_of_answer})
    told(answered, as_json, f"{name} has the answer to: {words.title_of(answered)}")


def _the_only_one(hub: HubClient, name: str, words_of_answer: str, *, may_ask: bool) -> str:
    """The id of the one thing that an agent asks.

    A permission is given only for what the person has seen: it is shown and confirmed. Raises `Conflict`,
    and `InvalidInput` where nobody may be asked that.
    """
    items = hub.get(path_of(name))["needs_attention"]
    if not items:
        raise Conflict(f"agent {name} asks nothing now", hint=f"qd agents show {name}")
    if len(items) > 1:
        ids = ", ".join(f"{item['id']} ({words.title_of(item)})" for item in items)
        raise Conflict(f"agent {name} asks {len(items)} things: {ids}", hint="say which with --id")
    (item,) = items
    if item["kind"] == "permission":
        if not may_ask:
            raise InvalidInput(
                f"agent {name} asks for permission now: {words.title_of(item)}; it was not answered",
                hint=f"say that you mean this one with --id {item['id']}",
            )
        click.echo(words.asked(name, item), err=True)
        click.confirm(f"Answer {words_of_answer!r}?", abort=True, err=True)
    return str(item["id"])


@agents.command()
@agent
@click.option("--page", type=int, default=1, show_default=True, help="Counted from 1.")
@click.option("--page-size", type=int, default=20, show_default=True, help="Tasks a page, 1 to 100.")
@as_json
def history(name: str, page: int, page_size: int, as_json: bool) -> None:
    """The tasks of an agent, newest first, and what was noted beside them; also of a deleted one."""
    found = HubClient.find().get(path_of(name, "tasks"), page=page, page_size=page_size)
    if as_json:
        emit(found)
        return
    from quarterdeck.cli import render

    if found["tasks"] or found["notes"]:
        render.show(render.tasks_table(found))
    if not found["tasks"]:
        click.echo(f"agent {name} has had no task" if page == 1 else f"there is no page {page}")


@agents.command()
@agent
@click.option("-n", "--last", type=click.IntRange(1, 100), default=20, show_default=True, help="How many entries.")
@click.option("--page", type=int, default=1, show_default=True, help="Counted from 1, the newest.")
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on with what comes; Ctrl-C ends it.")
@as_json
def log(name: str, last: int, page: int, follows: bool, as_json: bool) -> None:
    """What was said and done, oldest first (with --json as the API: newest first)."""
    hub = HubClient.find()
    if follows:
        with suppress(KeyboardInterrupt):
            _follow_log(hub, name, last, as_json)
        return
    found = hub.get(path_of(name, "log"), page=page, page_size=last)
    if as_json:
        emit(found)
        return
    from quarterdeck.cli import render

    for entry in reversed(found["entries"]):
        render.show_text(render.log_entry(entry))
    if found["has_next_page"]:
        click.echo(f"older: qd agents log {name} --page {page + 1}")


def _follow_log(hub: HubClient, name: str, last: int, as_json: bool) -> None:
    from quarterdeck.cli import follow, render

    for entry, added in follow.log_pieces(hub, name, last=last):
        if as_json:
            emit_line(entry)
        elif added or entry["kind"] == "tool":
            render.show_text(render.log_entry({**entry, "text": added or words.shorten(entry["text"], 60)}))


@agents.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=agent_names)
@as_json
def watch(names: tuple[str, ...], as_json: bool) -> None:
    """Follow agents live: a table on a terminal, else a line for each change. Ctrl-C ends it."""
    from quarterdeck.cli.watching import watch_agents

    watch_agents(HubClient.find(), list(names) or None, as_json=as_json)


for command in (work.diff, work.merge, work.restart, work.stop, work.delete, work.projects, work.roles):
    agents.add_command(command)
