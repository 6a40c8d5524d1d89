"""The contract of `Runtime`, over both implementations and real podman."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
import pytest

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError, Unavailable
from quarterdeck.node.model import ComponentSpec, Healthcheck, Limits, Port, Secret, Volume
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_api import PodmanApi, answers
from quarterdeck.node.podman_cli import PodmanCli
from quarterdeck.node.podman_real import real_spec
from quarterdeck.node.podman_secrets import trial_mark
from quarterdeck.node.runtime import CreateRequest, Runtime
from support import podman_env
from support.podman_env import IMAGE

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    podman_env.require_podman()
    with podman_env.service(tmp_path_factory.mktemp("api")) as path:
        yield path


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[podman_env.Registry]:
    podman_env.require_podman()
    with podman_env.registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(params=["cli", "api"])
async def runtime(
    request: pytest.FixtureRequest, socket: Path, registry: podman_env.Registry, tmp_path: Path
) -> AsyncIterator[Runtime]:
    options = AgentOptions(tmp_path, socket=socket, insecure_registries=(registry.address,))
    made: Runtime = PodmanCli(options) if request.param == "cli" else PodmanApi(options)
    yield made
    await made.aclose()


@pytest.fixture
def name() -> Iterator[str]:
    podman_env.require_podman()
    with podman_env.prefix("qdr") as found:
        yield found


def spec(*cmd: str, **more: object) -> ComponentSpec:
    given: dict[str, object] = {"network": "none", "stop_seconds": 0, **more}
    return ComponentSpec("c", IMAGE, cmd=cmd or ("sleep", "60"), **given)  # type: ignore[arg-type]


async def test_a_container_lives_from_create_to_remove(runtime: Runtime, name: str) -> None:
    made = await runtime.create(CreateRequest(name, spec(), {"io.quarterdeck.generation": "3"}))
    created = (await runtime.inspect(name)).container
    assert (created.id, created.state, created.pid) == (made, "created", 0)
    await runtime.start(name)
    await runtime.start(name)
    running = (await runtime.inspect(name)).container
    assert running.state == "running"
    assert running.pid > 0
    assert running.labels["io.quarterdeck.generation"] == "3"
    assert running.started_at == pytest.approx(time.time(), abs=20)
    assert running.exit_code is None
    listed = {each.name: each for each in await runtime.list()}[name]
    assert (listed.id, listed.state, listed.pid, listed.image) == (made, "running", running.pid, IMAGE)
    assert listed.image_id == (await runtime.image(IMAGE)).id == running.image_id
    await runtime.stop(name, grace_seconds=0)
    await runtime.stop(name, grace_seconds=0)
    stopped = (await runtime.inspect(name)).container
    assert (stopped.state, stopped.exit_code) == ("exited", 137)
    assert stopped.finished_at == pytest.approx(time.time(), abs=20)
    await runtime.remove(name)
    await runtime.remove(name)
    with pytest.raises(NotFound):
        await runtime.inspect(name)
    assert name not in {each.name for each in await runtime.list()}


async def test_names_are_unique_and_move_while_it_runs(runtime: Runtime, name: str) -> None:
    made = await runtime.run(CreateRequest(name, spec()))
    with pytest.raises(Conflict):
        await runtime.create(CreateRequest(name, spec()))
    await runtime.rename(name, f"{name}.old")
    moved = (await runtime.inspect(f"{name}.old")).container
    assert (moved.id, moved.state) == (made, "running")
    await runtime.create(CreateRequest(name, spec()))
    with pytest.raises(Conflict):
        await runtime.rename(name, f"{name}.old")
    await runtime.remove(f"{name}.old")


@pytest.mark.parametrize("call", ["start", "stop", "rename", "inspect", "logs", "exec", "image", "secret"])
async def test_what_is_not_there_is_not_found(runtime: Runtime, name: str, call: str) -> None:
    with pytest.raises(NotFound):  # noqa: PT012 - one of these calls
        match call:
            case "start":
                await runtime.start(name)
            case "stop":
                await runtime.stop(name, grace_seconds=0)
            case "rename":
                await runtime.rename(name, f"{name}x")
            case "inspect":
                await runtime.inspect(name)
            case "logs":
                [each async for each in runtime.logs(name)]
            case "exec":
                [each async for each in runtime.exec(name, ["true"])]
            case "image":
                await runtime.image(f"localhost/{name}:none")
            case _:
                await runtime.remove_secret(name)


@pytest.mark.parametrize("evil", ["--all", "-a", "../containers/{}", "..", "../secrets/{}", "{}/json", "--help"])
async def test_a_name_is_only_ever_a_name(runtime: Runtime, name: str, evil: str) -> None:
    await runtime.set_secret(name, b"kept")
    made = await runtime.run(CreateRequest(name, spec()))
    given = evil.format(name)
    for call in (
        runtime.remove_secret(given),
        runtime.start(given),
        runtime.stop(given, grace_seconds=0),
        runtime.rename(given, f"{name}x"),
        runtime.image(given),
        runtime.inspect(given),
    ):
        with pytest.raises(QuarterdeckError):
            await call
    with suppress(QuarterdeckError):
        await runtime.remove(given)
    assert name in await runtime.secrets()
    assert (await runtime.inspect(name)).container.id == made
    assert (await runtime.inspect(name)).container.state == "running"


async def test_every_setting_of_a_definition_arrives_and_is_read_back(
    runtime: Runtime, name: str, tmp_path: Path
) -> None:
    port = podman_env.free_port()
    await runtime.set_secret(f"{name}-db", b"s3cret-value")
    wanted = ComponentSpec(
        "c",
        IMAGE,
        ports=(Port(port, 80, "tcp", "127.0.0.1"),),
        volumes=(Volume(str(tmp_path), "/data", ("ro",)), Volume(f"{name}-vol", "/named")),
        entrypoint=("/bin/sh", "-c"),
        cmd=("echo $PLAIN; exec sleep 60",),
        env={"PLAIN": "a b=c", "EMPTY": ""},
        secrets=(Secret(f"{name}-db", "env", "DB"), Secret(f"{name}-db", "file", "db")),
        user="1000:1000",
        workdir="/tmp",
        limits=Limits(64 * 1024**2, 0.5, 50),
        healthcheck=Healthcheck(("/bin/sh", "-c", "test -e /data"), timeout=5, retries=2, start_period=1),
        labels={"team": "core"},
        stop_seconds=1,
    )
    labels = {"io.quarterdeck.node": "n", "io.quarterdeck.hidden-env": "DB,PRIVATE"}
    await runtime.run(CreateRequest(name, wanted, labels, {"PRIVATE": "pr1vate"}))
    details = await runtime.inspect(name)
    real, beyond = real_spec(details.raw, await runtime.image(IMAGE), component="c")
    # What a definition cannot hold: private variables, less those that the create command says are secrets.
    assert {each.partition(":")[0] for each in beyond} <= {"env.DB", "env.PRIVATE"}
    assert any(each.startswith("env.PRIVATE:") for each in beyond)
    assert real.ports == wanted.ports
    assert real.volumes == wanted.volumes
    assert (real.entrypoint, real.cmd) == (wanted.entrypoint, wanted.cmd)
    assert real.env == wanted.env
    assert (real.user, real.workdir, real.limits) == (wanted.user, wanted.workdir, wanted.limits)
    assert real.healthcheck is not None
    assert wanted.healthcheck is not None
    assert real.healthcheck.command == wanted.healthcheck.command
    assert (real.labels, real.stop_seconds, real.network) == (wanted.labels, 1, "")
    assert "s3cret-value" not in repr(details)
    assert await output(runtime, name, "sh", "-c", "echo $DB $PRIVATE") == "s3cret-value pr1vate"
    assert await output(runtime, name, "cat", "/run/secrets/db") == "s3cret-value"
    assert await output(runtime, name, "id", "-u") == "1000"
    assert await runtime.healthcheck(name) == "healthy"
    assert {each.name: each for each in await runtime.list()}[name].health == "healthy"
    await runtime.remove(name)


async def output(runtime: Runtime, name: str, *command: str) -> str:
    async with aclosing(runtime.exec(name, command)) as items:
        return b"".join([each.data async for each in items]).decode().strip()


async def test_an_unhealthy_container_is_told_after_its_retries(runtime: Runtime, name: str) -> None:
    check = Healthcheck(("/bin/false", "x"), retries=2)
    await runtime.run(CreateRequest(name, spec(healthcheck=check)))
    assert [await runtime.healthcheck(name) for _ in range(2)][-1] == "unhealthy"
    await runtime.remove(name)
    await runtime.run(CreateRequest(name, spec()))
    with pytest.raises(Conflict):
        await runtime.healthcheck(name)


async def test_exec_gives_both_streams_the_exit_code_and_takes_input(runtime: Runtime, name: str) -> None:
    await runtime.run(CreateRequest(name, spec()))
    items = [each async for each in runtime.exec(name, ["sh", "-c", "echo out; echo err >&2; exit 7"])]
    assert b"".join(each.data for each in items if each.stream == "stdout") == b"out\n"
    assert b"".join(each.data for each in items if each.stream == "stderr") == b"err\n"
    assert items[-1].exit_code == 7
    big = b"x" * 300_000
    echoed = [each async for each in runtime.exec(name, ["cat"], stdin=big)]
    assert b"".join(each.data for each in echoed) == big
    assert echoed[-1].exit_code == 0
    await runtime.stop(name, grace_seconds=0)
    with pytest.raises(Conflict):
        [each async for each in runtime.exec(name, ["true"])]


async def test_logs_have_time_stream_tail_and_follow(runtime: Runtime, name: str) -> None:
    script = "echo one; echo two >&2; sleep 3; echo three; sleep 60"
    await runtime.run(CreateRequest(name, spec("sh", "-c", script)))
    seen = []
    with anyio.fail_after(20):
        async with aclosing(runtime.logs(name, follow=True)) as lines:
            async for line in lines:
                seen.append((line.stream, line.text))
                assert line.at == pytest.approx(time.time(), abs=20)
                if line.text == "three":
                    break
    assert sorted(seen[:2]) == [("stderr", "two"), ("stdout", "one")]
    assert [line.text async for line in runtime.logs(name, tail=1)] == ["three"]
    first = [line async for line in runtime.logs(name)]
    assert [line.text async for line in runtime.logs(name, since=first[1].at + 1.5)] == ["three"]


async def test_events_tell_what_happened_since_before_the_subscription(runtime: Runtime, name: str) -> None:
    since = time.time()
    made = await runtime.run(CreateRequest(name, spec()))
    actions: list[str] = []

    async def follow() -> None:
        async with aclosing(runtime.events(since=since - 1)) as events:
            async for event in events:
                if event.id != made or event.action in actions:
                    continue
                assert event.name == name
                assert event.at >= since - 1
                actions.append(event.action)
                if event.action == "start":
                    await runtime.stop(name, grace_seconds=0)
                if event.action == "died":
                    break

    with anyio.fail_after(20):
        while "died" not in actions:
            # podman 4.3 may end the stream by itself (seen once): whoever follows asks again, as the monitor does.
            with suppress(Unavailable):
                await follow()
    assert [each for each in actions if each in ("create", "start", "died")] == ["create", "start", "died"]


async def test_usage_is_of_running_containers(runtime: Runtime, name: str) -> None:
    made = await runtime.run(CreateRequest(name, spec(limits=Limits(memory=64 * 1024**2))))
    found = (await runtime.usage())[made]
    assert 0 < found.memory < 64 * 1024**2 == found.memory_limit
    assert found.pids >= 1
    await runtime.stop(name, grace_seconds=0)
    assert made not in await runtime.usage()


async def test_an_end_that_podman_missed_is_told(runtime: Runtime, name: str) -> None:
    await runtime.run(CreateRequest(name, spec()))
    other = await runtime.run(CreateRequest(f"{name}2", spec()))
    podman_env.end_unseen(name)
    assert podman_env.podman("inspect", "--format", "{{.State.Status}}", name) == "running", "podman sees it by now"
    found = (await runtime.inspect(name)).container
    assert (found.state, found.exit_code, found.finished_at) == ("exited", None, None)
    assert "conmon" in found.message
    listed = {each.name: each for each in await runtime.list()}
    assert (listed[name].state, listed[name].message) == ("exited", found.message)
    assert (listed[f"{name}2"].state, listed[f"{name}2"].message) == ("running", "")
    # Asked of all of them at once, podman tells of none.
    usage = await runtime.usage()
    assert usage[other].pids == 1
    assert found.id not in usage
    with pytest.raises(Conflict):
        [each async for each in runtime.exec(name, ["true"])]
    await runtime.remove(name)
    await runtime.run(CreateRequest(name, spec()))
    assert (await runtime.inspect(name)).container.state == "running"


async def test_an_end_that_podman_is_about_to_write_down_is_no_missed_one(runtime: Runtime, name: str) -> None:
    made = await runtime.run(CreateRequest(name, spec()))
    os.kill((await runtime.inspect(name)).container.pid, signal.SIGKILL)
    seen = [(await runtime.inspect(made)).container for _ in range(20)]
    seen += [each for each in await runtime.list() if each.id == made]
    assert {each.exit_code for each in seen if each.state == "exited"} == {137}
    assert {each.state for each in seen} <= {"running", "exited"}


async def test_pull_fetches_and_follows_a_moved_tag(runtime: Runtime, name: str, registry: podman_env.Registry) -> None:
    reference = registry.add(f"{name}/app:v1")
    try:
        first = await runtime.pull(reference)
        assert first.id == (await runtime.image(IMAGE)).id
        registry.add(f"{name}/app:v1", podman_env.IMAGE_2)
        assert (await runtime.pull(reference)).id == (await runtime.image(podman_env.IMAGE_2)).id
    finally:
        podman_env.podman("rmi", reference, check=False)
    with pytest.raises((NotFound, Unavailable), match=r"pull|no image"):
        await runtime.pull(f"{registry.address}/{name}/none:v1")


async def test_secrets_are_replaced_and_listed_by_name_only(runtime: Runtime, name: str) -> None:
    await runtime.set_secret(name, b"one")
    await runtime.set_secret(name, b"two")
    assert [each for each in await runtime.secrets() if each == name] == [name]
    await runtime.run(CreateRequest(name, spec(secrets=(Secret(name, "env", "X"),))))
    assert await output(runtime, name, "sh", "-c", "echo $X") == "two"
    await runtime.remove(name)
    await runtime.remove_secret(name)
    assert name not in await runtime.secrets()


async def test_a_start_that_fails_says_why_and_leaves_it_created(runtime: Runtime, name: str) -> None:
    with pytest.raises(QuarterdeckError, match=r"no-such-program|executable"):
        await runtime.run(CreateRequest(name, spec("/no-such-program")))
    assert (await runtime.inspect(name)).container.state in ("created", "exited")


async def is_open(port: int) -> bool:
    """Whether somebody listens there; a container that runs may not have come that far."""
    try:
        async with await anyio.connect_tcp("127.0.0.1", port):
            return True
    except OSError:
        return False


async def test_a_failed_start_does_not_keep_the_port(runtime: Runtime, name: str) -> None:
    ports = (Port(podman_env.free_port(), 80, "tcp", "127.0.0.1"),)
    with pytest.raises(QuarterdeckError):
        await runtime.run(CreateRequest(name, spec("/no-such-program", network="", ports=ports)))
    await runtime.remove(name)
    await runtime.run(CreateRequest(name, spec("httpd", "-f", "-p", "80", network="", ports=ports)))
    with anyio.fail_after(20):
        while not await is_open(ports[0].host):
            await anyio.sleep(0.02)


async def test_info_tells_the_version(runtime: Runtime, tmp_path: Path, socket: Path) -> None:
    info = await runtime.info()
    assert info.version.split(".")[0].isdigit()
    assert await answers(socket)
    assert not await answers(tmp_path / "none.sock")
    gone = PodmanApi(AgentOptions(tmp_path, socket=tmp_path / "none.sock"))
    with pytest.raises(Unavailable, match="does not answer"):
        await gone.list()
    await gone.aclose()


async def test_a_user_that_the_container_does_not_know_is_the_callers_mistake(runtime: Runtime, name: str) -> None:
    await runtime.run(CreateRequest(name, spec()))
    if isinstance(runtime, PodmanApi):
        with pytest.raises(InvalidInput, match="nobody-of-that-name"):
            [each async for each in runtime.exec(name, ["id"], user="nobody-of-that-name")]
    else:
        # The command tells it as any failure of a command.
        outputs = [each async for each in runtime.exec(name, ["id"], user="nobody-of-that-name")]
        assert outputs[-1].exit_code
        assert b"nobody-of-that-name" in b"".join(each.data for each in outputs)
    assert (await runtime.inspect(name)).container.state == "running"


async def test_a_value_that_podman_does_not_take_leaves_the_old_one(
    runtime: Runtime, name: str, tmp_path: Path
) -> None:
    await runtime.set_secret(name, b"kept")
    with pytest.raises(QuarterdeckError):
        await runtime.set_secret(name, b"x" * 600_000)
    await runtime.run(CreateRequest(name, spec(secrets=(Secret(name, "env", "X"),))))
    assert await output(runtime, name, "sh", "-c", "echo -n $X") == "kept"
    assert not [each for each in await runtime.secrets() if each.startswith(trial_mark(tmp_path))]


async def test_followers_do_not_starve_calls(socket: Path, name: str, tmp_path: Path) -> None:
    runtime = PodmanApi(AgentOptions(tmp_path, socket=socket, runtime_seconds=30))
    await runtime.run(CreateRequest(name, spec("sh", "-c", "echo hello; sleep 60")))
    following = 0

    async def follow() -> None:
        nonlocal following
        async with aclosing(runtime.logs(name, follow=True)) as lines:
            async for _ in lines:
                following += 1

    async with anyio.create_task_group() as group:
        for _ in range(80):
            group.start_soon(follow)
        with anyio.fail_after(30):
            while following < 80:
                await anyio.sleep(0.05)
        assert name in {each.name for each in await runtime.list()}
        group.cancel_scope.cancel()
    await runtime.aclose()
