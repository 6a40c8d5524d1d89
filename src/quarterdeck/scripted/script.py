"""The little language of scripted work: the lines of a prompt that begin with `@` are steps.

Pure, and light to import: the scripted agent starts in a few milliseconds.
"""

from __future__ import annotations

from typing import NamedTuple

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}


class Step(NamedTuple):
    """One step: its name without the `@`, and the rest of its line."""

    name: str
    rest: str

    def split(self) -> tuple[str, str]:
        """The first word of the rest, and what follows it with escapes resolved: `PATH TEXT`."""
        path, _, text = self.rest.partition(" ")
        return path, unescape(text)


def parse(text: str) -> list[Step]:
    """The steps of a prompt, in order; every other line is for humans."""
    steps: list[Step] = []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("@") and len(line) > 1 and line[1].isalpha():
            name, _, rest = line[1:].partition(" ")
            steps.append(Step(name, rest.strip()))
    return steps


def unescape(text: str) -> str:
    r"""Resolve `\n`, `\t` and `\\`; any other backslash stays."""
    out: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == "\\" and text[position + 1 : position + 2] in _ESCAPES:
            out.append(_ESCAPES[text[position + 1]])
            position += 2
        else:
            out.append(text[position])
            position += 1
    return "".join(out)
