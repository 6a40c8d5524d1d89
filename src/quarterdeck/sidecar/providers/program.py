"""A running AI program that is talked to in lines: reading it, writing to it, and telling its end once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import anyio

from quarterdeck.errors import Unavailable
from quarterdeck.process import Child
from quarterdeck.sidecar.ports import Exited, Launch, Noise
from quarterdeck.sidecar.providers.lines import LongLine, lines
from quarterdeck.sidecar.spec import STDERR_FILE

SHOWN_NOISE = 500
_TAIL_BYTES = 2000
_QUIET_SECONDS = 0.1
_LAST_WORDS_SECONDS = 3.0
_EOF_GRACE_SECONDS = 3.0
_SEND_SECONDS = 30.0

OnLine = Callable[[bytes], None]
OnExit = Callable[[Exited], None]
OnNoise = Callable[[Noise], None]


def private_file(path: Path, text: str) -> str:
    """Write a file that only we can read; its path. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return str(path)


class Program:
    """One process and the readers around it. Made by `Program.start`, ended by `stop`."""

    def __init__(self, child: Child, errors: Path, errors_from: int) -> None:
        self._child = child
        self._errors = errors
        self._errors_from = errors_from
        self._lines = 0
        self._writing = anyio.Lock()
        self._eof = anyio.Event()
        self._scope = anyio.CancelScope()
        self.exited = anyio.Event()
        self.pid = child.pid

    @classmethod
    async def start(
        cls,
        launch: Launch,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: Path | None = None,
    ) -> Self:
        """Start it in the workspace, its standard error going to a file in the agent's folder.

        Raises as `Child.start`.
        """
        errors = launch.folder / STDERR_FILE
        errors_from = errors.stat().st_size if errors.exists() else 0
        child = await Child.start(
            command,
            cwd=launch.cwd,
            env={**launch.env, **(env or {})},
            stderr=errors,
            stdin=stdin,
            mark=launch.mark,
            cgroup=launch.cgroup,
        )
        return cls(child, errors, errors_from)

    async def serve(self, on_line: OnLine, on_noise: OnNoise, on_exit: OnExit) -> None:
        """Read until the end and tell it; run this in a task of its own.

        `on_exit` is called once, after the last line, unless `stop` came first.
        """
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read, on_line, on_noise)
                code = await self._child.wait()
                await self._drain()
                group.cancel_scope.cancel()
            await self._child.close_pipes()
            self.exited.set()
            on_exit(Exited(code, self.last_words()))
        self.exited.set()

    async def _drain(self) -> None:
        """Wait for what it said last, which is still in the pipe.

        Not for the end of the pipe: a child of its own may hold that open for long. So until it is quiet, and
        not for ever: what a child goes on printing is not the program's word.
        """
        read = -1
        with anyio.move_on_after(_LAST_WORDS_SECONDS):
            while read != self._lines:
                read = self._lines
                with anyio.move_on_after(_QUIET_SECONDS):
                    await self._eof.wait()
                    return

    async def _read(self, on_line: OnLine, on_noise: OnNoise) -> None:
        async for line in lines(self._child.stdout):
            self._lines += 1
            if isinstance(line, LongLine):
                on_noise(Noise(str(line)))
            else:
                on_line(line)
        self._eof.set()
        # A program that closed its output without ending can never be heard again: it is as good as dead.
        await anyio.sleep(_EOF_GRACE_SECONDS)
        if self._child.returncode is None:
            await self._child.stop(grace_seconds=1)

    async def send(self, data: bytes) -> None:
        """Write to its standard input. Raises `Unavailable` when it is gone or does not read any more."""
        try:
            with anyio.fail_after(_SEND_SECONDS):
                async with self._writing:
                    await self._child.stdin.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            raise Unavailable("the agent's program is gone", hint="qd agents restart NAME") from error
        except TimeoutError as error:
            # Part of the line may be in the pipe: nothing that follows could be understood.
            await self._child.stop(grace_seconds=0)
            raise Unavailable(
                f"the agent's program read nothing for {_SEND_SECONDS:g} s and was killed",
                hint="qd agents restart NAME",
            ) from error

    def interrupt(self) -> None:
        """SIGINT to the program and the children in its group, as Ctrl-C does."""
        self._child.interrupt(group=True)

    async def stop(self, grace_seconds: float) -> int:
        """End the whole tree and the readers; the exit code. Idempotent."""
        self._scope.cancel()
        return await self._child.stop(grace_seconds=grace_seconds)

    def last_words(self) -> str:
        """The end of what this life of the program wrote to its standard error."""
        try:
            with self._errors.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                # It may have been cut since then (`logs.cap`).
                begin = self._errors_from if self._errors_from <= size else 0
                file.seek(max(begin, size - _TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""
