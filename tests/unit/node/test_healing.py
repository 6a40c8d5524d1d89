"""What the agent does by itself, and when it must not: paused, overtaken by somebody, or told something old."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import anyio
import pytest

from quarterdeck.errors import Unavailable
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Healthcheck, Mutation, ServiceDef
from quarterdeck.node.options import AgentOptions, MonitorOptions
from quarterdeck.node.podman_api import PodmanApi
from quarterdeck.node.runtime import Container
from support.node_agent import component, deployed, events, until
from support.podman_env import podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def state(name: str) -> str:
    return podman("inspect", "--format", "{{.State.Status}}", name)


def kill(name: str) -> None:
    os.kill(int(podman("inspect", "--format", "{{.State.Pid}}", name)), signal.SIGKILL)


@pytest.mark.parametrize("how", ["pause", "drain"])
async def test_a_restart_that_waits_its_turn_heeds_a_pause_and_a_drain(
    options: AgentOptions, name: str, how: str
) -> None:
    slow = replace(options, monitor=MonitorOptions(list_seconds=0.3, backoff_seconds=5))
    async with NodeAgent.open(slow) as agent:
        await deployed(agent, ServiceDef(name, (component("c"),)))
        await agent._engine.monitor.looked()
        kill(f"{name}-c")
        await until(agent, name, "state")
        await (agent.pause(Mutation()) if how == "pause" else agent.drain(Mutation(), stop=True))
        await anyio.sleep(6)
        assert await events(agent, name, "restart") == []
        assert state(f"{name}-c") == "exited"
        await agent.resume(Mutation())
        with anyio.fail_after(40):
            while state(f"{name}-c") != "running":
                await anyio.sleep(0.05)


async def test_enforcing_leaves_alone_what_somebody_changed_meanwhile(options: AgentOptions, name: str) -> None:
    service = ServiceDef(name, (component("a"), component("b", env={"V": "1"})), enforce=True)
    async with NodeAgent.open(options) as agent:
        await deployed(agent, service)
        healer = agent._engine.monitor._healer
        before = (await agent.list_services(service=name))[0]
        podman("kill", f"{name}-a")
        gone = (await agent.get_service_status(name)).service.component("a")
        # The look was taken; somebody stops one and deploys the other before the agent comes to act on it.
        await agent.stop_service(name, Mutation(), component="a")
        await deployed(agent, replace(service, components=(replace(service.components[1], env={"V": "2"}),)))
        drifted = before.component("b")
        assert drifted is not None
        drifted = replace(drifted, observed=replace(drifted.observed, spec_hash="another"))
        assert gone is not None
        gone = replace(gone, spec=replace(gone.spec, restart="no"))
        await healer.consider(before, gone, paused=False, first=False)
        await healer.consider(before, drifted, paused=False, first=False)
        await anyio.sleep(0.5)
        await agent._engine.operations.drained()
        assert dict((await agent.export(name)).components[0].env) == {"V": "2"}
        assert [each.name for each in (await agent.list_services(service=name))[0].components] == ["b"]
        assert "V=2" in podman("inspect", "--format", "{{.Config.Env}}", f"{name}-b")


async def test_a_listing_older_than_a_stop_changes_nothing(
    agent: NodeAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(agent, ServiceDef(name, (component("a"),)))
    # The agent's own looks after a deploy are over: the next listing is the one of the check.
    await agent._engine.monitor.looked()
    await anyio.sleep(0.3)
    real, overtaken = PodmanApi.list, False

    async def slow(self: PodmanApi) -> tuple[Container, ...]:
        nonlocal overtaken
        found = await real(self)
        if not overtaken:
            overtaken = True
            await agent.stop_service(name, Mutation())
        return found

    monkeypatch.setattr(PodmanApi, "list", slow)
    check = await agent.live_check(service=name)
    assert [each.observed.state for each in check.components] == ["exited"]
    await agent.live_check(service=name)
    told = [(each.from_state, each.to_state) for each in await events(agent, name, "state")]
    assert told == [("running", "exited")]


@pytest.mark.parametrize("runtime", ["api", "cli"])
async def test_a_healthcheck_that_hangs_is_unhealthy_and_does_not_stall_the_others(
    options: AgentOptions, name: str, runtime: Literal["api", "cli"]
) -> None:
    script = "test ! -e /tmp/hang || sleep 600; test ! -e /tmp/ill"
    check = Healthcheck(("/bin/sh", "-c", script), interval=0.5, retries=2, timeout=5)
    async with NodeAgent.open(replace(options, parallel=2, runtime=runtime)) as agent:
        hanging = [component(f"h{i}", healthcheck=check) for i in range(2)]
        await deployed(agent, ServiceDef(name, (*hanging, component("c", healthcheck=check))))
        for each in ("h0", "h1"):
            podman("exec", f"{name}-{each}", "touch", "/tmp/hang")
        podman("exec", f"{name}-c", "touch", "/tmp/ill")
        with anyio.fail_after(60):
            while {e.component for e in await events(agent, name, "health") if e.to_state == "unhealthy"} != {
                "h0", "h1", "c"
            }:  # fmt: skip
                await anyio.sleep(0.1)
        # A new one that hangs is not well either, and its old one goes on.
        stuck = component("c", env={"V": "2"}, healthcheck=replace(check, command=("/bin/sleep", "600")))
        began = time.monotonic()
        result = [each async for each in agent.deploy(ServiceDef(name, (stuck,)), Mutation(), components=["c"])]
        assert result[-1].final is not None
        assert result[-1].final.components[0].outcome == "restored"
        assert time.monotonic() - began < 60


async def test_figures_that_cannot_be_had_leave_the_states_known(
    agent: NodeAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(agent, ServiceDef(name, (component("a"),)))

    async def none(self: PodmanApi) -> Mapping[str, object]:
        raise Unavailable("podman was asked for figures and failed")

    monkeypatch.setattr(PodmanApi, "usage", none)
    check = await agent.live_check(usage=True)
    assert check.runtime_error == ""
    assert [each.observed.state for each in check.components if each.service == name] == ["running"]


async def test_following_from_now_tells_nothing_old(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("a"),)))
    seen: list[str] = []

    async def follow() -> None:
        async for each in agent.events(service=name, limit=0, follow=True):
            seen.append(each.kind)

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.sleep(1.3)
        assert seen == []
        await agent.stop_service(name, Mutation())
        with anyio.fail_after(5):
            while "stop" not in seen:
                await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    assert "deploy" not in seen
