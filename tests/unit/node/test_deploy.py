"""Deploys through a whole agent on real podman."""

from __future__ import annotations

import json
import time
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from quarterdeck.errors import Conflict, InvalidInput, NotFound, PreconditionFailed, StorageRefused
from quarterdeck.node import swap
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import ComponentSpec, Healthcheck, Mutation, Port, Secret, ServiceDef, Volume
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.probe import trouble
from quarterdeck.node.results import DeployProgress, PushRequest, ServiceResult
from support import podman_env
from support.node_agent import component
from support.podman_env import IMAGE, IMAGE_2, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def web(port: int, **more: object) -> ComponentSpec:
    """A component that listens."""
    script = "echo hello > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    return component("web", "sh", "-c", script, ports=(Port(port, 80),), network="", **more)


async def deploy(
    agent: NodeAgent, service: ServiceDef, **mutation: object
) -> tuple[ServiceResult, list[DeployProgress]]:
    steps = [each async for each in agent.deploy(service, Mutation(**mutation))]  # type: ignore[arg-type]
    assert steps[-1].step == "done"
    assert steps[-1].final is not None
    return steps[-1].final, steps


def running(name: str) -> list[str]:
    found = json.loads(podman("ps", "-a", "--format", "json", "--filter", f"name=^{name}") or "[]")
    return sorted(f"{each['Names'][0]}={each['State']}" for each in found)


async def test_a_service_is_deployed_and_an_unchanged_one_is_left_alone(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component(name), component("side")))
    result, steps = await deploy(agent, service, actor="ann")
    assert [(each.component, each.outcome) for each in result.components] == [(name, "created"), ("side", "created")]
    assert result.generation == 1
    assert running(name) == [f"{name}-side=running", f"{name}=running"]
    assert {"creating", "starting", "probing", "healthy", "component-done", "done"} <= {each.step for each in steps}
    ids = podman("inspect", "--format", "{{.Id}}", name, f"{name}-side")
    again, _ = await deploy(agent, service)
    assert [each.outcome for each in again.components] == ["unchanged", "unchanged"]
    assert again.generation == 1
    assert podman("inspect", "--format", "{{.Id}}", name, f"{name}-side") == ids
    listed = (await agent.list_services(service=name))[0]
    assert [(each.name, each.desired, each.observed.state, each.version) for each in listed.components] == [
        (name, "running", "running", "v1"), ("side", "running", "running", "v1")
    ]  # fmt: skip
    assert listed.components[0].image_digest.startswith("sha256:")
    events = [each async for each in agent.events(service=name)]
    assert {each.details.get("actor") for each in events if each.kind == "deploy"} == {"ann"}


async def test_a_plan_says_what_would_happen_and_does_nothing(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("a", env={"X": "1"}), component("b")))
    steps = [each async for each in agent.deploy(service, Mutation(), plan_only=True)]
    assert steps[0].plan is not None
    assert [(each.component, each.action) for each in steps[0].plan.actions] == [("a", "create"), ("b", "create")]
    assert running(name) == []
    with pytest.raises(NotFound):
        await agent.list_services(service=name)
    await deploy(agent, service)
    changed = ServiceDef(name, (component("a", env={"X": "2"}), component("c")))
    plan = await agent.plan(changed)
    assert [(each.component, each.action) for each in plan.actions] == [
        ("a", "replace"),
        ("c", "create"),
        ("b", "remove"),
    ]
    assert [(c.field, c.before, c.after) for c in plan.actions[0].changes] == [("env.X", "1", "2")]
    assert (plan.generation, plan.next_generation) == (1, 2)
    assert (await agent.plan(service)).changes_nothing
    result, _ = await deploy(agent, changed)
    assert [each.outcome for each in result.components] == ["replaced", "created", "removed"]
    assert running(name) == [f"{name}-a=running", f"{name}-c=running"]


