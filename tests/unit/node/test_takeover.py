"""Sync and adopt on real podman: what is there becomes what is known, and nothing is restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quarterdeck.errors import NotFound
from quarterdeck.node import takeover
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Limits, Mutation, Port, Secret, ServiceDef, Volume
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_real import real_spec
from support import podman_env
from support.node_agent import component
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def identity(name: str) -> str:
    return podman("inspect", "--format", "{{.Id}} {{.State.Pid}}", name)


async def test_foreign_containers_are_found_adopted_exported_and_deploy_to_the_same(
    agent: NodeAgent, name: str
) -> None:
    port = podman_env.free_port()
    podman("secret", "create", f"{name}-s", "-", stdin=b"s3cret-foreign")
    podman("run", "-d", "--name", name, "-p", f"{port}:80", "-v", f"{name}-vol:/data:ro", "-e", "MODE=live", "--memory",
           "64m", "--cpus", "0.5", "--secret", f"{name}-s,type=env,target=PW", "--stop-timeout", "0",
           "--label", "team=x", "--restart", "always", IMAGE, "sh", "-c", "httpd -f -p 80 -h /tmp")  # fmt: skip
    podman("create", "--name", f"{name}-job", "--network", "none", "--cap-add", "NET_ADMIN", "--stop-timeout", "0",
           IMAGE, "sleep", "5")  # fmt: skip
    before = identity(name)
    found = await agent.sync_desired_state([], Mutation())
    assert {each.service: each.outcome for each in found.items if each.service.startswith(name)} == {
        name: "ignored", f"{name}-job": "ignored",
    }  # fmt: skip
    listed = {each.name: each for each in await agent.list_services()}
    assert not listed[name].managed
    assert listed[name].components[0].desired == "ignore"
    with pytest.raises(NotFound):
        await agent.adopt_containers(f"{name}none", Mutation())
    adopted = await agent.adopt_containers(name, Mutation())
    by_name = {each.container_name: each for each in adopted.containers}
    assert (by_name[name].component, by_name[name].outcome, by_name[name].desired) == (name, "adopted", "running")
    assert by_name[f"{name}-job"].desired == "stopped"
    assert any("cap-add" in each for each in by_name[f"{name}-job"].warnings)
    assert identity(name) == before
    exported = await agent.export(name)
    main = exported.component(name)
    assert main is not None
    assert main.ports == (Port(port, 80),)
    assert main.volumes == (Volume(f"{name}-vol", "/data", ("ro",)),)
    assert (dict(main.env), main.limits, main.restart) == ({"MODE": "live"}, Limits(64 * 1024**2, 0.5, None), "always")
    assert (main.cmd, dict(main.labels), main.stop_seconds) == (
        ("sh", "-c", "httpd -f -p 80 -h /tmp"),
        {"team": "x"},
        0,
    )
    assert [(each.name, each.kind, each.target) for each in main.secrets] == [(f"{name}-s", "env", "PW")]
    told = repr(exported) + repr(await agent.get_service_status(name)) + repr(await agent.list_services())
    assert "s3cret-foreign" not in told
    assert [d for d in (await agent.get_service_status(name)).drift if d.component == name] == []
    final = [e async for e in agent.deploy(exported, Mutation(), components=[name])][-1].final
    assert final is not None
    assert final.components[0].outcome == "unchanged", final
    assert identity(name) == before
    again = await agent.adopt_containers(name, Mutation())
    assert {each.outcome for each in again.containers} == {"unchanged"}
    # A changed definition replaces the adopted container by one of ours.
    changed = replace(exported, components=tuple(replace(c, env={"MODE": "test"}) for c in exported.components))
    final = [e async for e in agent.deploy(changed, Mutation(), components=[name])][-1].final
    assert final is not None
    assert final.components[0].outcome == "replaced", final
    assert (await agent.get_service_status(name)).drift == ()


async def test_sync_says_exactly_what_it_changed(agent: NodeAgent, name: str) -> None:
    one, two = f"{name}1", f"{name}2"
    definitions = [ServiceDef(one, (component("a"),)), ServiceDef(two, (component("b"),), active=False)]
    planned = await agent.sync_desired_state(definitions, Mutation(), plan_only=True)
    assert {each.service: each.outcome for each in planned.items if each.service in (one, two)} == {
        one: "created", two: "created",
    }  # fmt: skip
    assert await agent.list_services() == ()
    done = await agent.sync_desired_state(definitions, Mutation())
    assert {each.service: (each.outcome, each.generation) for each in done.items if each.service in (one, two)} == {
        one: ("created", 1), two: ("created", 1),
    }  # fmt: skip
    listed = {each.name: each for each in await agent.list_services()}
    assert (listed[one].components[0].desired, listed[two].components[0].desired) == ("running", "stopped")
    assert listed[one].components[0].observed.state == "missing"
    again = await agent.sync_desired_state(definitions, Mutation())
    assert {each.outcome for each in again.items if each.service in (one, two)} == {"unchanged"}
    changed = [ServiceDef(one, (component("a", env={"X": "1"}),), active=False)]
    update = await agent.sync_desired_state(changed, Mutation())
    item = next(each for each in update.items if each.service == one)
    assert (item.outcome, item.generation) == ("updated", 2)
    assert [(c.field, c.before, c.after) for c in item.changes] == [
        ("active", "true", "false"), ("a.env.X", "", "1"), ("a.desired", "running", "stopped"),
    ]  # fmt: skip
    assert update.undefined == (two,)
    pruned = await agent.sync_desired_state(changed, Mutation(), prune=True)
    # Containers of other tests come and go, and are told as well.
    assert [e.service for e in pruned.items if e.outcome == "removed" and e.service in (one, two)] == [two]
    assert [each.name for each in await agent.list_services() if each.managed] == [one]


async def test_sync_with_apply_runs_what_it_says(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("a"),))
    await agent.sync_desired_state([service], Mutation(), apply=True)
    before = identity(f"{name}-a")
    await agent.sync_desired_state([service], Mutation(), apply=True)
    assert identity(f"{name}-a") == before
    await agent.sync_desired_state([replace(service, active=False)], Mutation(), apply=True)
    assert podman("inspect", "--format", "{{.State.Status}}", f"{name}-a") == "exited"
    drifted = ServiceDef(name, (component("a", env={"X": "1"}),))
    await agent.sync_desired_state([drifted], Mutation())
    kinds = {each.kind for each in (await agent.get_service_status(name)).drift}
    assert {"state", "spec", "config"} <= kinds
    assert (await agent.start_service(name, Mutation())).ok
    assert (await agent.get_service_status(name)).drift == ()


async def test_adopting_our_own_without_their_registry_tells_what_is_lost(
    agent: NodeAgent, options: AgentOptions, name: str
) -> None:
    folder = options.files_root / name
    folder.mkdir(parents=True)
    (folder / "private.env").write_text("TOKEN=s3cret-token\n")
    (folder / "private.env").chmod(0o600)
    await agent.set_secret(f"{name}s", b"s3cret-value", Mutation())
    secrets = (Secret(f"{name}s", "env", "PW"),)
    spec = component("a", env={"MODE": "x"}, env_files=("private.env",), secrets=secrets)
    [each async for each in agent.deploy(ServiceDef(name, (spec,)), Mutation())]
    await agent._engine.context.store.write(lambda registry: registry.remove_service(name))
    result = await agent.adopt_containers(name, Mutation())
    warned = result.containers[0].warnings
    assert [each.partition(":")[0] for each in warned] == ["env.PW", "env.TOKEN"]
    exported = await agent.export(name)
    assert dict(exported.components[0].env) == {"MODE": "x"}
    assert "s3cret" not in repr((result, exported))
    made = {"Id": "0" * 64, "Config": {"Env": ["PW=s3cret"], "Hostname": "0" * 12}, "HostConfig": {}}
    assert any("which variables" in each for each in real_spec(made, None, component="a")[1])


async def test_the_summary_of_a_sync_that_applies_is_of_what_was_done(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("a"), component("b")))
    await agent.sync_desired_state([service], Mutation())
    # Nothing of it ran: nothing to go back to.
    assert await agent.history(name) == ()
    done = await agent.sync_desired_state([service], Mutation(), apply=True)
    item = next(each for each in done.items if each.service == name)
    assert (item.outcome, item.message) == ("updated", "a: created; b: created")
    assert item.generation == (await agent.list_services(service=name))[0].generation
    assert [each.ok for each in await agent.history(name)] == [True]
    again = await agent.sync_desired_state([service], Mutation(), apply=True)
    assert next(each for each in again.items if each.service == name).outcome == "unchanged"


async def test_a_sync_that_applies_removes_a_component_only_when_it_prunes(agent: NodeAgent, name: str) -> None:
    both = ServiceDef(name, (component("a"), component("b")))
    await agent.sync_desired_state([both], Mutation(), apply=True)
    before = identity(f"{name}-b")
    one = ServiceDef(name, (component("a", env={"X": "1"}),))
    kept = await agent.sync_desired_state([one], Mutation(), apply=True)
    item = next(each for each in kept.items if each.service == name)
    assert item.message == "not defined, kept (remove with --prune): b; a: replaced"
    assert identity(f"{name}-b") == before
    listed = (await agent.list_services(service=name))[0]
    assert [(each.name, each.desired) for each in listed.components] == [("a", "running"), ("b", "running")]
    # What runs now is what one can go back to.
    assert [each.name for each in (await agent.history(name))[0].definition.components] == ["a", "b"]
    gone = await agent.sync_desired_state([one], Mutation(), prune=True, apply=True)
    item = next(each for each in gone.items if each.service == name)
    assert "b: the definition has it no more" in item.message
    assert podman("ps", "-aq", "--filter", f"name=^{name}-b$") == ""
    assert [each.name for each in (await agent.list_services(service=name))[0].components] == ["a"]
    await agent.sync_desired_state(
        [replace(both, components=(*one.components, component("b")))], Mutation(), apply=True
    )
    # A deploy of the service alone still removes what its definition has no more.
    final = [each async for each in agent.deploy(one, Mutation())][-1].final
    assert final is not None
    assert [each.outcome for each in final.components] == ["unchanged", "removed"]


async def test_pruning_leaves_a_service_that_comes_meanwhile(
    agent: NodeAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, late = takeover.sync, ServiceDef(f"{name}-late", (component("c"),))
    await agent.sync_desired_state([ServiceDef(f"{name}-old", (component("c"),))], Mutation())

    async def slow(*args: Any, **more: Any) -> Any:
        # Between the look at what there is and the change of it.
        [each async for each in agent.deploy(late, Mutation())]
        return await real(*args, **more)

    monkeypatch.setattr(takeover, "sync", slow)
    summary = await agent.sync_desired_state([ServiceDef(name, (component("a"),))], Mutation(), prune=True)
    # Others' tests come and go on this machine.
    removed = [each.service for each in summary.items if each.outcome == "removed" and each.service.startswith(name)]
    assert removed == [f"{name}-old"]
    assert summary.undefined == (late.name,)
    assert podman("inspect", "--format", "{{.State.Status}}", f"{late.name}-c") == "running"


async def test_two_services_cannot_have_one_container_name(agent: NodeAgent, name: str) -> None:
    await agent.sync_desired_state([ServiceDef(f"{name}-b", (component("c"),))], Mutation())
    result = await agent.sync_desired_state([ServiceDef(name, (component("b-c"),))], Mutation())
    item = next(each for each in result.items if each.service == name)
    assert item.outcome == "failed"
    assert f"{name}-b-c" in item.message
    final = [e async for e in agent.deploy(ServiceDef(name, (component("b-c"),)), Mutation())][-1].final
    assert final is not None
    assert final.components[0].outcome == "failed"
    assert f"belongs to service '{name}-b'" in final.components[0].message
    assert podman("ps", "-aq", "--filter", f"name=^{name}") == ""


async def test_adopting_one_more_container_keeps_a_pause(agent: NodeAgent, name: str) -> None:
    await agent.sync_desired_state([ServiceDef(name, (component("a"),))], Mutation(), apply=True)
    await agent.pause(Mutation(), service=name)
    podman("create", "--name", f"{name}-b", "--network", "none", IMAGE, "sleep", "5")
    await agent.adopt_containers(name, Mutation())
    service = (await agent.list_services(service=name))[0]
    assert (service.paused, len(service.components)) == (True, 2)
