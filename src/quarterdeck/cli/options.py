"""Options that many commands share, and how answers go out: as the API's JSON, or rendered for people."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from quarterdeck.cli.completion import agent_names
from quarterdeck.errors import InvalidInput

C = TypeVar("C", bound=Callable[..., Any])

as_json: Callable[[C], C] = click.option("--json", "as_json", is_flag=True, help="Machine output, exactly as the API.")
agent: Callable[[C], C] = click.argument("name", shell_complete=agent_names)


def budget_options(command: C) -> C:
    """The limits of what an agent may use."""
    usd = click.option(
        "--budget-usd", type=click.FloatRange(0, min_open=True), help="Stop it when it has cost this much."
    )
    tokens = click.option("--budget-tokens", type=click.IntRange(1), help="Stop it when it has used so many tokens.")
    return usd(tokens(command))


def emit(value: Any) -> None:
    """Write an answer of the API to standard output, indented."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def emit_line(value: Any) -> None:
    """Write one value as one line, at once: for what goes on."""
    click.echo(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()


def text_from(text: str | None, file: str | None, what: str) -> str:
    """A text given as an argument, in a file, or on standard input (`-`). Raises `InvalidInput`."""
    if (text is None) == (file is None):
        raise InvalidInput(f"give the {what} either as text or with --file", hint="--file - reads standard input")
    if text is not None:
        return text
    assert file is not None
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error


@contextlib.contextmanager
def working(on: str) -> Iterator[None]:
    """Show on a terminal that something takes its time, and for how long it has; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(on, total=None)
        yield


def told(value: Any, as_json: bool, text: str) -> None:
    """Write an answer as JSON, or a text that says it."""
    if as_json:
        emit(value)
    else:
        click.echo(text)


def tell_unknown(agents: list[dict[str, Any]]) -> None:
    """Name the agents of which something asked for is not known, and why, beside the answer."""
    for agent in agents:
        click.echo(f"not known: {agent['agent']} ({agent['state'].replace('_', ' ')}: {agent['error']})", err=True)
