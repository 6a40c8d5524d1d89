"""The node agent's part of `make bench`, against podman itself in the same run.

Needs real podman (as the tests do). Every container is named `qdbench-*` and removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import psutil
import pytest

from benchmarks import node_ps
from benchmarks.results import Aim, Figure, percentile
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import ComponentSpec, Healthcheck, Mutation, ServiceDef
from quarterdeck.node.options import AgentOptions, MonitorOptions
from quarterdeck.node.podman_api import PodmanApi
from quarterdeck.node.runtime import Runtime
from support import podman_env
from support.node_world import NodeProcess, Person
from support.podman_env import IMAGE

NAME = "qdbench"
IDLE_SECONDS = 60


def component(name: str, *, env: str = "0", cmd: tuple[str, ...] = ("sleep", "100000")) -> ComponentSpec:
    return ComponentSpec(name, IMAGE, cmd=cmd, network="none", restart="no", stop_seconds=0, env={"V": env})


async def deploy(agent: NodeAgent, service: ServiceDef) -> float:
    """Seconds of one deploy; everything must go well."""
    began = time.perf_counter()
    final = None
    async for each in agent.deploy(service, Mutation()):
        final = each.final
    took = time.perf_counter() - began
    assert final is not None
    assert final.ok, final
    return took


async def timed(work: Callable[[], Awaitable[None]], times: int) -> list[float]:
    """Milliseconds of each of so many runs."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        took.append((time.perf_counter() - began) * 1000)
    return took


class Counting:
    """A runtime that counts what is asked of it (for "without touching podman")."""

    def __init__(self, inner: Runtime) -> None:
        self._inner, self.calls = inner, 0

    def __getattr__(self, name: str) -> object:
        self.calls += 1
        return getattr(self._inner, name)


async def listing(agent: NodeAgent, number: int) -> list[Figure]:
    context = agent._engine.context
    counting = Counting(context.runtime)
    context.runtime = counting  # type: ignore[assignment]

    async def work() -> None:
        found = await agent.list_services()
        assert sum(len(each.components) for each in found if each.managed) >= number

    async def cold() -> None:
        await context.store.read(lambda registry: registry.services())

    took, first = await timed(work, 50), await timed(cold, 50)
    context.runtime = counting._inner
    what = f"node: list, {number} containers"
    return [
        Figure(group="node-list", what=what, values=took, aim=Aim(under=10)),
        Figure(group="node-list-cold", what=f"{what}, right after a change", values=first),
        Figure(group="node-list-calls", what=f"{what}: calls to podman", unit="", values=[float(counting.calls)],
               aim=Aim(under=1)),
    ]  # fmt: skip


async def live(agent: NodeAgent, options: AgentOptions, number: int) -> list[Figure]:
    transport = httpx2.AsyncHTTPTransport(uds=str(options.socket))
    async with httpx2.AsyncClient(transport=transport, timeout=60) as client:

        async def raw() -> None:
            answer = await client.get("http://d/v4.0.0/libpod/containers/json", params={"all": "true"})
            assert len(answer.json()) >= number

        async def checked() -> None:
            check = await agent.live_check()
            assert not check.runtime_error

        for warm in (raw, checked):
            await warm()
        # Turn about, so that both meet the same load of the machine.
        raws, checks = [], []
        for _ in range(15):
            raws += await timed(raw, 1)
            checks += await timed(checked, 1)
    what = f"node: live check, {number} containers"
    return [
        Figure(group="node-live", what=what, values=checks, aim=Aim(under=1.3 * percentile(raws, 50)),
               note="Aimed at: 1.3 times one raw listing."),
        Figure(group="node-live", what=what, who="podman's listing (REST)", values=raws),
    ]  # fmt: skip


async def one_deploy(agent: NodeAgent, options: AgentOptions) -> list[Figure]:
    """A replacement of one container, against the same steps given to podman by hand (the same way: REST)."""
    runtime = PodmanApi(options)
    name = f"{NAME}-raw"
    request = agent._engine.context.request
    made = await agent._engine.context.made(NAME, component("raw"))
    raws, ours = [], []
    await runtime.run(request(made, name=name, generation=1, operation="x"))
    await deploy(agent, ServiceDef(f"{NAME}-one", (component("c"),)))
    for index in range(15):
        began = time.perf_counter()
        await runtime.image(IMAGE)
        await runtime.create(request(made, name=f"{name}.new", generation=1, operation="x"))
        await runtime.stop(name, grace_seconds=0)
        await runtime.start(f"{name}.new")
        await runtime.remove(name)
        await runtime.rename(f"{name}.new", name)
        raws.append((time.perf_counter() - began) * 1000)
        ours.append(1000 * await deploy(agent, ServiceDef(f"{NAME}-one", (component("c", env=str(index + 1)),))))
    await runtime.remove(name)
    await runtime.aclose()
    what = "node: deploy of one component"
    note = "100 ms of it are the look whether it goes on running. Aimed at: the raw steps and 150 ms."
    return [
        Figure(group="node-deploy", what=what, values=ours, aim=Aim(under=percentile(raws, 50) + 150), note=note),
        Figure(group="node-deploy", what=what, who="podman's raw steps (REST)", values=raws),
    ]


