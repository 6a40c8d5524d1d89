"""A picture of a terminal, for the README: drawn from a real run, nothing retouched."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

_WIDTH = 104
_FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def draw(file: Path, run: Callable[[Console], bool]) -> bool:
    """Let `run` write to a console that is drawn into an SVG file; what it returned. Only a good run is drawn."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print("[bold green]$[/bold green] make demo")
    good = run(console)
    if good:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Without the fonts that rich would fetch from elsewhere.
        file.write_text(_FONT_FACE.sub("", console.export_svg(title="Quarterdeck")), encoding="utf-8")
    return good
