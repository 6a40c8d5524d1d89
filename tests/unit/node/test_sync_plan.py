"""What a sync says that it would do is what it does; and it forgets no container, on real podman."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Mutation, ServiceDef
from quarterdeck.node.results import SyncItem, SyncSummary
from support.node_agent import component, deployed
from support.podman_env import IMAGE, IMAGE_2, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def states(name: str) -> dict[str, str]:
    found = json.loads(podman("ps", "-a", "--format", "json", "--filter", f"name=^{name}") or "[]")
    return {each["Names"][0]: each["State"] for each in found}


def items(summary: SyncSummary, name: str) -> dict[str, SyncItem]:
    # Others' tests come and go on this machine.
    return {each.service: each for each in summary.items if each.service.startswith(name)}


@pytest.fixture
def tag(name: str) -> Iterator[str]:
    reference = f"localhost/{name}:latest"
    podman("tag", IMAGE, reference)
    yield reference
    if there := list(states(name)):
        podman("rm", "-f", "-t", "0", *there)
    podman("untag", reference, reference, check=False)


@pytest.mark.parametrize(("prune", "apply"), list(itertools.product((False, True), repeat=2)))
async def test_a_plan_says_what_the_same_flags_do(
    agent: NodeAgent, name: str, tag: str, prune: bool, apply: bool
) -> None:
    moved = ServiceDef(f"{name}-moved", (component("a", image=tag),))
    less = ServiceDef(f"{name}-less", (component("a"), component("b")))
    changed = ServiceDef(f"{name}-changed", (component("a"),))
    for each in (moved, less, changed, ServiceDef(f"{name}-gone", (component("a"), component("b")))):
        await deployed(agent, each)
    podman("tag", IMAGE_2, tag)
    podman("run", "-d", "--network", "none", "--name", f"{name}-foreign", IMAGE, "sleep", "600")
    wanted = [
        moved,
        replace(less, components=less.components[:1]),
        replace(changed, components=(component("a", env={"V": "2"}),)),
        ServiceDef(f"{name}-new", (component("a"),)),
        ServiceDef(f"{name}-off", (component("a"),), active=False),
    ]
    before, listed = states(name), await agent.list_services()
    planned = await agent.sync_desired_state(wanted, Mutation(), prune=prune, apply=apply, plan_only=True)
    assert planned.plan_only
    assert states(name) == before
    assert [(e.name, e.generation, len(e.components)) for e in await agent.list_services()] == [
        (e.name, e.generation, len(e.components)) for e in listed
    ]
    done = await agent.sync_desired_state(wanted, Mutation(), prune=prune, apply=apply)
    told = {key: (each.outcome, each.generation, each.changes) for key, each in items(planned, name).items()}
    assert told == {key: (each.outcome, each.generation, each.changes) for key, each in items(done, name).items()}
    assert planned.undefined == done.undefined
    assert (told[f"{name}-moved"][0], f"{name}-gone" in told) == ("updated" if apply else "unchanged", prune)
    if prune:
        assert items(planned, name)[f"{name}-gone"].message == f"{name}-gone-a, {name}-gone-b"
    else:
        assert f"{name}-gone" in planned.undefined
    assert (f"{name}-gone-a" in states(name)) == (not prune)
    assert (f"{name}-less-b" in states(name)) == (not prune)
    for summary in (planned, done):
        assert ("kept (remove with --prune): b" in items(summary, f"{name}-less")[f"{name}-less"].message) == (
            not prune
        )
    assert (f"{name}-new-a" in states(name)) == apply


@pytest.mark.parametrize("apply", [False, True])
async def test_a_component_that_is_defined_no_more_is_kept_until_it_is_pruned(
    agent: NodeAgent, name: str, apply: bool
) -> None:
    both = ServiceDef(name, (component("front"), component("back")))
    await deployed(agent, both)
    one = replace(both, components=both.components[:1])
    kept = items(await agent.sync_desired_state([one], Mutation(), apply=apply), name)[name]
    assert (kept.outcome, kept.message) == ("unchanged", "not defined, kept (remove with --prune): back")
    assert [each.name for each in (await agent.list_services(service=name))[0].components] == ["front", "back"]
    # It is known: put back into the definition, it is what runs.
    assert (await agent.plan(both)).changes_nothing
    pruned = items(await agent.sync_desired_state([one], Mutation(), prune=True), name)[name]
    assert (pruned.outcome, pruned.message) == ("updated", f"removed: {name}-back")
    assert states(name) == {f"{name}-front": "running"}
    assert [each.name for each in (await agent.list_services(service=name))[0].components] == ["front"]


async def test_a_container_of_ours_that_the_registry_lost_is_told_by_the_plan(agent: NodeAgent, name: str) -> None:
    both = ServiceDef(name, (component("front"), component("back")))
    await deployed(agent, both)
    await agent._engine.context.store.write(lambda registry: registry.remove_component(name, "back"))
    plan = await agent.plan(both)
    assert [(each.component, each.action) for each in plan.actions] == [("front", "keep"), ("back", "fail")]
    assert "adopt" in plan.actions[1].reason
    adopted = await agent.adopt_containers(name, Mutation())
    assert [(each.component, each.outcome) for each in adopted.containers] == [
        ("back", "adopted"), ("front", "unchanged"),
    ]  # fmt: skip
    await deployed(agent, both)
    assert states(name) == {f"{name}-front": "running", f"{name}-back": "running"}
