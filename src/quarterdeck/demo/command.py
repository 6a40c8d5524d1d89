"""`qd demo`."""

from __future__ import annotations

from pathlib import Path

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
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the run into an SVG file.")
def demo(keep: bool, provider: str, picture: Path | None) -> int:
    """Three agents at work on a sample repository, in a folder and with a state folder of their own.

    Exits with 0 only when git and the tests show that everything they say is true.
    """
    from quarterdeck.cli.render import console
    from quarterdeck.demo.play import play

    if picture is not None:
        from quarterdeck.demo.picture import draw

        return 0 if draw(picture, lambda out: play(out, provider=provider, keep=keep, live=False)) else 1
    out = console()
    return 0 if play(out, provider=provider, keep=keep, live=out.is_terminal) else 1
