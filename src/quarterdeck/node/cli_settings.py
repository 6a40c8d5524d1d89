"""`cli.toml`: the nodes that `qd` knows, where the definitions lie and how to log in.

Each key `[a] b` can be overridden by `QD_A_B`. `qd node add`, `join` and `remove` edit the file and keep
its comments. Relative paths are relative to the file's folder.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import tomlkit
import tomlkit.exceptions
import tomlkit.items

from quarterdeck.auth.credentials import Credentials
from quarterdeck.config import config_dir, load_settings, state_dir, variable
from quarterdeck.errors import Conflict, InvalidInput, NotFound

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; an unknown key in it is an error."""


class LoginTable(_Table, frozen=True):
    """`[login]`: where tokens come from.

    `method` *node* logs in at each node's own accounts; *provider* asks `token_url` once for all nodes (OAuth
    2.0, with `user` the password grant, else client credentials). User and password that are given here, or in
    `password_file`, are for unattended use.
    """

    method: Literal["node", "provider"] = "node"
    user: str = ""
    password: str = ""
    password_file: str = ""
    token_url: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    scope: str = ""
    ca: str = ""


class NodeTable(_Table, frozen=True):
    """`[nodes.NAME]`: a node. `address` is `HOST:PORT`, `ca` the file of the pinned CA, `server_name` the name
    that its certificate is for, where that is not the address's host."""

    address: Annotated[str, msgspec.Meta(pattern=r"^(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
    ca: str
    server_name: str = ""


class CliFile(_Table, frozen=True):
    """The whole of `cli.toml`."""

    definitions: str = "services"
    default_node: str = ""
    timeout_seconds: Seconds = 30
    connect_seconds: Seconds = 5
    login: LoginTable = LoginTable()
    nodes: dict[str, NodeTable] = {}


PROVIDER = "provider"


@dataclass(frozen=True)
class CliSettings:
    """A `cli.toml`, whether it exists or not."""

    path: Path
    file: CliFile

    @property
    def definitions(self) -> Path:
        """The folder of the service definitions."""
        return self.path.parent / Path(self.file.definitions).expanduser()

    @property
    def credentials(self) -> Credentials:
        """The tokens of this person."""
        return Credentials(state_dir() / "credentials.json")

    @property
    def holds_password(self) -> bool:
        """Whether the file itself has a `[login] password`, whatever `QD_LOGIN_PASSWORD` says."""
        login = _document(self.path).get("login")
        return isinstance(login, dict) and bool(login.get("password"))

    def credential_name(self, node: str) -> str:
        """Under which name the token for a node is kept."""
        return PROVIDER if self.file.login.method == "provider" else node

    def node(self, name: str) -> NodeTable:
        """A node. Raises `NotFound` that lists those there are."""
        found = self.file.nodes.get(name)
        if found is None:
            known = ", ".join(sorted(self.file.nodes)) or "none"
            raise NotFound(f"{self.path} has no node {name!r}", hint=f"known: {known}; `qd node join` adds one")
        return found

    def ca_of(self, node: NodeTable) -> Path:
        """The file of a node's pinned CA."""
        return self.path.parent / Path(node.ca).expanduser()

    def pick(self, name: str | None) -> str:
        """The node that is meant: the named one, `default_node`, or the only one. Raises `NotFound`, `InvalidInput`."""
        chosen = name or self.file.default_node
        if not chosen and len(self.file.nodes) == 1:
            (chosen,) = self.file.nodes
        if not chosen:
            if not self.file.nodes:
                raise NotFound(f"{self.path} has no node", hint="`qd node join NAME ADDRESS` adds one")
            raise InvalidInput(
                "which node is meant?",
                hint=f"--node {'|'.join(sorted(self.file.nodes))}, or default_node in {self.path}",
            )
        self.node(chosen)
        return chosen


def load_cli_settings() -> CliSettings:
    """Read `cli.toml` and the `QD_*` variables. Raises `InvalidInput` that says where and what."""
    given = variable("QD_CLI_CONFIG")
    path = Path(given).absolute() if given else config_dir() / "cli.toml"
    return CliSettings(path, load_settings(path, CliFile, prefix="QD"))


def add_node(path: Path, name: str, node: NodeTable, *, replace: bool = False) -> None:
    """Write a node into a `cli.toml`, which is made when there is none. Raises `Conflict` when it is there already."""
    document = _document(path)
    nodes = document.setdefault("nodes", tomlkit.table(is_super_table=True))
    if name in nodes and not replace:
        raise Conflict(f"{path} has a node {name} already; it was left as it is", hint="--replace puts this one there")
    table = tomlkit.table()
    for key, value in msgspec.structs.asdict(node).items():
        if value:
            table[key] = value
    nodes[name] = table
    _write(path, tomlkit.dumps(document))


def remove_node(path: Path, name: str) -> None:
    """Take a node out of a `cli.toml`. Raises `NotFound`."""
    document = _document(path)
    nodes = document.get("nodes")
    if nodes is None or name not in nodes:
        raise NotFound(f"{path} has no node {name!r}", hint="`qd node list` shows all")
    del nodes[name]
    if not nodes:
        del document["nodes"]
    _write(path, tomlkit.dumps(document))


def _document(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return tomlkit.document()
    except (OSError, UnicodeDecodeError, tomlkit.exceptions.ParseError) as error:
        raise InvalidInput(f"{path} cannot be read as TOML: {error}") from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
