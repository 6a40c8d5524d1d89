"""What the commands about nodes and services share: the settings, targets, running async work, telling errors."""

from __future__ import annotations

import contextlib
import functools
import logging
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from quarterdeck.errors import QuarterdeckError

if TYPE_CHECKING:
    from quarterdeck.node.cli_settings import CliSettings
    from quarterdeck.node.client import Change, NodeClient, Target

log = logging.getLogger(__name__)
T = TypeVar("T")
P = ParamSpec("P")


def tell(error: QuarterdeckError, *, about: str = "") -> None:
    """Write to standard error what went wrong with one of several; the command goes on."""
    click.echo(f"{about + ': ' if about else ''}{error.message}", err=True)
    if error.hint:
        click.echo(f"    {error.hint}", err=True)


def command(function: Callable[P, Awaitable[int | None]]) -> Callable[P, None]:
    """Run an async command; its number is the exit code. Errors of ours leave alone, out of any group; what this
    machine's files and folders refuse becomes one of them."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        import anyio

        async def main() -> int | None:
            return await function(*args, **kwargs)

        try:
            code = anyio.run(main)
        except BaseExceptionGroup as group:
            found = _first(group, QuarterdeckError) or _local(_first(group, _LOCAL), kwargs)
            if found is None:
                raise
            raise found from group
        except _LOCAL as error:
            found = _local(error, kwargs)
            if found is None:
                raise
            raise found from error
        if code:
            sys.exit(code)

    return run


# What files of this machine can do to a command.
_LOCAL = (OSError, sqlite3.Error, UnicodeDecodeError)


def _first(group: BaseExceptionGroup[Any], kind: Any) -> Any:
    found: Any = group.subgroup(kind)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _local(error: Exception | None, given: dict[str, Any]) -> QuarterdeckError | None:
    """The error that tells what a file or folder here refused; None for what is none of that.

    `given` are the command's own parameters: a database does not say in its errors where it lies.
    """
    import errno

    from quarterdeck.errors import InvalidInput, StorageRefused

    log.debug("refused by this machine", exc_info=error)
    if isinstance(error, sqlite3.Error):
        where = f" of {given['config']}" if given.get("config") else ""
        return InvalidInput(
            f"the database below the state_dir{where} cannot be used: {error}",
            hint=f"{_AS_OWNER}, and look at its disk",
        )
    if isinstance(error, UnicodeDecodeError):
        origin = next((str(each) for each in given.values() if isinstance(each, Path)), "the file")
        return InvalidInput(f"{origin} is no text in UTF-8: {error}", hint="is it the file that is meant?")
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return None
    path = error.filename2 or error.filename
    what = f"{path}: {error.strerror}" if path else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageRefused(what, hint="free some space, then ask again")
    if isinstance(error, PermissionError):
        return InvalidInput(what, hint=_AS_OWNER)
    if isinstance(error, FileNotFoundError):
        return InvalidInput(what, hint="make its folder first, or name another path")
    return InvalidInput(what, hint="mend that, or name another path")


_AS_OWNER = "run it as root, or as the user that this belongs to"


@contextlib.contextmanager
def goes_on(service: str = "") -> Iterator[None]:
    """Tell whoever interrupts a change that the node does not hear of it."""
    import anyio

    try:
        yield
    except anyio.get_cancelled_exc_class():
        shows = f"`qd service status {service}`" if service else "`qd service status`"
        click.echo(f"what was begun goes on there; {shows} shows it", err=True)
        raise


json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")
node_option = click.option(
    "--node", "-N", metavar="NAME", help="The node; by default the definition's, or the only one."
)


def nodes_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--node` of commands that ask several nodes."""
    return click.option(
        "--node", "-N", "nodes", multiple=True, metavar="NAME", help="Only this node; may be repeated."
    )(function)


def change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that changes something."""
    for option in (
        click.option(
            "--operation-id", default="", metavar="ID", help="Asking again with the same one does nothing twice."
        ),
        click.option(
            "--expect-generation", type=int, metavar="N", help="Refuse when the service has another generation by now."
        ),
        click.option(
            "--wait", "wait_seconds", type=float, metavar="SECONDS", help="How long to wait for another change of it."
        ),
    ):
        function = option(function)
    return function


def change_of(options: dict[str, Any]) -> Change:
    """The values of `change_options`."""
    from quarterdeck.node.client import Change

    return Change(options["operation_id"], options["expect_generation"], options["wait_seconds"])


def settings() -> CliSettings:
    """`cli.toml`. Raises `InvalidInput`."""
    from quarterdeck.node.cli_settings import load_cli_settings

    return load_cli_settings()


def target(config: CliSettings, name: str, *, with_token: bool = True) -> Target:
    """Whom to call. Raises `NotFound` for an unknown node, `Unauthenticated` for an expired token,
    `InvalidInput` without its CA; warns when the token will soon expire."""
    from quarterdeck.auth.credentials import SOON_SECONDS, ago
    from quarterdeck.errors import InvalidInput
    from quarterdeck.node.client import Target

    node = config.node(name)
    token = ""
    if with_token:
        credential = config.credentials.valid(config.credential_name(name))
        left = credential.seconds_left()
        if left is not None and left < SOON_SECONDS:
            click.echo(f"the token for {name} expires in {ago(left)}; `qd login` gets a new one", err=True)
        token = credential.token
    try:
        ca = config.ca_of(node).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"the CA of node {name}, {config.ca_of(node)}, cannot be read: {error.strerror}",
            hint=f"`qd node join {name}`",
        ) from error
    return Target(
        name, node.address, ca, token, node.server_name, config.file.timeout_seconds, config.file.connect_seconds
    )


async def with_node(
    config: CliSettings, name: str, work: Callable[[NodeClient], Awaitable[T]], *, with_token: bool = True
) -> T:
    """Do something with one node."""
    from quarterdeck.node.client import NodeClient

    async with NodeClient.to(target(config, name, with_token=with_token)) as client:
        return await work(client)


async def ask_nodes(
    config: CliSettings, names: Iterable[str], ask: Callable[[NodeClient], Awaitable[T]]
) -> tuple[dict[str, T], dict[str, QuarterdeckError]]:
    """Ask nodes at once (all of `cli.toml` when none is named): answers, and errors of those that gave none."""
    from quarterdeck.node.transfer import ask_all

    wanted = tuple(names) or tuple(config.file.nodes)
    if not wanted:
        config.pick(None)
    targets: dict[str, Target | QuarterdeckError] = {}
    for name in wanted:
        try:
            targets[name] = target(config, name)
        except QuarterdeckError as error:
            targets[name] = error
    found = await ask_all(targets, ask)
    answers = {name: each for name, each in found.items() if not isinstance(each, QuarterdeckError)}
    errors = {name: each for name, each in found.items() if isinstance(each, QuarterdeckError)}
    return answers, errors


def tell_missing(errors: dict[str, QuarterdeckError]) -> int:
    """Tell of which nodes there is no result and why; the exit code."""
    for name, error in errors.items():
        tell(error, about=f"{name}: {'unreachable' if silent(error) else 'failed'}")
    return max((error.exit_code for error in errors.values()), default=0)


def silent(error: QuarterdeckError) -> bool:
    """Whether the node itself gave no answer: a full disk and a dead podman are told by one that lives."""
    # Not at the top: it takes long, and commands that call no node need none of it.
    from quarterdeck.node.wire_errors import Overdue, Unreachable

    return isinstance(error, Overdue | Unreachable)


def split_name(name: str) -> tuple[str, str]:
    """`SERVICE[/COMPONENT]` in its parts."""
    service, _, component = name.partition("/")
    return service, component
