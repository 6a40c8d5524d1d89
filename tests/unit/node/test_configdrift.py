"""Drift of the real configuration: none after our own deploy, whatever was written; told, alerted and undone else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.node import drifting
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.configdrift import config_drift, plain
from quarterdeck.node.model import (
    ComponentSpec,
    Healthcheck,
    Limits,
    Mutation,
    Port,
    ServiceDef,
    Volume,
)
from quarterdeck.node.options import AgentOptions, MonitorOptions
from quarterdeck.node.podman_real import real_spec
from quarterdeck.node.results import Drift
from quarterdeck.node.runtime import Image
from support import podman_env
from support.node_agent import component, deployed, events, until
from support.podman_env import IMAGE, podman

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE = Image(
    "1" * 64, "", env=("A=1", f"PATH={PATH}"), cmd=("run", "it"), entrypoint=("/bin/e",), user="1000", workdir="/work",
    labels={"version": "v1"}, healthcheck=("true", "x"),
)  # fmt: skip
ADDRESSES = ("", "0.0.0.0", "::", "127.0.0.1", "0:0:0:0:0:0:0:1")
_words = st.sampled_from([(), ("run", "it"), ("/bin/e",), ("",), ("other",)])


@st.composite
def specs(draw: st.DrawFn) -> ComponentSpec:
    return ComponentSpec(
        "c",
        "img",
        ports=tuple(Port(80, 80 + i, "tcp", draw(st.sampled_from(ADDRESSES))) for i in range(draw(st.integers(0, 2)))),
        volumes=tuple(
            Volume(draw(st.sampled_from(("/a", "/a/", "//a", "/a/./b", "v"))), f"/t{i}{end}", options)
            for i, end, options in draw(
                st.lists(
                    st.tuples(st.integers(0, 9), st.sampled_from(("", "/")), st.sampled_from(((), ("ro", "Z")))),
                    max_size=2,
                    unique_by=lambda each: each[0],
                )
            )
        ),
        entrypoint=draw(_words),
        cmd=draw(_words),
        env=draw(st.dictionaries(st.sampled_from(("A", "PATH", "HOME", "B")), st.sampled_from(("1", PATH)))),
        user=draw(st.sampled_from(("", "1000", "root"))),
        workdir=draw(st.sampled_from(("", "/", "/srv", "/srv/", "/x"))),
        network=draw(st.sampled_from(("", "podman", "bridge", "net", "host"))),
        limits=Limits(None, draw(st.sampled_from((None, 0.29, 1))), draw(st.sampled_from((None, 2048, 7)))),
        healthcheck=draw(st.sampled_from((None, Healthcheck(("true", "x")), Healthcheck(("other",))))),
        labels=draw(
            st.dictionaries(st.sampled_from(("version", "io.quarterdeck.x", "l")), st.sampled_from(("v1", "2")))
        ),
    )


def as_podman_makes_it(spec: ComponentSpec) -> ComponentSpec:
    """What podman does with a definition: everything from the image that it leaves open."""
    cpus = spec.limits.cpus
    return replace(
        spec,
        image="docker.io/library/img:latest",
        env={**dict(each.split("=", 1) for each in BASE.env), **spec.env},
        entrypoint=spec.entrypoint or BASE.entrypoint,
        cmd=spec.cmd or (() if spec.entrypoint not in ((), BASE.entrypoint) else BASE.cmd),
        user=spec.user or BASE.user,
        workdir=spec.workdir or BASE.workdir,
        network=spec.network or "podman",
        limits=replace(spec.limits, pids=spec.limits.pids or 2048, cpus=cpus and int(cpus * 100_000) / 100_000),
        labels={**BASE.labels, **spec.labels},
        healthcheck=spec.healthcheck or Healthcheck(BASE.healthcheck, interval=1),
    )


@given(specs())
def test_what_podman_makes_of_a_definition_is_no_drift(spec: ComponentSpec) -> None:
    assert config_drift(spec, as_podman_makes_it(spec), image=BASE) == ()
    assert plain(plain(spec, BASE), BASE) == plain(spec, BASE)


@given(specs(), st.sampled_from(("user", "workdir", "network", "env", "cmd", "limits", "labels")))
def test_another_value_is_drift(spec: ComponentSpec, name: str) -> None:
    other = {
        "env": {**spec.env, "Z": "1"},
        "cmd": ("quite", "other"),
        "limits": Limits(2**30, None, 9),
        "labels": {"q": "1"},
    }
    made = replace(as_podman_makes_it(spec), **{name: other.get(name, "/else")})  # type: ignore[arg-type]
    assert any(each.field.startswith(name) for each in config_drift(spec, made, image=BASE))


@pytest.fixture
def rich(name: str) -> Iterator[str]:
    """An image that brings something of everything."""
    image = f"localhost/{name}:v1"
    changes = ["ENV A=1", "CMD sleep 600", "USER 0", "WORKDIR /tmp", "LABEL brought=yes"]
    started = ("--change", 'ENTRYPOINT ["/bin/sleep"]', "--change", 'CMD ["600"]')
    podman("import", *started, "-", image.replace(":v1", ":v2"), stdin=podman_env._root())
    podman("import", *(word for each in changes for word in ("--change", each)), "-", image, stdin=podman_env._root())
    yield image
    podman("rm", "-f", "-t", "0", *(f"{name}-c{i}" for i in range(20)), check=False)
    podman("rmi", "-f", image, image.replace(":v1", ":v2"), check=False)


@pytest.mark.anyio
@pytest.mark.podman
@pytest.mark.parametrize("kind", ["api", "cli"])
async def test_a_deploy_of_any_valid_definition_leaves_no_drift(
    options: AgentOptions, name: str, rich: str, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "data").mkdir()
    port, other = podman_env.free_port(), podman_env.free_port()
    given: list[dict[str, object]] = [
        {"workdir": "/", "env": {"HOME": "/data", "TERM": "xterm", "PATH": PATH, "container": "podman"}},
        {"network": "podman", "limits": Limits(64 * 1024**2, 0.29, 2048), "labels": {"version": "v1", "l": "2"}},
        {
            "volumes": (Volume(f"{tmp_path}/data/", "/data/", ("ro",)), Volume(f"{name}-v", "/named")),
            "workdir": "/tmp/",
        },
        {
            "network": "",
            "cmd": ("httpd", "-f", "-p", "80"),
            "ports": (Port(port, 80, "tcp", "0.0.0.0"), Port(other, 81, "udp", "127.0.0.1")),
        },
        {"image": rich, "cmd": ("sleep", "600"), "env": {"A": "1"}, "user": "0", "workdir": "/tmp"},
        {"image": rich, "cmd": (), "env": {"A": "2"}, "labels": {"brought": "yes"}},
        {"image": rich, "entrypoint": ("/bin/sleep",), "cmd": ("600",)},
        {"image": rich.replace(":v1", ":v2"), "cmd": ()},
        {"image": rich.replace(":v1", ":v2"), "entrypoint": ("/bin/sleep",), "cmd": ("600",)},
        {"image": rich.replace(":v1", ":v2"), "entrypoint": ("",), "cmd": ("sleep", "600")},
        {"image": rich.replace(":v1", ":v2"), "entrypoint": ("/bin/sh", "-c", "exec sleep 600"), "cmd": ()},
        {"entrypoint": ("/bin/sleep", "600"), "cmd": (), "stop_seconds": 10, "restart": "on-failure"},
        {
            "healthcheck": Healthcheck(("/bin/true", "x"), interval=7, timeout=3, retries=2),
            "limits": Limits(None, 0.33333),
        },
    ]
    bare: dict[str, object] = {"image": IMAGE, "network": "none", "stop_seconds": 0, "cmd": ("sleep", "600")}
    specs = [ComponentSpec(f"c{i}", **{**bare, **each}) for i, each in enumerate(given)]  # type: ignore[arg-type]
    service = ServiceDef(name, tuple(specs))
    async with NodeAgent.open(replace(options, runtime=kind)) as agent:
        await deployed(agent, service)
        assert (await agent.get_service_status(name)).drift == ()
        assert (await agent.plan(service)).changes_nothing


@pytest.mark.anyio
@pytest.mark.podman
async def test_a_changed_definition_that_is_not_active_is_no_drift(agent: NodeAgent, name: str) -> None:
    service = ServiceDef(name, (component("c"),))
    await deployed(agent, service)
    changed = ServiceDef(name, (component("c", env={"NEW": "1"}),), active=False)
    for _ in range(2):
        await deployed(agent, changed)
        assert (await agent.get_service_status(name)).drift == ()
    await agent.start_service(name, Mutation())
    assert "NEW=1" in podman("inspect", "--format", "{{.Config.Env}}", f"{name}-c")
    assert (await agent.get_service_status(name)).drift == ()


@pytest.mark.anyio
@pytest.mark.podman
async def test_a_job_that_ended_well_is_as_it_should_be(agent: NodeAgent, name: str) -> None:
    jobs = ServiceDef(name, tuple(component(each, "true", restart=each) for each in ("no", "on-failure")))
    await deployed(agent, jobs)
    assert (await agent.get_service_status(name)).drift == ()
    assert [each.done for each in (await agent.live_check(service=name)).components] == [True, True]
    plan = await agent.plan(jobs)
    assert [each.action for each in plan.actions] == ["keep", "keep"]
    await deployed(agent, jobs)
    assert (await agent.list_services(service=name))[0].generation == 1
    # Stopped by a person's word, it is started again by the next deploy.
    await agent.stop_service(name, Mutation())
    assert {each.action for each in (await agent.plan(jobs)).actions} == {"start"}


@pytest.mark.anyio
@pytest.mark.podman
async def test_a_network_that_somebody_connected_is_alerted_planned_and_undone(
    options: AgentOptions, name: str
) -> None:
    monitor = MonitorOptions(list_seconds=0.3, drift_seconds=0, backoff_seconds=0.1)
    service = ServiceDef(name, (component("c", network=""),))
    podman("network", "create", f"{name}-net")
    try:
        async with NodeAgent.open(replace(options, monitor=monitor)) as agent:
            await deployed(agent, service)
            podman("network", "connect", f"{name}-net", f"{name}-c")
            (told,) = await until(agent, name, "drift")
            assert told.message == f"network: podman, {name}-net instead of the default"
            (found,) = (await agent.get_service_status(name)).drift
            assert found == Drift("c", "config", "network", "", f"podman, {name}-net")
            (action,) = (await agent.plan(service)).actions
            assert (action.action, "was changed: network" in action.reason) == ("replace", True)
            assert (await agent.list_services(service=name))[0].generation == 1
            await deployed(agent, replace(service, enforce=True))
            assert (await agent.get_service_status(name)).drift == ()
            podman("network", "connect", f"{name}-net", f"{name}-c")
            await until(agent, name, "deploy", number=3)
            assert (await agent.get_service_status(name)).drift == ()
            assert [each.details["actor"] for each in await events(agent, name, "deploy")][-1] == "node agent"
    finally:
        podman("rm", "-f", "-t", "0", f"{name}-c")
        podman("network", "rm", f"{name}-net")


@pytest.mark.anyio
@pytest.mark.podman
async def test_what_a_deploy_does_not_mend_is_not_tried_for_ever(
    options: AgentOptions, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always(spec: ComponentSpec, *_: object, **__: object) -> tuple[Drift, ...]:
        return (Drift(spec.name, "config", "user", "a", "b"),)

    monkeypatch.setattr(drifting, "config_drift", always)
    monitor = MonitorOptions(list_seconds=0.2, backoff_seconds=0.05, backoff_max_seconds=0.05, restart_limit=2)
    async with NodeAgent.open(replace(options, monitor=monitor)) as agent:
        await deployed(agent, ServiceDef(name, (component("c"),), enforce=True))
        await until(agent, name, "deploy", number=3)
        for _ in range(6):
            await agent._engine.monitor.looked()
        assert len(await events(agent, name, "deploy")) == 3


@pytest.mark.anyio
@pytest.mark.podman
async def test_an_image_that_was_deployed_by_its_id_is_no_drift(agent: NodeAgent, name: str) -> None:
    await deployed(agent, ServiceDef(name, (component("c"),)))
    (record,) = (await agent.list_services(service=name))[0].components
    details = await agent._engine.context.runtime.inspect(f"{name}-c")
    by_id = replace(details, raw={**details.raw, "ImageName": details.container.image_id})
    assert await drifting.examined(agent._engine.context, record, by_id) == ()
    other = replace(record, image_digest="sha256:" + "0" * 64)
    assert [each.field for each in await drifting.examined(agent._engine.context, other, by_id)] == ["image"]


@pytest.mark.anyio
@pytest.mark.podman
async def test_an_adoption_tells_everything_that_a_definition_cannot_hold(
    name: str, agent: NodeAgent, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    podman("run", "-d", "--name", f"{name}-other", "--network", "none", IMAGE, "sleep", "600")
    podman(
        "run", "-dt", "--name", name, "-e", "HOME=/data", "-eTERM=xterm", "--ulimit", "nofile=100:200",
            "--ulimit", "nproc=10000:10000",
        "--shm-size=128m", "--stop-signal", "SIGINT", "--cpu-shares", "512", "--cpuset-cpus", "0",
        "--log-driver", "none", "--oom-score-adj", "500", f"--network=container:{name}-other",
        "--mount", f"type=bind,src={tmp_path}/data,dst=/data,bind-propagation=rshared,relabel=shared",
        "-v", f"{name}-vol:/vol:nosuid,ro", IMAGE, "sleep", "600",
    )  # fmt: skip
    adopted = await agent.adopt_containers(name, Mutation())
    warnings = next(each.warnings for each in adopted.containers if each.container_name == name)
    named = {each.partition(":")[0] for each in warnings}
    assert named == {
        "tty", "ulimit", "shm-size", "stop-signal", "cpu-shares", "cpuset-cpus", "log-driver", "oom-score-adj",
        "network", "mount",
    }  # fmt: skip
    spec = (await agent.list_services(service=name))[0].component(name)
    assert spec is not None
    assert spec.spec.env == {"HOME": "/data", "TERM": "xterm"}
    assert {each.target: each.options for each in spec.spec.volumes} == {
        "/data": ("rshared",), "/vol": ("nosuid", "ro"),
    }  # fmt: skip
    assert (await agent.get_service_status(name)).drift == ()


def test_what_was_made_without_a_command_is_told_from_its_inspect() -> None:
    raw = {
        "Id": "a" * 64, "ImageName": "i", "Config": {"Hostname": "aaaa", "Env": ["HOME=/data", "TERM=xterm"]},
        "HostConfig": {"OomScoreAdj": 5, "CpusetCpus": "0", "ShmSize": 65536000, "Memory": 8, "MemorySwap": 16,
                       "LogConfig": {"Type": "none"}, "FromTheFuture": ["x"], "Cgroups": "default"},
    }  # fmt: skip
    spec, warnings = real_spec(raw, None, component="c")
    assert spec.env == {"HOME": "/data"}
    assert {each.partition(":")[0] for each in warnings} == {
        "no create command", "OomScoreAdj", "CpusetCpus", "FromTheFuture", "log-driver",
    }  # fmt: skip
