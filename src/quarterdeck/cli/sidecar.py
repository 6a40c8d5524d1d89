"""`qd sidecar`: the same as `python -m quarterdeck.sidecar`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--tcp", metavar="HOST:PORT", help="Also listen there, guarded by the token in sidecar.token.")
@click.option(
    "--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"])
)
def sidecar(folder: Path, tcp: str | None, log_level: str) -> None:
    """Serve one agent: FOLDER is its folder, with its launch.json. The hub starts this by itself."""
    from quarterdeck.sidecar.__main__ import serve

    serve(folder, tcp=tcp, log_level=log_level)
