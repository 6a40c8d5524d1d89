"""A node agent in a process of its own, told what to do on its command line; the fault tests kill it.

    node_daemon.py OPTIONS.json WORK.json

It says `ready` before the work and `done` after it; between them `reached` when a deploy comes to the step that the
task names with `until`, or when a secret was taken out to be made anew (there it waits).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from quarterdeck.node import podman_secrets
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Mutation, ServiceDef
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.results import PushRequest


async def work(agent: NodeAgent, task: dict[str, object]) -> None:
    """Do what the task says."""
    mutation = Mutation(operation_id=str(task["operation"]))
    name = str(task.get("service", ""))
    match task["kind"]:
        case "deploy":
            definition = msgspec.convert(task["definition"], ServiceDef)
            async for each in agent.deploy(definition, mutation):
                if each.step == task.get("until"):
                    print("reached", flush=True)
        case "set-secret":
            wait_when_removed(name)
            await agent.set_secret(name, b"the new value", mutation)
        case "stop":
            await agent.stop_service(name, mutation, component=str(task.get("component", "")))
        case "start":
            await agent.start_service(name, mutation, component=str(task.get("component", "")))
        case "restart":
            await agent.restart_service(name, mutation)
        case "rollback":
            async for _ in agent.rollback(name, mutation, generation=int(str(task["generation"]))):
                pass
        case "sync":
            definitions = msgspec.convert(task["definitions"], list[ServiceDef])
            await agent.sync_desired_state(definitions, mutation, apply=True)
        case "purge":
            await agent.purge_service(name, mutation, files=True)
        case "adopt":
            await agent.adopt_containers(name, mutation)
        case "push":
            size = int(str(task["size"]))

            async def chunks() -> AsyncIterator[bytes]:
                for _ in range(size // 65536):
                    yield b"new!" * 16384
                    await anyio.sleep(0.001)

            await agent.push_file(PushRequest(name, "data/file.bin", size, str(task["sha256"])), chunks(), mutation)
        case "snapshot":
            for _ in range(20):
                await agent.snapshot()
        case other:
            raise AssertionError(other)


def wait_when_removed(name: str) -> None:
    """Let the replacing of a secret go on no further than where there is none."""
    put = podman_secrets.put

    async def halting(called: str, *, remove: Callable[[str], Awaitable[None]], **more: Any) -> None:
        async def removed(gone: str) -> None:
            await remove(gone)
            if gone == name:
                print("reached", flush=True)
                await anyio.sleep_forever()

        await put(called, remove=removed, **more)

    podman_secrets.put = halting


async def main() -> None:
    """Open the agent, work, wait to be killed."""
    options = msgspec.json.decode(
        Path(sys.argv[1]).read_bytes(), type=AgentOptions, dec_hook=lambda kind, value: kind(value)
    )
    task = msgspec.json.decode(Path(sys.argv[2]).read_bytes())
    async with NodeAgent.open(options) as agent:
        print("ready", flush=True)
        await work(agent, task)
        print("done", flush=True)
        await anyio.sleep_forever()


anyio.run(main)
