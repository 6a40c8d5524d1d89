"""Running git: one place that adds the environment and turns failures into our errors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from quarterdeck import process
from quarterdeck.errors import Unavailable
from quarterdeck.fleet.git import commands

READ_SECONDS = 120.0
WRITE_SECONDS = 900.0


async def git(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    check: bool = True,
    timeout_seconds: float = WRITE_SECONDS,
) -> process.Completed:
    """Run a git command.

    Raises `process.CommandFailed` (missing, too slow, or, with `check`, a failure) and `Unavailable` when it
    printed more than is kept: half a list of files must not pass for the whole.
    """
    done = await process.run(
        command,
        env={**commands.ENVIRONMENT, **(env or {})},
        stdin=stdin,
        check=check,
        timeout_seconds=timeout_seconds,
    )
    if len(done.stdout) >= process.KEPT_OUTPUT:
        raise Unavailable(
            f"git listed more than {process.KEPT_OUTPUT} bytes; nothing was changed with it",
            hint="are there very many files that .gitignore should name?",
        )
    return done


async def line(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> str | None:
    """The output of a reading command without its line end; None when it exits with another code than 0."""
    done = await git(command, env=env, check=False, timeout_seconds=READ_SECONDS)
    return os.fsdecode(done.stdout).removesuffix("\n") if done.returncode == 0 else None


def shown(path: str | bytes) -> str:
    """A path or text of git as it may go over a wire: what is not UTF-8 appears as `\\xNN`."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def some(names: Sequence[str], limit: int = 10) -> str:
    """A list of names for an error text, cut where it gets long."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(shown(name) for name in names[:limit]) + more
