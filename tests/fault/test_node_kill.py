"""kill -9 of the node agent at random moments of deploy, rollback, sync, stop, restart, adopt, push and snapshot.

Afterwards, one start later: registry and podman agree, nothing is there twice, no container, supervisor, port
rule or unfinished file is left over, every operation has an answer and the service works.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec
import psutil
import pytest

from quarterdeck.errors import QuarterdeckError
from quarterdeck.node import leftovers, podman_secrets, snapshot
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import ComponentSpec, Healthcheck, Mutation, Port, ServiceDef, Volume
from quarterdeck.node.options import AgentOptions, MonitorOptions
from quarterdeck.node.results import PushRequest
from support import podman_env
from support.podman_env import IMAGE, IMAGE_2, podman

pytestmark = [pytest.mark.anyio, pytest.mark.podman, pytest.mark.fault, pytest.mark.timeout(900)]
SIZE = 16 * 1024 * 1024
NEW_CONTENT = b"new!" * (SIZE // 4)
DAEMON = Path(__file__).with_name("node_daemon.py")
ROUNDS = {"deploy": 12, "stop": 5, "restart": 3, "rollback": 3, "sync": 3, "adopt": 4, "push": 5, "snapshot": 4}


@pytest.fixture(scope="module")
def podman_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    podman_env.require_podman()
    with podman_env.service(tmp_path_factory.mktemp("podman")) as path:
        yield path


@pytest.fixture
def name() -> Iterator[str]:
    podman_env.require_podman()
    with podman_env.prefix("qdf") as found:
        yield found


class Victim:
    """A daemon that is given work and killed in the middle of it."""

    def __init__(self, options: AgentOptions, folder: Path) -> None:
        self.options, self._folder = options, folder
        (folder / "options.json").write_bytes(msgspec.json.encode(options, enc_hook=str))

    def kill_at(self, task: dict[str, object], seen: Path | None = None) -> bool:
        """Start it, let it work until it has `reached` what the task names (`seen`: until a container has made this
        file), kill it; whether it had come to its end."""
        return self.kill_during(task, None, seen=seen)

    def kill_during(self, task: dict[str, object], after: float | None, *, seen: Path | None = None) -> bool:
        """Start it, let it work for so long, kill it; whether it had come to its end."""
        if seen is not None:
            seen.unlink(missing_ok=True)
        (self._folder / "task.json").write_bytes(msgspec.json.encode(task, enc_hook=str))
        process = subprocess.Popen(
            [sys.executable, str(DAEMON), str(self._folder / "options.json"), str(self._folder / "task.json")],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            if after is not None:
                time.sleep(after)
            elif seen is not None:
                end = time.monotonic() + 60
                while not seen.exists():
                    assert time.monotonic() < end, f"{seen} did not come"
                    time.sleep(0.02)
            elif (line := process.stdout.readline()) != b"reached\n":
                return line == b"done\n"
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        done = process.stdout.read() == b"done\n"
        process.stdout.close()
        return done


def containers(name: str) -> dict[str, dict[str, object]]:
    found = json.loads(podman("ps", "-a", "--no-trunc", "--format", "json", "--filter", f"name=^{name}") or "[]")
    return {each["Names"][0]: each for each in found}


def supervisors(known: set[str]) -> list[str]:
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        line = process.info["cmdline"] or []
        if process.info["name"] == "conmon" and "-c" in line and line[line.index("-c") + 1] not in known:
            with suppress(psutil.Error):
                if process.ppid() == 1 and process.create_time() < time.time() - 5:
                    found.append(" ".join(line)[:200])
    return found


async def agree(agent: NodeAgent, name: str, *, expected: dict[str, str]) -> None:
    """Registry and podman say the same, and nothing is left over."""
    record = (await agent.list_services(service=name))[0]
    real = containers(name)
    assert sorted(real) == sorted(expected), (sorted(real), expected)
    for each in record.components:
        state = str(real[each.container_name]["State"])
        assert (each.observed.container_id, each.observed.state) == (real[each.container_name]["Id"], state), each
        assert expected[each.container_name] == state, each
    running = await agent._engine.context.store.read(lambda registry: registry.running_operations())
    assert running == ()
    # The supervisor of a container just removed lives a moment longer, on a busy machine seconds.
    with anyio.move_on_after(15):
        while supervisors(set(podman("ps", "-aq", "--no-trunc").split())):
            await anyio.sleep(0.2)
    assert supervisors(set(podman("ps", "-aq", "--no-trunc").split())) == []
    rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True).stdout.splitlines()
    # Others may be publishing ports at this very moment: only what stays is left over.
    if stale := leftovers.stale_rules(rules, set(podman("ps", "-aq", "--no-trunc").split())):
        await anyio.sleep(2)
        rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True).stdout.splitlines()
        again = leftovers.stale_rules(rules, set(podman("ps", "-aq", "--no-trunc").split()))
        assert not [each for each in again if each in stale]


def definition(name: str, port: int, version: int) -> ServiceDef:
    script = f"echo {version} > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    web = ComponentSpec(
        "web", IMAGE, ports=(Port(port, 80),), cmd=("sh", "-c", script), env={"V": str(version)}, stop_seconds=0
    )
    check = Healthcheck(("/bin/sh", "-c", "sleep 0.1"), interval=1)
    side = ComponentSpec(
        "side", IMAGE, cmd=("sleep", "600"), network="none", env={"V": str(version)}, stop_seconds=0, healthcheck=check
    )
    return ServiceDef(name, (web, side))


async def served(port: int) -> str:
    with anyio.fail_after(20):
        while True:
            # What was put back is started, not probed: it may not listen yet.
            with suppress(OSError):
                stream = await anyio.connect_tcp("127.0.0.1", port)
                break
            await anyio.sleep(0.05)
        async with stream:
            await stream.send(b"GET /index.html HTTP/1.0\r\n\r\n")
            answer = b""
            with suppress(anyio.EndOfStream):
                while True:
                    answer += await stream.receive()
    return answer.rpartition(b"\n\n")[2].rpartition(b"\r\n\r\n")[2].decode().strip()


@pytest.fixture(params=["api", "cli"])
def victim(request: pytest.FixtureRequest, podman_socket: Path, tmp_path: Path) -> Victim:
    options = AgentOptions(
        state_dir=tmp_path / "state",
        node_name="node",
        files_root=tmp_path / "srv",
        runtime=request.param,
        socket=podman_socket,
        probe_seconds=20,
        monitor=MonitorOptions(list_seconds=600, backoff_seconds=0.1),
    )
    return Victim(options, tmp_path)


def quiet(options: AgentOptions) -> AgentOptions:
    return replace(options, monitor=MonitorOptions(enabled=False))


async def test_killed_in_the_middle_of_a_deploy(victim: Victim, name: str) -> None:
    port, dice = podman_env.free_port(), random.Random(4)
    expected = {f"{name}-web": "running", f"{name}-side": "running"}
    async with NodeAgent.open(quiet(victim.options)) as agent:
        final = [e async for e in agent.deploy(definition(name, port, 0), Mutation())][-1].final
        assert final is not None
        assert final.ok, final
    finished = 0
    for version in range(1, ROUNDS["deploy"] + 1):
        task = {"kind": "deploy", "operation": f"op{version}", "definition": definition(name, port, version)}
        victim.kill_during(task, dice.uniform(0.0, 1.3 if victim.options.runtime == "api" else 3))
        async with NodeAgent.open(quiet(victim.options)) as agent:
            await agree(agent, name, expected=expected)
            runs = {each.name: each.spec.env["V"] for each in (await agent.list_services(service=name))[0].components}
            assert await served(port) == runs["web"]
            status = await agent.get_service_status(name)
            assert status.drift == (), status.drift
            again = agent.deploy(definition(name, port, version), Mutation(operation_id=f"op{version}"))
            answer = ""
            try:
                async for _ in again:
                    pass
            except QuarterdeckError as error:
                answer = error.message
            versions = {each.spec.env["V"] for each in (await agent.list_services(service=name))[0].components}
            finished += not answer
            assert versions == {str(version)} if not answer else "killed in the middle" in answer
    print(f"deploys killed: {ROUNDS['deploy']}, of which came to their end: {finished}")


async def test_killed_in_the_middle_of_a_first_deploy(victim: Victim, name: str) -> None:
    port, dice = podman_env.free_port(), random.Random(5)
    for round_ in range(4):
        task = {"kind": "deploy", "operation": f"op{round_}", "definition": definition(name, port, round_)}
        victim.kill_during(task, dice.uniform(0.05, 0.7))
        async with NodeAgent.open(quiet(victim.options)) as agent:
            known = [each for each in await agent.list_services() if each.name == name]
            there = {
                c.container_name: "running" for each in known for c in each.components if c.observed.state == "running"
            }
            if known:
                await agree(agent, name, expected=there)
                await agent.purge_service(name, Mutation())
            assert containers(name) == {}


async def test_of_a_deploy_that_is_undone_nothing_stays_in_the_service(victim: Victim, name: str) -> None:
    well = Healthcheck(("/bin/sh", "-c", "sleep 3"), interval=5, timeout=5)
    first = ComponentSpec("a", IMAGE, cmd=("sleep", "600"), network="none", stop_seconds=0)
    new = replace(first, env={"V": "2"}, healthcheck=well)
    task: dict[str, object] = {"kind": "deploy", "operation": "first", "definition": ServiceDef(name, (new,))}
    assert not victim.kill_during(task, 1.2)
    async with NodeAgent.open(quiet(victim.options)) as agent:
        # A service that never came to be is none.
        assert await agent.list_services() == ()
        assert containers(name) == {}
        [e async for e in agent.deploy(ServiceDef(name, (first,)), Mutation())]
    later = ServiceDef(name, (new,), node="other", enforce=True)
    assert not victim.kill_during({"kind": "deploy", "operation": "second", "definition": later}, 1.2)
    async with NodeAgent.open(quiet(victim.options)) as agent:
        await agree(agent, name, expected={f"{name}-a": "running"})
        record = (await agent.list_services(service=name))[0]
        assert (record.components[0].spec, record.node, record.enforce) == (first, "", False)


@pytest.mark.parametrize("what", ["image", "env file"])
async def test_killed_in_a_deploy_that_changes_only_what_a_name_means(victim: Victim, name: str, what: str) -> None:
    """The same definition over another image behind its tag, or another env file: what was undone is told as undone."""
    tag, private = f"localhost/{name}:latest", victim.options.files_root / name / "private.env"
    private.parent.mkdir(parents=True)
    private.touch(0o600)
    private.write_text("V=1\n")
    podman("tag", IMAGE, tag)
    slow = ("sh", "-c", "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done")
    quick = ComponentSpec("b", IMAGE, cmd=("sleep", "600"), network="none", stop_seconds=0)
    a = ComponentSpec("a", tag, cmd=slow, network="none", stop_seconds=8, env_files=("private.env",))
    service = ServiceDef(name, (a, quick))
    expected = {f"{name}-a": "running", f"{name}-b": "running"}
    try:
        async with NodeAgent.open(quiet(victim.options)) as agent:
            final = [e async for e in agent.deploy(service, Mutation())][-1].final
            assert final is not None
            assert final.ok, final
        before = podman("inspect", "--format", "{{.Id}}", f"{name}-a")
        if what == "image":
            podman("tag", IMAGE_2, tag)
        else:
            private.write_text("V=2\n")
        task: dict[str, object] = {"kind": "deploy", "operation": "second", "definition": service}
        assert not victim.kill_at({**task, "until": "stopping-old"})
        async with NodeAgent.open(quiet(victim.options)) as agent:
            await agree(agent, name, expected=expected)
            assert podman("inspect", "--format", "{{.Id}}", f"{name}-a") == before
            assert [each.ok for each in await agent.history(name)] == [False, True]
            with pytest.raises(QuarterdeckError, match="as asked for: b; as before: a"):
                [e async for e in agent.deploy(service, Mutation(operation_id="second"))]
            told = [e.message async for e in agent.events(service=name) if e.kind == "recovered"]
            assert told == ["deploy was interrupted; undone"]
            final = [e async for e in agent.deploy(service, Mutation())][-1].final
            assert final is not None
            assert {each.component: each.outcome for each in final.components} == {"a": "replaced", "b": "unchanged"}
            assert (await agent.get_service_status(name)).drift == ()
    finally:
        podman("rm", "-f", "-t", "0", *containers(name), check=False)
        podman("untag", tag, tag, check=False)


async def test_killed_while_a_renamed_component_takes_its_port(victim: Victim, name: str) -> None:
    """The one that was stopped for it runs again, and the next deploy renames it."""
    port = podman_env.free_port()
    serve = ("sh", "-c", "echo 0 > /tmp/index.html; exec httpd -f -p 80 -h /tmp")
    old = ComponentSpec("front", IMAGE, ports=(Port(port, 80),), cmd=serve, stop_seconds=0, restart="no")
    async with NodeAgent.open(quiet(victim.options)) as agent:
        [e async for e in agent.deploy(ServiceDef(name, (old,)), Mutation())]
    never = Healthcheck(("/bin/sh", "-c", "sleep 4"), interval=5, timeout=5)
    new = ServiceDef(name, (replace(old, name="web", healthcheck=never),))
    task: dict[str, object] = {"kind": "deploy", "operation": "rename", "definition": new}
    assert not victim.kill_at({**task, "until": "probing"})
    async with NodeAgent.open(quiet(victim.options)) as agent:
        await agree(agent, name, expected={f"{name}-front": "running"})
        assert await served(port) == "0"
        final = [e async for e in agent.deploy(ServiceDef(name, (replace(old, name="web"),)), Mutation())][-1].final
        assert final is not None
        assert final.ok, final
        await agree(agent, name, expected={f"{name}-web": "running"})


async def test_killed_while_a_secret_is_replaced(victim: Victim, name: str) -> None:
    """Podman before 4.7 removes it first: then it is gone, and who asks is told; no copy of it stays."""
    podman("secret", "create", name, "-", stdin=b"the old value")
    podman("secret", "create", f"qd-trial-{name}", "-", stdin=b"somebody else's")
    try:
        done = victim.kill_at({"kind": "set-secret", "operation": "s", "service": name})
        mine = podman_secrets.trial_mark(victim.options.state_dir)
        assert done or any(each.startswith(mine) for each in secrets())
        async with NodeAgent.open(quiet(victim.options)) as agent:
            assert not any(each.startswith(mine) for each in secrets())
            # What another agent tries out is left to it.
            assert f"qd-trial-{name}" in secrets()
            if not done:
                with pytest.raises(QuarterdeckError, match=f"secret {name} is gone, set it again"):
                    await agent.set_secret(name, b"the new value", Mutation(operation_id="s"))
                told = [e.message async for e in agent.events() if e.kind == "recovered"]
                assert f"secret {name} is gone, set it again" in told
                await agent.set_secret(name, b"the new value", Mutation())
            assert name in secrets()
    finally:
        podman("secret", "rm", f"qd-trial-{name}", check=False)


def secrets() -> list[str]:
    return podman("secret", "ls", "--format", "{{.Name}}").split()


async def test_killed_in_the_middle_of_stop_and_start(victim: Victim, name: str) -> None:
    port, dice = podman_env.free_port(), random.Random(6)
    async with NodeAgent.open(quiet(victim.options)) as agent:
        [e async for e in agent.deploy(definition(name, port, 0), Mutation())]
    for round_ in range(ROUNDS["stop"]):
        for kind, state in (("stop", "exited"), ("start", "running")):
            done = victim.kill_during(
                {"kind": kind, "operation": f"{kind}{round_}", "service": name}, dice.uniform(0.0, 0.5)
            )
            async with NodeAgent.open(quiet(victim.options)) as agent:
                call = agent.stop_service if kind == "stop" else agent.start_service
                before = await agent._engine.context.store.read(lambda r, i=f"{kind}{round_}": r.operation(i))  # type: ignore[misc]
                answer = await call(name, Mutation(operation_id=f"{kind}{round_}"))
                assert answer.ok or not done
                # What had been begun was finished at the start, before anybody asked again.
                assert before is None or before.state == "done"
                await agree(agent, name, expected={f"{name}-web": state, f"{name}-side": state})


async def test_killed_in_the_middle_of_a_restart(victim: Victim, name: str) -> None:
    port, dice = podman_env.free_port(), random.Random(10)
    expected = {f"{name}-web": "running", f"{name}-side": "running"}
    async with NodeAgent.open(quiet(victim.options)) as agent:
        [e async for e in agent.deploy(definition(name, port, 0), Mutation())]
    for round_ in range(ROUNDS["restart"]):
        task: dict[str, object] = {"kind": "restart", "operation": f"r{round_}", "service": name}
        victim.kill_during(task, dice.uniform(0.0, 0.7))
        async with NodeAgent.open(quiet(victim.options)) as agent:
            # What had been begun was finished at the start.
            await agree(agent, name, expected=expected)
            before = {each["Id"] for each in containers(name).values()}
            assert (await agent.restart_service(name, Mutation(operation_id=f"r{round_}"))).ok
            assert {each["Id"] for each in containers(name).values()} == before
            assert await served(port) == "0"


async def test_killed_in_the_middle_of_a_rollback(victim: Victim, name: str) -> None:
    port, dice = podman_env.free_port(), random.Random(11)
    expected = {f"{name}-web": "running", f"{name}-side": "running"}
    for round_ in range(ROUNDS["rollback"]):
        async with NodeAgent.open(quiet(victim.options)) as agent:
            for version in (0, round_ + 1):
                final = [e async for e in agent.deploy(definition(name, port, version), Mutation())][-1].final
                assert final is not None
                assert final.ok, final
            first = (await agent.history(name))[1].generation
        task = {"kind": "rollback", "operation": f"b{round_}", "service": name, "generation": first}
        victim.kill_during(task, dice.uniform(0.0, 1.3 if victim.options.runtime == "api" else 3))
        async with NodeAgent.open(quiet(victim.options)) as agent:
            await agree(agent, name, expected=expected)
            runs = {each.name: each.spec.env["V"] for each in (await agent.list_services(service=name))[0].components}
            assert await served(port) == runs["web"]
            assert (await agent.get_service_status(name)).drift == ()
            answer = ""
            try:
                async for _ in agent.rollback(name, Mutation(operation_id=f"b{round_}"), generation=first):
                    pass
            except QuarterdeckError as error:
                answer = error.message
            after = {each.spec.env["V"] for each in (await agent.list_services(service=name))[0].components}
            assert after == {"0"} if not answer else "killed in the middle of rollback" in answer


async def test_killed_in_the_middle_of_a_sync_that_applies(victim: Victim, name: str) -> None:
    port, dice = podman_env.free_port(), random.Random(12)
    expected = {f"{name}-web": "running", f"{name}-side": "running"}
    async with NodeAgent.open(quiet(victim.options)) as agent:
        [e async for e in agent.deploy(definition(name, port, 0), Mutation())]
    kept = containers(name)[f"{name}-side"]["Id"]
    for version in range(1, ROUNDS["sync"] + 1):
        whole = definition(name, port, version)
        one = replace(whole, components=whole.components[:1])
        task = {"kind": "sync", "operation": f"s{version}", "definitions": [one]}
        victim.kill_during(task, dice.uniform(0.0, 1.3 if victim.options.runtime == "api" else 3))
        async with NodeAgent.open(quiet(victim.options)) as agent:
            await agree(agent, name, expected=expected)
            done = await agent.sync_desired_state([one], Mutation(), apply=True)
            assert next(each for each in done.items if each.service == name).outcome != "failed", done
            await agree(agent, name, expected=expected)
            assert (await agent.get_service_status(name)).drift == ()
            assert await served(port) == str(version)
            # What is defined no more was not asked to go.
            assert containers(name)[f"{name}-side"]["Id"] == kept


async def test_what_is_finished_later_is_what_was_asked_for(victim: Victim, name: str, tmp_path: Path) -> None:
    """One component of two, and the files of a purge: the next start does that, and no more."""
    out = tmp_path / "out"
    out.mkdir()
    # What the containers touch says that the work is in its middle, however long the way there was.
    stopping, starting = out / "stopping", out / "starting"
    slow = ("sh", "-c", "trap 'touch /out/stopping; sleep 4; exit 0' TERM; while :; do sleep 0.1; done")
    check = Healthcheck(("/bin/sh", "-c", "touch /out/starting; sleep 4"), interval=5, timeout=10)
    volumes = (Volume(str(out), "/out"),)
    a, b = (
        ComponentSpec(each, IMAGE, cmd=slow, network="none", healthcheck=check, stop_seconds=10, volumes=volumes)
        for each in "ab"
    )
    service = ServiceDef(name, (a, replace(b, healthcheck=None)))
    async with NodeAgent.open(quiet(victim.options)) as agent:
        [e async for e in agent.deploy(service, Mutation())]
    task: dict[str, object] = {"service": name, "component": "a"}
    assert not victim.kill_at({**task, "kind": "stop", "operation": "stop"}, stopping)
    async with NodeAgent.open(quiet(victim.options)) as agent:
        await agree(agent, name, expected={f"{name}-a": "exited", f"{name}-b": "running"})
        record = (await agent.list_services(service=name))[0]
        assert [each.desired for each in record.components] == ["stopped", "running"]
        await agent.stop_service(name, Mutation())
    assert not victim.kill_at({**task, "kind": "start", "operation": "start"}, starting)
    async with NodeAgent.open(quiet(victim.options)) as agent:
        await agree(agent, name, expected={f"{name}-a": "running", f"{name}-b": "exited"})
        record = (await agent.list_services(service=name))[0]
        assert [each.desired for each in record.components] == ["running", "stopped"]
    folder = victim.options.files_root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kept").write_text("x")
    assert not victim.kill_at({"service": name, "kind": "purge", "operation": "purge"}, stopping)
    assert folder.exists()
    async with NodeAgent.open(quiet(victim.options)) as agent:
        assert await agent.list_services() == ()
        assert containers(name) == {}
        assert not folder.exists()


async def test_killed_in_the_middle_of_adopting(victim: Victim, name: str) -> None:
    dice = random.Random(7)
    for index in range(4):
        podman(
            "run", "-d", "--network", "none", "--name", f"{name}-c{index}", "--stop-timeout", "0", IMAGE, "sleep", "600"
        )
    before = {key: value["Id"] for key, value in containers(name).items()}
    for round_ in range(ROUNDS["adopt"]):
        victim.kill_during({"kind": "adopt", "operation": f"a{round_}", "service": name}, dice.uniform(0.0, 0.2))
        async with NodeAgent.open(quiet(victim.options)) as agent:
            await agent.adopt_containers(name, Mutation(operation_id=f"a{round_}"))
            await agree(agent, name, expected=dict.fromkeys(before, "running"))
            assert len((await agent.list_services(service=name))[0].components) == 4
            await agent._engine.context.store.write(lambda registry: registry.remove_service(name))
    assert {key: value["Id"] for key, value in containers(name).items()} == before


async def test_killed_in_the_middle_of_a_push(victim: Victim, name: str) -> None:
    dice, digest = random.Random(8), hashlib.sha256(NEW_CONTENT).hexdigest()
    target = victim.options.files_root / name / "data" / "file.bin"
    target.parent.mkdir(parents=True)
    for round_ in range(ROUNDS["push"]):
        target.write_bytes(b"old")
        task = {"kind": "push", "operation": f"p{round_}", "service": name, "size": SIZE, "sha256": digest}
        done = victim.kill_during(task, dice.uniform(0.0, 0.5))
        content = target.read_bytes()
        assert content == NEW_CONTENT if done else content in (b"old", NEW_CONTENT)
        async with NodeAgent.open(quiet(victim.options)) as agent:
            offset = await agent.push_offset(name, "data/file.bin", digest)

            async def rest(offset: int = offset) -> object:
                yield NEW_CONTENT[offset:]

            request = PushRequest(name, "data/file.bin", SIZE, digest, offset=offset)
            await agent.push_file(request, rest(), Mutation())  # type: ignore[arg-type]
        assert target.read_bytes() == NEW_CONTENT
        assert [each.name for each in target.parent.iterdir()] == ["file.bin"]


async def test_killed_in_the_middle_of_a_snapshot(victim: Victim, name: str) -> None:
    dice = random.Random(9)
    async with NodeAgent.open(quiet(victim.options)) as agent:
        await agent.sync_desired_state([definition(name, 1, 0)], Mutation())
    for _ in range(ROUNDS["snapshot"]):
        victim.kill_during({"kind": "snapshot", "operation": "x"}, dice.uniform(0.0, 0.4))
        for each in snapshot.listed(victim.options.snapshots):
            snapshot.check(Path(each.path))
        async with NodeAgent.open(quiet(victim.options)) as agent:
            await agent.snapshot()
            assert [p for p in victim.options.snapshots.iterdir() if p.name.startswith(".")] == []
            assert (await agent.list_services(service=name))[0].generation == 1
