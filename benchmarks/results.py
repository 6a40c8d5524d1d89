"""Figures: what was measured, how often, and what was aimed at. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Statistic = Literal["p50", "p95"]
OURS = "Quarterdeck"


def percentile(values: list[float], percent: float) -> float:
    """The nearest-rank percentile; with few values the p95 is the greatest of them."""
    ordered = sorted(values)
    rank = max(1, math.ceil(percent / 100 * len(ordered)))
    return ordered[rank - 1]


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a figure should stay under (or come over), and which statistic of it."""

    under: float | None = None
    over: float | None = None
    statistic: Statistic = "p50"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row. `group` is what is compared, `who` whose figure it is; `failed` says why there is none.

    Times are milliseconds, sizes MB (10^6 bytes), shares percent of one core.
    """

    group: str
    what: str
    who: str = OURS
    unit: Literal["ms", "MB", "%", "s", ""] = "ms"
    values: list[float] = field(default_factory=list)
    aim: Aim | None = None
    note: str = ""
    failed: str = ""

    @property
    def p50(self) -> float:
        """The median."""
        return percentile(self.values, 50)

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return percentile(self.values, 95)

    @property
    def met(self) -> bool | None:
        """Whether the aim was met; None without an aim or a figure."""
        if self.aim is None or not self.values:
            return None
        value: float = getattr(self, self.aim.statistic)
        aim = self.aim
        return (aim.under is None or value < aim.under) and (aim.over is None or value > aim.over)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and when it was measured, so that a reader can judge the figures."""

    at: str
    commit: str
    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str
    load_before: float
    quick: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything of one run."""

    machine: Machine
    figures: list[Figure]
    seconds: float


def shown(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(figure: Figure, figures: list[Figure]) -> str:
    """How many times our own figure of the same group it is; empty for ours and where there is none."""
    if figure.who == OURS or not figure.values:
        return ""
    own = next((f for f in figures if f.group == figure.group and f.who == OURS and f.values), None)
    return f"{figure.p50 / own.p50:.1f}x" if own and own.p50 > 0 else ""


def wanted(aim: Aim) -> str:
    """An aim in the table."""
    limits = [f"< {shown(aim.under)}"] if aim.under is not None else []
    if aim.over is not None:
        limits.append(f"> {shown(aim.over)}")
    return f"{aim.statistic} {' and '.join(limits)}"


HEAD = ("what", "who", "n", "p50", "p95", "", "aim", "")


def cells(figure: Figure, figures: list[Figure]) -> tuple[str, ...]:
    """A row of the table as text."""
    if not figure.values:
        return (figure.what, figure.who, "0", "-", "-", "", "", figure.failed or figure.note)
    aim = wanted(figure.aim) if figure.aim else ratio(figure, figures)
    verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
    numbers = (str(len(figure.values)), shown(figure.p50), shown(figure.p95) if len(figure.values) > 1 else "")
    return (figure.what, figure.who, *numbers, figure.unit, aim, verdict)


def table(figures: list[Figure]) -> str:
    """All rows, aligned."""
    rows = [HEAD, *(cells(f, figures) for f in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    right = {2, 3, 4}
    lines = []
    for row in rows:
        parts = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(parts).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def markdown(figures: list[Figure]) -> str:
    """The same as a Markdown table, with the notes below it."""
    lines = ["| what | who | n | p50 | p95 | unit | aim or ratio | |", "|---|---|---:|---:|---:|---|---|---|"]
    notes: list[str] = []
    for figure in figures:
        row = list(cells(figure, figures))
        if figure.note and figure.note not in notes:
            notes.append(figure.note)
        if figure.note:
            row[0] += f" [{notes.index(figure.note) + 1}]"
        lines.append("| " + " | ".join(row) + " |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n".join(lines).rstrip() + "\n"
