"""Answers of the hub as readable text: tables with rich, colour only on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from quarterdeck import config
from quarterdeck.cli import words
from quarterdeck.cli.words import Json

# Wide enough that nothing is cut for a program that reads us; a terminal has its own width.
_WIDTH_OF_A_PIPE = 200
_WIDE = 130


def console() -> Console:
    """Where answers are written. NO_COLOR and pipes get plain text."""
    is_terminal = sys.stdout.isatty()
    return Console(
        highlight=False,
        no_color=config.variable("NO_COLOR") is not None,
        force_terminal=is_terminal,
        width=None if is_terminal else _WIDTH_OF_A_PIPE,
        soft_wrap=False,
    )


def show(what: RenderableType) -> None:
    """Write to standard output; for a pipe without the spaces that fill lines on a screen."""
    out = console()
    if out.is_terminal:
        out.print(what)
        return
    with out.capture() as captured:
        out.print(what)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))  # noqa: T201


def show_text(text: Text) -> None:
    """Write text as it is: long lines are neither cut nor broken."""
    console().print(text, soft_wrap=True)


def table(*columns: str) -> Table:
    """A table in the house's form: no frame; when it is narrow, the last column alone gives way (see `cut`)."""
    made = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    for number, column in enumerate(columns, 1):
        made.add_column(column, no_wrap=number < len(columns), overflow="ellipsis")
    return made


def cut(text: str, style: str = "") -> Text:
    """A cell of the last column, on one line whatever the width."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def agents_table(agents: list[Json], asked: dict[str, list[Json]], width: int) -> RenderableType:
    """The list of agents, and below it what they ask (name to its attention), with the commands to answer.

    On a screen of less than 130 columns, role, project and use are left out.
    """
    now = time.time()
    wide = width >= _WIDE
    made = table("AGENT", "STATUS", "TASK", *(("ROLE", "PROJECT", "USED") if wide else ()), "BRANCH", "LAST EVENT", "")
    for agent in agents:
        more = (agent["role"], agent["project"], words.used(agent["usage"])) if wide else ()
        made.add_row(
            Text(agent["name"], style="bold"),
            Text(words.status_of(agent), style=words.status_style(agent)),
            Text(words.task_of(agent["task"], now), style=words.STYLES.get((agent["task"] or {}).get("state", ""), "")),
            *more,
            agent["branch"] or "-",
            words.ago(agent["last_event_at"], now),
            cut(words.shorten(words.remark(agent), 100), "red" if agent["unreachable"] or agent["failure"] else ""),
        )
    return Group(made, *(block for name, items in asked.items() for block in attention_blocks(name, items)))


def attention_blocks(name: str, items: list[Json]) -> list[RenderableType]:
    """What an agent asks, and how to answer it."""
    blocks: list[RenderableType] = []
    for item in items:
        told = Text.assemble(
            "\n", (name, "bold"), (f" asks ({item['kind']}, {item['id']}): ", "magenta"), words.plain(item["title"])
        )
        blocks.append(told)
        if item["detail"]:
            blocks.append(Padding(Text(words.plain(item["detail"].strip())), (0, 0, 0, 4)))
        commands = words.answer_commands(name, item)
        blocks += [Padding(Text(command, style="cyan"), (0, 0, 0, 4)) for command in commands]
    return blocks


def detail(agent: Json) -> RenderableType:
    """All of one agent."""
    now = time.time()
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")

    def row(label: str, value: Any, style: str = "") -> None:
        if value not in (None, "", []):
            grid.add_row(label, Text(words.plain(str(value)), style=style))

    row("agent", agent["name"], "bold")
    row("status", words.status_of(agent), words.status_style(agent))
    if agent["unreachable"]:
        since = words.ago(agent["unreachable"]["since"], now)
        row(
            "unreachable",
            f"{agent['unreachable']['reason']} (since {since}); what follows is what was known last",
            "red",
        )
    row("failure", agent["failure"], "red")
    row("exit code", agent["exit_code"])
    if agent["report"]:
        link = f" {agent['report']['link']}" if agent["report"]["link"] else ""
        row("report", f"{agent['report']['summary']} ({agent['report']['state']}){link}")
    row("role", f"{agent['role']} in {agent['project']}")
    row("provider", f"{agent['provider']} {agent['provider_version']}".strip())
    shared = f" (shared with {agent['shares_workspace_of']})" if agent["shares_workspace_of"] else ""
    row("workspace", f"{agent['workspace'] or '-'}{shared}")
    row("branch", f"{agent['branch'] or '-'}, from {agent['base']} {(agent['base_sha'] or '')[:10]}")
    for label, task in (
        ("task", agent["current_task"]),
        ("next task", agent["next_task"]),
        ("last task", agent["last_task"]),
    ):
        if task:
            row(label, f"{words.task_of(task, now)}: {words.shorten(task['description'], 100)}")
            row("", task["detail"])
    row("queue", agent["queue"] or None)
    row("used", words.used(agent["usage"]))
    budget = agent["budget"]
    limits = [f"${budget['usd']:g}"] if budget["usd"] else []
    limits += [f"{budget['tokens']} tokens"] if budget["tokens"] else []
    row("budget", " or ".join(limits))
    row("permissions", agent["permissions"])
    row("restart", agent["restart"])
    row("incarnation", f"{agent['incarnation']}{', resumed' if agent['resumed'] else ''}")
    row("processes", f"sidecar {agent['sidecar_pid'] or '-'}, agent {agent['agent_pid'] or '-'}")
    row("created", words.ago(agent["created_at"], now))
    row("last event", words.ago(agent["last_event_at"], now))
    row("disk", words.size(agent["disk_bytes"]) if agent["disk_bytes"] is not None else None)
    row("last merge", words.merge_of(agent["last_merge"], now))
    row("spec", agent["spec"])
    for key, fact in sorted(agent["metadata"].items()):
        row(f"  {key}", metadata_value(fact))
    for note in agent["notes"]:
        row("note", note)
    return Group(grid, *attention_blocks(agent["name"], agent["needs_attention"]))


def metadata_value(fact: Any) -> str:
    """A fact's value on one line, and that it could not be read."""
    if not isinstance(fact, dict):
        return str(fact)
    if fact.get("error"):
        return f"cannot be read: {fact['error']}"
    value = fact.get("value")
    return "-" if value in (None, {}, []) else words.shorten(str(value), 120)


