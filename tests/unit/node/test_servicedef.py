"""Definitions: every mistake is named with file, key and remedy; writing keeps what people wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.node import servicedef
from quarterdeck.node.model import (
    ComponentSpec,
    Healthcheck,
    Limits,
    Port,
    Secret,
    ServiceDef,
    Volume,
)
from quarterdeck.node.validate import problems

FULL = """\
# The shop, owned by Eva.
name = "shop"
node = "n1"   # the big one
active = true

[[components]]
name = "web"            # the front
image = "r/web:v1"
ports = ["8080:80", "127.0.0.1:5353:53/udp"]
volumes = [
  "/srv/shop/data:/data",   # orders
  "cache:/cache:ro",
]
cmd = ["serve", "--all"]
user = "1000"
network = "front"
restart = "on-failure"
secrets = ["DB_PASSWORD", { name = "tls-key", kind = "file", target = "key.pem" }]
depends_on = ["db"]

[components.env]
# how loud
LEVEL = "info"

[components.limits]
memory = "512m"
cpus = 0.5
pids = 100

[components.healthcheck]
command = ["wget", "-q", "localhost"]
interval = 5

[[components]]
name = "db"
image = "r/db:v2"
"""


def test_a_whole_definition_is_read() -> None:
    service = servicedef.loads(FULL, origin="shop.toml")
    web, db = service.components
    assert (service.name, service.node, service.active) == ("shop", "n1", True)
    assert web == ComponentSpec(
        "web",
        "r/web:v1",
        ports=(Port(8080, 80), Port(5353, 53, "udp", "127.0.0.1")),
        volumes=(Volume("/srv/shop/data", "/data"), Volume("cache", "/cache", ("ro",))),
        cmd=("serve", "--all"),
        env={"LEVEL": "info"},
        secrets=(Secret("DB_PASSWORD"), Secret("tls-key", "file", "key.pem")),
        user="1000",
        network="front",
        restart="on-failure",
        limits=Limits(512 * 1024**2, 0.5, 100),
        healthcheck=Healthcheck(("wget", "-q", "localhost"), interval=5),
        depends_on=("db",),
    )
    assert db == ComponentSpec("db", "r/db:v2")


MINIMAL = 'name = "web"\nnode = "n1"\n[[components]]\nname = "web"\nimage = "i:1"\n'
MISTAKES = [
    (MINIMAL.replace('name = "web"\nnode', "node"), "name: is missing; write name ="),
    (MINIMAL.replace('node = "n1"\n', ""), 'node: is missing; write node = "NAME"'),
    ('name = "web"\nnode = "n1"\n', "components: is missing; write [[components]]"),
    ('name = "web"\nnode = "n1"\ncomponents = []\n', "components: is missing"),
    ('name = "web"\nnode = "n1"\ncomponents = ["web"]\n', "components: is missing"),
    (MINIMAL.replace('image = "i:1"\n', ""), "components[0].image: is missing; write image ="),
    (MINIMAL + '[[components]]\nname = "web"\nimage = "i:2"\n', "components[0].name: 'web' is used 2 times"),
    (MINIMAL + 'ports = ["80"]\n', "components[0].ports[0]: '80' is not a port; write HOST:CONTAINER"),
    (MINIMAL + 'ports = "80:80"\n', "components[0].ports: '80:80' is not a list"),
    (MINIMAL + "ports = [80]\n", "components[0].ports[0]: 80 is not text; put it in quotes"),
    (MINIMAL + 'ports = ["80:80", "80:81"]\n', "components[0].ports[1]: host port 80 is already used"),
    (MINIMAL + 'ports = ["0:80"]\n', "both numbers are between 1 and 65535"),
    (MINIMAL + 'volumes = ["/data"]\n', "components[0].volumes[0]: '/data' is not a volume; write"),
    (MINIMAL + 'volumes = ["/a:b"]\n', "components[0].volumes[0]: 'b' is not an absolute path in the container"),
    (MINIMAL + 'volumes = ["/a:/b:fast"]\n', "'fast' is not a mount option; there are"),
    (MINIMAL + "color = 1\n", "components[0].color: there is no such key; known: name, image, ports"),
    ("colour = 1\n" + MINIMAL, "colour: there is no such key; known: name, node, active"),
    (MINIMAL + 'restart = "sometimes"\n', "components[0].restart: 'sometimes' is not one of no, on-failure, always"),
    (MINIMAL + "env = { A = 1 }\n", "components[0].env.A: 1 is not text; put it in quotes"),
    (MINIMAL + 'limits = { ram = "1g" }\n', "components[0].limits.ram: there is no such key; known: memory, cpus"),
    (MINIMAL + 'limits = { memory = "much" }\n', "components[0].limits.memory: 'much' is not an amount of memory"),
    (MINIMAL + 'limits = { cpus = "2" }\n', "components[0].limits.cpus: '2' is not a number; write it without quotes"),
    (MINIMAL + "healthcheck = { interval = 3 }\n", "components[0].healthcheck: a healthcheck needs a command"),
    (MINIMAL + 'secrets = [{ kind = "file" }]\n', "components[0].secrets[0]: a secret needs a name"),
    (MINIMAL + 'depends_on = ["nobody"]\n', "'nobody' is no other component of this service"),
    (MINIMAL.replace('"n1"', '"n1"\nactive = "yes"'), "active: 'yes' is neither true nor false"),
    (MINIMAL.replace('name = "web"\nnode', 'name = "Web!"\nnode'), "name: 'Web!' is not a name; use lower-case"),
    ("name = ", "is not TOML"),
]


@pytest.mark.parametrize(("source", "expected"), MISTAKES, ids=[each[1][:40] for each in MISTAKES])
def test_a_mistake_is_named_with_file_key_and_remedy(source: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text(source)
    with pytest.raises(InvalidInput) as caught:
        servicedef.load(file)
    assert str(file) in caught.value.message
    assert expected in caught.value.message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        servicedef.loads('nme = "x"\n[[components]]\nname = "a"\nport = ["1"]\n', origin="f")
    keys = [line.split(": ")[1] for line in caught.value.details["problems"]]
    assert keys == ["nme", "name", "node", "components[0].port", "components[0].image"]


def test_writing_the_same_changes_no_byte(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(FULL)
    assert servicedef.write(file, servicedef.load(file)) is False
    assert file.read_text() == FULL


def test_writing_a_change_touches_only_that_line(tmp_path: Path) -> None:
    from dataclasses import replace

    file = tmp_path / "shop.toml"
    file.write_text(FULL)
    service = servicedef.load(file)
    web, db = service.components
    assert servicedef.write(file, replace(service, components=(replace(web, image="r/web:v2"), db)))
    assert file.read_text() == FULL.replace("r/web:v1", "r/web:v2")
    assert servicedef.write(file, service)
    assert file.read_text() == FULL


def test_active_is_written_alone(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(FULL)
    assert servicedef.set_active(file, False)
    assert file.read_text() == FULL.replace("active = true", "active = false")
    assert not servicedef.set_active(file, False)
    (tmp_path / "w.toml").write_text(MINIMAL)
    servicedef.set_active(tmp_path / "w.toml", False)
    assert servicedef.load(tmp_path / "w.toml").active is False


def test_components_come_and_go_and_the_others_keep_their_comments(tmp_path: Path) -> None:
    from dataclasses import replace

    file = tmp_path / "shop.toml"
    file.write_text(FULL)
    service = servicedef.load(file)
    web = replace(service.components[0], depends_on=())
    changed = replace(service, components=(web, ComponentSpec("mail", "r/mail")))
    servicedef.write(file, changed)
    assert servicedef.load(file) == changed
    text = file.read_text()
    assert all(comment in text for comment in ("# The shop", "# the big one", "# orders", "# how loud"))
    assert "r/db" not in text


def test_a_folder_is_read_whole_and_doubles_are_told(tmp_path: Path) -> None:
    (tmp_path / "web.toml").write_text(MINIMAL)
    (tmp_path / "n2").mkdir()
    (tmp_path / "n2" / "web.toml").write_text(MINIMAL.replace('"n1"', '"n2"'))
    (tmp_path / ".hidden.toml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")
    assert [d.service.node for d in servicedef.load_folder(tmp_path)] == ["n2", "n1"]
    with pytest.raises(InvalidInput, match="defined more than once"):
        servicedef.find(tmp_path, "web")
    found = servicedef.find(tmp_path, "web", node="n2")
    assert found is not None
    assert found.path == tmp_path / "n2" / "web.toml"
    (tmp_path / "again.toml").write_text(MINIMAL)
    (tmp_path / "broken.toml").write_text("name = 1")
    with pytest.raises(InvalidInput) as caught:
        servicedef.load_folder(tmp_path)
    assert "defines 'web' of node 'n1' too" in caught.value.message
    assert "broken.toml: name: 1 is not text" in caught.value.message
    assert servicedef.find(tmp_path, "other") is None
    with pytest.raises(NotFound):
        servicedef.load(tmp_path / "none.toml")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
WORD = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
ARGUMENTS = st.lists(TEXT, max_size=2).map(tuple)
COMPONENTS = st.builds(
    ComponentSpec,
    WORD,
    WORD,
    ports=st.lists(st.builds(Port, st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["tcp", "udp"]),
                             st.sampled_from(["", "127.0.0.1", "::1"])), max_size=1).map(tuple),
    volumes=st.lists(st.builds(Volume, st.sampled_from(["/a b", "vol"]), st.sampled_from(["/x", "/y z"]),
                               st.sampled_from([(), ("ro",), ("ro", "Z")])), max_size=1).map(tuple),
    entrypoint=ARGUMENTS,
    cmd=ARGUMENTS,
    env=st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), TEXT, max_size=2),
    env_files=st.lists(WORD, max_size=1).map(tuple),
    secrets=st.lists(st.builds(Secret, st.just("S"), st.sampled_from(["env", "file"]), st.just("")), max_size=1)
    .map(tuple),
    user=TEXT,
    workdir=TEXT,
    network=st.just(""),
    restart=st.sampled_from(["no", "on-failure", "always"]),
    limits=st.builds(Limits, st.none() | st.integers(4 * 1024**2, 2**45), st.none() | st.floats(0.01, 64),
                     st.none() | st.integers(1, 10**6)),
    healthcheck=st.none() | st.builds(Healthcheck, st.lists(TEXT, min_size=1, max_size=2).map(tuple),
                                      interval=st.floats(0.1, 1e6), retries=st.integers(1, 9)),
    labels=st.dictionaries(TEXT, TEXT, max_size=2),
    stop_seconds=st.integers(0, 600),
)  # fmt: skip
SERVICES = st.builds(
    ServiceDef,
    WORD,
    st.lists(COMPONENTS, min_size=1, max_size=3, unique_by=lambda c: c.name).map(tuple),
    node=WORD,
    active=st.booleans(),
    enforce=st.booleans(),
).filter(lambda s: not problems(s))


@settings(max_examples=60, deadline=None)
@given(SERVICES)
def test_what_is_written_is_read_again(service: ServiceDef) -> None:
    assert servicedef.loads(servicedef.dumps(service), origin="x") == service


@settings(max_examples=60, deadline=None)
@given(SERVICES)
def test_what_is_written_over_another_is_read_again(service: ServiceDef) -> None:
    text = servicedef.dumps(service, onto=FULL)
    again = servicedef.loads(text, origin="x")
    assert {c.name: c for c in again.components} == {c.name: c for c in service.components}
    assert (again.name, again.node, again.active) == (service.name, service.node, service.active)
    assert text.startswith("# The shop, owned by Eva.")
