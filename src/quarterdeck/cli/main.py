"""The root of `qd`: which commands there are, loaded when called, and how every failure is told.

`qd --help` shows a table and imports no command. A command whose module is not installed is not shown.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click

from quarterdeck import __version__
from quarterdeck.cli import words
from quarterdeck.errors import QuarterdeckError

COMPLETION_VARIABLE = "_QD_COMPLETE"
_CLI = Path(__file__).parent


class Entry(NamedTuple):
    """Where a command lives (a module of this package, or `..` and one beside it), and its line in the list."""

    module: str
    attribute: str
    help: str


COMMANDS: dict[str, Entry] = {
    "up": Entry("up", "up", "Start the hub for the repository you stand in."),
    "down": Entry("up", "down", "End the hub; agents work on."),
    "status": Entry("up", "status", "Whether a hub runs, and how its agents are."),
    "token": Entry("up", "token", "Print the hub's token."),
    "mcp": Entry("stdio", "mcp", "Serve MCP on stdio, from a running hub or a new one."),
    "agents": Entry("agents", "agents", "Create agents, give them tasks, see and merge their work."),
    "gc": Entry("gc", "gc", "Remove what deleted agents left, never unsaved work."),
    "metadata": Entry("metadata", "group", "Facts about agents' workspaces: read, write, watch."),
    "prs": Entry("prs", "prs", "Pull requests across the fleet: checks, reviews, agents."),
    "node": Entry("node", "group", "Machines that run containers."),
    "service": Entry("service", "group", "Services on nodes."),
    "login": Entry("login", "login", "Get a token for nodes."),
    "logout": Entry("login", "logout", "Revoke and forget tokens."),
    "whoami": Entry("login", "whoami", "Who you are for nodes, and until when."),
    "doctor": Entry("doctor", "doctor", "What is present, what is missing, and what to do."),
    "demo": Entry("..demo.command", "demo", "Three agents at work on a sample repository."),
    "sidecar": Entry("sidecar", "sidecar", "Serve one agent (started by the hub)."),
    "completion": Entry("completion", "completion", "Print the script for shell completion."),
}


def _file_of(module: str) -> Path:
    """The file of a command's module, found without importing it."""
    if module.startswith(".."):
        return _CLI.parent.joinpath(*module[2:].split(".")).with_suffix(".py")
    return _CLI / f"{module}.py"


class Commands(click.Group):
    """The commands of a table, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those whose module is there, in the order of the table."""
        return [name for name, entry in COMMANDS.items() if _file_of(entry.module).is_file()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one; None when there is none of this name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        entry = COMMANDS[cmd_name]
        module = entry.module if entry.module.startswith("..") else f".{entry.module}"
        command: click.Command = getattr(importlib.import_module(module, "quarterdeck.cli"), entry.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qd")
def cli() -> None:
    """Quarterdeck: one control plane for a fleet of AI coding agents.

    Begin with `qd up` in a git repository, then `qd agents create`.

    Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 not found, 4 conflict, 5 unreachable or unavailable.
    """


def tell(error: QuarterdeckError, *, as_json: bool) -> None:
    """Write an error to standard error: for people, or as the JSON that the HTTP API answers with."""
    if as_json:
        import json

        click.echo(json.dumps(error.to_json()), err=True)
        return
    # An agent's words may be in it, as in a question that cannot be answered so.
    click.echo(click.style("error: ", fg="red") + words.plain(error.message), err=True, color=_colour())
    if error.hint:
        click.echo(click.style("hint:  ", fg="cyan") + words.plain(error.hint), err=True, color=_colour())


def _colour() -> bool | None:
    from quarterdeck.config import variable

    return False if variable("NO_COLOR") else None


def run(arguments: list[str]) -> int:
    """Carry out a command line; the exit code. Every failure was told on standard error."""
    as_json = "--json" in arguments[: arguments.index("--") if "--" in arguments else None]
    try:
        code: Any = cli.main(arguments, prog_name="qd", standalone_mode=False)
    except QuarterdeckError as error:
        tell(error, as_json=as_json)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.UsageError as error:
        _usage(error, as_json=as_json)
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("aborted", err=True)
        return 130
    except BrokenPipeError:
        # The reader (`head`) has enough. Standard output is closed so that its flush at exit is not told.
        sys.stdout = None
        return 0
    return code if isinstance(code, int) else 0


def _usage(error: click.UsageError, *, as_json: bool) -> None:
    if as_json:
        from quarterdeck.errors import InvalidInput

        hint = f"{error.ctx.command_path} --help" if error.ctx else "qd --help"
        tell(InvalidInput(error.format_message(), hint=hint), as_json=True)
    else:
        error.show()


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
