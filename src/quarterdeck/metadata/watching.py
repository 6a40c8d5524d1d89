"""Told by the system when files of the workspace or its git folder change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio

from quarterdeck.metadata.collectors import gitfiles

log = logging.getLogger(__name__)
DEBOUNCE_MS = 200
# The watching thread looks this often whether something came: a compromise of latency and idle cost.
STEP_MS = 25
RETRY_SECONDS = 60.0
# Written by git itself while it works, or never telling anything that is not told elsewhere.
_DULL = frozenset({"objects", "logs", "lfs", "hooks", "info", "modules", "worktrees", "fsmonitor--daemon"})


class Watcher:
    """Calls `on_files` for changes in the workspace, `on_head` when branch, commit or refs may have changed.

    `state` says in words whether it works; where the system has no watches left, ages alone decide.
    """

    def __init__(
        self, workspace: Path, ignored: Path, on_files: Callable[[], None], on_head: Callable[[], None]
    ) -> None:
        self._workspace = workspace
        self._ignored = f"{ignored}/"
        self._on_files = on_files
        self._on_head = on_head
        self.state = "starting"
        self.events = 0

    async def run(self) -> None:
        """Work until cancelled."""
        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(_set_at_end, stop)
            await self._watch(stop)

    async def _watch(self, stop: anyio.Event) -> None:
        import watchfiles  # heavy, and not needed by those who only read

        while True:
            repository = gitfiles.find(self._workspace)
            folders = {self._workspace}
            git_folders: list[str] = []
            if repository is not None:
                folders |= {repository.git, repository.common}
                git_folders = sorted({str(repository.git), str(repository.common)}, key=len, reverse=True)
            try:
                self.state = "watching"
                async for changes in watchfiles.awatch(
                    *(f for f in folders if not any(o in f.parents for o in folders)),
                    watch_filter=partial(self._matters, git_folders),
                    debounce=DEBOUNCE_MS,
                    step=STEP_MS,
                    stop_event=stop,
                    ignore_permission_denied=True,
                ):
                    self.events += len(changes)
                    if any(path.startswith(f) for _, path in changes for f in git_folders):
                        self._on_head()
                    self._on_files()
                    if repository is None and (self._workspace / ".git").exists():
                        break
            except (OSError, RuntimeError) as error:
                self.state = f"not watching ({error}); facts are refreshed by age"
                log.warning("%s: %s", self._workspace, self.state)
                await anyio.sleep(RETRY_SECONDS)

    def _matters(self, git_folders: list[str], _change: object, path: str) -> bool:
        if path.startswith(self._ignored):
            return False
        for folder in git_folders:
            if path.startswith(folder):
                first = path[len(folder) :].lstrip("/").partition("/")[0]
                return first not in _DULL and not path.endswith(".lock") and first not in ("COMMIT_EDITMSG", "gc.log")
        return True


async def _set_at_end(stop: anyio.Event) -> None:
    # The thread that waits for the system cannot be cancelled, it can only be told.
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()
