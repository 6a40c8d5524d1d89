"""`python -m quarterdeck.sidecar FOLDER [--tcp HOST:PORT] [--log-level LEVEL]`: what the local backend starts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from quarterdeck.errors import QuarterdeckError
from quarterdeck.telemetry import setup_logging


def serve(folder: Path, *, tcp: str | None, log_level: str) -> None:
    """Serve until stopped; exits with the error's code and its text on standard error."""
    setup_logging(log_level)
    try:
        from quarterdeck.sidecar.main import run

        run(folder.absolute(), tcp=tcp)
    except QuarterdeckError as error:
        print(f"qd sidecar: {error.message}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="qd sidecar", description="Serve one agent.")
    parser.add_argument("folder", type=Path, help="the agent's folder, with its launch.json")
    parser.add_argument("--tcp", metavar="HOST:PORT", help="also listen there, guarded by the token in sidecar.token")
    parser.add_argument("--log-level", default="info")
    given = parser.parse_args(arguments)
    serve(given.folder, tcp=given.tcp, log_level=given.log_level)


if __name__ == "__main__":
    main()
