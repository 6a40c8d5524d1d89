"""Running a project's check command: its own process tree, killed at the deadline, the output's end kept."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from quarterdeck.config import base_environment
from quarterdeck.process import Child

TAIL_BYTES = 8000


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How a check ended; `exit_code` is None when its time was over. `tail` is the end of its output."""

    exit_code: int | None
    tail: str


async def run_check(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], seconds: float, mark: str) -> Checked:
    """Run a check to its end or the deadline; nothing that it started is left. Raises `Unavailable` when missing."""
    with tempfile.TemporaryDirectory(prefix="qd-check-") as folder:
        errors = Path(folder) / "stderr"
        output = bytearray()
        child = await Child.start(
            command,
            cwd=cwd,
            env={**base_environment(), **env},
            stderr=errors,
            stdin=Path("/dev/null"),
            mark=mark,
        )
        code: int | None = None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_keep_tail, child, output, name=f"output of {command[0]}")
                with anyio.move_on_after(seconds):
                    code = await child.wait()
                # Also after a good end: a helper that it left would keep the output open.
                await child.stop(grace_seconds=0)
        finally:
            await child.stop(grace_seconds=0)
        text = bytes(output) + await run_sync(_read_tail, errors)
        return Checked(exit_code=code, tail=text[-TAIL_BYTES:].decode(errors="replace").strip())


async def _keep_tail(child: Child, output: bytearray) -> None:
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for chunk in child.stdout:
            output += chunk
            del output[:-TAIL_BYTES]


def _read_tail(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - TAIL_BYTES))
        return stream.read()