async def test_a_bad_version_is_taken_back_and_the_old_one_runs_on(agent: NodeAgent, name: str) -> None:
    port = podman_env.free_port()
    good = ServiceDef(name, (web(port), component("side")))
    await deploy(agent, good)
    before = podman("inspect", "--format", "{{.Id}}", f"{name}-web")
    bad = ServiceDef(
        name, (replace(web(port), cmd=("sh", "-c", "echo cannot start >&2; exit 3")), component("side", env={"N": "1"}))
    )
    result, steps = await deploy(agent, bad)
    by_name = {each.component: each for each in result.components}
    assert by_name["web"].outcome == "restored"
    assert "exit code 3" in by_name["web"].message
    assert "cannot start" in by_name["web"].message
    assert by_name["side"].outcome == "replaced"
    assert not result.ok
    assert podman("inspect", "--format", "{{.Id}}", f"{name}-web") == before
    assert running(name) == [f"{name}-side=running", f"{name}-web=running"]
    assert podman("exec", f"{name}-side", "wget", "-qO-", "-T", "2", "http://0.0.0.0", check=False) == ""
    # What is put back is started, not probed: its httpd may need a moment to listen again.
    with anyio.fail_after(10):
        while True:
            with suppress(OSError):
                async with await anyio.connect_tcp("127.0.0.1", port):
                    break
            await anyio.sleep(0.05)
    status = await agent.get_service_status(name)
    assert [each for each in status.drift if each.component == "web"] == []
    assert "restoring" in {each.step for each in steps}


@pytest.mark.slow
async def test_a_container_that_listens_too_late_is_not_healthy(options: AgentOptions, name: str) -> None:
    service = ServiceDef(name, (replace(web(podman_env.free_port()), cmd=("sleep", "600")),))
    async with NodeAgent.open(replace(options, probe_seconds=3)) as agent:
        began = time.monotonic()
        result, _ = await deploy(agent, service)
        assert result.components[0].outcome == "failed"
        assert "nothing answers on port" in result.components[0].message
        assert 2.5 < time.monotonic() - began < 60
        assert running(name) == []
        record = (await agent.list_services(service=name))[0].components[0]
        assert (record.desired, record.observed.state) == ("running", "missing")


@pytest.mark.slow
async def test_a_healthcheck_decides(options: AgentOptions, name: str) -> None:
    check = Healthcheck(("/bin/sh", "-c", "test -e /tmp/ready"), interval=1, timeout=5, retries=2)
    late = component("c", "sh", "-c", "sleep 0.5; touch /tmp/ready; exec sleep 600", healthcheck=check)
    async with NodeAgent.open(options) as agent:
        result, _ = await deploy(agent, ServiceDef(name, (late,)))
    assert result.components[0].outcome == "created"
    async with NodeAgent.open(replace(options, probe_seconds=3)) as agent:
        never, _ = await deploy(agent, ServiceDef(name, (replace(late, cmd=("sleep", "600")),)))
    assert never.components[0].outcome == "restored"
    assert "healthcheck" in never.components[0].message


async def test_a_failed_pull_does_not_stop_the_others(
    agent: NodeAgent, name: str, image_registry: podman_env.Registry
) -> None:
    reference = image_registry.add(f"{name}/app:v1")
    service = ServiceDef(
        name,
        (
            component("bad", image=f"{image_registry.address}/{name}/missing:v9"),
            component("good", image=reference),
            component("after", depends_on=("bad",)),
        ),
    )
    try:
        result, _ = await deploy(agent, service)
        assert {each.component: each.outcome for each in result.components} == {
            "bad": "failed", "good": "created", "after": "skipped",
        }  # fmt: skip
        first = (await agent.list_services(service=name))[0].component("good")
        assert first is not None
        # The tag moves: the same definition brings the new image.
        image_registry.add(f"{name}/app:v1", IMAGE_2)
        moved, _ = await deploy(agent, service)
        outcome = {each.component: each for each in moved.components}["good"]
        assert outcome.outcome == "replaced"
        assert outcome.image_digest != first.image_digest
    finally:
        podman("rm", "-f", "-t0", f"{name}-good", check=False)
        podman("rmi", "-f", reference, check=False)


