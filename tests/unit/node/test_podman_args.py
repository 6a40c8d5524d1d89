"""The argument lists and bodies for podman, exactly; and its JSON in the shapes of several versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.node import podman_args, podman_body, podman_json
from quarterdeck.node.leftovers import stale_rules
from quarterdeck.node.model import (
    ComponentSpec,
    Healthcheck,
    Limits,
    Port,
    Secret,
    Volume,
    container_name,
    image_version,
)
from quarterdeck.node.podman_real import real_spec
from quarterdeck.node.runtime import CreateRequest

FULL = ComponentSpec(
    "c",
    "r/img:v1",
    ports=(Port(8080, 80), Port(53, 53, "udp", "::1")),
    volumes=(Volume("/a", "/b", ("ro", "Z")), Volume("v", "/v")),
    entrypoint=("/bin/sh", "-c"),
    cmd=("echo 'x y'",),
    env={"B": "2", "A": "1 =x"},
    secrets=(Secret("s", "env", "PW"), Secret("t", "file")),
    user="1:2",
    workdir="/w",
    network="net",
    limits=Limits(1048576, 0.25, 7),
    healthcheck=Healthcheck(("curl", "-f", "x"), timeout=2.5, retries=4, start_period=1),
    labels={"team": "a"},
    stop_seconds=3,
)


def test_create_is_this_list() -> None:
    request = CreateRequest("svc-c", FULL, {"io.quarterdeck.node": "n"}, {"HIDDEN": "value"})
    assert podman_args.create(request) == [
        "create", "--name", "svc-c", "--pull", "never",
        "--label", "io.quarterdeck.node=n", "--label", "team=a",
        "--publish", "8080:80", "--publish", "[::1]:53:53/udp",
        "--volume", "/a:/b:ro,Z", "--volume", "v:/v",
        "--env", "A=1 =x", "--env", "B=2", "--env-file", "/dev/stdin",
        "--secret", "s,type=env,target=PW", "--secret", "t,type=mount",
        "--user", "1:2", "--workdir", "/w", "--network", "net",
        "--memory", "1048576b", "--cpus", "0.25", "--pids-limit", "7",
        "--health-cmd", '["curl", "-f", "x"]', "--health-interval", "disable", "--health-timeout", "2.5s",
        "--health-retries", "4", "--health-start-period", "1s",
        "--stop-timeout", "3", "--entrypoint", '["/bin/sh", "-c"]', "--", "r/img:v1", "echo 'x y'",
    ]  # fmt: skip
    assert podman_args.hidden_env(request.hidden_env) == b"HIDDEN=value\n"
    assert "value" not in repr(request)


def test_create_of_the_least_is_short() -> None:
    assert podman_args.create(CreateRequest("x", ComponentSpec("x", "img"))) == [
        "create", "--name", "x", "--pull", "never", "--stop-timeout", "10", "--", "img",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (podman_args.pull("r/i:1", insecure=True), ["pull", "--quiet", "--tls-verify=false", "--", "r/i:1"]),
        (podman_args.pull("r/i:1"), ["pull", "--quiet", "--", "r/i:1"]),
        (podman_args.start("x"), ["start", "--", "x"]),
        (podman_args.stop("x", 5), ["stop", "--time", "5", "--", "x"]),
        (podman_args.remove("x"), ["rm", "--force", "--ignore", "--volumes", "--time", "0", "--", "x"]),
        (podman_args.rename("x", "y"), ["rename", "--", "x", "y"]),
        (podman_args.inspect("x"), ["container", "inspect", "--", "x"]),
        (podman_args.listing(), ["ps", "--all", "--no-trunc", "--format", "json"]),
        (
            podman_args.logs("x", tail=0, since=0, follow=True),
            ["logs", "--timestamps", "--tail", "0", "--follow", "--", "x"],
        ),
        (
            podman_args.logs("x", tail=None, since=1.5, follow=False),
            ["logs", "--timestamps", "--since", "1970-01-01T00:00:01.500000Z", "--", "x"],
        ),
        (
            podman_args.execute("x", ["ls", "-l"], user="1", stdin=True),
            ["exec", "--interactive", "--user", "1", "--", "x", "ls", "-l"],
        ),
        (
            podman_args.events(0),
            ["events", "--format", "json", "--filter", "type=container", "--since", "1970-01-01T00:00:00Z"],
        ),
        (podman_args.healthcheck("x"), ["healthcheck", "run", "--", "x"]),
        (podman_args.secret_create("s"), ["secret", "create", "--", "s", "-"]),
        (podman_args.secret_create("s", replace=True), ["secret", "create", "--replace", "--", "s", "-"]),
        (podman_args.secret_remove("s"), ["secret", "rm", "--", "s"]),
        (podman_args.exists("secret", "s"), ["secret", "inspect", "--", "s"]),
        (podman_args.exists("image", "i"), ["image", "exists", "--", "i"]),
    ],
)
def test_the_other_lists(made: list[str], expected: list[str]) -> None:
    assert made == expected


def test_the_body_for_rest_says_the_same() -> None:
    body = podman_body.create(CreateRequest("svc-c", FULL, {"l": "1"}, {"HIDDEN": "value", "A": "no"}))
    assert body["env"] == {"HIDDEN": "value", "A": "1 =x", "B": "2"}
    assert body["labels"] == {"team": "a", "l": "1"}
    assert body["mounts"] == [{"type": "bind", "source": "/a", "destination": "/b", "options": ["ro", "Z", "rbind"]}]
    assert body["volumes"] == [{"Name": "v", "Dest": "/v", "Options": []}]
    assert body["secret_env"] == {"PW": "s"}
    assert body["secrets"] == [{"Source": "t", "Target": "t", "Mode": 0o444}]
    assert body["networks"] == {"net": {}}
    assert body["resource_limits"]["cpu"] == {"quota": 25_000, "period": 100_000}
    assert body["healthconfig"]["Test"] == ["CMD", "curl", "-f", "x"]
    assert body["healthconfig"]["Interval"] == 0
    assert podman_body.create(CreateRequest("x", ComponentSpec("x", "i", network="host")))["netns"] == {
        "nsmode": "host"
    }


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("r/img:v1.2.0", "v1.2.0"), ("r/img:latest", "latest"), ("r/img", ""), ("host:5000/img", ""),
        ("host:5000/img:7", "7"), ("r/img@sha256:ab", ""), ("r/img:v1@sha256:ab", ""), ("img:v1", "v1"), ("img", ""),
    ],
)  # fmt: skip
def test_the_version_is_the_tag(image: str, version: str) -> None:
    assert image_version(image) == version


def test_container_names() -> None:
    assert container_name("web", "web") == "web"
    assert container_name("web", "api") == "web-api"


def test_events_of_both_shapes() -> None:
    old = podman_json.event(
        {"ID": "a", "Name": "n", "Status": "died", "Time": "2026-11-21T12:00:00.5Z", "Type": "container"}
    )
    assert old is not None
    new = podman_json.event({
        "Type": "container", "Action": "died", "Actor": {"ID": "a", "Attributes": {"name": "n"}},
        "time": 1795262400, "timeNano": 1795262400500000000,
    })  # fmt: skip
    assert old == new
    five = podman_json.event(
        {"ID": "a", "Name": "n", "Status": "died", "timeNano": 1795262400500000000, "Type": "container"}
    )
    assert five == old
    assert podman_json.event({"Type": "image", "Status": "pull"}) is None


def test_an_entrypoint_of_either_version() -> None:
    raw = {"Id": "a" * 64, "Path": "/e", "Args": ["--x", "y z"], "HostConfig": {}, "ImageName": "i"}
    for entrypoint in ("/e --x", ["/e", "--x"]):
        config = {"Entrypoint": entrypoint, "Cmd": ["y z"], "Hostname": "aaaa"}
        spec, _ = real_spec({**raw, "Config": config}, None, component="c")
        assert (spec.entrypoint, spec.cmd) == (("/e", "--x"), ("y z",))


def test_variables_of_an_env_file_are_left_out_and_told() -> None:
    raw = {
        "Id": "a" * 64, "ImageName": "i", "HostConfig": {},
        "Config": {"Env": ["PLAIN=1", "PRIVATE=secret", "HOSTNAME=x"], "Hostname": "x",
                   "CreateCommand": ["podman", "run", "--env-file=/etc/x.env", "-e", "PLAIN=1", "i"]},
    }  # fmt: skip
    spec, warnings = real_spec(raw, None, component="c")
    assert dict(spec.env) == {"PLAIN": "1"}
    assert any("env-file" in each for each in warnings)


DEAD, ALIVE = "d" * 64, "a" * 64
RULES = f"""*nat
-A PREROUTING -m addrtype --dst-type LOCAL -j NETAVARK-HOSTPORT-DNAT
-A NETAVARK-DN-1 -s 10.88.0.0/16 -p tcp -m tcp --dport 8001 -j NETAVARK-HOSTPORT-SETMARK
-A NETAVARK-DN-1 -p tcp -m tcp --dport 8001 -j DNAT --to-destination 10.88.0.5:80
-A NETAVARK-DN-1 -p tcp -m tcp --dport 8002 -j DNAT --to-destination 10.88.0.6:80
-A NETAVARK-DN-1 -p tcp -m tcp --dport 8002 -j DNAT --to-destination 10.88.0.7:80
-A NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 8001 -m comment --comment "dnat name: podman id: {DEAD}" -j NETAVARK-DN-1
-A NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 8002 -m comment --comment "dnat name: podman id: {DEAD}" -j NETAVARK-DN-1
-A NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 8002 -m comment --comment "dnat name: podman id: {ALIVE}" -j NETAVARK-DN-1
COMMIT"""  # noqa: E501


def test_only_the_rules_of_the_dead_are_removed() -> None:
    found = [" ".join(each) for each in stale_rules(RULES.splitlines(), {ALIVE})]
    jump = f"-m comment --comment dnat name: podman id: {DEAD} -j NETAVARK-DN-1"
    assert found == [
        f"-t nat -D NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 8001 {jump}",
        "-t nat -D NETAVARK-DN-1 -s 10.88.0.0/16 -p tcp -m tcp --dport 8001 -j NETAVARK-HOSTPORT-SETMARK",
        "-t nat -D NETAVARK-DN-1 -p tcp -m tcp --dport 8001 -j DNAT --to-destination 10.88.0.5:80",
        f"-t nat -D NETAVARK-HOSTPORT-DNAT -p tcp -m tcp --dport 8002 {jump}",
        "-t nat -D NETAVARK-DN-1 -p tcp -m tcp --dport 8002 -j DNAT --to-destination 10.88.0.6:80",
    ]
    assert stale_rules(RULES.splitlines(), {ALIVE, DEAD}) == []


@given(st.dictionaries(st.text(st.characters(categories=("Lu", "Ll")), min_size=1), st.text()))
def test_no_value_ever_becomes_an_option(env: dict[str, str]) -> None:
    made = podman_args.create(CreateRequest("x", ComponentSpec("x", "img", env=env, cmd=("--privileged",))))
    assert made.index("--") < made.index("img") < made.index("--privileged")
    for name, value in env.items():
        assert made[made.index(f"{name}={value}") - 1] == "--env"


@given(st.text(min_size=1).map(lambda text: f"-{text}"))
def test_no_name_ever_becomes_an_option(name: str) -> None:
    lists = [
        podman_args.pull(name), podman_args.image_inspect(name), podman_args.start(name), podman_args.stop(name, 1),
        podman_args.remove(name), podman_args.rename(name, name), podman_args.inspect(name),
        podman_args.exists("container", name), podman_args.exists("secret", name),
        podman_args.logs(name, tail=1, since=0, follow=False), podman_args.healthcheck(name),
        podman_args.execute(name, ["true"], user="", stdin=False),
        podman_args.secret_create(name), podman_args.secret_remove(name),
    ]  # fmt: skip
    for made in lists:
        assert made[made.index("--") + 1] == name
        assert name not in made[: made.index("--")] or name == "--"
