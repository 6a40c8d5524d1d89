"""Figures of the node agent against podman itself, in one run, on this machine.

    python -m benchmarks.node [--containers 200] [--json FILE]

Needs real podman (as the tests do). Every container is named `qdbench-*` and removed at the end. Exit code 1
when a figure misses its target.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import httpx2
import msgspec
import psutil

from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import ComponentSpec, Healthcheck, Mutation, ServiceDef
from quarterdeck.node.options import AgentOptions, MonitorOptions
from quarterdeck.node.podman_api import PodmanApi
from quarterdeck.node.runtime import Runtime
from support import podman_env
from support.podman_env import IMAGE, podman

NAME = "qdbench"
IDLE_SECONDS = 60


@dataclass
class Figure:
    """One measured figure; `target` is the most it may be."""

    name: str
    value: float
    target: float
    unit: str
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.value <= self.target


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


async def median(work: object, times: int) -> float:
    """The median of so many runs, in seconds."""
    assert callable(work)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


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

    took, first = await median(work, 50), await median(cold, 50)
    context.runtime = counting._inner
    return [
        Figure(f"list, {number} components", took * 1000, 10, "ms", f"{first * 1000:.1f} ms after a change"),
        Figure("list, calls to podman", counting.calls, 0, "calls"),
    ]


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
            raws.append(await median(raw, 1))
            checks.append(await median(checked, 1))
    base, took = statistics.median(raws), statistics.median(checks)
    note = f"{took * 1000:.0f} ms against {base * 1000:.0f} ms"
    return [Figure(f"live check, {number} containers, over one raw listing", took / base, 1.3, "times", note)]


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
        raws.append(time.perf_counter() - began)
        ours.append(await deploy(agent, ServiceDef(f"{NAME}-one", (component("c", env=str(index + 1)),))))
    await runtime.remove(name)
    await runtime.aclose()
    base, took = statistics.median(raws) * 1000, statistics.median(ours) * 1000
    note = f"{took:.0f} ms against {base:.0f} ms; 100 ms of it the look whether it goes on running"
    return [Figure("deploy of one component, over the raw steps", took - base, 150, "ms", note)]


async def deaths(agent: NodeAgent, number: int = 40) -> list[Figure]:
    service = ServiceDef(f"{NAME}-mortal", tuple(component(f"m{i}") for i in range(number)))
    await deploy(agent, service)
    await agent._engine.monitor.looked()
    took = []
    for record in (await agent.list_services(service=service.name))[0].components:
        os.kill(record.observed.pid, signal.SIGKILL)
        killed = time.time()
        with anyio.fail_after(10):
            while True:
                found = [
                    e async for e in agent.events(service=service.name, component=record.name, limit=5)
                    if e.kind == "state" and e.to_state == "exited"
                ]  # fmt: skip
                if found:
                    break
                await anyio.sleep(0.005)
        took.append((found[-1].at - killed) * 1000)
    took.sort()
    p95 = took[int(len(took) * 0.95) - 1]
    note = f"median {statistics.median(took):.0f} ms, {number} deaths"
    await agent.purge_service(service.name, Mutation())
    return [Figure("death of a container until recorded, p95", p95, 100, "ms", note)]


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
    note = f"{took:.1f} s against {serial:.1f} s"
    return [Figure(f"{number} components at once, of the serial time", took / serial * 100, 40, "%", note)]


def idle(options: AgentOptions, folder: Path, number: int) -> list[Figure]:
    """A daemon of its own with all those containers, doing nothing for a minute."""
    script = (
        "import sys, anyio, msgspec\n"
        "from pathlib import Path\n"
        "from quarterdeck.node.agent import NodeAgent\n"
        "from quarterdeck.node.options import AgentOptions\n"
        "options = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=AgentOptions,"
        " dec_hook=lambda kind, value: kind(value))\n"
        "async def main():\n"
        "    async with NodeAgent.open(options) as agent:\n"
        "        await agent._engine.monitor.looked()\n"
        "        print('ready', flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "anyio.run(main)\n"
    )
    (folder / "options.json").write_bytes(msgspec.json.encode(replace(options, monitor=MonitorOptions()), enc_hook=str))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "options.json")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        watched = psutil.Process(process.pid)
        time.sleep(5)
        before = watched.cpu_times()
        time.sleep(IDLE_SECONDS)
        after = watched.cpu_times()
        memory = watched.memory_info().rss / 1e6
    finally:
        process.terminate()
        process.wait(10)
    used = (after.user + after.system - before.user - before.system) / IDLE_SECONDS * 100
    return [
        Figure(f"idle, {number} containers", used, 1, "% of a core"),
        Figure("memory of the agent (without gRPC)", memory, 80, "MB"),
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


async def run(number: int) -> list[Figure]:
    figures: list[Figure] = []
    with place() as (options, folder):
        async with NodeAgent.open(options) as agent:
            figures += await one_deploy(agent, options)
            figures += await deaths(agent)
            figures += await at_once(agent)
        async with crowd(options, number) as agent:
            figures += await listing(agent, number)
            figures += await live(agent, options, number)
        figures += await anyio.to_thread.run_sync(idle, options, folder, number)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = anyio.run(run, arguments.containers)
    print(f"podman {podman('--version').split()[-1]}, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    for each in figures:
        mark = "ok  " if each.ok else "MISS"
        print(f"{mark} {each.name:52} {each.value:9.2f} {each.unit:12} (at most {each.target:g}) {each.note}")
    if arguments.json:
        rows = [{"name": e.name, "value": e.value, "target": e.target, "unit": e.unit, "ok": e.ok} for e in figures]
        arguments.json.write_text(json.dumps(rows, indent=2))
    return 0 if all(each.ok for each in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
