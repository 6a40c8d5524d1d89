"""The taskfile collector: facts declared in `Taskfile.yml` as tasks with a `meta` key.

    tasks:
      coverage:
        desc: test coverage in percent
        meta: {include_in_list: true}
        cmds: [./scripts/coverage]

The task's name is the key, what it prints the value. `meta` may also hold `desc`, `timeout` and
`interval` (seconds), and `format`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quarterdeck import config
from quarterdeck.config import FieldTable
from quarterdeck.errors import InvalidInput, QuarterdeckError, Unavailable
from quarterdeck.files import read_regular
from quarterdeck.metadata.collectors.command import CommandCollector, Format
from quarterdeck.metadata.model import check_key

FILE_NAMES = ("Taskfile.yml", "taskfile.yml", "Taskfile.yaml", "taskfile.yaml")
SOURCE = "taskfile"
MAX_FILE_BYTES = 256 * 1024


@dataclass(frozen=True)
class TaskField:
    """One task that tells a fact."""

    name: str
    description: str
    include_in_list: bool
    timeout: float
    interval: float
    format: Format


def read(workspace: Path) -> list[TaskField]:
    """The declared fields of the workspace's Taskfile. Raises `InvalidInput` when it cannot be right."""
    for name in FILE_NAMES:
        path = workspace / name
        try:
            text = read_regular(path, MAX_FILE_BYTES).decode()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{name} cannot be read: {error}") from error
        return parse(text, origin=name)
    return []


def parse(text: str, *, origin: str) -> list[TaskField]:
    """The declared fields in the text of a Taskfile. Raises `InvalidInput`."""
    import yaml  # type: ignore[import-untyped]  # only where there is a Taskfile

    try:
        data = yaml.safe_load(text)
    except Exception as error:  # noqa: BLE001 - raised again below
        # PyYAML lets every error of its constructors through: a 45th of January, `!!int abc`, 5,000 digits.
        raise InvalidInput(f"{origin} is not YAML: {' '.join(str(error).split())}") from None
    tasks = data.get("tasks") if isinstance(data, Mapping) else None
    if not isinstance(tasks, Mapping):
        return []
    return [
        _field(str(name), task, origin)
        for name, task in tasks.items()
        if isinstance(task, Mapping) and isinstance(task.get("meta"), Mapping)
    ]


def _field(name: str, task: Mapping[str, Any], origin: str) -> TaskField:
    meta = task["meta"]
    unknown = meta.keys() - {"desc", "description", "include_in_list", "timeout", "interval", "format"}
    if unknown:
        raise InvalidInput(f"{origin}: tasks.{name}.meta has the unknown key {min(map(str, unknown))}")
    try:
        check_key(name)
    except QuarterdeckError as error:
        raise InvalidInput(f"{origin}: tasks.{name}: {error.message}") from None
    table = config.convert(
        {
            "run": [],
            "description": meta.get("desc", meta.get("description", task.get("desc", ""))),
            **{key: meta[key] for key in ("include_in_list", "timeout", "interval", "format") if key in meta},
        },
        FieldTable,
        origin=f"{origin}: tasks.{name}.meta",
    )
    return TaskField(name, table.description, table.include_in_list, table.timeout, table.interval, table.format)


class TaskfileCollector(CommandCollector):
    """One task of the Taskfile, run with `task` where that is installed."""

    async def collect(self, workspace: Path) -> Mapping[str, Any]:
        """The task's output. Raises `Unavailable` with a hint where `task` is missing."""
        if shutil.which("task") is None:
            raise Unavailable(
                "`task` is not installed, so fields of the Taskfile cannot be read",
                hint="install go-task, or declare the field under [metadata.fields] in quarterdeck.toml",
            )
        with TemporaryDirectory(prefix="qd-task-") as scratch:
            # Where `task` keeps the checksums of `sources`; otherwise it makes `.task` in the workspace.
            self.env = {"TASK_TEMP_DIR": scratch}
            return await super().collect(workspace)


def collector(field: TaskField) -> TaskfileCollector:
    """The collector of one declared field."""
    table = FieldTable(
        # --force: a task whose `sources` have not changed says its fact all the same.
        run=["task", "--silent", "--force", field.name],
        description=field.description,
        include_in_list=field.include_in_list,
        timeout=field.timeout,
        interval=field.interval,
        format=field.format,
    )
    return TaskfileCollector(field.name, table, source=SOURCE)
