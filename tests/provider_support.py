"""What the tests of the providers share: each provider with its program, and a driver that collects its updates."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import psutil
import pytest
from anyio.abc import TaskGroup

from quarterdeck import proctree
from quarterdeck.errors import Unavailable
from quarterdeck.scripted.model_api import ModelApi
from quarterdeck.sidecar import ports
from quarterdeck.sidecar.catalog import BUILT_IN, locate
from quarterdeck.sidecar.providers import make_provider

PROGRAMS = Path(__file__).parent / "support_programs"
AGENTS = Path(__file__).parent.parent / ".agents"
U = TypeVar("U")


def absent(what: str, hint: str) -> None:
    """Skip for want of a real agent; in CI that is a failure."""
    if os.environ.get("QD_CI") == "1":
        pytest.fail(f"{what} is missing, and in CI it must be there: {hint}")
    pytest.skip(f"{what} is missing: {hint}")


@dataclass
class Case:
    """One provider with a program that understands the lines of quarterdeck.scripted.script."""

    name: str
    kind: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    resumes: bool = True
    lives: bool = True
    real: bool = False


def make_case(name: str, api: Callable[[], ModelApi]) -> Case:
    """The case of this name; skips (in CI: fails) where its program is missing."""
    if name == "acp":
        return Case(name, "acp", (sys.executable, "-m", "quarterdeck.scripted.agent"))
    if name == "command":
        program = (sys.executable, str(PROGRAMS / "step_command.py"))
        return Case(name, "command", program, resumes=False, lives=False)
    try:
        claude = locate(BUILT_IN["claude-code"])
    except Unavailable as error:
        absent("claude", error.hint)
        raise
    env = {
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": api().url,
        "CLAUDE_CODE_MAX_RETRIES": "3",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    if name == "claude-code":
        return Case(name, "claude-code", (claude,), env, real=True)
    adapter = AGENTS / "claude-agent-acp"
    if not adapter.exists():
        absent("claude-agent-acp", "scripts/install_acp_agent.sh")
    return Case(name, "acp", (str(adapter),), {**env, "CLAUDE_CODE_EXECUTABLE": claude}, real=True)


REAL = pytest.mark.real_agent
ALL = ["acp", "command", pytest.param("claude-code", marks=REAL), pytest.param("claude-acp", marks=REAL)]


class Driver:
    """A provider at work, with everything it said."""

    def __init__(self, case: Case, launch: ports.Launch, tasks: TaskGroup) -> None:
        self.case = case
        self.launch = launch
        self.tasks = tasks
        self.updates: list[ports.Update] = []
        self.provider = make_provider(case.kind)
        self.opened: ports.Opened | None = None
        self._changed = anyio.Event()

    def emit(self, update: ports.Update) -> None:
        self.updates.append(update)
        self._changed.set()
        self._changed = anyio.Event()

    async def start(self) -> ports.Opened:
        self.opened = await self.provider.start(self.launch, self.emit, self.tasks)
        return self.opened

    async def again(self, session_id: str, **changes: Any) -> Driver:
        """Another life of the same agent, resumed."""
        other = Driver(self.case, replace(self.launch, **changes), self.tasks)
        other.opened = await other.provider.resume(other.launch, session_id, other.emit, self.tasks)
        return other

    async def until(self, found: Callable[[list[ports.Update]], U | None], seconds: float = 60) -> U:
        """Wait until `found` finds something in the updates."""
        with anyio.move_on_after(seconds):
            while True:
                changed = self._changed
                if (result := found(self.updates)) is not None:
                    return result
                await changed.wait()
        raise AssertionError(f"not within {seconds} s: {self.updates[-30:]}")

    async def of(self, kind: type[U], number: int = 1) -> U:
        """The `number`th update of this class, waited for."""

        def find(updates: list[ports.Update]) -> U | None:
            every = [u for u in updates if isinstance(u, kind)]
            return every[number - 1] if len(every) >= number else None

        return await self.until(find)

    async def run(self, text: str, turn: str = "turn-1") -> ports.TurnEnded:
        """A whole turn."""
        await self.provider.prompt(turn, text)
        return await self.ended(turn)

    async def ended(self, turn: str = "turn-1") -> ports.TurnEnded:
        """The end of a turn, which must not be the death of the program."""

        def find(updates: list[ports.Update]) -> ports.TurnEnded | None:
            assert not [u for u in updates if isinstance(u, ports.Exited)], updates
            return next((u for u in updates if isinstance(u, ports.TurnEnded) and u.turn_id == turn), None)

        return await self.until(find)

    def every(self, kind: type[U]) -> list[U]:
        return [u for u in self.updates if isinstance(u, kind)]

    @property
    def said(self) -> str:
        return "".join(u.text for u in self.every(ports.Text) if not u.thought)

    def processes(self) -> list[Any]:
        """What is left of it."""
        assert self.launch.mark is not None
        return proctree.marked(self.launch.mark)

    def runs(self, words: str) -> bool:
        """Whether a process of it runs with these words in its command line."""
        for process in self.processes():
            with suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    return True
        return False


@asynccontextmanager
async def driving(case: Case, folder: Path, **changes: Any) -> AsyncIterator[Driver]:
    """A driver in a workspace of its own, not started yet; closed at the end, with nothing left over."""
    for name in ("workspace", "agent", "home"):
        (folder / name).mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "TMPDIR": str(folder / "home"), **case.env}
    launch = ports.Launch(
        agent="tester",
        cwd=folder / "workspace",
        folder=folder / "agent",
        command=case.command,
        env=env,
        permissions="allow",
        output="jsonl",
        mark=f"test-{uuid.uuid4()}",
        start_seconds=30,
    )
    async with anyio.create_task_group() as tasks:
        driver = Driver(case, replace(launch, **changes), tasks)
        try:
            yield driver
        finally:
            await driver.provider.close(0.5)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(proctree.kill_everything, None, launch.mark, None)
            tasks.cancel_scope.cancel()
