"""What goes wrong inside the agent stays where it is: a full disk, a podman that cannot, a task that fails."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from quarterdeck.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, StorageRefused, Unavailable
from quarterdeck.node import swap
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Mutation, ServiceDef
from quarterdeck.node.options import AgentOptions, MonitorOptions
from quarterdeck.node.podman_api import PodmanApi
from quarterdeck.node.results import PushRequest
from support.node_agent import component, deployed
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def pid(name: str) -> int:
    return int(podman("inspect", "--format", "{{.State.Pid}}", name))


def read_only(agent: NodeAgent, *, on: bool) -> None:
    """What a full disk is to the registry: reads go on, no write does."""
    agent._engine.context.store._db.execute(f"PRAGMA query_only = {int(on)}")


async def test_a_full_disk_ends_nothing_and_podman_is_not_blamed(options: AgentOptions, name: str) -> None:
    quick = replace(options, lease_seconds=3, monitor=MonitorOptions(list_seconds=0.2, backoff_seconds=0.05))
    async with NodeAgent.open(quick) as agent:
        await deployed(agent, ServiceDef(name, (component("a"), component("b", restart="no"))))
        read_only(agent, on=True)
        os.kill(pid(f"{name}-a"), signal.SIGKILL)
        with pytest.raises(StorageRefused):
            await agent.stop_service(name, Mutation())
        await anyio.sleep(2)
        assert [each.name for each in await agent.list_services()] == [name]
        read_only(agent, on=False)
        with anyio.fail_after(40):
            while podman("inspect", "--format", "{{.State.Status}}", f"{name}-a") != "running":
                await anyio.sleep(0.05)
        assert "runtime" not in [each.kind async for each in agent.events(limit=1000)]


async def test_an_answer_that_the_disk_does_not_take_is_told_and_written_later(
    options: AgentOptions, name: str
) -> None:
    async with NodeAgent.open(replace(options, lease_seconds=0.3)) as agent:
        store = agent._engine.context.store
        work = agent._engine.operations

        async def fill(live: object) -> str:
            read_only(agent, on=True)
            return "done"

        asked = ("odd", [name], Mutation(operation_id=f"{name}-o"), {}, str, fill)
        assert await work.run(*asked) == "done"
        # It is over, and the answer is there for whoever asks again.
        assert not work.busy(name)
        assert await work.run(*asked) == "done"
        assert [each.id for each in await store.read(lambda registry: registry.running_operations())] == [f"{name}-o"]
        read_only(agent, on=False)
        with anyio.fail_after(10):
            while await store.read(lambda registry: registry.running_operations()):
                await anyio.sleep(0.05)
        assert await work.run(*asked) == "done"


async def test_a_foreign_mistake_in_a_task_of_the_agent_ends_only_that(
    options: AgentOptions, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with NodeAgent.open(options) as agent:
        await deployed(agent, ServiceDef(name, (component("a", restart="no"),)))
        await agent._engine.monitor.looked()
        inspect = PodmanApi.inspect

        async def broken(self: PodmanApi, name: str) -> object:
            raise KeyError("Id")

        monkeypatch.setattr(PodmanApi, "inspect", broken)
        os.kill(pid(f"{name}-a"), signal.SIGKILL)
        await anyio.sleep(0.5)
        monkeypatch.setattr(PodmanApi, "inspect", inspect)
        await agent._engine.monitor.looked()
        assert (await agent.list_services(service=name))[0].components[0].observed.state == "exited"


async def test_recovery_tells_a_full_disk_from_a_silent_podman(
    options: AgentOptions, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with NodeAgent.open(options) as agent:
        await deployed(agent, ServiceDef(name, (component("a"),)))

    async def full(context: object) -> int:
        raise StorageRefused("the registry cannot be written (disk is full)")

    monkeypatch.setattr("quarterdeck.node.recovery.recover", full)
    async with NodeAgent.open(options) as agent:
        with pytest.raises(StorageRefused, match="disk is full"):
            await agent.stop_service(name, Mutation(wait_seconds=0.1))
    silent = replace(options, runtime="api", socket=options.state_dir / "none.sock")
    async with NodeAgent.open(silent) as agent:
        with pytest.raises(Unavailable, match="podman does not answer"):
            await agent.stop_service(name, Mutation(wait_seconds=0.1))


async def test_a_container_that_podman_cannot_remove_does_not_keep_the_node_from_its_work(
    options: AgentOptions, name: str
) -> None:
    service = ServiceDef(name, (component("a"),))
    async with NodeAgent.open(options) as agent:
        await deployed(agent, service)
        label = f"io.quarterdeck.node={agent._engine.context.node_id}"
    half = f"{name}-a.qd-new"
    podman("create", "--label", label, "--network", "none", "--name", half, IMAGE, "sleep", "600")
    # Podman refuses to remove a container whose network another one uses.
    podman("create", "--network", f"container:{half}", "--name", f"{name}-z", IMAGE, "sleep", "600")
    async with NodeAgent.open(options) as agent:
        result = await agent.stop_service(name, Mutation(wait_seconds=0.5))
        assert result.ok
        told = [each async for each in agent.events(service=name) if each.kind == "recovered"]
        assert half.removesuffix(".qd-new") in told[-1].message
        assert "dependent" in told[-1].message
    podman("rm", "-f", "-t0", f"{name}-z")


async def test_an_expected_generation_is_checked_wherever_a_service_is_meant(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("a"),))
    await deployed(agent, service)

    async def content() -> AsyncIterator[bytes]:
        yield b"abc"

    right, wrong = Mutation(expected_generation=1), Mutation(expected_generation=7)
    await agent.pause(right, service=name)
    await agent.resume(right, service=name)
    await agent.push_file(PushRequest(name, "f", 3), content(), right)
    with pytest.raises(PreconditionFailed, match="generation 1, not 7"):
        await agent.pause(wrong, service=name)
    with pytest.raises(PreconditionFailed, match="generation 1, not 7"):
        await agent.push_file(PushRequest(name, "f", 3), content(), wrong)
    with pytest.raises(PreconditionFailed, match="generation 1, not 7"):
        await agent.sync_desired_state([replace(service, enforce=True)], wrong)
    assert not (await agent.list_services(service=name))[0].enforce
    two = [service, ServiceDef(f"{name}x", (component("a"),))]
    for call in (
        agent.sync_desired_state(two, right), agent.drain(right), agent.pause(right), agent.restore("x", right),
        agent.set_secret(f"{name}s", b"value", right), agent.snapshot(right),
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match="expected of one service"):
            await call
    assert not (await agent.node_info()).draining
    assert await agent.list_snapshots() == ()


async def test_a_snapshot_and_a_restore_asked_for_twice_are_done_once(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("a", env={"V": "1"}),)))
    taken = [await agent.snapshot(Mutation(operation_id=f"{name}-t")) for _ in range(2)]
    assert taken[0] == taken[1]
    assert len(await agent.list_snapshots()) == 1
    await deployed(agent, ServiceDef(name, (component("a", env={"V": "2"}),)))
    first = await agent.restore(taken[0].path, Mutation(operation_id=f"{name}-r"))
    await deployed(agent, ServiceDef(name, (component("a", env={"V": "3"}),)))
    assert await agent.restore(taken[0].path, Mutation(operation_id=f"{name}-r")) == first
    assert dict((await agent.export(name)).components[0].env) == {"V": "3"}
    with pytest.raises(NotFound):
        await agent.restore("registry-none.sqlite3", Mutation())


async def test_a_restore_is_alone(agent: NodeAgent, name: str) -> None:
    slow = component("a", "sh", "-c", "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done", stop_seconds=10)
    await deployed(agent, ServiceDef(name, (slow,)))
    taken = await agent.snapshot()
    async with anyio.create_task_group() as group:
        group.start_soon(agent.stop_service, name, Mutation(actor="ann"))
        while not agent._engine.operations.busy(name):
            await anyio.sleep(0.01)
        with pytest.raises(Conflict, match=r"held by stop .* by ann"):
            await agent.restore(taken.path, Mutation(wait_seconds=0.1))
        await agent.restore(taken.path, Mutation())
    # The stop came to its end before the registry of then took its place.
    record = (await agent.list_services(service=name))[0]
    assert record.components[0].desired == "running"
    assert podman("inspect", "--format", "{{.State.Status}}", f"{name}-a") == "exited"


async def test_an_operation_that_hangs_loses_its_lease_and_leaves_nothing_half_way(
    options: AgentOptions, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (ServiceDef(name, (component("a", env={"V": value}),)) for value in "12")
    async with NodeAgent.open(replace(options, lease_seconds=3)) as agent:
        await deployed(agent, one)
        before = pid(f"{name}-a")

        async def hangs(*args: object, **more: object) -> object:
            await anyio.sleep_forever()
            raise AssertionError

        monkeypatch.setattr(swap.Swap, "_commit", hangs)
        with pytest.raises(Unavailable, match="no sign of life"), anyio.fail_after(40):
            [each async for each in agent.deploy(two, Mutation(operation_id=f"{name}-h"))]
        monkeypatch.undo()
        # What it had put in place is undone, and the next one needs not wait.
        assert podman("ps", "-a", "--format", "{{.Names}}", "--filter", f"name=^{name}") == f"{name}-a"
        assert "V=1" in podman("inspect", "--format", "{{.Config.Env}}", f"{name}-a")
        assert pid(f"{name}-a") != before
        with pytest.raises(Unavailable, match="no sign of life"):
            [each async for each in agent.deploy(two, Mutation(operation_id=f"{name}-h"))]
        await deployed(agent, two)
        # Slow is not dead: each step of podman's may take its own time, and so may a turn.
        slow = component("a", "sh", "-c", "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done", stop_seconds=15)
        await deployed(agent, ServiceDef(name, (slow,)))
        assert (await agent.stop_service(name, Mutation())).ok
