"""node.toml and cli.toml: what is wrong is told with file and key; variables override each key."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from quarterdeck.errors import Conflict, InvalidInput, NotFound
from quarterdeck.node.cli_settings import NodeTable, add_node, load_cli_settings, remove_node
from quarterdeck.node.options import MonitorOptions
from quarterdeck.node.settings import MonitorTable, NodeFile, NodeSettings, load_node_settings

MINIMAL = 'name = "n1"\n[tls]\ncert = "tls/node.pem"\nkey = "tls/node.key"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "node.toml"
    found.write_text(MINIMAL)
    return found


def test_the_defaults_are_safe_and_paths_are_relative_to_the_file(file: Path) -> None:
    found = load_node_settings(file)
    assert found.cert == file.parent / "tls" / "node.pem"
    assert found.file.listen.host == "127.0.0.1"
    options = found.agent_options()
    assert options.state_dir == Path("/var/lib/quarterdeck-node")
    assert options.files_root == Path("/srv")
    assert options.monitor == MonitorOptions()


def test_the_monitor_table_is_the_agents_options() -> None:
    options = {each.name: each.default for each in dataclasses.fields(MonitorOptions)}
    table = msgspec.structs.asdict(MonitorTable())
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()} == options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "missing required field `name`"),
        ('name = "n1"\n', "missing required field `tls`"),
        ('name = "n1"\n[tls]\ncert = "x"\n', "missing required field `key` - at `$.tls`"),
        (MINIMAL + "[listen]\nprot = 1\n", "unknown field `prot` - at `$.listen`"),
        ("nme = 1\n" + MINIMAL, "unknown field `nme`"),
        (MINIMAL + "[listen]\nport = 99999\n", "<= 65535 - at `$.listen.port`"),
        (MINIMAL + "[monitor]\nlist_seconds = 0\n", "> 0"),
        (MINIMAL.replace("n1", "N 1"), "at `$.name`"),
        (MINIMAL + '[auth]\nkind = "ldap"\n', "at `$.auth.kind`"),
        ("name = ", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_key(file: Path, text: str, expected: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_node_settings(file)
    assert str(file) in caught.value.message
    assert expected.lower() in caught.value.message.lower()


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        load_node_settings(tmp_path / "none.toml")


def test_every_key_can_be_overridden(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "QD_NODE_NAME": "n2",
        "QD_NODE_TLS_CERT": "/x.pem",
        "QD_NODE_LISTEN_PORT": "1234",
        "QD_NODE_MONITOR_ENABLED": "false",
        "QD_NODE_MONITOR_ALERT_COMMAND": '["/bin/alert", "now"]',
        "QD_NODE_RUNTIME_INSECURE_REGISTRIES": '["localhost:5000"]',
        "QD_NODE_AUTH_ROLES": '{ boss = "admin" }',
        "QD_NODE_LABELS": '{ zone = "a" }',
        "QD_NODE_MONITOR_LIST_SECONDS": "2.5",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = load_node_settings(file)
    assert (found.file.name, found.cert, found.file.listen.port) == ("n2", Path("/x.pem"), 1234)
    options = found.agent_options()
    assert options.monitor == MonitorOptions(enabled=False, list_seconds=2.5, alert_command=("/bin/alert", "now"))
    assert options.insecure_registries == ("localhost:5000",)
    assert (found.auth.roles, options.labels) == ({"boss": "admin"}, {"zone": "a"})


def keys_of(kind: type[msgspec.Struct], *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of the file, with its type: what is added to it is tested, too."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys_of(field.type, *before, field.name)
        else:
            yield (*before, field.name), hints[field.name]


def another(kind: Any, key: str) -> tuple[str, Any]:
    """A value that is the default of no key, as a variable says it and as the file's."""
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    match typing.get_origin(kind) or kind:
        case typing.Literal:
            chosen = typing.get_args(kind)[-1]
            return chosen, chosen
        case value if value is bool:
            return "false", False
        case value if value is int:
            return "4321", 4321
        case value if value is float:
            return "432.5", 432.5
        case value if value is list:
            return '["one", "two"]', ["one", "two"]
        case value if value is dict:
            return '{ boss = "viewer" }', {"boss": "viewer"}
        case value if value is str:
            return f"other-{key.replace('_', '-')}", f"other-{key.replace('_', '-')}"
    raise AssertionError(f"{key} is a {kind}: say here how a variable gives it")


@pytest.mark.parametrize(("path", "kind"), [pytest.param(*each, id=".".join(each[0])) for each in keys_of(NodeFile)])
def test_each_key_has_its_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], kind: Any
) -> None:
    def of(settings: NodeSettings) -> Any:
        return functools.reduce(getattr, path, settings.file)

    given, expected = another(kind, path[-1])
    assert of(load_node_settings(file)) != expected
    monkeypatch.setenv("_".join(("QD", "NODE", *path)).upper(), given)
    assert of(load_node_settings(file)) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("QD_NODE_LISTEN_PORT", "many", "QD_NODE_LISTEN_PORT is 'many'"),
        ("QD_NODE_LISTN_PORT", "1", "QD_NODE_LISTN_PORT overrides no key of node.toml"),
        ("QD_NODE_AUTH_KIND", "ldap", "QD_NODE_AUTH_KIND is 'ldap'"),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=expected):
        load_node_settings(file)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "cli.toml"
    monkeypatch.setenv("QD_CLI_CONFIG", str(path))
    return path


def test_nodes_come_and_go_and_comments_stay(cli: Path) -> None:
    assert load_cli_settings().file.nodes == {}
    cli.parent.mkdir()
    cli.write_text('# mine\ndefinitions = "defs"  # here\n\n[nodes.old]\naddress = "old:1"\nca = "o.pem"\n')
    add_node(cli, "n1", NodeTable(address="10.0.0.7:7443", ca="nodes/n1.ca.pem"))
    with pytest.raises(Conflict):
        add_node(cli, "n1", NodeTable(address="x:1", ca="c"))
    found = load_cli_settings()
    assert found.node("n1").address == "10.0.0.7:7443"
    assert found.definitions == cli.parent / "defs"
    assert found.ca_of(found.node("n1")) == cli.parent / "nodes" / "n1.ca.pem"
    remove_node(cli, "old")
    with pytest.raises(NotFound):
        remove_node(cli, "old")
    text = cli.read_text()
    assert "# mine" in text
    assert "# here" in text
    remove_node(cli, "n1")
    assert load_cli_settings().file.nodes == {}


def test_which_node_is_meant(cli: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="has no node"):
        load_cli_settings().pick(None)
    add_node(cli, "n1", NodeTable(address="a:1", ca="c"))
    assert load_cli_settings().pick(None) == "n1"
    add_node(cli, "n2", NodeTable(address="b:1", ca="c"))
    with pytest.raises(InvalidInput, match="which node") as caught:
        load_cli_settings().pick(None)
    assert "n1|n2" in caught.value.hint
    monkeypatch.setenv("QD_DEFAULT_NODE", "n2")
    assert load_cli_settings().pick(None) == "n2"
    with pytest.raises(NotFound, match="no node 'n3'"):
        load_cli_settings().pick("n3")


@pytest.mark.parametrize("address", ["nohost", "h:p", ":1", "h:123456", "a b:1"])
def test_an_address_that_is_none_is_refused(cli: Path, address: str) -> None:
    cli.parent.mkdir()
    cli.write_text(f'[nodes.n1]\naddress = "{address}"\nca = "c"\n')
    with pytest.raises(InvalidInput, match=r"nodes"):
        load_cli_settings()
