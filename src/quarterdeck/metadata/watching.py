"""Told by the system when files of the workspace or its git folder change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio

from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.metadata.collectors import gitfiles

log = logging.getLogger(__name__)
DEBOUNCE_MS = 200
# The watching thread looks this often whether something came: a compromise of latency and idle cost.
STEP_MS = 25
RETRY_SECONDS = 60.0
# Written by git itself while it works, or never telling anything that is not told elsewhere.
_DULL = frozenset({"objects", "logs", "lfs", "hooks", "info", "modules", "worktrees", "fsmonitor--daemon"})
_OTHERS = ("refs/heads/qd/", "refs/quarterdeck/")


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
            try:
                repository = gitfiles.find(self._workspace)
                folders = {self._workspace}
                if repository is not None:
                    folders |= watched(repository)
                self.state = "watching"
                async for changes in watchfiles.awatch(
                    *(f for f in folders if not any(o in f.parents for o in folders)),
                    watch_filter=partial(self._matters, repository),
                    debounce=DEBOUNCE_MS,
                    step=STEP_MS,
                    stop_event=stop,
                    ignore_permission_denied=True,
                ):
                    self.events += len(changes)
                    if repository and any(_is_below(path, repository.common, repository.git) for _, path in changes):
                        self._on_head()
                    self._on_files()
                    nearer = repository is None or repository.top != self._workspace
                    if nearer and gitfiles.find(self._workspace) != repository:
                        break
            except (OSError, RuntimeError, ValueError, QuarterdeckError) as error:
                # Whatever somebody puts into the workspace: it must not end the server.
                self.state = f"not watching ({error}); facts are refreshed by age"
                log.warning("%s: %s", self._workspace, self.state)
                await anyio.sleep(RETRY_SECONDS)

    def _matters(self, repository: gitfiles.Repository | None, _change: object, path: str) -> bool:
        if path.startswith(self._ignored):
            return False
        if repository is None or not _is_below(path, repository.common, repository.git):
            return True
        if path.endswith(".lock"):
            return False
        if _is_below(path, repository.git) or repository.git == repository.common:
            first = path[len(str(repository.git)) :].lstrip("/").partition("/")[0]
            return first not in _DULL and first not in ("COMMIT_EDITMSG", "gc.log")
        return shared_matters(repository, path[len(str(repository.common)) :].lstrip("/"))


def watched(repository: gitfiles.Repository) -> set[Path]:
    """The folders to watch. Of one that worktrees share only the refs: below it, every other worktree that
    comes would cost each watcher watches of its own. Raises `Unavailable` for what is no git folder.
    """
    if not gitfiles.mode_of(repository.git / "HEAD"):
        # Whatever it is, git does not take it for a git folder either; it may become one again.
        raise Unavailable(f"there is no HEAD in {repository.git}")
    if repository.git == repository.common:
        return {repository.git}
    shared = {repository.common / name for name in ("refs", "reftable")}
    return {repository.git} | {folder for folder in shared if folder.is_dir()}


def shared_matters(repository: gitfiles.Repository, inside: str) -> bool:
    """Whether a change in the git folder that many worktrees share can be of interest to this one.

    The main worktree's own state is not, and neither are other agents' branches: with a hundred agents on
    one repository, a look at every commit of every other one would be most of what the machine does.
    """
    if inside.startswith("reftable/"):
        return True
    if not inside.startswith("refs/"):
        return False
    return not inside.startswith(_OTHERS) or inside == gitfiles.head_ref(repository)


def _is_below(path: str, *folders: Path) -> bool:
    return any(path == str(folder) or path.startswith(f"{folder}/") for folder in folders)


async def _set_at_end(stop: anyio.Event) -> None:
    # The thread that waits for the system cannot be cancelled, it can only be told.
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()
