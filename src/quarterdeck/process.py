"""The only place that starts processes: argument lists, never a shell; a clean environment; a deadline.

`run` is for commands that end by themselves (git, podman), `Child` for programs that are talked to
(an agent's CLI). Our own processes, which outlive this one, are started by `detached`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Self

import anyio
import anyio.abc
from anyio.to_thread import run_sync

from quarterdeck import proctree
from quarterdeck.cgroup import Cgroup
from quarterdeck.config import base_environment
from quarterdeck.errors import Unavailable
from quarterdeck.files import open_to_append

KEPT_OUTPUT = 64 * 1024 * 1024
_EXIT_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Completed:
    """What a finished command left: exit code (negative: the signal that ended it) and its output."""

    command: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        """Standard output as text, undecodable bytes replaced, the last line end removed."""
        return self.stdout.decode(errors="replace").removesuffix("\n")

    @property
    def err(self) -> str:
        """Standard error as text, stripped."""
        return self.stderr.decode(errors="replace").strip()


class CommandFailed(Unavailable):
    """A command ended with another code than 0, ran into its deadline, or could not be started.

    `completed` is what it left, None when it never ran or was cut off at the deadline.
    """

    def __init__(self, message: str, *, completed: Completed | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.completed = completed


async def run(
    command: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_seconds: float = 60,
    check: bool = True,
    kill_at_deadline: bool = True,
    kept_output: int = KEPT_OUTPUT,
) -> Completed:
    """Run a command to its end.

    `env` is added to the clean base environment (`config.base_environment`). At the deadline, or when
    the caller is cancelled, the command's whole tree is killed; with `kill_at_deadline=False` it is
    left to finish by itself (podman mutations must not be killed half-way, see facts/podman.md).
    Of its output the first `kept_output` bytes are kept, and of what it says on standard error the last ones.

    Raises `CommandFailed` when the program is missing, the deadline passes, or, with `check`, when the
    exit code is not 0.
    """
    command = tuple(command)
    process = await _open(
        command,
        cwd=cwd,
        env={**base_environment(), **(env or {})},
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
    )
    out, err = bytearray(), bytearray()
    finished = False
    try:
        with anyio.move_on_after(timeout_seconds):
            async with anyio.create_task_group() as group:
                group.start_soon(_drain, process.stdout, out, slice(kept_output, None))
                group.start_soon(_drain, process.stderr, err, slice(0, -kept_output))
                if stdin and process.stdin:
                    group.start_soon(_feed, process.stdin, stdin)
                await process.wait()
            finished = True
    finally:
        if not finished and kill_at_deadline:
            with anyio.CancelScope(shield=True):
                await run_sync(proctree.kill_everything, process.pid, None, None)
                await process.wait()
        with anyio.CancelScope(shield=True):
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()
    if not finished:
        remains = "it was killed" if kill_at_deadline else f"it goes on by itself as pid {process.pid}"
        raise CommandFailed(f"{_shown(command)} did not end within {timeout_seconds:g} s; {remains}")
    assert process.returncode is not None
    done = Completed(command, process.returncode, bytes(out), bytes(err))
    if check and done.returncode != 0:
        raise CommandFailed(
            f"{_shown(command)} failed ({done.returncode}): {done.err[-2000:] or done.out[-2000:]}",
            completed=done,
        )
    return done


async def run_quick(
    command: Sequence[str], *, cwd: str | os.PathLike[str], env: Mapping[str, str], timeout_seconds: float
) -> Completed:
    """`run` for short commands that only read and are run often, without `check`.

    Spawned from a thread: 3 ms cheaper than `run`, and 9 ms where the loop is uvloop, whose children close
    every possible descriptor one by one. Killed with its whole tree at the deadline and when the caller is
    cancelled. Raises `CommandFailed` when the program is missing or the deadline passes.
    """
    command = tuple(command)
    started: list[subprocess.Popen[bytes]] = []

    def work() -> Completed:
        environment = {**base_environment(), **env}
        with proctree.starting() as known:
            made = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            known(made.pid)
        with made as process:
            started.append(process)
            try:
                out, err = process.communicate(timeout=timeout_seconds)
            except BaseException:
                proctree.kill_everything(process.pid, None, None)
                raise
            return Completed(command, process.returncode, out, err)

    try:
        return await run_sync(work, abandon_on_cancel=True)
    except OSError as error:
        raise _cannot_start(command, error) from error
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"{_shown(command)} did not end within {timeout_seconds:g} s; it was killed") from None
    except BaseException:
        # Cancelled: the thread sees the end of its pipes, reaps, and is gone.
        for process in started:
            if process.poll() is None:
                proctree.kill_everything(process.pid, None, None)
        raise


async def _open(
    command: tuple[str, ...],
    *,
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str],
    stdin: int | IO[bytes],
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> anyio.abc.Process:
    """Start a child in a session of its own. Raises `CommandFailed`.

    A cancel waits until it is there, for the caller to end: asyncio would kill the child alone, and what that had
    started by then would go on.
    """
    try:
        with proctree.starting() as known, anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                command, cwd=cwd, env=env, stdin=stdin, stderr=stderr, start_new_session=True
            )
            known(process.pid)
    except OSError as error:
        raise _cannot_start(command, error) from error
    return process


def _cannot_start(command: tuple[str, ...], error: OSError) -> CommandFailed:
    """Whatever the system refused: a missing program, a script without its first line, too many processes."""
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        hint = f"install it, or say where it is (`qd doctor` tells what is missing): {command[0]}"
    elif error.errno == errno.ENOEXEC:
        hint = "it is no program for this machine, or a script whose first line does not say what runs it (#!/bin/sh)"
    else:
        hint = ""
    return CommandFailed(f"cannot start {command[0]!r}: {error.strerror or error}", hint=hint)


async def _drain(stream: anyio.abc.ByteReceiveStream | None, into: bytearray, surplus: slice) -> None:
    if stream is None:
        return
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for chunk in stream:
            into += chunk
            del into[surplus]


async def _feed(stream: anyio.abc.ByteSendStream, data: bytes) -> None:
    # A command may end without reading its input; that is its own business.
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(data)
        await stream.aclose()


def _shown(command: tuple[str, ...]) -> str:
    """A command for an error text: short, and without the values that could be secrets."""
    text = " ".join(command[:4])
    return f"{text[:120]!r}"


class Child:
    """A program that is talked to over its pipes, with everything that it starts.

    Made by `Child.start`. `stdin` and `stdout` are byte streams; standard error goes to a file.
    """

    def __init__(self, process: anyio.abc.Process, mark: str | None, cgroup: Cgroup | None) -> None:
        self._process = process
        self._mark = mark
        self._cgroup = cgroup
        self.pid = process.pid
        self.start_time = proctree.started_at(process.pid)

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stderr: Path,
        stdin: Path | None = None,
        mark: str | None = None,
        cgroup: Cgroup | None = None,
    ) -> Self:
        """Start it with exactly `env` (plus the mark) in `cwd`; with `stdin`, that file is its input.

        Raises `CommandFailed` when it cannot be started, `OSError` when one of the files cannot be opened.
        """
        environment = dict(env)
        if mark is not None:
            environment[proctree.MARK_VARIABLE] = mark
        with contextlib.ExitStack() as files:
            error_file: IO[bytes] = files.enter_context(open_to_append(stderr))
            given: int | IO[bytes] = files.enter_context(stdin.open("rb")) if stdin else subprocess.PIPE
            process = await _open(tuple(command), cwd=cwd, env=environment, stdin=given, stderr=error_file)
        if cgroup is not None:
            cgroup.add(process.pid)
        return cls(process, mark, cgroup)

    @property
    def stdin(self) -> anyio.abc.ByteSendStream:
        """Its standard input (only when started without a file)."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> anyio.abc.ByteReceiveStream:
        """Its standard output."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for its end and give the exit code.

        asyncio before 3.13 wakes the waiter only when the pipes are closed, too, and a grandchild may hold
        them open for long; so the exit code itself is looked at now and then.
        """
        ended = anyio.Event()

        async def watch() -> None:
            await self._process.wait()
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            while self._process.returncode is None:
                with anyio.move_on_after(_EXIT_POLL_SECONDS):
                    await ended.wait()
            group.cancel_scope.cancel()
        assert self._process.returncode is not None
        return self._process.returncode

    def interrupt(self, *, group: bool = False) -> None:
        """SIGINT to the program alone, or to its process group as Ctrl-C in a terminal does."""
        if group and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGINT)
        else:
            self._signal(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop_alone(self) -> int:
        """SIGKILL to the program itself; what it started lives on. For helpers whose children are not theirs."""
        with anyio.CancelScope(shield=True):
            self._signal(signal.SIGKILL)
            code = await self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    await stream.aclose()
        return code

    async def stop(self, *, grace_seconds: float) -> int:
        """SIGTERM, then after the grace SIGKILL, to the whole tree; nothing of it is left afterwards."""
        with anyio.CancelScope(shield=True):
            if self._process.returncode is None and grace_seconds > 0:
                self._signal(signal.SIGTERM)
                with anyio.move_on_after(grace_seconds):
                    await self.wait()
            # An agent's orphans may have thrown their mark away with their environment; other programs have none.
            tree = self.pid if self._process.returncode is None else None
            await run_sync(
                partial(proctree.kill_everything, tree, self._mark, self._cgroup, orphans=self._mark is not None)
            )
            code = await self.wait()
            await self.close_pipes()
        return code

    async def close_pipes(self) -> None:
        """Let go of its pipes, which a grandchild may hold open for longer than the program lives."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                await stream.aclose()


@contextlib.asynccontextmanager
async def piped(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> AsyncIterator[anyio.abc.Process]:
    """Run a command whose output is read while it comes (`podman logs -f`); its tree is killed on leaving.

    Only for commands that change nothing. `env` is added to the clean base environment. Raises
    `CommandFailed` when the program is missing.
    """
    command = tuple(command)
    process = await _open(
        command,
        cwd=None,
        env={**base_environment(), **(env or {})},
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
    )
    leaving: GeneratorExit | None = None
    try:
        async with anyio.create_task_group() as group:
            if process.stdin is not None:
                group.start_soon(_feed, process.stdin, stdin)
            try:
                yield process
            except GeneratorExit as error:
                # A reader that goes away early is no failure: a task group would wrap it as one.
                leaving = error
            group.cancel_scope.cancel()
        if leaving is not None:
            raise leaving
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                await run_sync(proctree.kill_everything, process.pid, None, None)
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()