async def test_history_and_rollback(agent: NodeAgent, name: str) -> None:
    one = ServiceDef(name, (component("a", env={"V": "1"}),))
    two = ServiceDef(name, (component("a", env={"V": "2"}),))
    broken = ServiceDef(name, (component("a", "/none"),))
    for service in (one, two, broken):
        await deploy(agent, service)
    entries = await agent.history(name)
    assert [(each.generation, each.ok, each.current) for each in entries] == [
        (3, False, True), (2, True, False), (1, True, False)
    ]  # fmt: skip
    back = [each async for each in agent.rollback(name, Mutation())][-1].final
    assert back is not None
    assert back.generation == 4
    assert podman("inspect", "--format", "{{.Config.Env}}", f"{name}-a").count("V=2") == 1
    first = [each async for each in agent.rollback(name, Mutation(), generation=1)][-1].final
    assert first is not None
    assert first.components[0].outcome == "replaced"
    assert podman("inspect", "--format", "{{.Config.Env}}", f"{name}-a").count("V=1") == 1
    with pytest.raises(NotFound, match="generation 77"):
        [each async for each in agent.rollback(name, Mutation(), generation=77)]


async def test_a_rollback_asked_for_twice_under_one_id_goes_back_once(agent: NodeAgent, name: str) -> None:
    for value in "123":
        await deploy(agent, ServiceDef(name, (component("a", env={"V": value}),)))
    answers = [
        [each async for each in agent.rollback(name, Mutation(operation_id=f"{name}-r"))][-1].final for _ in range(2)
    ]
    assert answers[0] is not None
    assert answers[0] == answers[1]
    assert dict((await agent.export(name)).components[0].env) == {"V": "2"}
    await agent.stop_service(name, Mutation(operation_id=f"{name}-s"))
    with pytest.raises(Conflict, match="another request"):
        [each async for each in agent.rollback(name, Mutation(operation_id=f"{name}-s"))]


async def test_a_retry_gets_the_first_answer_and_a_stale_generation_is_refused(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("a"),))
    first, _ = await deploy(agent, service, operation_id=f"{name}-op")
    identity = podman("inspect", "--format", "{{.Id}}", f"{name}-a")
    podman("rm", "-f", "-t0", f"{name}-a")
    again, steps = await deploy(agent, service, operation_id=f"{name}-op")
    assert again == first
    assert len(steps) == 1
    assert running(name) == []
    with pytest.raises(Conflict, match="another request"):
        await deploy(agent, ServiceDef(name, (component("b"),)), operation_id=f"{name}-op")
    with pytest.raises(PreconditionFailed, match="generation 1, not 0"):
        await deploy(agent, service, expected_generation=0)
    assert running(name) == []
    healed, _ = await deploy(agent, service, expected_generation=1)
    assert healed.components[0].outcome == "created"
    assert podman("inspect", "--format", "{{.Id}}", f"{name}-a") != identity


async def test_one_deploy_of_a_service_at_a_time(agent: NodeAgent, name: str, tmp_path: Path) -> None:
    # Well when the test says so: until then the first deploy holds the service.
    check = Healthcheck(("/bin/sh", "-c", "test -e /in/ready"), interval=1, timeout=5, retries=20)
    slow = component("a", healthcheck=check, volumes=(Volume(str(tmp_path), "/in"),))
    probing = anyio.Event()
    one = ServiceDef(name, (slow,))
    two = ServiceDef(name, (replace(slow, env={"V": "2"}),))
    outcomes: list[tuple[str, str]] = []

    async def first() -> None:
        async for each in agent.deploy(one, Mutation(actor="ann")):
            if each.step == "probing":
                probing.set()
            if each.final is not None:
                outcomes.append(("one", each.final.components[0].outcome))

    async def second() -> None:
        await probing.wait()
        with pytest.raises(Conflict, match=r"held by deploy .* by ann"):
            await deploy(agent, two, wait_seconds=0.1)
        steps = []
        async for each in agent.deploy(two, Mutation()):
            steps.append(each)
            # It waits its turn: now the first may come to its end.
            (tmp_path / "ready").touch()
        assert steps[0].step == "waiting"
        assert "by ann" in steps[0].message
        assert steps[-1].final is not None
        outcomes.append(("two", steps[-1].final.components[0].outcome))

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        group.start_soon(second)
    assert outcomes == [("one", "created"), ("two", "replaced")]


