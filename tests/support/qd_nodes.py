"""`qd` as a program for tests: the whole command line where it is there, else its commands about nodes."""

from __future__ import annotations

import importlib.util
import json
import sys

import click

from quarterdeck.cli import login, node, service
from quarterdeck.errors import QuarterdeckError


@click.group()
def nodes() -> None:
    """The commands about nodes."""


for command in (login.login, login.logout, login.whoami, node.group, service.group):
    nodes.add_command(command)


def alone() -> int:
    """As `quarterdeck.cli.main` does it."""
    try:
        nodes.main(prog_name="qd", standalone_mode=False)
    except QuarterdeckError as error:
        as_json = "--json" in sys.argv
        click.echo(json.dumps(error.to_json()) if as_json else f"error: {error.message}\n{error.hint}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    return 0


if __name__ == "__main__":
    if importlib.util.find_spec("quarterdeck.cli.main") is not None:
        from quarterdeck.cli.main import COMMANDS, main

        missing = {"logout", "whoami"} - COMMANDS.keys()
        if not missing or not missing & set(sys.argv[1:2]):
            main()
    sys.exit(alone())