def tasks_table(history: Json) -> RenderableType:
    """A page of an agent's tasks."""
    now = time.time()
    made = table("TASK", "STATE", "ENDED", "TOOK", "USED", "WHAT")
    for task in history["tasks"]:
        began, ended = task["started_at"], task["ended_at"]
        made.add_row(
            task["id"],
            Text(words.task_of(task, now) if not ended else task["state"], style=words.STYLES.get(task["state"], "")),
            words.ago(ended, now),
            words.duration((ended or now) - began) if began else "-",
            words.used(task["usage"]),
            cut(words.shorten(task["description"], 80)),
        )
        if task["detail"]:
            made.add_row("", "", "", "", "", cut(words.shorten(task["detail"], 100), "dim"))
    notes = [_note_line(note, now) for note in history["notes"]]
    return Group(*([made] if history["tasks"] else []), *notes, *_page_line(history))


def _note_line(note: Json, now: float) -> RenderableType:
    return Text.assemble(
        ("note ", "bold yellow"), (f"{words.ago(note['at'], now)}  ", "dim"), words.plain(note["text"])
    )


def _page_line(page: Json) -> list[RenderableType]:
    if not page["has_next_page"] and not page["has_previous_page"]:
        return []
    pages = -(-page["total_count"] // page["page_size"])
    return [Text(f"page {page['page']} of {pages}, {page['total_count']} in all: --page", style="dim")]


_LOG_STYLES = {
    "prompt": "bold cyan", "thought": "dim italic", "tool": "yellow", "plan": "blue", "permission": "magenta",
    "question": "magenta", "answer": "magenta", "report": "green", "note": "dim", "noise": "dim",
}  # fmt: skip


def log_entry(entry: Json) -> Text:
    """One entry of the conversation."""
    at = time.strftime("%H:%M:%S", time.localtime(entry["at"]))
    told = Text.assemble((at, "dim"), " ", (f"{entry['kind']:<10}", _LOG_STYLES.get(entry["kind"], "")), " ")
    indent = " " * len(told.plain)
    told.append(f"\n{indent}".join(words.plain(entry["text"].strip().replace("\r\n", "\n")).split("\n")))
    if entry["kind"] == "tool" and (state := entry["data"].get("status")):
        told.append(f"  ({state})", style="dim")
    return told


def diff(answer: Json) -> Text:
    """An agent's work: how much it is, then the text, coloured where it is a patch.

    A terminal is shown the control characters of files, others get the patch as it is.
    """
    shown = words.plain if console().is_terminal else str
    files = "1 file" if answer["files_total"] == 1 else f"{answer['files_total']} files"
    told = Text.assemble(
        (answer["branch"], "bold"), f" against {answer['base'][:10]}: {files}, ",
        (f"+{answer['added']}", "green"), " ", (f"-{answer['deleted']}", "red"),
        ", uncommitted changes included" if answer["uncommitted"] else "",
    )  # fmt: skip
    text = answer["text"].rstrip("\n")
    is_patch = text.startswith("diff --git")
    for line in text.split("\n") if text else []:
        style = next((style for start, style in _PATCH_STYLES if line.startswith(start)), "") if is_patch else ""
        told.append("\n").append(shown(line), style=style)
    if answer["truncated"]:
        told.append(f"\ncut here: {answer['total_bytes']} bytes in all, see --max-bytes", style="yellow")
    return told


_PATCH_STYLES = (("diff --git", "bold"), ("+++", "bold"), ("---", "bold"), ("+", "green"), ("-", "red"), ("@@", "cyan"))


def leftovers(found: list[Json]) -> RenderableType:
    """What is left over: per line what happens to it, and why."""
    made = table("", "KIND", "WHAT", "SIZE", "WHY")
    for item in found:
        removes = item["action"] == "remove"
        made.add_row(
            Text("remove" if removes else "keep", style="red" if removes else "green"),
            item["kind"],
            item["what"],
            words.size(item["bytes"]) if item["bytes"] else "-",
            cut(item["reason"]),
        )
    return made
