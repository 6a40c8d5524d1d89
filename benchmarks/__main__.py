"""The command line of `make bench`."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import msgspec
import psutil

from benchmarks import ROOT, alone, facts, many, node, peers
from benchmarks.results import Figure, Machine, Run, table


def machine(quick: bool) -> Machine:
    """Where this runs."""
    names = [line.split(":", 1)[1] for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    system = [line.split("=", 1)[1].strip('"') for line in _lines("/etc/os-release") if line.startswith("PRETTY_NAME=")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return Machine(
        at=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        commit=commit.stdout.strip(),
        cpu=names[0].strip() if names else platform.processor() or platform.machine(),
        cores=psutil.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        system=f"{system[0] if system else platform.system()}, kernel {platform.release()}",
        python=platform.python_version(),
        load_before=round(os.getloadavg()[0], 1),
        quick=quick,
    )


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.is_file() else []


async def measure(quick: bool, only: set[str]) -> list[Figure]:
    """Every part, one after the other. A part that breaks is told and does not end the run."""
    n = 3 if quick else 10

    async def command_line() -> list[Figure]:
        return alone.command_line(5 if quick else 20) + await alone.hub_start(3 if quick else 10)

    async def others() -> list[Figure]:
        with tempfile.TemporaryDirectory(prefix="qd-p-") as folder:
            return peers.measure(Path(folder), n)

    parts: dict[str, Callable[[], Awaitable[list[Figure]]]] = {
        "start": command_line,
        "one": lambda: alone.one_agent(n),
        "lists": lambda: alone.small_lists(n),
        "live": lambda: many.live(20 if quick else 100, 10 if quick else 50, 10 if quick else 50, 3 if quick else 10),
        "simulated": lambda: many.simulated(1000, 5 if quick else 20),
        "peers": others,
        "metadata": lambda: facts.measure(quick),
        "node": lambda: node.measure(40 if quick else 200, 3 if quick else 10),
    }
    figures: list[Figure] = []
    for name, part in parts.items():
        if only and name not in only:
            continue
        print(f"measuring: {name} ...", flush=True)
        try:
            figures += await part()
        except Exception as error:
            figures.append(Figure(group=name, what=name, failed=f"broke: {type(error).__name__}: {error}"[:300]))
    # What is compared stands together.
    order = {figure.group: number for number, figure in reversed(list(enumerate(figures)))}
    return sorted(figures, key=lambda figure: order[figure.group])


def main() -> None:
    """Measure, print one table, write the JSON. Ends with 1 only when a part broke."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure Quarterdeck, side by side with others.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and agents")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--only", action="append", default=[], help="start, one, lists, live, simulated, peers, metadata, node"
    )
    given = parser.parse_args()
    where = machine(given.quick)
    began = time.monotonic()
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GB; load before: {where.load_before}")
    run = Run(
        machine=where,
        figures=anyio.run(measure, given.quick, set(given.only)),
        seconds=round(time.monotonic() - began),
    )
    print("\n" + table(run.figures))
    print(f"\nmeasured in {run.seconds:.0f} s")
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
        print(f"figures: {given.json}")
    broken = [figure.failed for figure in run.figures if figure.failed.startswith("broke")]
    if broken:
        raise SystemExit("\n".join(broken))


if __name__ == "__main__":
    main()
