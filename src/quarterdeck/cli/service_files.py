"""`qd service push|pull`: files below a service's folder on its node."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

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
    from quarterdeck.node.client import NodeClient
    from quarterdeck.node.results import FileHeader, PushedFile


def _mode(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    try:
        mode = int(value, 8) if value is not None else None
    except ValueError:
        mode = -1
    if mode is not None and not 0 <= mode <= 0o777:
        raise click.BadParameter(f"{value!r} is no file mode; write 0644")
    return mode


@click.command("push")
@click.argument("service")
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("path")
@click.option("--mode", callback=_mode, metavar="0644", help="Permission bits; by default those of the source.")
@click.option("--owner", default="", metavar="UID[:GID]", help="By default the node agent's own.")
@node_option
@change_options
@json_option
@command
async def push(
    service: str, source: Path, path: str, mode: int | None, owner: str, node: str | None, as_json: bool, **options: Any
) -> int:
    """Write SOURCE to /srv/SERVICE/PATH on the service's node: atomically, and again from where it was cut off."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder
    from quarterdeck.node.transfer import push_local_file

    config = settings()
    bits = source.stat().st_mode & 0o777 if mode is None else mode
    bar = _Progress(f"{source.name}")

    async def work(client: NodeClient) -> PushedFile:
        return await push_local_file(
            client, service, path, anyio.Path(source), mode=bits, owner=owner, change=change_of(options), sent=bar.show
        )

    pushed = await with_node(config, await holder(config, service, node=node), work)
    bar.end()
    if as_json:
        render.say_json(pushed)
    else:
        click.echo(
            f"{service}/{pushed.path}: {render.size(pushed.size)}, mode {pushed.mode:04o}, sha256 {pushed.sha256}"
        )
    return 0


@click.command("pull")
@click.argument("service")
@click.argument("path")
@click.argument("target", type=click.Path(path_type=Path), required=False)
@node_option
@json_option
@command
async def pull(service: str, path: str, target: Path | None, node: str | None, as_json: bool) -> int:
    """Read /srv/SERVICE/PATH from the service's node into TARGET (by default its name here; `-` is standard output)."""
    from quarterdeck.cli import nodes_render as render
    from quarterdeck.cli.service_where import holder
    from quarterdeck.errors import InvalidInput

    config = settings()
    where = await holder(config, service, node=node)
    to_stdout = target == Path("-")
    local = target or Path(Path(path).name)
    if local.is_dir():
        local /= Path(path).name
    if not to_stdout and not local.parent.is_dir():
        raise InvalidInput(f"there is no folder {local.parent}; nothing was read", hint="make it first")

    async def work(client: NodeClient) -> FileHeader:
        async with client.pull_file(service, path) as (header, chunks):
            if to_stdout:
                async for chunk in chunks:
                    sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
                return header
            bar = _Progress(path)
            temporary = local.with_name(f".{local.name}.{secrets.token_hex(4)}")
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                done = 0
                async with anyio.wrap_file(os.fdopen(descriptor, "wb")) as file:
                    async for chunk in chunks:
                        await file.write(chunk)
                        done += len(chunk)
                        bar.show(done, header.size)
                temporary.chmod(header.mode & 0o777)
                temporary.replace(local)
            finally:
                temporary.unlink(missing_ok=True)
            bar.end()
            return header

    header = await with_node(config, where, work)
    if as_json and not to_stdout:
        render.say_json(header)
    elif not to_stdout:
        click.echo(f"{local}: {render.size(header.size)}, mode {header.mode:04o}")
    return 0


class _Progress:
    """How far a file is, on a terminal only."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = -1
        self._on = sys.stderr.isatty()

    def show(self, done: int, size: int) -> None:
        """Tell of bytes done and in all, at whole per cents."""
        percent = 100 * done // size if size else 100
        if self._on and percent != self._shown:
            self._shown = percent
            click.echo(f"\r{self._name}: {percent:3d}%", nl=False, err=True)

    def end(self) -> None:
        """Leave the line."""
        if self._on and self._shown >= 0:
            click.echo(err=True)


COMMANDS = (push, pull)
