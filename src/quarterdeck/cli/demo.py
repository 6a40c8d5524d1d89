"""`qd demo`: see quarterdeck.demo."""

from __future__ import annotations

import click


@click.command()
@click.option("--keep", is_flag=True, help="Leave the hub and its agents running, and say how to use them.")
@click.option(
    "--provider",
    type=click.Choice(["scripted", "claude-code"]),
    default="scripted",
    show_default=True,
    help="The scripted agent, or the real Claude Code against a scripted model. No key is needed for either.",
)
def demo(keep: bool, provider: str) -> int:
    """Three agents at work on a sample repository, in a folder and with a state folder of their own.

    Exits with 0 only when git and the tests show that everything they say is true.
    """
    from quarterdeck.cli.render import console
    from quarterdeck.demo.play import play

    out = console()
    return 0 if play(out, provider=provider, keep=keep, live=out.is_terminal) else 1
