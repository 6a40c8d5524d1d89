"""The local backend: a git worktree and processes on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from quarterdeck import detached, proctree
from quarterdeck.cgroup import Cgroup
from quarterdeck.config import base_environment, passed
from quarterdeck.errors import InternalError, NotFound, QuarterdeckError, Unavailable
from quarterdeck.files import read_json, write_private
from quarterdeck.fleet.backends.nursery import Nursery
from quarterdeck.fleet.git import repository, rescue, usage, worktree
from quarterdeck.fleet.model import AgentRecord
from quarterdeck.fleet.ports import Provisioned, Removed
from quarterdeck.sidecar import spec as files
from quarterdeck.sidecar.client import SidecarClient
from quarterdeck.sidecar.spec import Address, LaunchSpec

log = logging.getLogger(__name__)
_START_SECONDS = 20.0
_TWIN_SECONDS = 1.0
_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.004
_SIDECAR = "quarterdeck.sidecar"


class LocalBackend:
    """Agents below `STATE/agents`, each with a worktree on a branch `qd/NAME`."""

    name = "local"

    def __init__(self, agents: Path, *, log_level: str = "info", nursery: Nursery | None = None) -> None:
        self._agents = agents
        self._log_level = log_level
        self._nursery = nursery

    def folder(self, record: AgentRecord) -> Path:
        """`STATE/agents/NAME`."""
        return self._agents / record.name

    async def provision(self, record: AgentRecord) -> Provisioned:
        """Add the worktree, or use that of the agent whose workspace is shared."""
        if record.shares is not None:
            if record.workspace is None or not Path(record.workspace).is_dir():
                raise NotFound(
                    f"the workspace of agent {record.shares} is gone", hint="create the agent without workspace="
                )
            return Provisioned(workspace=record.workspace, branch=record.branch, base_sha=record.base_sha)
        repo = Path(record.repo)
        await repository.inspect(repo)
        base_sha = record.base_sha or await repository.branch_sha(repo, record.base)
        path = self.folder(record) / "worktree"
        added = await worktree.add(repo, path, record.branch or f"qd/{record.name}", base_sha)
        return Provisioned(workspace=str(path), branch=added.branch, base_sha=base_sha)

    async def start(self, record: AgentRecord, launch: LaunchSpec) -> Address:
        """Start `qd sidecar` detached from this process and wait until it says where it listens."""
        running = await self.address(record)
        if running is not None and await self.gone(record) is None:
            return running
        folder = self.folder(record)
        await run_sync(write_private, folder / files.LAUNCH_FILE, launch)
        if running is not None:
            (folder / files.ADDRESS_FILE).unlink(missing_ok=True)
        environment = self._environment(launch)
        pid = await self._nursery.fork(folder, environment, self._log_level) if self._nursery else None
        if pid is None:
            command = [sys.executable, "-m", "quarterdeck.sidecar", str(folder), "--log-level", self._log_level]
            pid = detached.spawn(command, cwd=folder, env=environment, log=folder / files.LOG_FILE)
        born = proctree.identity(pid)
        try:
            return await self._first_word(record, pid)
        except anyio.get_cancelled_exc_class():
            # Called off. So young a process may not be in its folder yet, where `stop` looks for it.
            if born is not None and proctree.is_alive(pid, born):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise

    async def _first_word(self, record: AgentRecord, pid: int) -> Address:
        """Wait until a sidecar says where it listens. Raises `Unavailable`."""
        deadline = time.monotonic() + _START_SECONDS
        ended: int | None = None
        while time.monotonic() < deadline:
            address = await self.address(record)
            if address is not None:
                return address
            if ended is None and (ended := self._exit_of(pid)) is not None:
                # One that a killed hub began may hold the folder and be about to say where it listens.
                deadline = min(deadline, time.monotonic() + _TWIN_SECONDS)
            await anyio.sleep(_POLL_SECONDS)
        if ended is not None:
            raise Unavailable(f"the sidecar of {record.name} ended ({ended}): {self._log_tail(record)}")
        raise Unavailable(
            f"the sidecar of {record.name} did not come up within {_START_SECONDS:.0f} s: {self._log_tail(record)}"
        )

    def _environment(self, launch: LaunchSpec) -> dict[str, str]:
        """What the sidecar gets: the keys that its program is to have, and the forges' tokens, which it is not."""
        forges = launch.metadata.token_variables()
        # Listings of the forges are shared by all agents of the machine, below the state folder.
        return {**base_environment(), **passed([*launch.pass_env, *forges]), "QD_STATE_DIR": str(self._agents.parent)}

    @staticmethod
    def _exit_of(pid: int) -> int | None:
        """The exit code of a process that ended, -1 where only that it ended is known; None while it runs."""
        code = detached.reap().get(pid)
        if code is None and proctree.identity(pid) is None:
            return -1
        return code

    def _log_tail(self, record: AgentRecord) -> str:
        try:
            with (self.folder(record) / files.LOG_FILE).open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - 2000))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return "it has no log"
        return lines[-1] if lines else "its log is empty"

    async def address(self, record: AgentRecord) -> Address | None:
        """What the sidecar wrote into the agent's folder. Raises `InternalError` when it cannot be read."""
        return read_json(self.folder(record) / files.ADDRESS_FILE, Address)

    async def gone(self, record: AgentRecord) -> str | None:
        """Certain, since pid and identity name one process for ever."""
        address = await self.address(record)
        if address is None:
            return "its sidecar is not running"
        if self._runs(record, address):
            return None
        code = detached.reap().get(address.pid)
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        return f"its sidecar, process {address.pid}, is gone{how} and did not end in good order"

    def _runs(self, record: AgentRecord, address: Address) -> bool:
        """Whether the very process that wrote the address is there."""
        if address.identity:
            return proctree.is_alive(address.pid, address.identity)
        # Written by an older Quarterdeck: what it tells of the start is moved by a clock that is set.
        return any(each.pid == address.pid for each in proctree.working_in(self.folder(record), _SIDECAR))

    async def stop(self, record: AgentRecord, *, grace_seconds: float) -> None:
        """Ask, then signal, then kill; afterwards the agent's mark is on no process any more."""
        try:
            address = await self.address(record)
        except InternalError as error:
            # The agent can reach that file. Whatever it did to it, its processes are found by its mark.
            log.warning("agent %s is ended by force: %s", record.name, error.message)
            address = None
        if address is not None and await self.gone(record) is None:
            with anyio.move_on_after(grace_seconds):
                await self._ask_to_end(record, address)
                while self._runs(record, address):
                    detached.reap()
                    await anyio.sleep(_POLL_SECONDS)
            if self._runs(record, address):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(address.pid, signal.SIGKILL)
                with anyio.move_on_after(_KILL_SECONDS):
                    while self._runs(record, address):
                        detached.reap()
                        await anyio.sleep(_POLL_SECONDS)
        await run_sync(self._end_unannounced, record)
        await run_sync(self._kill_all, record.id)
        detached.reap()
        (self.folder(record) / files.ADDRESS_FILE).unlink(missing_ok=True)

    @staticmethod
    def _kill_all(mark: str) -> None:
        group = Cgroup.find(mark)
        proctree.kill_everything(None, mark, group)
        if group is not None:
            # A sidecar that was killed could not remove its own.
            group.remove()

    @staticmethod
    async def _ask_to_end(record: AgentRecord, address: Address) -> None:
        client = SidecarClient.connect(address, record.name)
        try:
            # Whatever it answers (nothing, that its disk is full): it is ended by force then.
            with contextlib.suppress(QuarterdeckError):
                await client.stop()
        finally:
            with anyio.CancelScope(shield=True):
                await client.aclose()

    def _end_unannounced(self, record: AgentRecord) -> None:
        """End a sidecar that has not said where it listens: its hub was killed, or called it off, while it came up."""
        end = time.monotonic() + _KILL_SECONDS
        while time.monotonic() < end:
            found = proctree.working_in(self.folder(record), _SIDECAR)
            if not found:
                return
            proctree.signal_all(found, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    async def remove(self, record: AgentRecord) -> Removed:
        """Rescue what is unsaved, remove the worktree; the branch stays when it has work of its own."""
        if record.shares is not None:
            return Removed()
        repo, path = Path(record.repo), Path(record.workspace or self.folder(record) / "worktree")
        if not repo.is_dir():
            if path.is_dir() and any(path.iterdir()):
                raise Unavailable(
                    f"the repository {repo} is gone, so the work in {path} cannot be saved; it is still there",
                    hint="bring the repository back, or move that folder to where it is to be kept",
                )
            return Removed(notes=[f"the repository {repo} is gone; there was nothing to save"])
        branch = record.branch or await worktree.branch_of(repo, path)
        if branch is None:
            return Removed()  # it was never made
        notes: list[str] = []
        rescued = None
        if path.is_dir():
            rescued = await rescue.rescue(repo, path, record.name, time.time())
            if rescued is not None and rescued.not_kept:
                notes.append(f"could not be saved: {'; '.join(rescued.not_kept)}")
        ref = rescued.ref if rescued else record.rescue_ref
        if ref is None and record.deleting_at is not None:
            # The hub before this one may have been killed between the rescue and its record.
            ref = await rescue.find_rescue(repo, record.name, record.deleting_at)
        removed = await worktree.remove(repo, path, branch, base=record.base)
        return Removed(
            rescue_ref=ref,
            rescue_files=rescued.files if rescued else 0,
            branch_kept=removed.branch if removed.branch_kept else None,
            notes=notes,
        )

    async def disk_use(self, record: AgentRecord) -> int:
        """Blocks of the agent's folder, its worktree included."""
        return await usage.disk_use(self.folder(record))