async def test_a_deploy_goes_on_when_its_caller_goes_away(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("a"), component("b", depends_on=("a",))))
    async with aclosing(agent.deploy(service, Mutation(operation_id=f"{name}-x"))) as steps:
        async for _ in steps:
            break
    joined, _ = await deploy(agent, service, operation_id=f"{name}-x")
    assert [each.outcome for each in joined.components] == ["created", "created"]
    assert running(name) == [f"{name}-a=running", f"{name}-b=running"]


async def test_a_foreign_container_of_the_name_is_left_alone(agent: NodeAgent, name: str) -> None:
    podman("run", "-d", "--network", "none", "--name", f"{name}-a", IMAGE, "sleep", "600")
    before = podman("inspect", "--format", "{{.Id}}", f"{name}-a")
    result, _ = await deploy(agent, ServiceDef(name, (component("a"), component("b"))))
    assert {each.component: each.outcome for each in result.components} == {"a": "failed", "b": "created"}
    assert "adopt" in result.components[0].message
    assert podman("inspect", "--format", "{{.Id}}", f"{name}-a") == before


async def test_secrets_and_env_files_reach_the_container_and_nothing_else(
    agent: NodeAgent, name: str, options: object, tmp_path: Path
) -> None:
    await agent.set_secret(f"{name}-pw", b"pa55word-1", Mutation())
    content = b"# private\nTOKEN=t0ken-value\n"

    async def chunks() -> object:
        yield content

    spec = component("a", env_files=("conf/a.env",), secrets=(Secret(f"{name}-pw", "env", "PW"),))
    missing, _ = await deploy(agent, ServiceDef(name, (spec,)))
    assert "qd service push" in missing.components[0].message or "not on the node" in missing.components[0].message
    await agent.push_file(PushRequest(name, "conf/a.env", len(content), mode=0o644), chunks(), Mutation())  # type: ignore[arg-type]
    open_to_all, _ = await deploy(agent, ServiceDef(name, (spec,)))
    assert "0600" in open_to_all.components[0].message or "others can read" in open_to_all.components[0].message
    await agent.push_file(PushRequest(name, "conf/a.env", len(content), mode=0o600), chunks(), Mutation())  # type: ignore[arg-type]
    result, _ = await deploy(agent, ServiceDef(name, (spec,)))
    assert result.ok, result
    output = [each async for each in agent.exec_command(name, "a", ["sh", "-c", "echo $PW $TOKEN"])]
    assert output[0].data == b"pa55word-1 t0ken-value\n"
    told = (
        repr(await agent.list_services()) + repr(await agent.get_service_status(name)) + repr(await agent.export(name))
    )
    told += repr([each async for each in agent.events()])
    assert "pa55word-1" not in told
    assert "t0ken-value" not in told
    assert (await agent.get_service_status(name)).drift == ()
    # A new content of the file is a new container.
    content = b"TOKEN=t0ken-other\n"
    await agent.push_file(PushRequest(name, "conf/a.env", len(content), mode=0o600), chunks(), Mutation())  # type: ignore[arg-type]
    again, _ = await deploy(agent, ServiceDef(name, (spec,)))
    assert again.components[0].outcome == "replaced"
    with pytest.raises(Conflict, match="is used by"):
        await agent.remove_secret(f"{name}-pw", Mutation())


