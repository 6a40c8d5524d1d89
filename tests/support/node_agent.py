"""What the tests of a whole agent on real podman share: a component, a deploy that goes well, its events."""

from __future__ import annotations

import anyio

from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import ComponentSpec, Event, Mutation, ServiceDef
from support.podman_env import IMAGE


def component(name: str, *cmd: str, **more: object) -> ComponentSpec:
    given: dict[str, object] = {"image": IMAGE, "network": "none", "stop_seconds": 0, **more}
    return ComponentSpec(name, cmd=cmd or ("sleep", "600"), **given)  # type: ignore[arg-type]


async def deployed(agent: NodeAgent, service: ServiceDef) -> None:
    final = [each async for each in agent.deploy(service, Mutation())][-1].final
    assert final is not None
    assert final.ok, final


async def events(agent: NodeAgent, name: str, *kinds: str) -> list[Event]:
    return [each async for each in agent.events(service=name, limit=1000) if not kinds or each.kind in kinds]


async def until(agent: NodeAgent, name: str, kind: str, *, number: int = 1, seconds: float = 15) -> list[Event]:
    with anyio.fail_after(seconds):
        while len(found := await events(agent, name, kind)) < number:
            await anyio.sleep(0.02)
    return found
