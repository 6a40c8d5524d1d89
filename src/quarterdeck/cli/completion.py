"""`qd completion`: the script that teaches a shell to complete, and what it completes names from."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from quarterdeck.cli.main import COMPLETION_VARIABLE, cli
from quarterdeck.errors import QuarterdeckError


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(qd completion bash)"                    in ~/.bashrc
    zsh:   eval "$(qd completion zsh)"                     in ~/.zshrc
    fish:  qd completion fish > ~/.config/fish/completions/qd.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    # Past BashComplete.source, which starts bash to see its version: the script says itself when it cannot.
    click.echo(ShellComplete.source(kind(cli, {}, "qd", COMPLETION_VARIABLE)))


def agent_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The agents of the running hub whose names begin so; nothing when there is no hub."""
    from quarterdeck.cli.hubclient import HubClient

    try:
        page = HubClient.find(timeout_seconds=2).get("/api/agents", limit=1000)
    except QuarterdeckError:
        return []
    return [
        CompletionItem(agent["name"], help=f"{agent['status']}, {agent['role']}")
        for agent in page["agents"]
        if agent["name"].startswith(incomplete)
    ]
