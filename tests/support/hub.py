"""Real hubs for tests: one in this process (`in_process`), one as a process that can be killed (`HubProcess`).

Every hub has a state folder of its own and a free port. When it is over, all its agents are ended and
`assert_nothing_left` finds no process of theirs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import uvicorn
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from quarterdeck import proctree
from quarterdeck.fleet.backends.local import LocalBackend
from quarterdeck.fleet.records import Records
from quarterdeck.fleet.service import Fleet
from quarterdeck.hub import place
from quarterdeck.hub.app import HubSettings, bind, make_app, open_hub
from quarterdeck.hub.service import Hub
from quarterdeck.sidecar.client import SidecarClient
from quarterdeck.sidecar.model import FINAL

CONFIG = """
[limits]
free_memory_mb = 0
free_disk_mb = 0

[agents]
provider = "scripted"
permissions = "allow"
cancel_seconds = 1
"""
_CREATED = '\n[providers.scripted]\nkind = "acp"\ncommand = ["{python}", "-m", "quarterdeck.scripted.agent"{more}]\n'


def scripted(*options: str) -> str:
    """A `[providers.scripted]` table with options of the scripted agent."""
    more = "".join(f', "{o}"' for o in options)
    return _CREATED.format(python=sys.executable, more=more) + 'pass_env = ["QD_SCRIPTED_HOME"]\n'


@contextmanager
def state_folder() -> Iterator[Path]:
    """A state folder with a path short enough for a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="qd-t-"))
    before = os.environ.get("QD_SCRIPTED_HOME")
    os.environ["QD_SCRIPTED_HOME"] = str(folder / "scripted")
    try:
        yield folder
    finally:
        if before is None:
            del os.environ["QD_SCRIPTED_HOME"]
        else:
            os.environ["QD_SCRIPTED_HOME"] = before
        shutil.rmtree(folder, ignore_errors=True)


def configure(repo: Path, text: str = CONFIG) -> Path:
    """Write and commit `quarterdeck.toml`, so that the repository is clean; the repository."""
    (repo / "quarterdeck.toml").write_text(text)
    for command in (["add", "-A"], ["-c", "user.name=T", "-c", "user.email=t@example.invalid", "commit", "-qm", "c"]):
        subprocess.run(["git", *command], cwd=repo, check=True, capture_output=True)
    return repo


def git(folder: Path, *arguments: str) -> str:
    """What a real git says."""
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


async def until_written(file: Path, seconds: float = 15) -> None:
    """Wait until a file is there."""
    with anyio.fail_after(seconds):
        while not file.exists():
            await anyio.sleep(0.02)


def left_over(state: Path) -> list[str]:
    """Every process that belongs to agents of this state folder: by environment, command line or folder."""
    found: list[str] = []
    needle = str(state)
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error, OSError):
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
            if process.status() != psutil.STATUS_ZOMBIE and any(needle in word for word in words):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
    return found


async def end_agents(state: Path) -> None:
    """End whatever agents of a state folder still run (no hub may run on it)."""
    backend = LocalBackend(state / "agents")
    for record in Records(state).load():
        await backend.stop(record, grace_seconds=5)


async def assert_nothing_left(state: Path) -> None:
    """No process of any agent is there any more; the marks are asked for, too."""
    with anyio.move_on_after(20):
        while left_over(state):
            await anyio.sleep(0.05)
    assert left_over(state) == []
    records = Records(state)
    for record in [*records.load(), *records.deleted()]:
        assert proctree.marked(record.id) == []