async def test_a_definition_that_cannot_be_right_changes_nothing(agent: NodeAgent, name: str) -> None:
    with pytest.raises(InvalidInput, match="depends_on"):
        await deploy(agent, ServiceDef(name, (component("a", depends_on=("zzz",)),)))
    with pytest.raises(NotFound, match="no component"):
        [each async for each in agent.deploy(ServiceDef(name, (component("a"),)), Mutation(), components=["zzz"])]
    assert await agent.list_services() == ()


async def test_one_component_of_a_definition_alone(agent: NodeAgent, name: str) -> None:
    await deploy(agent, ServiceDef(name, (component("a"), component("b"))))
    both = ServiceDef(name, (component("a", env={"V": "2"}), component("b", env={"V": "2"})))
    steps = [each async for each in agent.deploy(both, Mutation(), components=["b"])]
    assert steps[-1].final is not None
    assert [(each.component, each.outcome) for each in steps[-1].final.components] == [("b", "replaced")]
    exported = await agent.export(name)
    assert [dict(each.env) for each in exported.components] == [{}, {"V": "2"}]


async def test_a_component_that_is_defined_no_more_gets_its_grace(agent: NodeAgent, name: str, tmp_path: Path) -> None:
    script = "trap 'sleep 0.3; echo bye > /out/said; exit 0' TERM; touch /out/up; while :; do sleep 0.1; done"
    volume = Volume(str(tmp_path), "/out")
    dropped = component("db", "sh", "-c", script, volumes=(volume,), stop_seconds=20)
    await deploy(agent, ServiceDef(name, (component("a"), dropped)))
    with anyio.fail_after(20):
        while not (tmp_path / "up").exists():
            await anyio.sleep(0.05)
    result, _ = await deploy(agent, ServiceDef(name, (component("a"),)))
    assert [each.outcome for each in result.components] == ["unchanged", "removed"]
    assert (tmp_path / "said").read_text() == "bye\n"
    assert running(name) == [f"{name}-a=running"]


async def test_what_is_started_again_is_looked_at_too(agent: NodeAgent, name: str, tmp_path: Path) -> None:
    script = "test ! -e /in/bad || exit 3; exec sleep 600"
    service = ServiceDef(name, (component("a", "sh", "-c", script, volumes=(Volume(str(tmp_path), "/in"),)),))
    await deploy(agent, service)
    podman("stop", "-t0", f"{name}-a")
    (tmp_path / "bad").touch()
    result, _ = await deploy(agent, service)
    assert result.components[0].outcome == "failed"
    assert "exit code 3" in result.components[0].message


async def test_a_new_container_that_cannot_be_written_down_is_taken_back(
    agent: NodeAgent, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(agent, ServiceDef(name, (component("a", env={"V": "1"}),)))
    before = podman("inspect", "--format", "{{.Id}}", f"{name}-a")
    database = agent._engine.context.store._db

    async def then_full(*args: Any, **more: Any) -> Any:
        found = await trouble(*args, **more)
        database.execute("PRAGMA query_only = 1")
        return found

    monkeypatch.setattr(swap, "trouble", then_full)
    new = ServiceDef(name, (component("a", env={"V": "2"}),))
    with pytest.raises(StorageRefused):
        await deploy(agent, new)
    assert podman("inspect", "--format", "{{.Id}}", f"{name}-a") == before
    assert running(name) == [f"{name}-a=running"]
    monkeypatch.undo()
    database.execute("PRAGMA query_only = 0")
    assert dict((await agent.export(name)).components[0].env) == {"V": "1"}
    result, _ = await deploy(agent, new)
    assert result.components[0].outcome == "replaced"


async def test_a_plan_tells_what_would_fail(agent: NodeAgent, name: str) -> None:
    podman("run", "-d", "--network", "none", "--name", f"{name}-b", IMAGE, "sleep", "600")
    plan = await agent.plan(ServiceDef(name, (component("a", env_files=("none.env",)), component("b"), component("c"))))
    assert [(each.component, each.action) for each in plan.actions] == [("a", "fail"), ("b", "fail"), ("c", "create")]
    assert "none.env" in plan.actions[0].reason
    assert "adopt" in plan.actions[1].reason
    assert not plan.changes_nothing
