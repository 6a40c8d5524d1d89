"""`qd node secret` and `qd node account`: what containers may know, and who may call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.node_machine import config_option
from quarterdeck.cli.nodes_common import (
    change_of,
    change_options,
    command,
    json_option,
    node_option,
    settings,
    with_node,
)

if TYPE_CHECKING:
    from quarterdeck.auth.accounts import Accounts

ROLES = click.Choice(["admin", "operator", "viewer", "nobody"])


@click.group("secret")
def secret() -> None:
    """Secrets of a node, which components are given by name. A value goes in and never comes out."""


@secret.command("set")
@click.argument("name")
@node_option
@change_options
@json_option
@command
async def set_secret(name: str, node: str | None, as_json: bool, **options: Any) -> int:
    """Create or replace a secret; its value is standard input, to the last byte."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    where = config.pick(node)
    asked = sys.stdin.isatty()
    value = click.prompt("Value", hide_input=True, err=True).encode() if asked else sys.stdin.buffer.read()
    await with_node(config, where, lambda client: client.set_secret(name, value, change_of(options)))
    render.answer(
        {"secret": name, "node": where},
        f"{name}: set on {where}; containers see it once they are made anew",
        as_json=as_json,
    )
    return 0


@secret.command("list")
@node_option
@json_option
@command
async def list_secrets(node: str | None, as_json: bool) -> int:
    """The names of a node's secrets."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    names = await with_node(config, config.pick(node), lambda client: client.list_secrets())
    if as_json:
        render.say_json(names)
    for name in () if as_json else names:
        click.echo(name)
    return 0


@secret.command("remove")
@click.argument("name")
@node_option
@change_options
@json_option
@command
async def remove_secret(name: str, node: str | None, as_json: bool, **options: Any) -> int:
    """Remove a secret that no component names."""
    from quarterdeck.cli import nodes_render as render

    config = settings()
    where = config.pick(node)
    await with_node(config, where, lambda client: client.remove_secret(name, change_of(options)))
    render.answer({"secret": name, "node": where}, f"{name}: removed from {where}", as_json=as_json)
    return 0


@click.group("account")
def account() -> None:
    """Accounts of a node with local authentication; run on the node itself, as its agent's user."""


def _accounts(config: Path) -> Accounts:
    from quarterdeck.auth.accounts import Accounts
    from quarterdeck.errors import InvalidInput
    from quarterdeck.node.settings import load_node_settings

    found = load_node_settings(config)
    if found.file.auth.kind != "local":
        raise InvalidInput(f"{config}: [auth] kind is {found.file.auth.kind!r}: there are no accounts on this node")
    return Accounts(found.state_dir / "accounts.sqlite3")


def read_password() -> str:
    """A new password: asked for twice, or a line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\n")


@account.command("add")
@click.argument("name")
@click.option("--role", type=ROLES, default="admin", show_default=True)
@config_option
@json_option
@command
async def add_account(name: str, role: str, config: Path, as_json: bool) -> int:
    """Make an account; the password is asked for, or read from standard input."""
    from quarterdeck.auth.model import Role
    from quarterdeck.cli import nodes_render as render

    _accounts(config).add(name, read_password(), Role.named(role))
    render.answer({"name": name, "role": role}, f"{name}: made, {role}", as_json=as_json)
    return 0


@account.command("list")
@config_option
@json_option
@command
async def list_accounts(config: Path, as_json: bool) -> int:
    """Every account with its role."""
    from quarterdeck.cli import nodes_render as render

    found = _accounts(config).all()
    if as_json:
        render.say_json([{"name": a.name, "role": a.role.label, "created_at": a.created_at} for a in found])
    else:
        render.table(("ACCOUNT", "ROLE", "MADE"), [(a.name, a.role.label, render.moment(a.created_at)) for a in found])
    return 0


@account.command("passwd")
@click.argument("name")
@config_option
@json_option
@command
async def passwd(name: str, config: Path, as_json: bool) -> int:
    """Change a password; all tokens of the account lose their validity."""
    from quarterdeck.cli import nodes_render as render

    _accounts(config).set_password(name, read_password())
    render.answer({"name": name, "revoked": True}, f"{name}: password changed, all tokens revoked", as_json=as_json)
    return 0


@account.command("role")
@click.argument("name")
@click.argument("role", type=ROLES)
@config_option
@json_option
@command
async def role_of(name: str, role: str, config: Path, as_json: bool) -> int:
    """Change a role; felt within 30 s."""
    from quarterdeck.auth.model import Role
    from quarterdeck.cli import nodes_render as render

    _accounts(config).set_role(name, Role.named(role))
    render.answer({"name": name, "role": role}, f"{name}: {role} from now on", as_json=as_json)
    return 0


@account.command("revoke")
@click.argument("name")
@config_option
@json_option
@command
async def revoke(name: str, config: Path, as_json: bool) -> int:
    """Make all tokens of an account invalid; felt within 30 s."""
    from quarterdeck.cli import nodes_render as render

    _accounts(config).revoke_all(name)
    render.answer({"name": name, "revoked": True}, f"{name}: all tokens revoked", as_json=as_json)
    return 0


@account.command("remove")
@click.argument("name")
@config_option
@json_option
@command
async def remove_account(name: str, config: Path, as_json: bool) -> int:
    """Remove an account with all its tokens."""
    from quarterdeck.cli import nodes_render as render

    _accounts(config).remove(name)
    render.answer({"name": name, "removed": True}, f"{name}: removed", as_json=as_json)
    return 0


COMMANDS = (secret, account)
