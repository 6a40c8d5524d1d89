"""What a project decides in `quarterdeck.toml` and `Taskfile.yml` about its facts: read again when they change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync

from quarterdeck import config as configuration
from quarterdeck.config import FILE_NAME, MetadataTable
from quarterdeck.errors import QuarterdeckError
from quarterdeck.metadata.collector import DEADLINE_SECONDS, Collector
from quarterdeck.metadata.collectors import configured, make, taskfile
from quarterdeck.metadata.collectors.command import CommandCollector
from quarterdeck.metadata.model import check_key

log = logging.getLogger(__name__)
Task = Callable[[], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Reloaded:
    """What a reload asks for: collectors to stop, then collectors to start, by name."""

    gone: tuple[str, ...] = ()
    new: Mapping[str, Collector] = field(default_factory=dict)


class Declared:
    """Knows which fields and forges are declared now; `reload` tells what changed since it was last called."""

    def __init__(
        self, workspace: Path, config: MetadataTable, config_folder: Path | None, task: Task | None = None
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._task = task
        self._file = config_folder / FILE_NAME if config_folder is not None else None
        self._stamps: dict[str, Any] = {}
        self._running: dict[str, Any] = {}
        self._tasks: list[taskfile.TaskField] = []
        self._problems: dict[str, str] = {}
        self._reading = False

    @property
    def problems(self) -> list[str]:
        """What is wrong in the files; what they said before stays in force."""
        return list(self._problems.values())

    async def reload(self) -> Reloaded:
        """Look at the files, and say what is to be stopped and started."""
        await self._read_in_time()
        wanted: dict[str, Any] = {f"command:{name}": (name, table) for name, table in self._config.fields.items()}
        wanted |= configured(self._config, self._task is not None)
        wanted |= {f"taskfile:{task.name}": task for task in self._tasks}
        gone = tuple(name for name, what in self._running.items() if wanted.get(name) != what)
        new = {name: what for name, what in wanted.items() if name in gone or name not in self._running}
        self._running = wanted
        for name in gone:
            self._problems.pop(name, None)
        made: dict[str, Collector] = {}
        for name, what in new.items():
            self._try(name, partial(self._make, made, name, what), "started")
        return Reloaded(gone, made)

    async def _read_in_time(self) -> None:
        """Read what changed; a disk that does not answer is a problem, and holds up neither start nor stop."""
        if not self._reading:
            with anyio.move_on_after(DEADLINE_SECONDS):
                await run_sync(self._read, abandon_on_cancel=True)
        if self._reading:
            self._problems["reading"] = f"{FILE_NAME} and Taskfile could not be read within {DEADLINE_SECONDS:g} s"
        else:
            self._problems.pop("reading", None)

    def _make(self, made: dict[str, Collector], name: str, what: Any) -> None:
        made[name] = self._collector(name, what)

    def _collector(self, name: str, what: Any) -> Collector:
        if isinstance(what, taskfile.TaskField):
            return taskfile.collector(what)
        if isinstance(what, tuple):
            return CommandCollector(*what)
        return make(name, what, self._task)

    def _read(self) -> None:
        self._reading = True
        try:
            self._read_changed()
        finally:
            self._reading = False

    def _read_changed(self) -> None:
        if self._file is not None and self._changed(self._file):
            self._try(FILE_NAME, self._read_toml)
        files = [self._workspace / name for name in taskfile.FILE_NAMES]
        if any([self._changed(file) for file in files]):  # noqa: C419 - every stamp is to be taken
            self._try("Taskfile", self._read_taskfile)

    def _try(self, name: str, do: Callable[[], None], what: str = "read") -> None:
        try:
            do()
        except QuarterdeckError as error:
            self._problems[name] = error.message
        except Exception as error:
            # Anybody may write these files: nothing in them may end the service of the agent beside it.
            log.warning("%s cannot be %s", name, what, exc_info=True)
            self._problems[name] = f"{name} cannot be {what}: {type(error).__name__}: {error}"
        else:
            self._problems.pop(name, None)

    def _read_toml(self) -> None:
        assert self._file is not None
        metadata = configuration.load(self._file.parent).metadata
        for name in metadata.fields:
            check_key(name)
        self._config = metadata

    def _read_taskfile(self) -> None:
        self._tasks = taskfile.read(self._workspace)

    def _changed(self, path: Path) -> bool:
        try:
            stat = path.stat()
            stamp: Any = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            stamp = None
        key = str(path)
        if key in self._stamps and self._stamps[key] == stamp:
            return False
        first = key not in self._stamps
        self._stamps[key] = stamp
        return not (first and stamp is None)
