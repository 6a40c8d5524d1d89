"""`qd login`, `qd logout`, `qd whoami`: tokens for nodes."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quarterdeck.cli.nodes_common import ask_nodes, command, json_option, settings, tell, tell_missing, with_node

if TYPE_CHECKING:
    from quarterdeck.auth.credentials import Credential
    from quarterdeck.node.cli_settings import CliSettings
    from quarterdeck.node.client import NodeClient


@click.command("login")
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@click.option(
    "--user", "-u", default="", help="The account; by default [login] user of cli.toml, else it is asked for."
)
@click.option("--token-stdin", is_flag=True, help="Read a token that you have from elsewhere from standard input.")
@json_option
@command
async def login(nodes: tuple[str, ...], user: str, token_stdin: bool, as_json: bool) -> int:
    """Get a token for nodes (all of cli.toml when none is named) and keep it in a file of mode 0600.

    User and password come from [login] in cli.toml (or QD_LOGIN_USER, QD_LOGIN_PASSWORD) where they are
    given, so that it can run unattended; else they are asked for.
    """
    from quarterdeck.auth.credentials import Credential
    from quarterdeck.cli.nodes_render import errors_json, say_json
    from quarterdeck.errors import QuarterdeckError
    from quarterdeck.node.cli_settings import PROVIDER

    config = settings()
    names = nodes or tuple(config.file.nodes)
    if not names and config.file.login.method == "node":
        config.pick(None)
    if config.file.login.method == "provider":
        names = (PROVIDER,)
    got: dict[str, Credential] = {}
    errors: dict[str, QuarterdeckError] = {}
    if token_stdin:
        token = sys.stdin.readline().strip()
        for name in names:
            got[name] = Credential(token)
            config.credentials.put(name, got[name])
            if not as_json:
                click.echo(f"{name}: token kept")
        if as_json:
            say_json(_told(got, {}))
        return 0
    who, password = _account(config, user)
    for name in names:
        try:
            found = await (
                _from_provider(config, who, password) if name == PROVIDER else _at(config, name, who, password)
            )
        except QuarterdeckError as error:
            tell(error, about=name)
            errors[name] = error
            continue
        got[name] = found
        config.credentials.put(name, found)
        if not as_json:
            click.echo(f"{name}: logged in{f' as {found.user}' if found.user else ''}{_until(found)}")
    if as_json:
        say_json(_told(got, errors_json(errors)))
    return max((each.exit_code for each in errors.values()), default=0)


def _told(got: dict[str, Credential], errors: dict[str, Any]) -> dict[str, Any]:
    """What is told of tokens, which is never the token."""
    nodes = {name: {"user": c.user, "role": c.role, "expires_at": c.expires_at} for name, c in got.items()}
    return {"nodes": nodes, "errors": errors}


@click.command("logout")
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@json_option
@command
async def logout(nodes: tuple[str, ...], as_json: bool) -> int:
    """Revoke and forget the tokens for nodes (all when none is named)."""
    from quarterdeck.cli.nodes_render import errors_json, say_json
    from quarterdeck.errors import QuarterdeckError

    config = settings()
    done: dict[str, dict[str, bool]] = {}
    errors: dict[str, QuarterdeckError] = {}
    for name in nodes or tuple(config.credentials.all()):
        if name in config.file.nodes and config.file.login.method == "node":
            try:
                await with_node(config, name, lambda client: client.logout())
            except QuarterdeckError as error:
                tell(error, about=name)
                errors[name] = error
        done[name] = {"forgotten": config.credentials.remove(name)}
        if not as_json:
            click.echo(f"{name}: {'token forgotten' if done[name]['forgotten'] else 'there was no token'}")
    if as_json:
        say_json({"nodes": done, "errors": errors_json(errors)})
    return 0


@click.command("whoami")
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@json_option
@command
async def whoami(nodes: tuple[str, ...], as_json: bool) -> int:
    """Who you are for nodes (all of cli.toml when none is named), and until when."""
    from quarterdeck.cli.nodes_render import errors_json, moment, say_json, table

    async def ask(client: NodeClient) -> tuple[str, str, str, float | None]:
        return await client.who_am_i()

    answers, errors = await ask_nodes(settings(), nodes, ask)
    if as_json:
        keys = ("user", "role", "issuer", "expires_at")
        say_json(
            {"nodes": {n: dict(zip(keys, a, strict=True)) for n, a in answers.items()}, "errors": errors_json(errors)}
        )
    else:
        rows = [(n, a[0], a[1], a[2], moment(a[3]) if a[3] else "") for n, a in answers.items()]
        table(("NODE", "USER", "ROLE", "ISSUER", "UNTIL"), rows)
    return tell_missing(errors)


def _account(config: CliSettings, user: str) -> tuple[str, str]:
    """User and password: from the command line and the configuration, else asked for."""
    from quarterdeck.errors import InvalidInput

    login = config.file.login
    who = user or login.user
    if login.method == "provider" and not who and login.client_secret_file:
        return "", ""
    if login.password and config.holds_password and config.path.stat().st_mode & 0o077:
        raise InvalidInput(
            f"{config.path} holds a password and others can read it; it was not used", hint=f"chmod 600 {config.path}"
        )
    who = who or click.prompt("User", err=True)
    if login.password:
        return who, login.password
    if login.password_file:
        return who, _secret_of(config, login.password_file, "password_file")
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
        if not password:
            raise InvalidInput(
                "there is no password", hint="on standard input, in [login] password_file, or in QD_LOGIN_PASSWORD"
            )
        return who, password
    return who, click.prompt("Password", hide_input=True, err=True)


def _secret_of(config: CliSettings, name: str, key: str) -> str:
    from quarterdeck.errors import InvalidInput

    path = config.path.parent / Path(name).expanduser()
    try:
        if path.stat().st_mode & 0o077:
            raise InvalidInput(f"{path} can be read by others; it was not used", hint=f"chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidInput(f"{config.path}: [login] {key}: {path} cannot be read: {error.strerror}") from error


async def _at(config: CliSettings, node: str, user: str, password: str) -> Credential:
    from quarterdeck.auth.credentials import Credential

    token, who, role, end = await with_node(config, node, lambda client: client.login(user, password), with_token=False)
    return Credential(token, who, role, end)


async def _from_provider(config: CliSettings, user: str, password: str) -> Credential:
    from quarterdeck.auth.provider_login import token_from_provider
    from quarterdeck.errors import InvalidInput

    login = config.file.login
    if not login.token_url:
        raise InvalidInput(f"{config.path}: [login] token_url is missing; method 'provider' needs it")
    secret = _secret_of(config, login.client_secret_file, "client_secret_file") if login.client_secret_file else ""
    ca = config.path.parent / Path(login.ca).expanduser()
    return await token_from_provider(
        login.token_url,
        user=user,
        password=password,
        client_id=login.client_id,
        client_secret=secret,
        scope=login.scope,
        verify=ssl.create_default_context(cafile=str(ca)) if login.ca else True,
    )


def _until(found: Credential) -> str:
    from quarterdeck.cli.nodes_render import moment

    return f" until {moment(found.expires_at)}" if found.expires_at else ""
