"""The command collector: one fact that a declared command prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from quarterdeck.config import FieldTable
from quarterdeck.errors import Unavailable
from quarterdeck.metadata.collector import Trigger
from quarterdeck.metadata.model import MAX_VALUE_BYTES, Schema, clean_text
from quarterdeck.process import Completed, run


class CommandCollector:
    """Runs one declared field's argument list in the workspace; what it prints is the value.

    A JSON object, list, number, boolean or null is taken as such; anything else as text, the last line
    end removed.
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
        done = await run(self._table.run, cwd=workspace, env=self.env, timeout_seconds=self._table.timeout, check=False)
        if done.returncode != 0:
            raise Unavailable(f"{self._table.run[0]} ended with {done.returncode}: {_last_words(done)}")
        if len(done.stdout) > MAX_VALUE_BYTES:
            raise Unavailable(
                f"{self._table.run[0]} printed {len(done.stdout)} bytes, at most {MAX_VALUE_BYTES} are a value"
            )
        return {self._key: parse_output(done.stdout)}


def parse_output(output: bytes) -> Any:
    """What a command printed, as a value."""
    text = output.decode(errors="replace").removesuffix("\n")
    try:
        value = msgspec.json.decode(output)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text
    # `"x"` printed by a command is text with quotes as often as JSON: text stays as it was printed.
    return text if isinstance(value, str) else value


def _last_words(done: Completed) -> str:
    lines = (done.err or done.out).splitlines()
    return clean_text(lines[-1], 500) if lines else "it said nothing"
