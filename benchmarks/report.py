"""`python -m benchmarks.report [FILE]`: docs/benchmarks.md from the figures of a run and the words beside this file."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from benchmarks import ROOT
from benchmarks.results import Run, markdown

LATEST = ROOT / "benchmarks" / "latest.json"
WORDS = ROOT / "benchmarks" / "words.md"
PAGE = ROOT / "docs" / "benchmarks.md"


def page(run: Run, words: str) -> str:
    """The page: `{machine}` and `{table}` in the words are filled in."""
    m = run.machine
    kind = "a short run (`QUICK=1`)" if m.quick else "a whole run"
    told = (
        f"{m.cpu}, {m.cores} cores, {m.memory_gb:g} GB; {m.system}; Python {m.python}. {m.at} UTC, commit {m.commit}, "
        f"{kind} of {run.seconds:.0f} s; load of the machine before it: {m.load_before:g}."
    )
    return words.replace("{machine}", told).replace("{table}", markdown(run.figures).rstrip())


def main() -> None:
    """Write the page."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else LATEST
    run = msgspec.json.decode(file.read_bytes(), type=Run)
    PAGE.write_text(page(run, WORDS.read_text()))
    print(f"{PAGE.relative_to(ROOT)}: {len(run.figures)} figures of {run.machine.at}")


if __name__ == "__main__":
    main()
