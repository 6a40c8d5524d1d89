"""What a deploy removes, and what one component's trouble leaves of the others, on real podman."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.node import preparing
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.deploy import Deploy
from quarterdeck.node.lease import Leased
from quarterdeck.node.model import ComponentSpec, Healthcheck, Mutation, Port, ServiceDef
from quarterdeck.node.removal import share_port
from quarterdeck.node.results import ServiceResult
from quarterdeck.node.runtime import CreateRequest
from support import podman_env
from support.node_agent import component, deployed, events
from support.podman_env import podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def web(name: str, port: int, *cmd: str) -> ComponentSpec:
    listening = ("sh", "-c", "exec httpd -f -p 80 -h /tmp")
    return component(name, *(cmd or listening), ports=(Port(port, 80, host_ip="127.0.0.1"),), network="")


async def deploy(agent: NodeAgent, service: ServiceDef) -> ServiceResult:
    final = [each async for each in agent.deploy(service, Mutation())][-1].final
    assert final is not None
    return final


def states(name: str) -> dict[str, str]:
    found = json.loads(podman("ps", "-a", "--format", "json", "--filter", f"name=^{name}") or "[]")
    return {each["Names"][0]: each["State"] for each in found}


def outcomes(result: ServiceResult) -> dict[str, str]:
    return {each.component: each.outcome for each in result.components}


async def test_a_renamed_component_takes_its_port_with_it(agent: NodeAgent, name: str) -> None:
    port = podman_env.free_port()
    await deployed(agent, ServiceDef(name, (web("front", port),)))
    result = await deploy(agent, ServiceDef(name, (web("web", port),)))
    assert outcomes(result) == {"web": "created", "front": "removed"}
    assert states(name) == {f"{name}-web": "running"}


async def test_what_a_failed_rename_would_have_removed_runs_on(agent: NodeAgent, name: str) -> None:
    port = podman_env.free_port()
    await deployed(agent, ServiceDef(name, (web("front", port), component("side"))))
    before = podman("inspect", "--format", "{{.Id}}", f"{name}-front")
    result = await deploy(agent, ServiceDef(name, (web("web", port, "sh", "-c", "exit 3"),)))
    assert outcomes(result) == {"web": "failed", "front": "skipped", "side": "skipped"}
    assert not result.ok
    assert states(name) == {f"{name}-front": "running", f"{name}-side": "running"}
    assert podman("inspect", "--format", "{{.Id}}", f"{name}-front") == before
    record = (await agent.list_services(service=name))[0].component("front")
    assert record is not None
    assert (record.desired, record.observed.state) == ("running", "running")
    # Once it is mended, the same definition removes them.
    assert outcomes(await deploy(agent, ServiceDef(name, (web("web", port),)))) == {
        "web": "created", "front": "removed", "side": "removed",
    }  # fmt: skip
    assert states(name) == {f"{name}-web": "running"}


async def test_one_whose_port_went_well_to_another_stays_stopped(agent: NodeAgent, name: str) -> None:
    port = podman_env.free_port()
    await deployed(agent, ServiceDef(name, (web("front", port),)))
    result = await deploy(agent, ServiceDef(name, (web("web", port), component("bad", "/none"))))
    assert outcomes(result) == {"web": "created", "bad": "failed", "front": "skipped"}
    assert "web has its port" in result.components[-1].message
    assert states(name) == {f"{name}-web": "running", f"{name}-front": "exited"}
    record = (await agent.list_services(service=name))[0].component("front")
    assert record is not None
    assert record.desired == "stopped"


def test_which_ports_are_the_same() -> None:
    def of(host: int, protocol: Any = "tcp", ip: str = "") -> ComponentSpec:
        return ComponentSpec("c", "i", ports=(Port(host, 80, protocol, ip),))

    assert share_port(of(1), of(1, ip="127.0.0.1"))
    assert share_port(of(1, ip="127.0.0.1"), of(1, ip="127.0.0.1"))
    assert not share_port(of(1, ip="127.0.0.1"), of(1, ip="127.0.0.2"))
    assert not share_port(of(1), of(1, "udp"))
    assert not share_port(of(1), of(2))


async def test_an_unexpected_error_stays_with_its_component(
    agent: NodeAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ServiceDef(name, tuple(component(each) for each in "abc"))
    await deployed(agent, first)
    real = Leased.start

    async def broken(self: Leased, container: str) -> None:
        details = await self.inspect(container)
        if details.container.labels["io.quarterdeck.component"] == "b" and details.container.name.endswith("-b"):
            monkeypatch.setattr(Leased, "start", real)
            raise ValueError("cannot convert float NaN to integer")
        await real(self, container)

    monkeypatch.setattr(Leased, "start", broken)
    result = await deploy(agent, replace(first, components=tuple(component(e, env={"V": "2"}) for e in "abc")))
    assert outcomes(result) == {"a": "replaced", "b": "restored", "c": "replaced"}
    assert "NaN" in result.components[1].message
    assert states(name) == dict.fromkeys((f"{name}-a", f"{name}-b", f"{name}-c"), "running")
    assert len(await events(agent, name, "deploy")) == 6


async def test_an_unexpected_error_while_creating_leaves_the_old_one(
    agent: NodeAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(agent, ServiceDef(name, (component("a"),)))
    before = podman("inspect", "--format", "{{.Id}}", f"{name}-a")

    async def broken(self: Leased, request: CreateRequest) -> str:
        raise ValueError("a bug")

    monkeypatch.setattr(Leased, "create", broken)
    result = await deploy(agent, ServiceDef(name, (component("a", env={"V": "2"}), component("b"))))
    assert outcomes(result) == {"a": "failed", "b": "failed"}
    assert states(name) == {f"{name}-a": "running"}
    assert podman("inspect", "--format", "{{.Id}}", f"{name}-a") == before


async def test_after_an_error_of_the_whole_the_service_is_brought_to_order(
    agent: NodeAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(agent, ServiceDef(name, (component("a"),)))
    before = podman("inspect", "--format", "{{.Id}}", f"{name}-a")

    async def broken(self: Deploy, *_: object) -> None:
        # As a task that is canceled half-way leaves it.
        podman("rename", f"{name}-a", f"{name}-a.qd-old")
        podman("stop", "-t", "0", f"{name}-a.qd-old")
        raise ValueError("a bug")

    monkeypatch.setattr(Deploy, "_component", broken)
    with pytest.raises(QuarterdeckError, match="a bug"):
        await deploy(agent, ServiceDef(name, (component("a", env={"V": "2"}),)))
    assert states(name) == {f"{name}-a": "running"}
    assert podman("inspect", "--format", "{{.Id}}", f"{name}-a") == before
    assert "given up" in (await events(agent, name, "recovered"))[0].message


@pytest.mark.parametrize("field", ["interval", "timeout", "start_period"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_time_is_a_finite_number(field: str, value: float) -> None:
    check = replace(Healthcheck(("true",)), **{field: value})
    with pytest.raises(InvalidInput, match="healthcheck"):
        preparing.checked(ServiceDef("s", (component("a", healthcheck=check),)))
