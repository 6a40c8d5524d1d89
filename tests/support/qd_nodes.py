"""`qd` as a program for tests: the whole command line where it is there, else its commands about nodes."""

from __future__ import annotations

import importlib.util

import click

from quarterdeck.cli import login, node, service


@click.group()
def nodes() -> None:
    """The commands about nodes."""


for command in (login.group, login.logout, login.whoami, node.group, service.group):
    nodes.add_command(command)

if __name__ == "__main__":
    if importlib.util.find_spec("quarterdeck.cli.main") is not None:
        from quarterdeck.cli.main import main

        main()
    else:
        nodes(prog_name="qd")
