"""What one agent takes: start, task, change, cancel, death, memory. And the hub and `qd` themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from benchmarks.bed import Mcp, Watch, bed, create_ready, hub, make_repository, memory
from benchmarks.results import Aim, Figure
from support.hub import HubClient, HubProcess, end_agents, state_folder

SLEEP = "@say at work\n@run python3 -c 'import time; time.sleep(600)'"


def ms(seconds: list[float]) -> list[float]:
    """Seconds as milliseconds."""
    return [value * 1000 for value in seconds]


def reached(task_id: str, step: str) -> Callable[[Any], bool]:
    """Whether an agent's line shows this task with this step taken."""

    def check(line: Any) -> bool:
        task = line["task"]
        return bool(task and task["id"] == task_id and task[step])

    return check


def command_line(n: int) -> list[Figure]:
    """`qd --help`."""
    program = str(Path(sys.executable).with_name("qd"))
    took = []
    for _ in range(n):
        began = time.perf_counter()
        subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    return [Figure(group="cli", what="qd --help", values=ms(took), aim=Aim(under=200))]


async def hub_start(n: int) -> list[Figure]:
    """From the start of the process until it answers a call of its API."""
    took = []
    with state_folder() as state:
        repo = await make_repository(state / "work" / "sample")
        for _ in range(n):
            began = time.perf_counter()
            async with hub(repo, state) as (_, client):
                await client.get("/api/agents")
                took.append(time.perf_counter() - began)
        await end_agents(state)
    return [Figure(group="hub-start", what="hub start until it answers", values=ms(took), aim=Aim(under=1500))]


