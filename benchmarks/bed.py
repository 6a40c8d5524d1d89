"""Where is measured: a repository, a hub as a process of its own, a client that waits as clients do."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil

from support.hub import HubClient, HubProcess, end_agents, state_folder

CONFIG = """
[limits]
free_memory_mb = 0
free_disk_mb = 0
busy_agents = 1000

[agents]
provider = "scripted"
permissions = "allow"
"""
PROTOCOL = "2025-06-18"


async def make_repository(folder: Path, config: str = CONFIG) -> Path:
    """A small repository with one commit and a quarterdeck.toml."""
    folder.mkdir(parents=True)
    (folder / "quarterdeck.toml").write_text(config)
    for number in range(20):
        (folder / f"module_{number}.py").write_text(f"VALUE = {number}\n" * 20)
    identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.invalid"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        await anyio.run_process(["git", *command], cwd=folder)
    return folder


@asynccontextmanager
async def hub(repo: Path, state: Path) -> AsyncIterator[tuple[HubProcess, HubClient]]:
    """A hub on a state folder; ended afterwards, its agents live on."""
    process = HubProcess(repo, state)
    client = await process.start()
    try:
        yield process, client
    finally:
        await process.end()


@asynccontextmanager
async def bed() -> AsyncIterator[tuple[HubProcess, HubClient]]:
    """A hub on a repository and a state folder of its own; afterwards no agent is left."""
    with state_folder() as state:
        repo = await make_repository(state / "work" / "sample")
        try:
            async with hub(repo, state) as running:
                yield running
        finally:
            await end_agents(state)


class Watch:
    """A client that waits for changes of one agent with a cursor, as the tools' users do."""

    def __init__(self, client: HubClient, name: str) -> None:
        self._client = client
        self._name = name
        self._cursor: str | None = None
        self.line: Any = None

    async def begin(self) -> None:
        """Know what is now."""
        answer = await self._client.get("/api/wait", agents=self._name, timeout=0)
        self._take(answer)

    def _take(self, answer: Any) -> None:
        self._cursor = answer["cursor"]
        for line in answer["changed"]:
            self.line = line

    async def until(self, right: Callable[[Any], bool], seconds: float = 30) -> float:
        """Wait until the agent's line is right; the time at which this client knew (epoch seconds)."""
        end = time.monotonic() + seconds
        while self.line is None or not right(self.line):
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self._name} did not become right within {seconds:g} s: {self.line}")
            assert self._cursor is not None, "begin first"
            given = {"agents": self._name, "timeout": min(left, 20.0), "cursor": self._cursor}
            self._take(await self._client.get("/api/wait", **given))
        return time.time()


async def create_ready(client: HubClient, name: str) -> float:
    """Create an agent and wait until it is idle; the seconds that took."""
    began = time.perf_counter()
    await client.create(name)
    watch = Watch(client, name)
    await watch.begin()
    await watch.until(lambda line: line["status"] in ("idle", "failed"))
    took = time.perf_counter() - began
    assert watch.line["status"] == "idle", watch.line
    return took


class Mcp:
    """Calls tools with plain JSON-RPC: FastMCP's own client costs more than the server."""

    def __init__(self, client: HubClient) -> None:
        headers = {**client.headers, "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": PROTOCOL}
        self._http = httpx2.AsyncClient(base_url=client.url, headers=headers, timeout=60, trust_env=False)
        self._id = 0

    async def call(self, tool: str, **arguments: Any) -> Any:
        """The structured content of the tool's answer."""
        self._id += 1
        body = {
            "jsonrpc": "2.0", "id": self._id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}
        }  # fmt: skip
        answer = await self._http.post("/mcp", json=body)
        assert answer.status_code == 200, answer.text
        text = answer.text
        if "text/event-stream" in answer.headers["content-type"]:
            text = next(line[5:] for line in text.splitlines() if line.startswith("data:") and '"id"' in line)
        result = json.loads(text)["result"]
        assert not result.get("isError"), result
        return result["structuredContent"]

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()


def memory(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process in MB; the PSS divides what it shares with others among them."""
    full = psutil.Process(pid).memory_full_info()
    return full.rss / 1e6, full.pss / 1e6


def cpu_seconds(pids: list[int]) -> float:
    """What these processes have used of the processors so far."""
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