@dataclass
class HubClient:
    """What talks to a hub: HTTP with the token, and MCP."""

    url: str
    token: str
    state: Path
    repo: Path
    http: httpx2.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx2.AsyncClient(base_url=self.url, headers=self.headers, timeout=30, trust_env=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header with the token."""
        return {"Authorization": f"Bearer {self.token}"}

    def mcp(self) -> Client[StreamableHttpTransport]:
        """An MCP client, to be used with `async with`."""
        return Client(StreamableHttpTransport(f"{self.url}/mcp", headers=self.headers))

    async def get(self, path: str, *, expect: int = 200, **params: Any) -> Any:
        """A GET that must be answered with this status; the decoded body."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == expect, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, *, expect: int | tuple[int, ...] = (200, 201, 202)) -> Any:
        """A POST that must be answered with this status; the decoded body."""
        answer = await self.http.post(path, json=body or {})
        assert answer.status_code in ((expect,) if isinstance(expect, int) else expect), answer.text
        return answer.json()

    async def create(self, name: str, task: str | None = None, **more: Any) -> Any:
        """Create an agent."""
        return await self.post("/api/agents", {"name": name, "task": task, **more})

    async def task(self, name: str, description: str, **more: Any) -> Any:
        """Give a task."""
        return await self.post(f"/api/agents/{name}/tasks", {"description": description, **more})

    async def show(self, name: str) -> Any:
        """All of one agent."""
        return await self.get(f"/api/agents/{name}")

    async def until(self, name: str, right: Callable[[Any], bool], *, seconds: float = 20) -> Any:
        """Wait until the agent's line in the list is right; the line. By `wait`, as a client would."""
        cursor, line = None, None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            given: dict[str, Any] = {"agents": name, "timeout": max(0.0, min(5.0, end - time.monotonic()))}
            if cursor:
                given["cursor"] = cursor
            answer = await self.get("/api/wait", **given)
            cursor = answer["cursor"]
            for line in answer["changed"]:
                if right(line):
                    return line
        raise AssertionError(f"{name} did not become right within {seconds} s, last: {line}")

    async def until_status(self, name: str, *statuses: str, seconds: float = 20) -> Any:
        """Wait until the agent has one of these statuses."""
        return await self.until(name, lambda line: line["status"] in statuses, seconds=seconds)

    async def until_done(self, name: str, task_id: str | None = None, *, seconds: float = 30) -> Any:
        """Wait until this task (or whichever the agent shows) is over; the task."""
        end = time.monotonic() + seconds
        found: Any = None
        while time.monotonic() < end:
            tasks = (await self.get(f"/api/agents/{name}/tasks"))["tasks"]
            found = next((t for t in tasks if task_id in (None, t["id"])), None)
            if found is not None and found["state"] in FINAL:
                return found
            await anyio.sleep(0.03)
        raise AssertionError(f"the task of {name} was not over within {seconds} s: {found}")


@dataclass
class LiveHub(HubClient):
    """A hub in this process, its inside within reach."""

    hub: Hub = field(kw_only=True)

    @property
    def fleet(self) -> Fleet:
        """The fleet's use cases."""
        return self.hub.fleet

    def sidecar_pid(self, name: str) -> int:
        """The process of an agent's sidecar."""
        facts = self.fleet.crew.view(name).facts
        assert facts is not None
        return facts.sidecar_pid


@contextmanager
def _late_readers_ignored() -> Iterator[None]:
    """anyio's unix sockets set the result of a read that was cancelled in the same turn of the loop; harmless."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()

    def handle(on: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), asyncio.InvalidStateError) and "set_result" in repr(context["handle"]):
            return
        if before is not None:
            before(on, context)
        else:
            on.default_exception_handler(context)

    loop.set_exception_handler(handle)
    try:
        yield
    finally:
        loop.set_exception_handler(before)


@asynccontextmanager
async def in_process(repo: Path, state: Path) -> AsyncIterator[LiveHub]:
    """A hub in this process on a real socket; its agents live on when it ends."""
    given = HubSettings(folder=repo, state=state, host="127.0.0.1", port=0)
    closing = anyio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(_late_readers_ignored())
        stack.enter_context(place.lock(state))
        token = place.token(state)
        hub = await stack.enter_async_context(open_hub(given))
        app = await stack.enter_async_context(make_app(hub, closing, token=token))
        listener = stack.enter_context(bind("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1, ws="none")
        )
        group = await stack.enter_async_context(anyio.create_task_group())
        stopped = anyio.Event()

        async def serve() -> None:
            await server._serve([listener])
            stopped.set()

        group.start_soon(serve)
        live = LiveHub(
            url=f"http://127.0.0.1:{listener.getsockname()[1]}", token=token, state=state, repo=repo, hub=hub
        )
        try:
            yield live
        finally:
            await live.http.aclose()
            closing.set()
            server.should_exit = True
            with anyio.move_on_after(4):
                await stopped.wait()
            group.cancel_scope.cancel()


@asynccontextmanager
async def whole(repo: Path, config: str = CONFIG) -> AsyncIterator[LiveHub]:
    """`in_process` with a state folder of its own; afterwards every agent is ended and nothing is left."""
    with state_folder() as state:
        configure(repo, config)
        try:
            async with in_process(repo, state) as live:
                yield live
        finally:
            await end_agents(state)
        await assert_nothing_left(state)


class HubProcess:
    """A hub as a process of its own, which can be killed and started again on the same state folder."""

    _PROGRAM = "import sys, pathlib; from quarterdeck.hub.app import run, settings; run(settings(pathlib.Path(sys.argv[1]), port=0))"  # noqa: E501

    def __init__(self, repo: Path, state: Path) -> None:
        self.repo = repo
        self.state = state
        self.client: HubClient | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The hub's process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> HubClient:
        """Start it and wait until it listens."""
        environment = {**os.environ, "QD_STATE_DIR": str(self.state)}
        with (self.state / "hub-process.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._PROGRAM, str(self.repo)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
        with anyio.fail_after(30):
            while (info := place.running(self.state)) is None or info.pid != self._process.pid:
                assert self._process.poll() is None, (self.state / "hub-process.log").read_text()[-4000:]
                await anyio.sleep(0.02)
        self.client = HubClient(url=info.url, token=place.token(self.state), state=self.state, repo=self.repo)
        return self.client

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Signal it (SIGKILL for a kill) and wait for its end; the exit code. Agents live on."""
        assert self._process is not None
        if self.client is not None:
            await self.client.http.aclose()
            self.client = None
        self._process.send_signal(number)
        with anyio.fail_after(15):
            while self._process.poll() is None:
                await anyio.sleep(0.01)
        return self._process.returncode

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None


@asynccontextmanager
async def whole_process(repo: Path, config: str = CONFIG) -> AsyncIterator[HubProcess]:
    """A `HubProcess` with a state folder of its own, started; afterwards nothing of it is left."""
    with state_folder() as state:
        configure(repo, config)
        hub = HubProcess(repo, state)
        try:
            await hub.start()
            yield hub
        finally:
            if hub.is_running():
                await hub.end(signal.SIGKILL)
            await end_agents(state)
        await assert_nothing_left(state)


Call = Callable[..., Awaitable[Any]]


def sidecar_of(live: LiveHub, name: str) -> Awaitable[SidecarClient]:
    """A client of an agent's sidecar, past the hub."""
    return live.fleet.client(name)