def own_time(n: int) -> list[float]:
    """The scripted agent's own time from a prompt to its first update, spoken to directly over its pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "quarterdeck.scripted.agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, env={**os.environ, "QD_SCRIPTED_HOME": os.environ.get("TMPDIR", "/tmp")},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    number = 0

    def request(method: str, params: Any, until_update: bool = False) -> Any:
        nonlocal number
        number += 1
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        began, first = time.perf_counter(), None
        while True:
            answer = json.loads(process.stdout.readline())
            if answer.get("method") == "session/update" and first is None:
                first = time.perf_counter() - began
            if answer.get("id") == number:
                return first if until_update else answer["result"]

    try:
        request("initialize", {"protocolVersion": 1, "clientCapabilities": {}})
        session = request("session/new", {"cwd": os.getcwd(), "mcpServers": []})["sessionId"]
        prompt = {"sessionId": session, "prompt": [{"type": "text", "text": "@say hello"}]}
        return [request("session/prompt", prompt, until_update=True) for _ in range(n)]
    finally:
        process.kill()
        process.wait()


async def one_agent(n: int) -> list[Figure]:
    """Everything that can be seen of one agent at a time."""
    async with bed() as (process, client):
        created = [await create_ready(client, f"one-{number}") for number in range(n)]
        for number in range(1, n):
            await client.http.delete(f"/api/agents/one-{number}")
        figures = [
            Figure(group="create-api", what="create to ready (API)", values=ms(created), aim=Aim(under=700)),
        ]
        figures += await tasks(client, "one-0", n)
        figures += await deaths(client, n)
        figures += await size(process, client)
    return figures


async def tasks(client: HubClient, name: str, n: int) -> list[Figure]:
    """Start, change seen, cancel."""
    started, seen, seen_mcp, canceled = [], [], [], []
    mcp = Mcp(client)
    watch = Watch(client, name)
    for _ in range(n * 2):
        await watch.begin()
        began = time.time()
        task = await client.task(name, "@say hello")
        known = await watch.until(reached(task["id"], "ended_at"))
        started.append(watch.line["task"]["started_at"] - began)
        seen.append(known - watch.line["task"]["ended_at"])
    cursor = (await mcp.call("wait_for_agents", agent_names=[name], timeout_seconds=0))["cursor"]
    for _ in range(n * 2):
        task = await client.task(name, "@say hello")
        ended, line = reached(task["id"], "ended_at"), {"task": None}
        while not ended(line):
            answer = await mcp.call("wait_for_agents", agent_names=[name], cursor=cursor, timeout_seconds=20)
            known, cursor = time.time(), answer["cursor"]
            line = next(iter(answer["changed"]), line)
        seen_mcp.append(known - line["task"]["ended_at"])
    await mcp.aclose()
    for _ in range(n):
        await watch.begin()
        task = await client.task(name, SLEEP)
        await watch.until(reached(task["id"], "started_at"))
        await anyio.sleep(0.3)
        began = time.time()
        await client.post(f"/api/agents/{name}/cancel")
        known = await watch.until(lambda line: line["task"]["state"] == "canceled")
        canceled.append(known - began)
    own = own_time(n * 2)
    over = [max(0.0, value - sorted(own)[len(own) // 2]) for value in started]
    note = "Given over the API until the agent's first sign, minus the scripted agent's own time for the same."
    return [
        Figure(group="started", what="task start to started, over the agent's own", values=ms(over),
               aim=Aim(under=50), note=note),
        Figure(group="own", what="the agent's own time for it", who="scripted agent", values=ms(own)),
        Figure(group="seen", what="change seen by a waiting client (HTTP)", values=ms(seen), aim=Aim(under=100)),
        Figure(group="seen-mcp", what="change seen by wait_for_agents (MCP)", values=ms(seen_mcp),
               aim=Aim(under=100)),
        Figure(group="cancel", what="cancel until canceled is seen", values=ms(canceled), aim=Aim(under=200)),
    ]  # fmt: skip


async def deaths(client: HubClient, n: int) -> list[Figure]:
    """kill -9 of the AI at work, and of a sidecar at work, until a waiting client knows."""
    lost, failed = [], []
    await create_ready(client, "mortal")
    for _ in range(n):
        watch = Watch(client, "mortal")
        await watch.begin()
        await watch.until(lambda line: line["status"] == "idle")
        # An agent that dies again and again without ending anything is given up; this one ends something.
        quiet = await client.task("mortal", "@say alive")
        await watch.until(reached(quiet["id"], "ended_at"))
        task = await client.task("mortal", SLEEP)
        await watch.until(reached(task["id"], "started_at"))
        await anyio.sleep(0.2)
        began = time.time()
        os.kill((await client.show("mortal"))["agent_pid"], signal.SIGKILL)
        known = await watch.until(reached(task["id"], "ended_at"))
        assert watch.line["task"]["state"] == "lost", watch.line
        lost.append(known - began)
    for number in range(max(2, n // 2)):
        name = f"mortal-{number}"
        await create_ready(client, name)
        watch = Watch(client, name)
        await watch.begin()
        task = await client.task(name, SLEEP)
        await watch.until(reached(task["id"], "started_at"))
        await anyio.sleep(0.2)
        pid = (await client.show(name))["sidecar_pid"]
        began = time.time()
        os.kill(pid, signal.SIGKILL)
        known = await watch.until(lambda line: line["status"] == "failed" or line["unreachable"])
        failed.append(known - began)
        await watch.until(lambda line: line["status"] == "failed")
    return [
        Figure(group="kill", what="kill -9 of the AI until lost is reported", values=ms(lost), aim=Aim(under=1000)),
        Figure(group="kill-sidecar", what="kill -9 of the sidecar until failed is reported", values=ms(failed),
               aim=Aim(under=1000)),
    ]  # fmt: skip


async def size(process: HubProcess, client: HubClient) -> list[Figure]:
    """Memory of the hub, and of a sidecar before and after its agent used its MCP server."""
    await create_ready(client, "weighed")
    watch = Watch(client, "weighed")
    pid = (await client.show("weighed"))["sidecar_pid"]
    before = memory(pid)
    texts = ["@say hello", '@mcp report_task {"summary": "weighing", "state": "working"}']
    figures = []
    after = [before]
    for text in texts:
        await watch.begin()
        task = await client.task("weighed", text)
        await watch.until(reached(task["id"], "ended_at"))
        assert watch.line["task"]["state"] == "succeeded", watch.line["task"]
        after.append(memory(pid))
    note = "RSS counts what is shared with the other sidecars in full, PSS divides it among them."
    for (rss, pss), when in zip(after, ("idle", "after a task", "after its agent used its MCP server"), strict=True):
        figures += [
            Figure(group="memory", what=f"sidecar, RSS, {when}", unit="MB", values=[rss], aim=Aim(under=60), note=note),
            Figure(group="memory", what=f"sidecar, PSS, {when}", unit="MB", values=[pss], note=note),
        ]
    rss, pss = memory(process.pid)
    return [
        *figures,
        Figure(group="memory", what="hub, RSS, some agents", unit="MB", values=[rss]),
        Figure(group="memory", what="hub, PSS, some agents", unit="MB", values=[pss], note=note),
    ]


async def small_lists(n: int) -> list[Figure]:
    """What the peers are asked for too: one and ten agents, over the API and with `qd`; and creating with `qd`."""
    figures: list[Figure] = []
    program = str(Path(sys.executable).with_name("qd"))
    async with bed() as (process, client):
        environment = {**os.environ, "QD_STATE_DIR": str(process.state)}

        def qd(*arguments: str) -> float:
            began = time.perf_counter()
            subprocess.run(
                [program, *arguments], cwd=process.repo, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            return time.perf_counter() - began

        created = []
        for number in range(10):
            took = qd("agents", "create", f"s{number}")
            began = time.perf_counter()
            await client.until_status(f"s{number}", "idle")
            created.append(took + time.perf_counter() - began)
            if number + 1 in (1, 10):
                listed = [qd("agents", "list", "--json") for _ in range(n)]
                asked = []
                for _ in range(n):
                    began = time.perf_counter()
                    await client.get("/api/agents")
                    asked.append(time.perf_counter() - began)
                what = f"list {number + 1} agents with their states"
                figures += [
                    Figure(group=f"list-{number + 1}-cli", what=f"{what} (command line)", values=ms(listed)),
                    Figure(group=f"list-{number + 1}-api", what=f"{what} (API)", values=ms(asked)),
                ]
    return [Figure(group="create-cli", what="create to ready (command line)", values=ms(created)), *figures]
