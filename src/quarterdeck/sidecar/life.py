"""One life of an agent's program: started or resumed, listened to, ended with everything it started."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.cgroup import Cgroup
from quarterdeck.config import ProviderKind, base_environment, passed
from quarterdeck.errors import QuarterdeckError, StorageRefused, Unavailable
from quarterdeck.sidecar import ports
from quarterdeck.sidecar.spec import LaunchSpec
from quarterdeck.sidecar.store import Store

log = logging.getLogger(__name__)
_FULL_DISK_SECONDS = 0.5
MakeProvider = Callable[[ProviderKind], ports.Provider]
MakeMcp = Callable[[int], ports.McpServer]


class Life:
    """An incarnation. `run` goes from the start of the program to its end; `end` asks it to end."""

    def __init__(
        self,
        number: int,
        spec: LaunchSpec,
        folder: Path,
        store: Store,
        make_provider: MakeProvider,
        make_mcp: MakeMcp | None,
        cgroup: Cgroup | None,
    ) -> None:
        self.number = number
        self.provider: ports.Provider | None = None
        self.opened: ports.Opened | None = None
        self.resumed = False
        self.refused: str | None = None
        self.exited: ports.Exited | None = None
        self.buried = False
        self.called_off = False  # ended by us for a cancel, which is no death of the program
        self._over = anyio.Event()
        self._grace_seconds = 0.0
        self._spec = spec
        self._folder = folder
        self._store = store
        self._make_provider = make_provider
        self._make_mcp = make_mcp
        self._cgroup = cgroup

    def end(self, *, grace_seconds: float = 0, called_off: bool = False) -> None:
        """Ask for the end; the program gets SIGTERM and the grace where there is one."""
        self.called_off = self.called_off or (called_off and not self.over)
        self._grace_seconds = grace_seconds
        self._over.set()

    @property
    def over(self) -> bool:
        """Whether the end was asked for, or the program is gone."""
        return self._over.is_set()

    @property
    def ending(self) -> str:
        """How the program ended, in words."""
        if self.exited is None:
            return "the agent's program was ended"
        code = self.exited.returncode
        if code is None:
            how = "with an unknown exit code"
        elif code < 0:
            how = f"by signal {-code}"
        else:
            how = f"with exit code {code}"
        return f"the agent's program ended {how}" + (f": {self.exited.detail}" if self.exited.detail else "")

    async def run(self, emit: ports.Emit, ready: Callable[[TaskGroup], None]) -> None:
        """Open the session, call `ready`, wait for the end, leave nothing behind.

        Raises `QuarterdeckError` when the program does not come up. `emit` gets the program's updates;
        `ready` the task group in which work of this life belongs.
        """
        try:
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as opening:
                    group.start_soon(self._cancel_when_over, opening, name="end-while-opening")
                    self.opened = await self._open(emit, group)
                    await self._record(self.opened)
                if self.opened is not None and not self.over:
                    ready(group)
                await self._over.wait()
                if self.provider is not None:
                    await self.provider.close(self._grace_seconds)
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            with anyio.CancelScope(shield=True):
                if self.provider is not None:
                    await self.provider.close(0)
                await run_sync(partial(proctree.kill_everything, None, self._spec.id, self._cgroup, orphans=True))

    def gone(self, exited: ports.Exited) -> None:
        """The program said that it is gone."""
        self.exited = exited
        self._over.set()

    async def _record(self, opened: ports.Opened) -> None:
        """Before the first prompt, so that the session can always be resumed; with a full disk this waits."""
        while True:
            try:
                return self._store.session_opened(
                    self.number,
                    session_id=opened.session_id,
                    version=opened.version,
                    resumed=self.resumed,
                    pid=opened.pid,
                )
            except StorageRefused as error:
                log.error("%s", error.message)
            await anyio.sleep(_FULL_DISK_SECONDS)

    async def _cancel_when_over(self, opening: anyio.CancelScope) -> None:
        await self._over.wait()
        opening.cancel()

    async def _open(self, emit: ports.Emit, group: TaskGroup) -> ports.Opened:
        launch = self._launch()
        earlier = self._store.last_session(self._spec.kind)
        if earlier is not None:
            self.provider = self._make_provider(self._spec.kind)
            try:
                opened = await self.provider.resume(launch, earlier, emit, group)
            except ports.ResumeRefused as error:
                self.refused = f"session {earlier} could not be resumed, a new one was started: {error.message}"
                await self.provider.close(0)
            else:
                self.resumed = True
                return opened
        self.provider = self._make_provider(self._spec.kind)
        return await self.provider.start(launch, emit, group)

    def _launch(self) -> ports.Launch:
        spec = self._spec
        workspace = Path(spec.workspace)
        if not workspace.is_dir():
            raise Unavailable(f"the workspace {workspace} is gone", hint="delete the agent and create it again")
        output: Literal["plain", "jsonl"] = "jsonl" if spec.output == "jsonl" else "plain"
        return ports.Launch(
            agent=spec.name,
            cwd=workspace,
            folder=self._folder,
            command=tuple(spec.command),
            env={**base_environment(), **passed(spec.pass_env), **spec.env},
            instructions=spec.instructions,
            permissions=spec.permissions,
            output=output,
            mcp=self._make_mcp(self.number) if self._make_mcp else None,
            mark=spec.id,
            cgroup=self._cgroup,
            start_seconds=spec.start_seconds,
        )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error a user should see of several: ours before others."""
    for error in errors.exceptions:
        found = _first(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, QuarterdeckError):
            return found
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