async def deaths(agent: NodeAgent, number: int = 40) -> list[Figure]:
    service = ServiceDef(f"{NAME}-mortal", tuple(component(f"m{i}") for i in range(number)))
    await deploy(agent, service)
    await agent._engine.monitor.looked()
    took = []
    for record in (await agent.list_services(service=service.name))[0].components:
        os.kill(record.observed.pid, signal.SIGKILL)
        killed = time.perf_counter()
        with anyio.fail_after(10):
            while True:
                found = [
                    e async for e in agent.events(service=service.name, component=record.name, limit=5)
                    if e.kind == "state" and e.to_state == "exited"
                ]  # fmt: skip
                if found:
                    break
                await anyio.sleep(0.005)
        # When it is there to be read: the event's own time is taken before it is written.
        took.append((time.perf_counter() - killed) * 1000)
        # podman cleans up after each death in a process of its own, which two cores would share with the next.
        await anyio.sleep(0.3)
    await agent.purge_service(service.name, Mutation())
    what = "node: death of a container until recorded"
    return [Figure(group="node-death", what=what, values=took, aim=Aim(under=100, statistic="p95"))]


async def at_once(agent: NodeAgent, number: int = 20) -> list[Figure]:
    """Components whose start takes a while (a healthcheck passes after a second, as of a real service)."""
    check = Healthcheck(("/bin/sh", "-c", "test -e /tmp/up"), interval=1, timeout=2)
    cmd = ("sh", "-c", "sleep 1; touch /tmp/up; exec sleep 100000")

    def of(name: str) -> ComponentSpec:
        return replace(component(name, cmd=cmd), healthcheck=check)

    serial = 0.0
    for index in range(number):
        serial += await deploy(agent, ServiceDef(f"{NAME}-s{index}", (of("c"),)))
    took = await deploy(agent, ServiceDef(f"{NAME}-p", tuple(of(f"c{index}") for index in range(number))))
    for index in range(number):
        await agent.purge_service(f"{NAME}-s{index}", Mutation())
    await agent.purge_service(f"{NAME}-p", Mutation())
    what = f"node: {number} components whose start takes a second"
    return [
        Figure(group="node-at-once", what=f"{what}, at once", unit="s", values=[took], aim=Aim(under=0.4 * serial),
               note="Aimed at: 40 % of the serial time."),
        Figure(group="node-at-once", what=what, who="one after the other", unit="s", values=[serial]),
    ]  # fmt: skip


def idle(folder: Path, socket: Path, number: int) -> list[Figure]:
    """`qd node serve` as it comes, with all those containers, doing nothing for a minute."""
    made = NodeProcess("bench", folder, podman_env.free_port(), Person(folder))
    made.init(socket, tuned=False)
    made.start()
    try:
        assert made.process is not None
        watched = psutil.Process(made.process.pid)
        time.sleep(10)
        before = watched.cpu_times()
        time.sleep(IDLE_SECONDS)
        after = watched.cpu_times()
        memory = watched.memory_info().rss / 1e6
    finally:
        made.stop()
    used = (after.user + after.system - before.user - before.system) / IDLE_SECONDS * 100
    what = f"node: daemon at rest, {number} containers"
    return [
        Figure(group="node-idle", what=f"{what}: CPU", unit="%", values=[used], aim=Aim(under=1)),
        Figure(group="node-memory", what=f"{what}: RSS", unit="MB", values=[memory], aim=Aim(under=80)),
    ]


@contextlib.contextmanager
def place() -> Iterator[tuple[AgentOptions, Path]]:
    """A folder and a podman service; everything is removed afterwards."""
    podman_env.require_podman()
    podman_env.sweep(NAME)
    with tempfile.TemporaryDirectory() as name, podman_env.service(Path(name)) as socket:
        folder = Path(name)
        monitor = MonitorOptions(list_seconds=600)
        try:
            yield AgentOptions(folder / "state", "bench", folder / "srv", socket=socket, monitor=monitor), folder
        finally:
            podman_env.sweep(NAME)


@contextlib.asynccontextmanager
async def crowd(options: AgentOptions, number: int) -> AsyncIterator[NodeAgent]:
    """An agent with so many running containers."""
    # Without the monitor: what it asks meanwhile is not what a list or a check asks.
    async with NodeAgent.open(replace(options, monitor=MonitorOptions(enabled=False))) as agent:
        for index in range(0, number, 20):
            names = [f"c{each}" for each in range(index, min(index + 20, number))]
            await deploy(agent, ServiceDef(f"{NAME}{index}", tuple(component(each) for each in names)))
        yield agent


async def measure(number: int, n: int) -> list[Figure]:
    """Everything, with so many containers; and so many times `qd service ps` over simulated nodes."""
    figures = await anyio.to_thread.run_sync(node_ps.measure, n)
    try:
        with place() as (options, folder):
            async with NodeAgent.open(options) as agent:
                figures += await one_deploy(agent, options)
                figures += await deaths(agent)
                figures += await at_once(agent)
            async with crowd(options, number) as agent:
                figures += await listing(agent, number)
                figures += await live(agent, options, number)
            assert options.socket is not None
            figures += await anyio.to_thread.run_sync(idle, folder, options.socket, number)
    except pytest.skip.Exception as skipped:
        figures.append(Figure(group="node", what="node: everything with podman", failed=str(skipped)))
    return figures
