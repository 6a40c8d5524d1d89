"""The task collector: what the agent is working on, from the sidecar or from a file that others write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from anyio.to_thread import run_sync

from quarterdeck.errors import Unavailable
from quarterdeck.files import read_regular
from quarterdeck.metadata.collector import DEADLINE_SECONDS, Trigger
from quarterdeck.metadata.model import Schema, clean_text

KEYS: dict[str, Schema] = {
    "task_id": Schema("the current task's id; null when there is none"),
    "task_title": Schema("what the task is, in short", True),
    "task_state": Schema("queued, accepted, started, succeeded, failed, canceled or lost", True),
    "task_progress": Schema("how far it is, as the agent says"),
    "task_note": Schema("what the agent says about it"),
    "task_started_at": Schema("when it was started"),
    "task_updated_at": Schema("when the agent last said something about it"),
}
MAX_FILE_BYTES = 1_000_000


class TaskCollector:
    """Gives the fields of the current task: `ask` is the sidecar's, `file` a JSON object with the same names."""

    name = "task"
    deadline = DEADLINE_SECONDS
    trigger: Trigger = "files"
    keys: Mapping[str, Schema] = KEYS

    def __init__(self, ask: Callable[[], Mapping[str, Any] | None] | None, file: Path | None) -> None:
        self._ask = ask
        self._file = file
        # Asking the sidecar costs nothing, and it pokes us anyway; a file outside the workspace tells nobody.
        self.max_age = 2.0

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        """The current task. Raises `Unavailable` when the file is not a JSON object."""
        task = self._ask() if self._ask is not None else None
        if task is None and self._file is not None:
            task = await run_sync(read_file, workspace / self._file, abandon_on_cancel=True)
        if task is None:
            return {"task_id": None}
        values = {key: _value(task.get(key.removeprefix("task_"))) for key in KEYS}
        return {key: value for key, value in values.items() if value is not None or key == "task_id"}


def read_file(path: Path) -> dict[str, Any] | None:
    """The object in a state file; None when there is no file. Raises `Unavailable`."""
    try:
        return msgspec.json.decode(read_regular(path, MAX_FILE_BYTES), type=dict[str, Any])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"the task file {path.name} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"the task file {path.name} is not a JSON object: {error}") from error


def _value(value: Any) -> Any:
    return clean_text(value, 1000) if isinstance(value, str) else value
