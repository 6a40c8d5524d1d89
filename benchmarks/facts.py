"""The metadata server's part of `make bench`: `benchmarks/metadata.py`'s figures, and gathering through a real hub."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync

from benchmarks import ROOT, etcd_grpc, metadata
from benchmarks.bed import hub, make_repository
from benchmarks.metadata import ROWS, Row
from benchmarks.results import Aim, Figure
from support.hub import state_folder

SILENT = "5% of them hang, 5% drop the connection; each is told from those that answer."


async def measure(quick: bool) -> list[Figure]:
    """Everything of the metadata server: peers in the same run, then the fleet's view, then a soak."""
    figures = await run_sync(_alone, quick)
    return figures + await gathered(1000, 3 if quick else 10)


def _alone(quick: bool) -> list[Figure]:
    missing = [program for program in ("etcd", "wrk") if shutil.which(program) is None]
    ROWS.clear()
    folder = Path(tempfile.mkdtemp(prefix="qd-b-"))
    try:
        metadata.bench_memory(folder)
        if not missing:
            metadata.bench_store(folder, 3 if quick else 8)
        metadata.bench_git(folder, 10_000, 10 if quick else 20)
        if not quick:
            metadata.bench_git(folder, 100_000, 10)
        metadata.bench_gather(folder, 100)
        if not missing:
            metadata.soak(folder, 15 if quick else 60)  # `make soak` has five minutes
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = [figure for row in ROWS for figure in figures_of(row)]
    if missing:
        why = f"{' and '.join(missing)} missing (Debian: apt-get install etcd-server wrk)"
        figures.append(Figure(group="store", what="metadata: reads and durable writes, soak", failed=why))
    return figures


def figures_of(row: Row) -> list[Figure]:
    """The rows of the one table for a row of the other."""
    raw, what = row.raw, f"metadata: {row.name}"
    if "mine" in raw and "git" in raw:
        aim = Aim(under=1.3 * sorted(raw["git"])[len(raw["git"]) // 2])
        return [
            Figure(group=what, what=what, values=raw["mine"], aim=aim, note="Aimed at: 1.3 times git status."),
            Figure(group=what, what=what, who="git status", values=raw["git"]),
        ]
    if "mine" in raw:
        return _of_load(row, what)
    if "grpc" in raw:
        return _of_grpc(raw["grpc"], what.replace(" over gRPC", ""))
    if "delays" in raw:
        return [Figure(group=what, what=what, values=raw["delays"], aim=_under(200, row))]
    if "samples" in raw:
        return _of_soak(row, what)
    known: dict[str, tuple[str, Any, Aim | None]] = {
        "p95": ("ms", raw.get("p95"), Aim(under=20 if "health" in what else 5)),
        "mb": ("MB", raw.get("mb"), _under(45, row)),
        "raw_cpu": ("%", raw.get("raw_cpu"), None),
        "real_ms": ("ms", raw.get("real_ms"), Aim(under=300)),
        "simulated_ms": ("ms", raw.get("simulated_ms"), Aim(under=2000)),
    }
    note = "The figure is the 95th percentile." if "p95" in raw else ""
    return [
        Figure(group=what, what=what, unit=unit, values=[value], aim=aim, note=note)  # type: ignore[arg-type]
        for key, (unit, value, aim) in known.items()
        if key in raw
    ]


def _under(limit: float, row: Row) -> Aim | None:
    return Aim(under=limit, statistic="p95") if row.aim else None


def _of_load(row: Row, what: str) -> list[Figure]:
    """A load by wrk: calls per second and their p95, ours and etcd's."""
    mine, its = row.raw["mine"], row.raw.get("etcd")
    failed = f"{mine['errors']} of {mine['total']} answers were wrong" if mine["errors"] else ""
    per_second = Aim(over=its["rps"]) if its and "more than" in row.aim else None
    fixed = {"p95 < 10 ms": 10.0, "p95 < 100 ms": 100.0}
    limit = next((ms for text, ms in fixed.items() if row.aim.startswith(text)), None)
    if its and "p95 better" in row.aim:
        limit = its["p95"]
    figures = []
    for who, load in (("Quarterdeck", mine), ("etcd's gateway", its)):
        if load is None:
            continue
        ours = who == "Quarterdeck"
        figures += [
            Figure(group=what, what=f"{what}: p95", who=who, values=[] if ours and failed else [load["p95"]],
                   aim=Aim(under=limit) if ours and limit else None, failed=failed if ours else ""),
            Figure(group=f"{what}, rate", what=f"{what}: per second", who=who, unit="",
                   values=[] if ours and failed else [load["rps"]], aim=per_second if ours else None,
                   failed=failed if ours else ""),
        ]  # fmt: skip
    return sorted(figures, key=lambda figure: figure.group)


def _of_grpc(load: dict[str, Any], what: str) -> list[Figure]:
    """The same load as in the row before, on etcd without its gateway."""
    failed = f"{load['errors']} calls failed" if load["errors"] else ""
    return [
        Figure(group=group, what=named, who="etcd over gRPC", unit=unit, values=[] if failed else [value],
               failed=failed, note=etcd_grpc.CLIENT)
        for group, named, unit, value in (
            (what, f"{what}: p95", "ms", load["p95"]),
            (f"{what}, rate", f"{what}: per second", "", load["rps"]),
        )
    ]  # fmt: skip


def _of_soak(row: Row, what: str) -> list[Figure]:
    raw = row.raw
    files = raw["samples"][-1][2] - raw["samples"][min(1, len(raw["samples"]) - 1)][2]
    grown = [
        Figure(group="soak", what=f"{what}: memory grown", unit="MB", values=[max(0.0, raw["late"] - raw["early"])],
               aim=Aim(under=2)),
        Figure(group="soak", what=f"{what}: open files more", unit="", values=[max(0.0, float(files))],
               aim=Aim(under=3)),
    ]  # fmt: skip
    return grown if " 0 errors" in row.ours else [*grown, Figure(group="soak", what=what, failed=row.ours)]


async def gathered(agents: int, n: int) -> list[Figure]:
    """`GET /api/metadata` of a real hub over simulated sidecars on sockets, of which some hang or are dead."""
    kinds = ["hangs", "dead", *["ok"] * 18]
    with state_folder() as state:
        repo = await make_repository(state / "work" / "sample")
        command = [sys.executable, "-m", "support.fake_sidecars", str(state), str(repo), str(agents)]
        fakes = subprocess.Popen(
            [*command, "--kinds", ",".join(kinds)], cwd=ROOT / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            assert fakes.stdout is not None
            assert fakes.stdout.readline() == "ready\n"
            async with hub(repo, state) as (_, client):
                with anyio.fail_after(60):
                    while True:
                        known = (await client.get("/api/agents", limit=1000))["agents"]
                        if len(known) == agents and all(a["status"] == "busy" for a in known):
                            break
                        await anyio.sleep(0.05)
                took, answered = [], []
                for _ in range(n):
                    began = time.perf_counter()
                    found = await client.get("/api/metadata")
                    took.append((time.perf_counter() - began) * 1000)
                    answered.append(sum(g["state"] == "known" for g in found) / agents * 100)
        finally:
            fakes.communicate("")
    what = f"metadata: hub, {agents:,} simulated sidecars gathered (HTTP)"
    return [
        Figure(group="gather-hub", what=what, values=took, aim=Aim(under=2000, statistic="p95"), note=SILENT),
        Figure(group="gather-hub-known", what=f"{what}: known of 90%", unit="%", values=answered, note=SILENT),
    ]
