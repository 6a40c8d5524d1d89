"""Stop, start, restart, purge, looking, draining: a whole agent on real podman."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import anyio
import pytest

from quarterdeck.errors import Conflict, InvalidInput, NotFound
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Healthcheck, Mutation, Secret, ServiceDef
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.results import LogLine, PushRequest
from quarterdeck.node.schema import SCHEMA
from support.node_agent import component, deployed
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def states(name: str) -> dict[str, str]:
    found = json.loads(podman("ps", "-a", "--format", "json", "--filter", f"name=^{name}") or "[]")
    return {each["Names"][0]: each["State"] for each in found}


async def test_stop_start_restart_move_desired_and_real_state_together(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("a"), component("b", depends_on=("a",)))))
    stopped = await agent.stop_service(name, Mutation(operation_id=f"{name}1"))
    assert [each.outcome for each in stopped.components] == ["stopped", "stopped"]
    assert await agent.stop_service(name, Mutation(operation_id=f"{name}1")) == stopped
    assert states(name) == {f"{name}-a": "exited", f"{name}-b": "exited"}
    record = (await agent.list_services(service=name))[0]
    assert not record.active
    assert [(each.desired, each.observed.state) for each in record.components] == [("stopped", "exited")] * 2
    assert not (await agent.export(name)).active
    assert [e.outcome for e in (await agent.stop_service(name, Mutation())).components] == ["unchanged"] * 2
    started = await agent.start_service(name, Mutation(), component="a")
    assert [(each.component, each.outcome) for each in started.components] == [("a", "started")]
    assert states(name) == {f"{name}-a": "running", f"{name}-b": "exited"}
    assert (await agent.list_services(service=name))[0].active
    before = podman("inspect", "--format", "{{.State.Pid}}", f"{name}-a")
    restarted = await agent.restart_service(name, Mutation())
    assert [each.outcome for each in restarted.components] == ["restarted", "restarted"]
    assert podman("inspect", "--format", "{{.State.Pid}}", f"{name}-a") != before
    assert (await agent.get_service_status(name)).drift == ()


async def test_start_makes_a_removed_container_anew(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("a", env={"X": "7"}),)))
    podman("rm", "-f", "-t0", f"{name}-a")
    status = await agent.get_service_status(name)
    assert [(each.kind, each.desired, each.actual) for each in status.drift] == [("state", "running", "missing")]
    result = await agent.start_service(name, Mutation())
    assert result.components[0].outcome == "started"
    assert "anew" in result.components[0].message
    assert "X=7" in podman("inspect", "--format", "{{.Config.Env}}", f"{name}-a")
    assert (await agent.get_service_status(name)).drift == ()


async def test_purge_removes_containers_rows_and_with_files_the_folder(
    agent: NodeAgent, name: str, options: AgentOptions
) -> None:
    await deployed(agent, ServiceDef(name, (component("a"), component("b"))))
    folder = options.files_root / name
    folder.mkdir(parents=True)
    (folder / "data").write_text("x")
    result = await agent.purge_service(name, Mutation(), files=True)
    assert [each.outcome for each in result.components] == ["removed", "removed"]
    assert states(name) == {}
    assert not folder.exists()
    with pytest.raises(NotFound):
        await agent.list_services(service=name)
    with pytest.raises(NotFound):
        await agent.purge_service(name, Mutation())


async def test_live_check_finds_what_changed_behind_our_back(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("a"), component("b"))))
    podman("kill", f"{name}-a")
    podman("run", "-d", "--network", "none", "--name", f"{name}zz", IMAGE, "sleep", "600")
    check = await agent.live_check(usage=True)
    mine = {each.component: each for each in check.components if each.service == name}
    assert (mine["a"].observed.state, mine["b"].observed.state) == ("exited", "running")
    assert mine["b"].usage is not None
    assert mine["b"].usage.memory > 0
    assert mine["b"].observed.started_at == pytest.approx(time.time(), abs=30)
    assert f"{name}zz" in check.unmanaged
    assert f"{name}-a" not in check.unmanaged
    kept = (await agent.list_services(service=name))[0]
    assert [each.observed.state for each in kept.components] == ["exited", "running"]
    one = await agent.live_check(service=name)
    assert len(one.components) == 2


async def test_status_compares_the_real_configuration_field_by_field(agent: NodeAgent, name: str) -> None:
    spec = component("a", env={"X": "1", "PATH": "/bin"}, user="0", labels={"team": "x"})
    await deployed(agent, ServiceDef(name, (spec,)))
    assert (await agent.get_service_status(name)).drift == ()
    podman("rm", "-f", "-t0", f"{name}-a")
    podman("run", "-d", "--network", "none", "--name", f"{name}-a", "--env", "X=2", "--env", "PATH=/bin", "--user", "0",
           "--label", "team=x", "--memory", "64m", "--stop-timeout", "0", IMAGE, "sleep", "601")  # fmt: skip
    status = await agent.get_service_status(name)
    found = {(each.kind, each.field): (each.desired, each.actual) for each in status.drift}
    assert found[("config", "env.X")] == ("1", "2")
    assert found[("config", "limits.memory")] == ("", str(64 * 1024**2))
    assert found[("config", "cmd")] == ('["sleep","600"]', '["sleep","601"]')
    assert found[("spec", "spec hash")][1] == "foreign"
    assert not any(field.startswith(("labels", "user", "env.PATH")) for _, field in found)


async def test_secrets_grace_and_the_times_of_a_check_are_compared_too(agent: NodeAgent, name: str) -> None:
    await agent.set_secret(f"{name}s", b"s3cret-value", Mutation())
    secrets = (Secret(f"{name}s", "env", "PW"), Secret(f"{name}s", "file", "pw"))
    check = Healthcheck(("/bin/true",), interval=7, timeout=2.5, retries=4, start_period=3)
    spec = component("a", secrets=secrets, stop_seconds=7, healthcheck=check)
    await deployed(agent, ServiceDef(name, (spec,)))
    assert (await agent.get_service_status(name)).drift == ()
    podman("rm", "-f", "-t0", f"{name}-a")
    checked = ("--health-cmd", "CMD /bin/true", "--health-timeout", "9s", "--health-retries", "4",
               "--health-interval", "disable")  # fmt: skip
    podman("run", "-d", "--network", "none", "--name", f"{name}-a", "--stop-timeout", "3", *checked, IMAGE,
           "sleep", "600")  # fmt: skip
    status = await agent.get_service_status(name)
    found = {each.field: (each.desired, each.actual) for each in status.drift if each.kind == "config"}
    assert found == {
        "stop_seconds": ("7", "3"),
        "healthcheck.times": ("7/2.5/4 after 3", "7/9/4"),
        "secrets": (f"variable PW, file of {name}s", ""),
    }
    assert "s3cret-value" not in repr(status)


async def test_following_without_a_tail_tells_nothing_old_of_a_stopped_container(agent: NodeAgent, name: str) -> None:
    script = "cat /tmp/said 2>/dev/null || echo old; echo new > /tmp/said; exec sleep 600"
    await deployed(agent, ServiceDef(name, (component("c", "sh", "-c", script),)))
    await agent.stop_service(name, Mutation())
    lines: list[str] = []
    async with aclosing(agent.logs(name, tail=0, follow=True)) as followed, anyio.create_task_group() as group:

        async def read() -> None:
            async for each in followed:
                lines.append(each.text)
                group.cancel_scope.cancel()

        group.start_soon(read)
        # Long enough for it to look a second and a third time.
        await anyio.sleep(2.5)
        assert lines == []
        await agent.start_service(name, Mutation())
        with anyio.fail_after(15):
            await anyio.sleep_forever()
    assert lines == ["new"]


async def test_logs_are_merged_by_time_and_followed(agent: NodeAgent, name: str) -> None:
    def talker(start: float) -> tuple[str, ...]:
        return ("sh", "-c", f"sleep {start}; for i in 1 2 3; do echo $i; sleep 0.4; done; exec sleep 600")

    await deployed(agent, ServiceDef(name, (component("a", *talker(0)), component("b", *talker(0.2)))))
    lines: list[LogLine] = []
    with anyio.fail_after(20):
        while len(lines) < 6:
            await anyio.sleep(0.1)
            lines = [each async for each in agent.logs(name)]
    assert [each.at for each in lines] == sorted(each.at for each in lines)
    assert {each.component for each in lines} == {"a", "b"}
    assert len(lines) == 6
    assert len([each async for each in agent.logs(name, component="a", tail=2)]) == 2
    seen = []
    with anyio.fail_after(15):
        async with aclosing(agent.logs(name, follow=True)) as followed:
            async for each in followed:
                seen.append(each.text)
                if len(seen) == 6:
                    break
    with pytest.raises(NotFound, match="no component"):
        [each async for each in agent.logs(name, component="zzz")]


async def test_events_are_followed_while_they_happen(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("a"),)))
    seen: list[str] = []

    async def follow() -> None:
        async with aclosing(agent.events(service=name, follow=True)) as events:
            async for each in events:
                seen.append(each.kind)
                if each.kind == "stop":
                    return

    with anyio.fail_after(15):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await anyio.sleep(0.2)
            await agent.stop_service(name, Mutation())
    assert seen[0] == "deploy"
    assert seen[-1] == "stop"


async def test_a_draining_node_takes_no_deploys_and_comes_back(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("a", restart="no"),))
    await deployed(agent, service)
    results = await agent.drain(Mutation(), stop=True)
    assert [each.components[0].outcome for each in results] == ["stopped"]
    assert states(name) == {f"{name}-a": "exited"}
    assert (await agent.list_services(service=name))[0].components[0].desired == "running"
    info = await agent.node_info()
    assert (info.draining, info.paused, info.containers_desired, info.containers_running) == (True, True, 1, 0)
    with pytest.raises(Conflict, match="drains"):
        [each async for each in agent.deploy(service, Mutation())]
    await agent.resume(Mutation())
    with anyio.fail_after(15):
        while states(name) != {f"{name}-a": "running"}:
            await anyio.sleep(0.05)
    info = await agent.node_info()
    assert not info.draining
    assert info.runtime is not None
    assert info.runtime.kind == "api"


async def test_a_push_whose_caller_goes_away_leaves_no_operation_and_goes_on_later(
    agent: NodeAgent, name: str, options: AgentOptions
) -> None:
    content = b"0123456789" * 100_000
    request = PushRequest(name, "big", len(content), hashlib.sha256(content).hexdigest(), mode=0o600)
    halfway = anyio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield content[:600_000]
        halfway.set()
        await anyio.sleep_forever()

    async def whole(offset: int = 0) -> AsyncIterator[bytes]:
        yield content[offset:]

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(agent.push_file, request, stalling(), Mutation(operation_id=f"{name}p"))
            await halfway.wait()
            # Until what was sent is in the part.
            while sum(each.stat().st_size for each in (options.files_root / name).glob(".qd-push-*")) < 600_000:
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        while agent._engine.operations.running:
            await anyio.sleep(0.01)
        offset = await agent.push_offset(name, "big", request.sha256)
        assert offset == 600_000
        again = replace(request, offset=offset)
        done = await agent.push_file(again, whole(offset), Mutation(operation_id=f"{name}p"))
        assert (options.files_root / name / "big").read_bytes() == content
        # A retry is answered from memory, whatever it sends.
        assert await agent.push_file(request, whole(), Mutation(operation_id=f"{name}p")) == done
        with pytest.raises(InvalidInput, match="sha256"):
            await agent.push_file(replace(request, sha256="0" * 64), whole(), Mutation())


async def test_a_second_agent_of_the_same_folder_is_refused(agent: NodeAgent, options: AgentOptions) -> None:
    with pytest.raises(Conflict, match="runs with"):
        async with NodeAgent.open(options):
            pass


async def test_snapshot_and_restore_bring_the_registry_back(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("a", env={"V": "1"}),)))
    taken = await agent.snapshot()
    assert (taken.services, taken.schema) == (1, SCHEMA)
    await deployed(agent, ServiceDef(name, (component("a", env={"V": "2"}),)))
    restored = await agent.restore(taken.path, Mutation())
    assert restored.path == taken.path
    assert dict((await agent.export(name)).components[0].env) == {"V": "1"}
    # The container is the newer one: told as drift, not undone.
    kinds = {each.kind for each in (await agent.get_service_status(name)).drift}
    assert {"spec", "config"} <= kinds
    assert len(await agent.list_snapshots()) == 2
