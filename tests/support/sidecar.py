"""A real sidecar process of the scripted agent, on its unix socket and on TCP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2

from quarterdeck import proctree
from quarterdeck.files import read_json, write_private
from quarterdeck.sidecar.model import FINAL
from quarterdeck.sidecar.spec import ADDRESS_FILE, LAUNCH_FILE, LOG_FILE, Address, LaunchSpec


@dataclass
class Sidecar:
    """A running sidecar: its folder, its workspace, its two addresses."""

    folder: Path
    workspace: Path
    spec: LaunchSpec
    address: Address
    process: subprocess.Popen[bytes]
    http: httpx2.AsyncClient

    @property
    def token(self) -> str:
        """The bearer token for TCP."""
        return (self.folder / "sidecar.token").read_text()

    async def get(self, path: str, *, expect: int = 200, **params: Any) -> Any:
        """A GET over the unix socket; the decoded body."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == expect, answer.text
        return answer.json()

    async def post(
        self,
        path: str,
        body: Any = None,
        *,
        expect: int | tuple[int, ...] = (200, 201, 202),
        headers: dict[str, str] | None = None,
        **params: Any,
    ) -> Any:
        """A POST over the unix socket; the decoded body."""
        answer = await self.http.post(path, json=body or {}, headers=headers or {}, params=params)
        assert answer.status_code in ((expect,) if isinstance(expect, int) else expect), answer.text
        return answer.json()

    async def facts(self) -> Any:
        """`GET /v1/agent`."""
        return await self.get("/v1/agent")

    async def task(self, description: str, **more: Any) -> Any:
        """Give a task."""
        return await self.post("/v1/tasks", {"description": description, **more})

    async def until(self, **wanted: Any) -> Any:
        """Wait until the facts have these values."""
        found: Any = None
        with anyio.move_on_after(20):
            while True:
                found = await self.facts()
                if all(found[key] == value for key, value in wanted.items()):
                    return found
                await anyio.sleep(0.02)
        raise AssertionError(f"not {wanted}: {found}")

    async def until_task(self, task: Any, field: str) -> Any:
        """The task once it has this time, such as `started_at`."""
        with anyio.move_on_after(20):
            while True:
                found = await self.get(f"/v1/tasks/{task['id']}")
                if found[field] is not None:
                    return found
                await anyio.sleep(0.01)
        raise AssertionError(f"no {field} for the task {task['id']}")

    async def end_of(self, task: Any, seconds: float = 20) -> Any:
        """The task once it is over."""
        found = await self.get(f"/v1/tasks/{task['id']}", wait=seconds)
        assert found["state"] in FINAL, found
        return found

    async def run(self, description: str, **more: Any) -> Any:
        """Give a task and wait for its end."""
        return await self.end_of(await self.task(description, **more))

    async def log(self, *kinds: str) -> list[Any]:
        """The log's entries of these kinds, oldest first."""
        entries = (await self.get("/v1/log", limit=100))["entries"]
        return [e for e in reversed(entries) if not kinds or e["kind"] in kinds]


# Code that a sidecar runs before it starts: what a machine without cgroups has left is the tree, the mark and
# the adopted orphans; a machine with many processes takes long to look through them.
WITHOUT_CGROUP = "from quarterdeck import cgroup; cgroup._ROOTS = ()"
MANY_PROCESSES = """
import time
from quarterdeck import proctree
kill = proctree.kill_everything
proctree.kill_everything = lambda *given, **more: (time.sleep(1), kill(*given, **more))[1]
"""


@asynccontextmanager
async def sidecar(
    folder: Path, workspace: Path, *options: str, before: str = "", python: Sequence[str] = (), **settings: Any
) -> AsyncIterator[Sidecar]:
    """Start one; afterwards it is stopped and no process of it is left."""
    folder.mkdir(exist_ok=True)
    workspace.mkdir(exist_ok=True)
    scripted = [sys.executable, "-m", "quarterdeck.scripted.agent", *options]
    spec = LaunchSpec(
        id=f"test-{os.getpid()}-{folder.name}-{os.urandom(4).hex()}",
        name="tester",
        workspace=str(workspace),
        env={"QD_SCRIPTED_HOME": str(folder / "scripted"), **settings.pop("env", {})},
        **{
            "kind": "acp",
            "provider": "scripted",
            "command": scripted,
            "permissions": "allow",
            "cancel_seconds": 1,
            **settings,
        },
    )
    write_private(folder / LAUNCH_FILE, spec)
    async with started(folder, spec, before=before, python=python) as running:
        yield running


@asynccontextmanager
async def started(
    folder: Path, spec: LaunchSpec, *, before: str = "", python: Sequence[str] = ()
) -> AsyncIterator[Sidecar]:
    """A sidecar for a folder that has its `launch.json`, perhaps once more."""
    main = "import sys; from quarterdeck.sidecar.__main__ import main; main(sys.argv[1:])"
    program = ["-c", f"{before}\n{main}"] if before else ["-m", "quarterdeck.sidecar"]
    (folder / ADDRESS_FILE).unlink(missing_ok=True)
    with (folder / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *python, *program, str(folder), "--tcp", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    address = None
    with anyio.fail_after(30):
        while (address := read_json(folder / ADDRESS_FILE, Address)) is None:
            assert process.poll() is None, (folder / LOG_FILE).read_text()[-3000:]
            await anyio.sleep(0.01)
    http = httpx2.AsyncClient(
        transport=httpx2.AsyncHTTPTransport(uds=address.socket), base_url="http://localhost", timeout=60
    )
    running = Sidecar(folder, Path(spec.workspace), spec, address, process, http)
    try:
        yield running
    finally:
        await http.aclose()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(12):
            while process.poll() is None:
                await anyio.sleep(0.01)
        killed = process.poll() is None
        if killed:
            process.kill()
            process.wait()
        proctree.kill_everything(None, spec.id, None) if process.returncode == -9 else None
        assert not killed, "the sidecar did not end by SIGTERM: " + (folder / LOG_FILE).read_text()[-3000:]
        assert proctree.marked(spec.id) == []
