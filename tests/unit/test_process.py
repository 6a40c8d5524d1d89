"""Starting programs: whatever the system refuses is told as an error of ours."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from quarterdeck import process, proctree
from quarterdeck.process import Child, CommandFailed

pytestmark = pytest.mark.anyio


async def run(program: str, folder: Path) -> object:
    return await process.run([program], cwd=folder)


async def run_quick(program: str, folder: Path) -> object:
    return await process.run_quick([program], cwd=folder, env={}, timeout_seconds=5)


async def piped(program: str, folder: Path) -> object:
    async with process.piped([program]) as started:
        return started


async def child(program: str, folder: Path) -> object:
    return await Child.start([program], cwd=folder, env={}, stderr=folder / "stderr")


@pytest.mark.parametrize("start", [run, run_quick, piped, child])
async def test_what_cannot_be_started_says_why(start: Callable[[str, Path], Awaitable[object]], tmp_path: Path) -> None:
    script = tmp_path / "script"
    with pytest.raises(CommandFailed, match="No such file") as missing:
        await start(str(script), tmp_path)
    assert "install" in missing.value.hint
    script.write_text("\0 neither a program nor a script")
    with pytest.raises(CommandFailed, match="Permission denied"):
        await start(str(script), tmp_path)
    script.chmod(0o755)
    with pytest.raises(CommandFailed, match="Exec format error") as unfit:
        await start(str(script), tmp_path)
    assert "#!" in unfit.value.hint


async def test_too_long_a_command_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="Argument list too long"):
        await process.run(["true", "x" * 200_000])
    assert (await process.run(["true"])).returncode == 0
    await anyio.sleep(0)


async def test_no_more_output_is_kept_than_was_asked_for() -> None:
    script = "head -c 40000000 /dev/zero; echo first >&2; head -c 1000000 /dev/zero >&2; echo last >&2"
    tracemalloc.start()
    try:
        done = await process.run(["sh", "-c", script], kept_output=5000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.stdout == bytes(5000)
    assert len(done.stderr) == 5000
    assert done.stderr.endswith(b"last\n")
    assert peak < 4_000_000


async def test_a_cancel_while_a_command_starts_ends_what_it_started_too(tmp_path: Path) -> None:
    mark = f"test-{os.urandom(8).hex()}"
    for number in range(40):
        with anyio.move_on_after(0.0005 * number):
            command = ["/bin/sh", "-c", "sleep 300 & sleep 300"]
            await process.run(command, cwd=tmp_path, env={proctree.MARK_VARIABLE: mark})
    assert proctree.marked(mark) == []
