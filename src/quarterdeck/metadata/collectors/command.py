"""The command collector: one fact that a declared command prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from quarterdeck.config import FieldTable
from quarterdeck.errors import Unavailable
from quarterdeck.metadata.collector import Trigger
from quarterdeck.metadata.model import MAX_VALUE_BYTES, Schema, clean_text
from quarterdeck.process import Completed, run

# More than can be a value, and enough for the last words of a command that fails.
KEPT_OUTPUT = 4 * MAX_VALUE_BYTES
Format = Literal["auto", "text", "json"]


class CommandCollector:
    """Runs one declared field's argument list in the workspace; what it prints is the value.

    `format` says how: as text, the last line end removed, as JSON, or what `parse_output` finds it to be.
    """

    trigger: Trigger = "age"
    env: Mapping[str, str] | None = None
    """What the command gets beside the clean environment."""

    def __init__(self, key: str, table: FieldTable, *, source: str = "command") -> None:
        self.name = source
        self.deadline = table.timeout + 1  # the command's own deadline comes first, and says which it was
        self.max_age = table.interval
        self.keys: Mapping[str, Schema] = {key: Schema(table.description, table.include_in_list)}
        self._key = key
        self._table = table

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        """The field's value. Raises `Unavailable` when the command fails, hangs or prints too much."""
        if not self._table.run:
            raise Unavailable(f"{self._key} has an empty argument list in `run`")
        done = await run(
            self._table.run,
            cwd=workspace,
            env=self.env,
            timeout_seconds=self._table.timeout,
            check=False,
            kept_output=KEPT_OUTPUT,
        )
        if done.returncode != 0:
            raise Unavailable(f"{self._table.run[0]} ended with {done.returncode}: {_last_words(done)}")
        if len(done.stdout) > MAX_VALUE_BYTES:
            raise Unavailable(
                f"{self._table.run[0]} printed {_how_much(done.stdout)} bytes, at most {MAX_VALUE_BYTES} are a value"
            )
        return {self._key: parse_output(done.stdout, self._table.format)}


def parse_output(output: bytes, kind: Format = "auto") -> Any:
    """What a command printed, as a value. Raises `Unavailable` when it is not the JSON that it is said to be.

    By itself (`auto`) a JSON object, list, boolean or null is taken as such, and a number that is written as we
    would write it; everything else is text: a version 3.10 is not 3.1, a commit 1234e56 no number.
    """
    text = output.decode(errors="replace").removesuffix("\n")
    if kind == "text":
        return text
    try:
        value = msgspec.json.decode(output)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if kind == "json":
            raise Unavailable(f"what it printed is not JSON: {error}") from None
        return text
    if kind == "json":
        return value
    # `"x"` printed by a command is text with quotes as often as JSON: text stays as it was printed.
    if isinstance(value, str) or (_is_number(value) and msgspec.json.encode(value) != output.strip()):
        return text
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _how_much(output: bytes) -> str:
    return str(len(output)) if len(output) < KEPT_OUTPUT else f"at least {KEPT_OUTPUT}"


def _last_words(done: Completed) -> str:
    lines = (done.err or done.out).splitlines()
    return clean_text(lines[-1], 500) if lines else "it said nothing"
