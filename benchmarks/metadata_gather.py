"""Gathering as the hub does it: N real metadata servers over HTTP (in one other process), and 1,000 simulated."""

from __future__ import annotations

import json
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import msgspec

from quarterdeck.errors import Unavailable
from quarterdeck.fleet.metadata import gather
from quarterdeck.metadata.model import iso
from quarterdeck.metadata.server import MetadataServer
from quarterdeck.metadata.service import MetadataService
from quarterdeck.serving import run_uvicorn


@dataclass
class Real:
    """An agent's server on a socket of its own."""

    name: str
    client: httpx2.AsyncClient

    async def metadata(self) -> Mapping[str, Any]:
        answer = await self.client.get("/metadata")
        return msgspec.json.decode(answer.content)  # type: ignore[no-any-return]


@dataclass
class Simulated:
    """An agent that is only waited for."""

    name: str
    kind: str

    async def metadata(self) -> Mapping[str, Any]:
        if self.kind == "hangs":
            await anyio.sleep_forever()
        if self.kind == "dead":
            raise Unavailable("connection refused")
        await anyio.sleep(random.uniform(0.001, 0.05))
        return {"data": {}, "meta": {"at": iso(time.time())}}


async def serve(folder: Path, agents: int) -> None:
    """The servers: each its own store and socket; on one folder without git, so that only answering counts."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    # Every service keeps a thread of its own that waits for changed files; the default is 40 in all.
    anyio.to_thread.current_default_thread_limiter().total_tokens = 4 * agents + 40
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(anyio.create_task_group())
        for n in range(agents):
            path = folder / f"{n}.sock"
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(str(path))
            bound.setblocking(False)
            service = await stack.enter_async_context(MetadataService.open(folder / f"a{n}", workspace, agent=f"a{n}"))
            await service.write({f"fact{i}": "x" * 20 for i in range(20)})
            app = MetadataServer()
            app.attach(service, group)
            await group.start(run_uvicorn, app, bound)
        print("ready", flush=True)
        await anyio.sleep_forever()


async def measure(folder: Path, agents: int) -> dict[str, float]:
    """Milliseconds of a round."""
    async with AsyncExitStack() as stack:
        sources = []
        for n in range(agents):
            transport = httpx2.AsyncHTTPTransport(uds=str(folder / f"{n}.sock"))
            client = httpx2.AsyncClient(transport=transport, base_url="http://agent", trust_env=False)
            sources.append(Real(f"a{n}", await stack.enter_async_context(client)))
        rounds = []
        for _ in range(10):
            began = time.perf_counter()
            found = await gather(sources)
            rounds.append((time.perf_counter() - began) * 1000)
            assert all(g.state == "known" and len(g.data) >= 20 for g in found)
    kinds = ["hangs" if n % 20 == 0 else "dead" if n % 20 == 1 else "ok" for n in range(1000)]
    began = time.perf_counter()
    found = await gather([Simulated(f"s{n}", kind) for n, kind in enumerate(kinds)])
    simulated = (time.perf_counter() - began) * 1000
    assert sum(g.state == "known" for g in found) == 900
    return {"real_ms": statistics.median(rounds), "real_most_ms": max(rounds), "simulated_ms": simulated}


def main() -> None:
    """Start the servers as another process, measure, stop them."""
    folder, agents = Path(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        anyio.run(serve, folder, agents, backend_options={"use_uvloop": True})
        return
    command = [sys.executable, __file__, str(folder), str(agents), "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == "ready"
            time.sleep(1)
            print(json.dumps(anyio.run(partial(measure, folder, agents), backend_options={"use_uvloop": True})))
        finally:
            process.kill()


if __name__ == "__main__":
    main()
