"""The monitor over real podman: deaths, restarts, drift, flapping, a silent runtime."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import ComponentSpec, Healthcheck, Mutation, ServiceDef, Volume
from quarterdeck.node.options import AgentOptions, MonitorOptions
from support import podman_env
from support.node_agent import component, deployed, events, until
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


def pid(name: str) -> int:
    return int(podman("inspect", "--format", "{{.State.Pid}}", name))


def ending(name: str, folder: Path, script: str, **more: object) -> ComponentSpec:
    """A component that runs `script` and ends, from the moment on in which `folder` has a file `go`: its deploy is
    over by then, however long that takes."""
    waits = f"until [ -e /in/go ]; do sleep 0.1; done; {script}"
    return component(name, "sh", "-c", waits, volumes=(Volume(str(folder), "/in"),), **more)


@pytest.fixture
def lively(options: AgentOptions) -> AgentOptions:
    """Everything quick; no restarts before a test asks for them."""
    return replace(
        options,
        monitor=MonitorOptions(list_seconds=0.5, drift_seconds=0.2, cooldown_seconds=600, backoff_seconds=600),
    )


async def test_a_death_is_recorded_at_once(options: AgentOptions, name: str) -> None:
    async with NodeAgent.open(options) as agent:
        await deployed(agent, ServiceDef(name, tuple(component(f"c{i}", restart="no") for i in range(4))))
        # The next listing is ten minutes away: only the pidfd can tell.
        await agent._engine.monitor.looked()
        took = []
        for i in range(4):
            began = time.time()
            os.kill(pid(f"{name}-c{i}"), signal.SIGKILL)
            killed = time.time()
            found = [e for e in await until(agent, name, "state", number=i + 1) if e.component == f"c{i}"]
            assert (found[-1].from_state, found[-1].to_state) == ("running", "exited")
            assert "137" in found[-1].message
            took.append(found[-1].at - killed)
            assert began < found[-1].at
        assert max(took) < 10, took
        assert len(await events(agent, name, "state")) == 4


@pytest.mark.slow
async def test_an_ended_container_is_started_again_with_backoff_and_a_limit(
    options: AgentOptions, name: str, tmp_path: Path
) -> None:
    quick = replace(options, monitor=MonitorOptions(list_seconds=600, backoff_seconds=0.3, restart_limit=3))
    async with NodeAgent.open(quick) as agent:
        crashing = ending("c", tmp_path, "sleep 0.3; exit 4")
        once = ending("once", tmp_path, "exit 0", restart="on-failure")
        await deployed(agent, ServiceDef(name, (crashing, once)))
        (tmp_path / "go").touch()
        gave_up = await until(agent, name, "gave-up", seconds=40)
        assert "exit code 4" in gave_up[0].message
        restarts = await events(agent, name, "restart")
        assert [each.component for each in restarts] == ["c"] * 3
        gaps = [b.at - a.at for a, b in itertools.pairwise(restarts)]
        # 0.6 and 1.2 seconds of waiting; a busy machine adds to either.
        assert gaps[0] >= 0.55
        assert gaps[1] >= 1.15
        await anyio.sleep(1)
        assert len(await events(agent, name, "restart")) == 3
        record = (await agent.list_services(service=name))[0].component("c")
        assert record is not None
        assert (record.restarts, record.observed.state, record.observed.exit_code) == (3, "exited", 4)
        # A person's start begins anew.
        await agent.start_service(name, Mutation(), component="c")
        await until(agent, name, "gave-up", number=2, seconds=40)


async def test_pause_keeps_it_down_and_resume_brings_it_up(options: AgentOptions, name: str) -> None:
    quick = replace(options, monitor=MonitorOptions(list_seconds=0.3, backoff_seconds=0.05))
    async with NodeAgent.open(quick) as agent:
        await deployed(agent, ServiceDef(name, (component("c"),)))
        await agent.pause(Mutation(), service=name)
        os.kill(pid(f"{name}-c"), signal.SIGKILL)
        await until(agent, name, "state")
        await anyio.sleep(1)
        assert await events(agent, name, "restart") == []
        await agent.resume(Mutation(), service=name)
        await until(agent, name, "restart")


@pytest.mark.slow
async def test_drift_is_alerted_once_per_cooldown_also_across_a_restart_and_its_end_is_told(
    lively: AgentOptions, name: str, tmp_path: Path
) -> None:
    told = tmp_path / "alerts"
    script = f'echo "$QD_ALERT $QD_SERVICE $QD_COMPONENT $QD_NODE $QD_STATE $QD_DESIRED: $QD_MESSAGE" >> {told}'
    options = replace(lively, monitor=replace(lively.monitor, alert_command=("/bin/sh", "-c", script)))
    async with NodeAgent.open(options) as agent:
        await deployed(agent, ServiceDef(name, (component("c", restart="no"),)))
        podman("stop", "-t0", f"{name}-c")
        await until(agent, name, "drift")
        await anyio.sleep(1)
    async with NodeAgent.open(options) as agent:
        await anyio.sleep(1.2)
        assert len(await events(agent, name, "drift")) == 1
        podman("start", f"{name}-c")
        await until(agent, name, "drift-over")
        podman("stop", "-t0", f"{name}-c")
        await anyio.sleep(1.5)
        # Within the cooldown: neither told again, nor its end.
        podman("start", f"{name}-c")
        await anyio.sleep(1)
        assert len(await events(agent, name, "drift")) == 1
        assert len(await events(agent, name, "drift-over")) == 1
    lines = told.read_text().splitlines()
    assert lines[0] == f"drift {name} c test-node exited running: state: exited instead of running"
    assert lines[1].startswith(f"drift-over {name} c test-node running running")
    assert len(lines) == 2


async def test_flapping_is_alerted_and_a_failing_alert_command_is_an_event(
    options: AgentOptions, name: str, tmp_path: Path
) -> None:
    monitor = MonitorOptions(
        list_seconds=0.3, backoff_seconds=0.01, backoff_max_seconds=0.01, restart_limit=1000, flap_count=6,
        flap_seconds=60, drift_seconds=600, alert_command=("/bin/false",),
    )  # fmt: skip
    async with NodeAgent.open(replace(options, monitor=monitor)) as agent:
        await deployed(agent, ServiceDef(name, (ending("c", tmp_path, "sleep 0.3; exit 1"), component("ok"))))
        (tmp_path / "go").touch()
        found = await until(agent, name, "flap", seconds=40)
        assert found[0].component == "c"
        await until(agent, name, "alert-failed")
        await agent.stop_service(name, Mutation())
        assert len(await events(agent, name, "flap")) == 1


async def test_the_end_of_flapping_is_told(options: AgentOptions, name: str) -> None:
    monitor = MonitorOptions(list_seconds=0.3, flap_count=4, flap_seconds=15, drift_seconds=600, cooldown_seconds=600)
    async with NodeAgent.open(replace(options, monitor=monitor)) as agent:
        await deployed(agent, ServiceDef(name, (component("c", restart="no"),)))
        await agent._engine.monitor.looked()
        for number in range(2):
            podman("kill", f"{name}-c")
            await until(agent, name, "state", number=2 * number + 1)
            podman("start", f"{name}-c")
            await until(agent, name, "state", number=2 * number + 2)
        raised = await until(agent, name, "flap")
        over = await until(agent, name, "flap-over", seconds=60)
        assert "4 changes of state" in raised[0].message
        assert over[0].at > raised[0].at


async def test_what_a_person_stops_and_starts_is_no_flapping(options: AgentOptions, name: str) -> None:
    monitor = MonitorOptions(list_seconds=0.3, flap_count=2, flap_seconds=600, drift_seconds=600)
    async with NodeAgent.open(replace(options, monitor=monitor)) as agent:
        await deployed(agent, ServiceDef(name, (component("c", restart="no"),)))
        for _ in range(3):
            await agent.stop_service(name, Mutation())
            await agent.start_service(name, Mutation())
        assert len(await events(agent, name, "state")) == 6
        # From asking on: one that had begun before is over with the first.
        for _ in range(2):
            await agent._engine.monitor.looked()
        assert await events(agent, name, "flap") == []
        podman("kill", f"{name}-c")
        await until(agent, name, "state", number=7)
        podman("start", f"{name}-c")
        (told,) = await until(agent, name, "flap")
        assert "2 changes of state" in told.message


async def test_an_alert_command_that_hangs_is_ended_and_told(options: AgentOptions, name: str, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; exec sleep 600"
    monitor = MonitorOptions(
        list_seconds=0.3, drift_seconds=0.1, alert_command=("/bin/sh", "-c", script), alert_timeout_seconds=3
    )
    async with NodeAgent.open(replace(options, monitor=monitor)) as agent:
        await deployed(agent, ServiceDef(name, (component("c", restart="no"),)))
        podman("kill", f"{name}-c")
        failed = await until(agent, name, "alert-failed")
        assert "3 s" in failed[0].message
        number = int((tmp_path / "pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


async def test_enforcing_undoes_drift_only_where_asked(options: AgentOptions, name: str) -> None:
    quick = replace(options, monitor=MonitorOptions(list_seconds=0.3, backoff_seconds=0.05))
    async with NodeAgent.open(quick) as agent:
        await deployed(agent, ServiceDef(name, (component("gone"), component("other")), enforce=True))
        await deployed(agent, ServiceDef(f"{name}x", (component("c"),)))
        podman("rm", "-f", "-t0", f"{name}-gone", f"{name}x-c")
        podman("rm", "-f", "-t0", f"{name}-other")
        # The agent may have made it again by now.
        podman("run", "-d", "--replace", "--network", "none", "--name", f"{name}-other", IMAGE, "sleep", "1234")
        with anyio.fail_after(40):
            while (await agent.get_service_status(name)).drift:
                await anyio.sleep(0.1)
        assert podman("inspect", "--format", "{{.Config.Cmd}}", f"{name}-other") == "[sleep 600]"
        left = (await agent.get_service_status(f"{name}x")).drift
        assert [(each.kind, each.actual) for each in left] == [("state", "missing")]
        await agent.stop_service(name, Mutation(), component="gone")
        podman("start", f"{name}-gone")
        with anyio.fail_after(40):
            while podman("inspect", "--format", "{{.State.Status}}", f"{name}-gone") != "exited":
                await anyio.sleep(0.1)


@pytest.mark.slow
async def test_a_silent_runtime_is_unknown_not_stopped(lively: AgentOptions, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    socket = folder / "podman.sock"

    def serve() -> subprocess.Popen[bytes]:
        socket.unlink(missing_ok=True)
        process = subprocess.Popen(
            ["podman", "system", "service", "--time", "0", f"unix://{socket}"], stderr=subprocess.DEVNULL
        )
        podman_env._wait_for(lambda: podman_env._connects(socket), "podman")
        return process

    process = serve()
    try:
        async with NodeAgent.open(replace(lively, socket=socket, runtime="api")) as agent:
            await deployed(agent, ServiceDef(name, (component("c"),)))
            before = pid(f"{name}-c")
            process.terminate()
            process.wait(60)
            with anyio.fail_after(15):
                while (await agent.list_services(service=name))[0].components[0].observed.state != "unknown":
                    await anyio.sleep(0.05)
            check = await agent.live_check()
            assert "does not answer" in check.runtime_error
            assert {each.observed.state for each in check.components if each.service == name} == {"unknown"}
            status = await agent.get_service_status(name)
            assert status.drift == ()
            assert status.runtime_error
            info = await agent.node_info()
            assert info.runtime is None
            await anyio.sleep(1)
            process = serve()
            with anyio.fail_after(15):
                while (await agent.list_services(service=name))[0].components[0].observed.state != "running":
                    await anyio.sleep(0.05)
            assert pid(f"{name}-c") == before
            kinds = [each.kind async for each in agent.events(limit=1000)]
            assert kinds.count("runtime") == 2
            assert "restart" not in kinds
            assert "flap" not in kinds
    finally:
        podman_env.ended(process)


async def test_the_agent_runs_healthchecks_itself(options: AgentOptions, name: str) -> None:
    async with NodeAgent.open(options) as agent:
        check = Healthcheck(("/bin/sh", "-c", "test -e /tmp/well"), interval=0.5, retries=2, timeout=2)
        spec = component("c", "sh", "-c", "touch /tmp/well; exec sleep 600", healthcheck=check)
        await deployed(agent, ServiceDef(name, (spec,)))
        podman("exec", f"{name}-c", "/bin/busybox", "rm", "/tmp/well")
        found = await until(agent, name, "health", seconds=20)
        assert found[-1].to_state == "unhealthy"
        record = (await agent.list_services(service=name))[0].components[0]
        assert (record.observed.state, record.observed.health) == ("running", "unhealthy")


async def test_what_happened_while_no_agent_ran_is_found_at_the_start(options: AgentOptions, name: str) -> None:
    quick = replace(options, monitor=MonitorOptions(list_seconds=600, backoff_seconds=600))
    async with NodeAgent.open(quick) as agent:
        await deployed(agent, ServiceDef(name, (component("dead"), component("kept"))))
        kept = pid(f"{name}-kept")
    assert json.loads(podman("inspect", f"{name}-dead"))[0]["State"]["Running"]
    podman("kill", f"{name}-dead")
    async with NodeAgent.open(quick) as agent:
        # Down at the start is not a failure (the machine was restarted, perhaps): up again at once.
        await until(agent, name, "restart")
        assert pid(f"{name}-kept") == kept
