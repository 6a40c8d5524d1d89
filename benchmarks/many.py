"""What many agents take: a hundred that live, fifty at work, a thousand simulated."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import psutil

from benchmarks import ROOT
from benchmarks.alone import ms
from benchmarks.bed import Mcp, bed, cpu_seconds, hub, make_repository, memory
from benchmarks.results import Aim, Figure
from support.hub import HubClient, HubProcess, state_folder

WORK = "\n".join(["@say a line of what I think about this"] + ["@say and one more", "@sleep 0.25"] * 240)


async def timed(n: int, call: Callable[[], Awaitable[Any]]) -> list[float]:
    """How long each of `n` calls takes, in ms; two before them do not count."""
    took = []
    for _ in range(n + 2):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return ms(took[2:])


async def listing(client: HubClient, agents: int, n: int, who: str, aim: Aim) -> list[Figure]:
    """list_agents over HTTP and MCP until every agent was seen."""
    mcp = Mcp(client)

    async def over_http() -> None:
        answer = await client.get("/api/agents", limit=1000)
        assert len(answer["agents"]) == agents

    async def over_mcp() -> None:
        # The tool gives at most 200 at a time, so that an answer fits into a model's context.
        seen, cursor = 0, {}
        while seen < agents:
            answer = await mcp.call("list_agents", limit=min(agents, 200), **cursor)
            seen += len(answer["agents"])
            cursor = {"cursor": answer["next_cursor"]}
        assert seen == agents

    figures = [
        Figure(group=f"list-{agents}-{way}", what=f"list_agents, {agents} {who} ({way})", aim=aim,
               values=await timed(n, call))
        for way, call in (("HTTP", over_http), ("MCP", over_mcp))
    ]  # fmt: skip
    await mcp.aclose()
    return figures


async def bring_up(client: HubClient, number: int) -> float:
    """Create agents, eight at a time, until all are idle; the seconds that took."""
    began = time.perf_counter()
    limiter = anyio.CapacityLimiter(8)

    async def one(name: str) -> None:
        async with limiter:
            await client.create(name)
            await client.until_status(name, "idle", seconds=60)

    async with anyio.create_task_group() as group:
        for index in range(number):
            group.start_soon(one, f"many-{index}")
    return time.perf_counter() - began


async def live(agents: int, at_work: int, n: int, seconds: float) -> list[Figure]:
    """A hundred live agents to list, then some of them at work."""
    async with bed() as (process, client):
        took = await bring_up(client, agents)
        figures = [Figure(group="bring-up", what=f"{agents} agents created, all ready", unit="s", values=[took])]
        figures += await listing(client, agents, n, "live agents", Aim(under=100, statistic="p95"))
        rss, _ = memory(process.pid)
        figures.append(Figure(group="memory", what=f"hub, RSS, {agents} agents", unit="MB", values=[rss]))
        sidecars = [(await client.show(f"many-{i}"))["sidecar_pid"] for i in range(agents)]
        shares = [memory(pid)[1] for pid in sidecars]
        figures.append(
            Figure(group="memory", what=f"sidecar, PSS, one of {agents}", unit="MB", values=shares, aim=Aim(under=60))
        )
        figures += await work(process, client, at_work, n, seconds)
    return figures


async def work(process: HubProcess, client: HubClient, agents: int, n: int, seconds: float) -> list[Figure]:
    """The cost of agents that each say something four times a second."""
    pids: dict[str, list[int]] = {"sidecars": [], "agents": []}
    for index in range(agents):
        await client.task(f"many-{index}", WORK)
    for index in range(agents):
        shown = await client.show(f"many-{index}")
        pids["sidecars"].append(shown["sidecar_pid"])
        pids["agents"].append(shown["agent_pid"])
    pids["hub"] = [process.pid]
    await anyio.sleep(1)
    before = {who: cpu_seconds(them) for who, them in pids.items()}
    psutil.cpu_percent()
    began = time.perf_counter()
    listed: list[float] = []
    while time.perf_counter() - began < seconds:
        listed += await timed(1, lambda: client.get("/api/agents", limit=1000))
        await anyio.sleep(0.5)
    took = time.perf_counter() - began
    machine = psutil.cpu_percent() * (psutil.cpu_count() or 1)
    note = f"Percent of one core over {seconds:g} s; every agent says something four times a second."
    figures = [
        Figure(group="work", what=f"{agents} agents at work: CPU of {label}", unit="%", note=note,
               values=[100 * (cpu_seconds(pids[who]) - before[who]) / took])
        for who, label in (("hub", "the hub"), ("sidecars", "all sidecars"), ("agents", "the scripted agents"))
    ]  # fmt: skip
    figures.append(
        Figure(group="work", what=f"{agents} agents at work: CPU of the whole machine", unit="%", values=[machine],
               note=note)
    )  # fmt: skip
    figures.append(Figure(group="work", what=f"{agents} agents at work: list_agents (HTTP)", values=listed))
    return figures


async def simulated(agents: int, n: int) -> list[Figure]:
    """A thousand sidecars of the contract in one process: the hub's start, its list, its idle cost."""
    with state_folder() as state:
        repo = await make_repository(state / "work" / "sample")
        command = [sys.executable, "-m", "support.fake_sidecars", str(state), str(repo), str(agents)]
        fakes = subprocess.Popen(
            [*command, "--changes-per-second", "20"], cwd=ROOT / "tests", stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert fakes.stdout is not None
            assert fakes.stdout.readline() == "ready\n"
            began = time.perf_counter()
            async with hub(repo, state) as (process, client):
                while True:
                    known = (await client.get("/api/agents", limit=1000))["agents"]
                    if len(known) == agents and all(a["status"] == "busy" for a in known):
                        break
                    assert time.perf_counter() - began < 60, known[:3]
                    await anyio.sleep(0.05)
                ready = time.perf_counter() - began
                figures = await listing(client, agents, n, "simulated sidecars", Aim(under=1000, statistic="p95"))
                before, began = cpu_seconds([process.pid]), time.perf_counter()
                await anyio.sleep(3)
                share = 100 * (cpu_seconds([process.pid]) - before) / (time.perf_counter() - began)
                rss, _ = memory(process.pid)
                assert not [a for a in (await client.get("/api/agents", limit=1000))["agents"] if a["unreachable"]]
        finally:
            fakes.communicate("")
    note = "With 20 changes a second in all, and nobody asking."
    return [
        Figure(group="hub-start-many", what=f"hub start until all of {agents} are known", unit="s", values=[ready]),
        *figures,
        Figure(group="many-cpu", what=f"hub, CPU, {agents} simulated sidecars", unit="%", values=[share], note=note),
        Figure(group="memory", what=f"hub, RSS, {agents} simulated sidecars", unit="MB", values=[rss]),
    ]
