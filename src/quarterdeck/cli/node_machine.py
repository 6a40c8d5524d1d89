"""`qd node init|join|serve`: bringing a node up, and what is done on the machine itself."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.nodes_common import command, json_option, settings

if TYPE_CHECKING:
    from quarterdeck.node.cli_settings import CliSettings
    from quarterdeck.node.results import SnapshotInfo


def _default_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    if value is not None:
        return value
    from quarterdeck.config import variable

    return Path(variable("QD_NODE_CONFIG") or "/etc/quarterdeck/node.toml")


config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    callback=_default_config,
    help="The node's node.toml (default: QD_NODE_CONFIG, else /etc/quarterdeck/node.toml).",
)

NODE_TOML = """\
# A node agent. Every key [a] b can be overridden by the variable QD_NODE_A_B.
# deploy/examples/node.toml shows and explains all of them.
name = "{name}"
state_dir = "{state_dir}"

[listen]
host = "{listen}"
port = {port}

[tls]
cert = "tls/node.pem"
key = "tls/node.key"

[auth]
kind = "local"
"""


@click.command("init")
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("/etc/quarterdeck"),
              show_default=True, help="Where node.toml and tls/ go.")  # fmt: skip
@click.option("--name", default="", help="The node's name; by default the machine's.")
@click.option("--host", "hosts", multiple=True, help="A name or address by which it is reached; may be repeated.")
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104
@click.option("--port", default=7443, show_default=True)
@click.option("--state-dir", default="/var/lib/quarterdeck-node", show_default=True)
@click.option(
    "--days",
    type=click.FloatRange(0, 3650, min_open=True),
    default=397,
    show_default=True,
    help="How long the certificate is valid.",
)
@click.option("--renew", is_flag=True, help="Make a new certificate from the CA that is there, for the same hosts.")
@click.option("--owner", default="", metavar="USER", help="The user that the agent runs as; gets the key to read.")
@click.option("--admin", default="", metavar="ACCOUNT", help="Make this admin account; its password is asked for.")
@json_option
@command
async def init(
    folder: Path,
    name: str,
    hosts: tuple[str, ...],
    listen: str,
    port: int,
    state_dir: str,
    days: float,
    renew: bool,
    owner: str,
    admin: str,
    as_json: bool,
) -> int:
    """Make a private CA, a server certificate and a node.toml; what is there already is kept.

    --renew makes a new certificate that a running agent takes up without a restart.
    """
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.errors import InvalidInput
    from quarterdeck.node import pki

    tls = folder / "tls"
    ca, ca_key, cert, key = (tls / each for each in ("ca.pem", "ca.key", "node.pem", "node.key"))
    file = folder / "node.toml"
    machine = socket.gethostname().lower()
    say = (lambda _: None) if as_json else click.echo
    if renew and (not ca.exists() or not (cert.exists() or hosts)):
        raise InvalidInput(
            f"{tls} has no {'certificate' if ca.exists() else 'CA'} to renew from; nothing was changed",
            hint="name the --host of a new certificate; without --renew a new CA is made",
        )
    # Before anything is made: a bad password leaves no half of a node behind.
    password = _password_of(file, admin) if admin else None
    if not renew and not (ca.exists() and ca_key.exists()):
        pki.make_authority(ca, ca_key, name=name or machine)
    if renew or not (cert.exists() and key.exists()):
        if renew and not hosts:
            hosts = pki.read_chain(cert.read_bytes(), origin=str(cert))[0].names
        hosts = hosts or (machine, "localhost", "127.0.0.1")
        made, word = pki.issue(ca, ca_key, cert=cert, key=key, hosts=hosts, days=days), ""
    else:
        made, word = pki.read_chain(cert.read_bytes(), origin=str(cert))[0], " is kept (--renew makes another)"
    say(f"{cert}:{word} for {', '.join(made.names)}, until {render.moment(made.expires_at)}")
    if not file.exists():
        file.write_text(
            NODE_TOML.format(name=name or machine.split(".")[0], state_dir=state_dir, listen=listen, port=port)
        )
        say(f"{file}: written")
    if admin:
        say(f"{admin}: {_make_admin(file, admin, password)}")
    if owner:
        _give_to(owner, [cert, key, *_accounts_files(file)])
    (authority,) = pki.read_chain(ca.read_bytes(), origin=str(ca))
    if renew:
        say(f"{ca}: as before, {authority.fingerprint}")
    else:
        say(f"{ca_key}: keep a copy elsewhere; whoever has it can pretend to be this node")
        say("Then `qd node serve` here, and where you work:")
        say(f"    qd node join NAME {made.names[0]}:{port} --fingerprint {authority.fingerprint}")
    if as_json:
        certificate = {"path": str(cert), "hosts": made.names, "expires_at": made.expires_at}
        authority_told = {"path": str(ca), "fingerprint": authority.fingerprint}
        render.say_json({"config": str(file), "certificate": certificate, "ca": authority_told, "admin": admin or None})
    return 0


def _accounts_files(file: Path) -> list[Path]:
    from quarterdeck.node.settings import load_node_settings

    return sorted(load_node_settings(file).state_dir.glob("accounts.sqlite3*"))


def _give_to(owner: str, files: list[Path]) -> None:
    import shutil

    from quarterdeck.errors import InvalidInput

    for each in files:
        try:
            shutil.chown(each, owner)
        except (LookupError, PermissionError) as error:
            raise InvalidInput(
                f"{each} cannot be given to {owner!r}: {error}", hint="--owner names a user here"
            ) from error


def _password_of(file: Path, name: str) -> str | None:
    """The password of an account to be made; None when there is that account. Raises `InvalidInput` for a bad one."""
    from quarterdeck.auth.accounts import Accounts, check_account
    from quarterdeck.cli.node_secrets import read_password
    from quarterdeck.node.settings import load_node_settings

    if file.exists():
        database = load_node_settings(file).state_dir / "accounts.sqlite3"
        if database.exists() and Accounts(database).get(name) is not None:
            return None
    password = read_password()
    check_account(name, password)
    return password


def _make_admin(file: Path, name: str, password: str | None) -> str:
    """Make the account; what became of it, in words."""
    from quarterdeck.auth.accounts import Accounts
    from quarterdeck.auth.model import Role
    from quarterdeck.node.settings import load_node_settings

    if password is None:
        return "account is there already, left as it is"
    Accounts(load_node_settings(file).state_dir / "accounts.sqlite3").add(name, password, Role.ADMIN)
    return "admin account made"


@click.command("join")
@click.argument("name")
@click.argument("address", metavar="HOST[:PORT]")
@click.option("--fingerprint", default="", metavar="sha256:...", help="Of its CA, as `qd node init` tells it.")
@click.option("--ca", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Its CA as a file instead.")
@click.option("--server-name", default="", help="The name in its certificate, where that is not HOST.")
@click.option("--replace", is_flag=True, help="In place of a node of this name.")
@json_option
@command
async def join(
    name: str, address: str, fingerprint: str, ca: Path | None, server_name: str, replace: bool, as_json: bool
) -> int:
    """Know a node from now on and trust its CA alone: the one of this fingerprint, or the one you say yes to."""
    from anyio.to_thread import run_sync

    from quarterdeck.cli import nodes_render as render
    from quarterdeck.errors import PermissionDenied
    from quarterdeck.node import pki

    config = settings()
    host, port = _split(address)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if ca is not None:
        pem = ca.read_bytes().decode(errors="replace")
        (found, *_) = pki.read_chain(pem.encode(), origin=str(ca))
    else:
        pem, found = await run_sync(pki.authority_shown_by, host, port)
        if not fingerprint:
            click.echo(f"{where} shows the CA {found.subject}\n    {found.fingerprint}", err=True)
            click.confirm("Is that what `qd node init` told on the node?", abort=True, err=True)
    if fingerprint and found.fingerprint != fingerprint.lower():
        raise PermissionDenied(
            f"the CA of {where} has the fingerprint {found.fingerprint}, not the one you gave; it is not trusted",
            hint="compare with what `qd node init` told; somebody may stand in between",
        )
    keep_node(config, name, where, pem, server_name=server_name, replace=replace)
    text = f"{name}: joined, its CA {found.fingerprint} is pinned; `qd login {name}` gets a token"
    render.answer({"node": name, "address": where, "fingerprint": found.fingerprint}, text, as_json=as_json)
    return 0


def _split(address: str) -> tuple[str, int]:
    from quarterdeck.errors import InvalidInput
    from quarterdeck.node.settings import DEFAULT_PORT

    host, port = address, str(DEFAULT_PORT)
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidInput(f"{address!r} is no address", hint="write HOST, HOST:PORT or [IPV6]:PORT")
    return host, int(port)


def keep_node(
    config: CliSettings, name: str, address: str, pem: str, *, server_name: str, replace: bool, origin: str = "the CA"
) -> None:
    """Write a node into cli.toml, its CA beside it. Raises `Conflict` when it is there already, `InvalidInput`."""
    from quarterdeck.config import convert
    from quarterdeck.errors import Conflict, InvalidInput
    from quarterdeck.node import pki
    from quarterdeck.node.cli_settings import NodeTable, add_node
    from quarterdeck.node.model import NAME

    if not NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} cannot be a node's name", hint="small letters, digits, '-', '_' and '.'")
    pki.read_chain(pem.encode(), origin=origin)
    if name in config.file.nodes and not replace:
        raise Conflict(f"{config.path} has a node {name} already; it was left as it is", hint="--replace")
    file = config.path.parent / "nodes" / f"{name}.ca.pem"
    table: dict[str, Any] = {"address": address, "ca": f"nodes/{file.name}", "server_name": server_name}
    node = convert(table, NodeTable, origin=name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(pem)
    add_node(config.path, name, node, replace=replace)


@click.command("serve")
@config_option
@command
async def serve(config: Path) -> int:
    """Run the node agent until SIGTERM; containers outlive it."""
    from quarterdeck.config import quiet_grpc
    from quarterdeck.node.settings import load_node_settings
    from quarterdeck.telemetry import setup_logging

    found = load_node_settings(config)
    setup_logging(found.file.log_level)
    quiet_grpc()
    from quarterdeck.node.server import serve as run

    await run(found)
    return 0


async def local_snapshot(config: Path) -> SnapshotInfo:
    """A snapshot made on the node itself, beside a running agent. Raises `NotFound` without a registry."""
    import sqlite3
    import time
    from contextlib import closing

    from quarterdeck.errors import NotFound
    from quarterdeck.node import snapshot
    from quarterdeck.node.settings import load_node_settings

    options = load_node_settings(config).agent_options()
    if not options.database.exists():
        raise NotFound(f"{options.database} does not exist: there is nothing to copy", hint="has the agent ever run?")
    with closing(sqlite3.connect(options.database, timeout=10)) as database:
        return snapshot.take(database, options.snapshots, now=time.time(), keep=options.keep_snapshots)


async def local_restore(config: Path, path: str) -> SnapshotInfo:
    """A restore on the node itself; what was there is kept beside it, as it was.

    Raises `Conflict` while its agent runs, `NotFound`, `InvalidInput`, and `StorageRefused` when the disk does not
    take it (the registry is as before then).
    """
    import sqlite3
    import time

    from quarterdeck.errors import StorageRefused
    from quarterdeck.node import snapshot
    from quarterdeck.node.lock import held
    from quarterdeck.node.settings import load_node_settings

    options = load_node_settings(config).agent_options()
    with held(options.state_dir):
        wanted = snapshot.find(options.snapshots, path)
        snapshot.check(wanted)
        restored = snapshot.info(wanted)
        try:
            if options.database.exists():
                # What is there may be damaged, which is why somebody restores: it is kept as it is, not copied.
                kept = snapshot.keep_aside(options.database, time.time())
                click.echo(f"{kept}: the registry as it was", err=True)
            snapshot.put_back(wanted, options.database)
        except (OSError, sqlite3.DatabaseError) as error:
            raise StorageRefused(
                f"{wanted.name} was not restored: {error}; the registry is as before",
                hint=f"free space for {options.database}",
            ) from error
        return restored


COMMANDS = (init, join, serve)
