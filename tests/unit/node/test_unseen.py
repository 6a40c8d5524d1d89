"""Containers whose end podman missed: told as they are, made anew, and nothing else is taken for one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from quarterdeck.errors import Unavailable
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Mutation, ServiceDef
from quarterdeck.node.options import AgentOptions, MonitorOptions
from quarterdeck.node.podman_unseen import NotAll, UnseenEnds, Usages, usage_of
from quarterdeck.node.results import Usage
from quarterdeck.node.runtime import Container, CreateRequest, Details
from support import podman_env
from support.node_agent import component, deployed, events, until
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman]
QUICK = MonitorOptions(list_seconds=600, backoff_seconds=0.05)

LISTING = """
import json, os, sys
import anyio
from pathlib import Path
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_api import PodmanApi

async def main():
    runtime = PodmanApi(AgentOptions(Path(sys.argv[1]), socket=Path(sys.argv[2])))
    listed = {each.name: each for each in await runtime.list()}[sys.argv[3]]
    inspected = (await runtime.inspect(sys.argv[3])).container
    there = os.path.exists(f"/proc/{listed.pid}/ns")
    print(json.dumps([there, [listed.state, inspected.state], (await runtime.usage())[listed.id].pids]))
    await runtime.aclose()

anyio.run(main)
"""


def test_in_a_process_namespace_of_its_own_podmans_word_holds(podman_socket: Path, tmp_path: Path, name: str) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    podman("run", "-d", "--network", "none", "--name", name, IMAGE, "sleep", "600")
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", LISTING]
    done = subprocess.run(
        [*command, str(tmp_path), str(podman_socket), name], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    seen, states, pids = json.loads(done.stdout)
    assert not seen, "it saw the container's process after all"
    assert (states, pids) == (["running", "running"], 1)


async def test_a_container_whose_end_podman_missed_is_made_anew(options: AgentOptions, name: str) -> None:
    async with NodeAgent.open(replace(options, monitor=QUICK)) as agent:
        await deployed(agent, ServiceDef(name, (component("c"), component("once", restart="no"))))
        await agent._engine.monitor.looked()
        before = podman("inspect", "--format", "{{.Id}}", f"{name}-c")
        for each in ("c", "once"):
            podman_env.end_unseen(f"{name}-{each}")
        await until(agent, name, "restart")
        with anyio.fail_after(15):
            while (record := (await agent.list_services(service=name))[0].component("c")) is not None:
                if record.observed.state == "running" and record.observed.container_id != before:
                    break
                await anyio.sleep(0.02)
        assert podman("inspect", "--format", "{{.State.Status}}", f"{name}-c") == "running"
        ends = [e for e in await until(agent, name, "state", number=2) if e.to_state == "exited"]
        assert {e.component for e in ends} == {"c", "once"}
        assert all("conmon" in e.message for e in ends)
        status = await agent.get_service_status(name)
        assert [(each.component, each.kind, each.actual) for each in status.drift] == [("once", "state", "exited")]
        started = await agent.start_service(name, Mutation(), component="once")
        assert (started.components[0].outcome, "anew" in started.components[0].message) == ("started", True)
        assert (await agent.get_service_status(name)).drift == ()


async def test_a_deploy_replaces_a_container_whose_end_podman_missed(options: AgentOptions, name: str) -> None:
    async with NodeAgent.open(options) as agent:
        service = ServiceDef(name, (component("c", restart="no"),))
        await deployed(agent, service)
        podman_env.end_unseen(f"{name}-c")
        final = [each async for each in agent.deploy(service, Mutation())][-1].final
        assert final is not None
        assert [(each.outcome, each.message) for each in final.components] == [("replaced", "")]
        assert podman("ps", "-a", "--format", "{{.Names}}", "--filter", f"name={name}") == f"{name}-c"
        assert (await agent.get_service_status(name)).drift == ()


@pytest.mark.slow
async def test_data_that_a_new_container_would_not_have_is_left_to_a_person(options: AgentOptions, name: str) -> None:
    with podman_env.image_with_volume(name) as image:
        async with NodeAgent.open(replace(options, monitor=QUICK)) as agent:
            await deployed(agent, ServiceDef(name, (component("c", image=image),)))
            await agent._engine.monitor.looked()
            podman("exec", f"{name}-c", "touch", "/data/mine")
            mounts = "{{range .Mounts}}{{.Name}} {{.Source}}{{end}}"
            volume, folder = podman("inspect", "--format", mounts, f"{name}-c").split()
            podman_env.end_unseen(f"{name}-c")
            told = await until(agent, name, "gave-up")
            assert "anonymous volumes" in told[0].message
            assert await events(agent, name, "restart") == []
            assert (Path(folder) / "mine").exists()
            started = await agent.start_service(name, Mutation())
            assert (started.components[0].outcome, volume in started.components[0].message) == ("started", True)
            assert (Path(folder) / "mine").exists(), "a start took the old data away"
            podman("volume", "rm", volume)


@pytest.mark.slow
async def test_what_could_not_be_made_anew_at_once_is_tried_again(
    options: AgentOptions, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with NodeAgent.open(replace(options, monitor=QUICK)) as agent:
        await deployed(agent, ServiceDef(name, (component("c"),)))
        await agent._engine.monitor.looked()
        runtime = agent._engine.context.runtime
        create, failures = runtime.create, ["no memory", "no memory"]

        async def failing(request: CreateRequest) -> str:
            if failures:
                raise Unavailable(failures.pop())
            return await create(request)

        monkeypatch.setattr(runtime, "create", failing)
        podman_env.end_unseen(f"{name}-c")
        restarts = await until(agent, name, "restart", number=3, seconds=30)
        assert ["no memory" in each.message for each in restarts] == [True, True, False]
        assert podman("inspect", "--format", "{{.State.Status}}", f"{name}-c") == "running"


def running(identity: str = "i", pid: int = 2**22 + 1) -> Container:
    """A container as podman tells it; no process has that number."""
    return Container(identity, f"c-{identity}", "running", pid, "img", "id", {})


@pytest.mark.parametrize(("answers", "state"), [((False, False), "exited"), ((False, True), "running")])
async def test_podman_is_asked_twice_for_processes(answers: tuple[bool, ...], state: str) -> None:
    left = list(answers)

    async def look(name: str) -> Details:
        return Details(running(name), {})

    async def has_processes(name: str) -> bool:
        return left.pop(0)

    ends = UnseenEnds(look, has_processes)
    assert (await ends.corrected(running())).state == state
    assert left == []
    # Judged once, whoever has the number by now.
    assert (await ends.corrected(running())).state == state


async def test_a_silent_podman_proves_nothing() -> None:
    async def look(name: str) -> Details:
        return Details(running(name), {})

    async def has_processes(name: str) -> bool:
        raise Unavailable("podman does not answer")

    assert (await UnseenEnds(look, has_processes).corrected(running())).state == "running"


async def test_many_are_judged_side_by_side() -> None:
    waiting, most = 0, 0

    async def look(name: str) -> Details:
        return Details(running(name), {})

    async def has_processes(name: str) -> bool:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await anyio.sleep(0.01)
        waiting -= 1
        return False

    found = await UnseenEnds(look, has_processes).all_corrected([running(str(number)) for number in range(20)])
    assert [each.id for each in found] == [str(number) for number in range(20)]
    assert {each.state for each in found} == {"exited"}
    assert 1 < most <= 8


def asking(broken: set[str], asked: list[Sequence[str]]) -> Usages:
    async def ask(ids: Sequence[str]) -> Mapping[str, Usage]:
        asked.append(ids)
        if broken & set(ids):
            raise NotAll("one has ended")
        return {each: Usage(0, 1, 2, 3) for each in ids}

    return ask


async def test_one_of_which_podman_cannot_tell_hides_no_other() -> None:
    asked: list[Sequence[str]] = []
    found = await usage_of([running(str(number)) for number in range(401)], asking({"7", "300"}, asked))
    assert set(found) == {str(number) for number in range(401)} - {"7", "300"}
    assert max(map(len, asked)) == 200
    assert len(asked) < 40


async def test_usage_that_is_never_told_is_no_silence_and_no_flood() -> None:
    everyone = [running(str(number)) for number in range(400)]
    asked: list[Sequence[str]] = []
    with pytest.raises(NotAll):
        await usage_of(everyone, asking({each.id for each in everyone}, asked))
    assert len(asked) < 50
    with pytest.raises(NotAll):
        await usage_of(everyone[:3], asking({each.id for each in everyone}, asked))
    assert await usage_of(everyone[:1], asking({everyone[0].id}, asked)) == {}, "it may just have ended"
    assert await usage_of([], asking(set(), asked)) == {}
