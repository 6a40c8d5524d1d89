"""Agents' facts in words for people: times, sizes, what is asked. Pure."""

from __future__ import annotations

import shlex
from typing import Any

Json = dict[str, Any]

STYLES = {
    "idle": "green", "busy": "cyan", "starting": "yellow", "pending": "yellow", "stopping": "yellow",
    "stopped": "dim", "failed": "bold red", "canceling": "yellow", "canceled": "dim", "deleting": "yellow",
    "deleted": "dim", "succeeded": "green", "lost": "bold red", "queued": "yellow", "accepted": "cyan",
    "started": "cyan",
}  # fmt: skip
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def duration(seconds: float) -> str:
    """A span of time in one unit: `0.4 s`, `12 s`, `3 min`, `2 h`, `5 d`."""
    seconds = max(0.0, seconds)
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def ago(at: float | None, now: float) -> str:
    """How long ago something was; a dash when it was not."""
    return "-" if at is None else f"{duration(now - at)} ago"


def size(count: int | None) -> str:
    """Bytes in the unit that fits (powers of ten)."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def shorten(text: str, width: int) -> str:
    """The first line of a text that says something, cut to a width."""
    line = plain(next((line.strip() for line in text.splitlines() if line.strip()), ""))
    return line if len(line) <= width else line[: width - 1] + "…"


def plain(text: str) -> str:
    """An agent's words on a terminal: what would move the cursor or hide something is shown, not done."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def title_of(attention: Json) -> str:
    """What an agent asks, as one line that does nothing to a terminal."""
    return plain(" ".join(attention["title"].split("\n")))


def asked(name: str, attention: Json) -> str:
    """What an agent asks, all of it: the title, and the detail below, from which alone one may judge a permission."""
    title = title_of(attention)
    detail = plain(attention["detail"].strip())
    wants = "asks for permission" if attention["kind"] == "permission" else "asks"
    return "\n    ".join([f"{name} {wants}: {title}", *detail.splitlines()])


def status_of(agent: Json) -> str:
    """Status and activity in one: `busy, waiting for permission`."""
    activity = agent.get("activity")
    if not activity or activity == "working":
        return str(agent["status"])
    return f"{agent['status']}, {str(activity).replace('waiting_', 'waiting for ')}"


def status_style(agent: Json) -> str:
    """The colour of a status; waiting for people and being stuck stand out."""
    if agent.get("unreachable"):
        return "red"
    if agent.get("activity") in ("waiting_permission", "waiting_input"):
        return "bold magenta"
    if agent.get("activity") == "stuck":
        return "bold red"
    return STYLES.get(str(agent["status"]), "")


def task_of(task: Json | None, now: float) -> str:
    """A task's state and age: `started 12 s`, `succeeded 3 min ago`, `queued (2nd in line)`."""
    if task is None:
        return "-"
    state = task["state"]
    if state == "queued" and task["position"]:
        return f"queued, number {task['position']}{' (fleet limit)' if task['held'] else ''}"
    if task["ended_at"]:
        return f"{state} {ago(task['ended_at'], now)}"
    since = task["started_at"] or task["accepted_at"] or task["queued_at"]
    return f"{state} {duration(now - since)}"


def remark(agent: Json) -> str:
    """The one thing to say of an agent beside its status: why it is out of reach, its failure, its report, its task."""
    if agent["unreachable"]:
        return f"unreachable: {agent['unreachable']['reason']}"
    if agent["failure"]:
        return str(agent["failure"])
    if agent["report"]:
        return str(agent["report"]["summary"])
    task = agent.get("task")
    return str(task["description"]) if task else ""


def used(usage: Json) -> str:
    """Tokens, and the cost where one was told."""
    tokens = usage["input_tokens"] + usage["output_tokens"]
    told = f"{tokens / 1000:.1f}k" if tokens >= 1000 else str(tokens)
    return told if not usage["cost_usd"] else f"{told} ${usage['cost_usd']:.2f}"


def merge_of(outcome: Json | None, now: float) -> str:
    """What became of the last merge: `3 commits into main 2 min ago`, or why nothing was merged."""
    if outcome is None:
        return ""
    if outcome["failure"]:
        return f"not merged into {outcome['base']} {ago(outcome['at'], now)}: {shorten(outcome['failure'], 100)}"
    many = "1 commit" if outcome["commits"] == 1 else f"{outcome['commits']} commits"
    return f"{many} into {outcome['base']} {ago(outcome['at'], now)}"


def answer_commands(name: str, attention: Json) -> list[str]:
    """The exact commands that answer what an agent asks.

    Always with the id: run later, or twice, they must not answer something else that is asked by then.
    """
    which = f"--id {shlex.quote(attention['id'])}"
    words = [option["id"] for option in attention["options"]]
    if attention["kind"] == "permission":
        words = words or ["allow", "deny"]
    else:
        if attention.get("multiple") and len(words) > 1:
            words.append(",".join(words[:2]))
        if attention.get("free_text") or not words:
            words.append("your answer")
    return [plain(f"qd agents answer {name} {shlex.quote(word)} {which}") for word in words]
