"""A tag that moves: history knows which image ran, and a rollback goes back to that, on real podman."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quarterdeck.errors import NotFound
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Mutation, ServiceDef
from quarterdeck.node.results import DeployPlan, HistoryEntry, ServiceResult
from quarterdeck.node.rollback import rollback_target
from support.node_agent import component, deployed
from support.podman_env import IMAGE, IMAGE_2, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


@pytest.fixture
def tag(name: str) -> Iterator[str]:
    """A tag of this test's own that leads to the first image."""
    reference = f"localhost/{name}:latest"
    podman("tag", IMAGE, reference)
    yield reference
    podman("rm", "-f", "-t", "0", f"{name}-a", check=False)
    podman("untag", reference, reference, check=False)


def image_id(reference: str) -> str:
    return "sha256:" + podman("image", "inspect", "--format", "{{.Id}}", reference)


def runs(container: str) -> str:
    return "sha256:" + podman("inspect", "--format", "{{.Image}}", container)


async def back(agent: NodeAgent, name: str, generation: int | None = None) -> ServiceResult:
    final = [each async for each in agent.rollback(name, Mutation(), generation=generation)][-1].final
    assert final is not None
    return final


async def planned(agent: NodeAgent, name: str, generation: int | None = None) -> DeployPlan:
    steps = [e async for e in agent.rollback(name, Mutation(), generation=generation, plan_only=True)]
    assert steps[-1].plan is not None
    return steps[-1].plan


async def moved(agent: NodeAgent, name: str, tag: str) -> ServiceDef:
    """A service of which two generations differ in the image behind their tag alone."""
    service = ServiceDef(name, (component("a", image=tag),))
    await deployed(agent, service)
    podman("tag", IMAGE_2, tag)
    await deployed(agent, service)
    assert runs(f"{name}-a") == image_id(IMAGE_2)
    return service


@pytest.mark.parametrize("generation", [None, 1])
async def test_a_rollback_runs_the_image_that_ran(
    agent: NodeAgent, name: str, tag: str, generation: int | None
) -> None:
    service = await moved(agent, name, tag)
    entries = await agent.history(name)
    assert [each.images for each in entries] == [{"a": image_id(IMAGE_2)}, {"a": image_id(IMAGE)}]
    assert [each.action for each in (await planned(agent, name, generation)).actions] == ["replace"]
    result = await back(agent, name, generation)
    assert [each.outcome for each in result.components] == ["replaced"]
    assert runs(f"{name}-a") == image_id(IMAGE)
    status = await agent.get_service_status(name)
    assert status.drift == ()
    assert status.service.components[0].spec == service.components[0]
    assert (await agent.history(name))[0].images == {"a": image_id(IMAGE)}
    # Also when it must be made anew.
    podman("rm", "-f", "-t", "0", f"{name}-a")
    assert (await agent.start_service(name, Mutation())).ok
    assert runs(f"{name}-a") == image_id(IMAGE)
    assert (await agent.get_service_status(name)).drift == ()
    # The tag still means the other one, and a deploy takes what the tag means.
    await deployed(agent, service)
    assert runs(f"{name}-a") == image_id(IMAGE_2)


async def test_a_rollback_to_an_image_that_is_gone_says_so(agent: NodeAgent, name: str, tag: str) -> None:
    await moved(agent, name, tag)
    gone = "sha256:" + "1" * 64
    entry = (await agent.history(name))[1]
    await agent._engine.context.store.write(
        lambda registry: registry.add_history(entry.definition, 1, entry.at, "", ok=True, images={"a": gone})
    )
    result = await back(agent, name, 1)
    assert [each.outcome for each in result.components] == ["failed"]
    assert "is not on the node any more" in result.components[0].message
    assert runs(f"{name}-a") == image_id(IMAGE_2)
    assert podman("inspect", "--format", "{{.State.Status}}", f"{name}-a") == "running"


def test_the_generation_before_is_one_of_another_image() -> None:
    service = ServiceDef("s", (component("a"),))

    def entry(generation: int, image: str, *, current: bool = False) -> HistoryEntry:
        return HistoryEntry("s", generation, 0, "", True, current, service, {"a": image} if image else {})

    entries = [entry(4, "two", current=True), entry(3, "two"), entry(2, "one")]
    assert rollback_target("s", entries, 4, None).generation == 2
    with pytest.raises(NotFound, match="history of 's' has no earlier generation that went well"):
        # What an older version deployed: nobody knows whether it was another image.
        rollback_target("s", [entry(4, "two", current=True), entry(3, "")], 4, None)
