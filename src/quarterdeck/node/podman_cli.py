"""The runtime over the `podman` command: works wherever podman is installed, some 20 ms a call.

Podman tells most failures by exit code 125; which one it was is found by looking (does it exist, does it
run), never by reading the text.
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Literal

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from quarterdeck.errors import Conflict, NotFound, Unavailable
from quarterdeck.node import marks, podman_args, podman_json, podman_secrets
from quarterdeck.node.model import Health
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_unseen import NotAll, UnseenEnds, usage_of
from quarterdeck.node.results import ExecOutput, RuntimeInfo, Usage
from quarterdeck.node.runtime import Container, CreateRequest, Details, Image, LogRecord, RuntimeEvent
from quarterdeck.process import Completed, piped, run
from quarterdeck.proctree import MARK_VARIABLE

_LOG = re.compile(rb"(\S+) (.*)", re.DOTALL)
_REORDERED = 1000
StreamName = Literal["stdout", "stderr"]


class PodmanCli:
    """`Runtime` over the command."""

    def __init__(self, options: AgentOptions) -> None:
        self._podman = options.podman
        self._insecure = options.insecure_registries
        self._seconds = options.runtime_seconds
        self._pull_seconds = options.pull_seconds
        self._trial = podman_secrets.trial_mark(options.state_dir)
        self._env = {MARK_VARIABLE: marks.changing(options.state_dir)}
        self._reading = {MARK_VARIABLE: marks.reading(options.state_dir)}
        self._unseen = UnseenEnds(self._inspect, self._has_processes)

    async def _run(
        self, arguments: Sequence[str], *, stdin: bytes = b"", seconds: float | None = None, check: bool = True
    ) -> Completed:
        # A podman command killed half-way leaves orphans and stale port rules (facts/podman.md).
        return await run(
            [self._podman, *arguments],
            env=self._env,
            stdin=stdin,
            timeout_seconds=seconds or self._seconds,
            kill_at_deadline=False,
            check=check,
        )

    async def _run_on(
        self, kind: str, name: str, arguments: Sequence[str], *, seconds: float | None = None
    ) -> Completed:
        """Run a command about something that must exist."""
        done = await self._run(arguments, seconds=seconds, check=False)
        if done.returncode != 0:
            if (await self._run(podman_args.exists(kind, name), check=False)).returncode == 1 or kind == "secret":
                raise NotFound(f"the node has no {kind} {name!r}")
            raise _failed(done)
        return done

    async def info(self) -> RuntimeInfo:
        """Which podman this is."""
        done = await self._run(podman_args.version())
        return RuntimeInfo("cli", done.out.strip(), self._podman)

    async def pull(self, image: str) -> Image:
        """Fetch an image."""
        insecure = image.partition("/")[0] in self._insecure
        done = await self._run(podman_args.pull(image, insecure=insecure), seconds=self._pull_seconds, check=False)
        if done.returncode != 0:
            raise Unavailable(f"cannot pull {image}: {_last_line(done)}")
        return await self.image(done.out.strip().splitlines()[-1])

    async def image(self, name: str) -> Image:
        """A local image."""
        done = await self._run_on("image", name, podman_args.image_inspect(name))
        return podman_json.image(json.loads(done.stdout)[0])

    async def create(self, request: CreateRequest) -> str:
        """Make a container."""
        done = await self._run(
            podman_args.create(request), stdin=podman_args.hidden_env(request.hidden_env), check=False
        )
        if done.returncode != 0:
            if (await self._run(podman_args.exists("container", request.name), check=False)).returncode == 0:
                raise Conflict(f"a container named {request.name!r} is there already")
            raise _failed(done)
        return done.out.strip().splitlines()[-1]

    async def run(self, request: CreateRequest) -> str:
        """Make and start a container."""
        made = await self.create(request)
        await self.start(made)
        return made

    async def start(self, name: str) -> None:
        """Start a container."""
        await self._run_on("container", name, podman_args.start(name))

    async def stop(self, name: str, *, grace_seconds: int) -> None:
        """Stop a container."""
        seconds = grace_seconds + self._seconds
        await self._run_on("container", name, podman_args.stop(name, grace_seconds), seconds=seconds)

    async def remove(self, name: str, *, volumes: bool = True) -> None:
        """Remove a container."""
        done = await self._run(podman_args.remove(name, volumes=volumes), check=False)
        # Podman 4 answers 1 for one that is not there, in spite of --ignore.
        if (
            done.returncode != 0
            and (await self._run(podman_args.exists("container", name), check=False)).returncode != 1
        ):
            raise _failed(done)

    async def rename(self, name: str, new: str) -> None:
        """Rename a container."""
        done = await self._run(podman_args.rename(name, new), check=False)
        if done.returncode != 0:
            if (await self._run(podman_args.exists("container", name), check=False)).returncode == 1:
                raise NotFound(f"the node has no container {name!r}")
            if (await self._run(podman_args.exists("container", new), check=False)).returncode == 0:
                raise Conflict(f"a container named {new!r} is there already")
            raise _failed(done)

    async def inspect(self, name: str) -> Details:
        """Everything about one container."""
        details = await self._inspect(name)
        return replace(details, container=await self._unseen.corrected(details.container))

    async def _has_processes(self, name: str) -> bool:
        return (await self._run(podman_args.processes(name), check=False)).returncode == 0

    async def _inspect(self, name: str) -> Details:
        done = await self._run_on("container", name, podman_args.inspect(name))
        return podman_json.details(json.loads(done.stdout)[0])

    async def list(self) -> tuple[Container, ...]:
        """Every container."""
        done = await self._run(podman_args.listing())
        found = [podman_json.listed(row) for row in json.loads(done.stdout or b"[]") or ()]
        return await self._unseen.all_corrected(sorted(found, key=lambda each: each.name))

    async def logs(
        self, name: str, *, tail: int | None = None, since: float = 0, follow: bool = False
    ) -> AsyncGenerator[LogRecord, None]:
        """The output of a container."""
        number = itertools.count()
        command = [self._podman, *podman_args.logs(name, tail=tail, since=float(int(since)), follow=follow)]
        if (await self._run(podman_args.exists("container", name), check=False)).returncode == 1:
            raise NotFound(f"the node has no container {name!r}")
        # The two streams come over two pipes: put in order again what is there, as far as it is near.
        waiting: list[tuple[float, int, LogRecord]] = []
        async with piped(command, env=self._reading) as process, _reading(process, lines=True) as output:
            async for stream, line in output:
                record = _log_record(stream, line)
                if record.at < since:
                    continue
                if follow:
                    yield record
                    continue
                heapq.heappush(waiting, (record.at, next(number), record))
                if len(waiting) > _REORDERED:
                    yield heapq.heappop(waiting)[2]
        while waiting:
            yield heapq.heappop(waiting)[2]

    async def exec(
        self, name: str, command: Sequence[str], *, stdin: bytes = b"", user: str = ""
    ) -> AsyncGenerator[ExecOutput, None]:
        """Run a command in a container."""
        details = await self.inspect(name)
        if details.container.state != "running":
            raise Conflict(f"container {name!r} does not run ({details.container.state})", hint="start it first")
        arguments = podman_args.execute(name, command, user=user, stdin=bool(stdin))
        async with piped([self._podman, *arguments], stdin=stdin) as process, _reading(process, lines=False) as output:
            async for stream, data in output:
                yield ExecOutput(stream, data)
            yield ExecOutput(exit_code=await process.wait())

    async def events(self, *, since: float) -> AsyncGenerator[RuntimeEvent, None]:
        """What happens to containers."""
        async with (
            piped([self._podman, *podman_args.events(since)], env=self._reading) as process,
            _reading(process, lines=True) as output,
        ):
            async for stream, line in output:
                if stream == "stdout" and (event := podman_json.event(json.loads(line))):
                    yield event
            raise Unavailable(f"podman's events ended with {await process.wait()}")

    async def healthcheck(self, name: str) -> Health:
        """Run the healthcheck once."""
        done = await self._run(podman_args.healthcheck(name), check=False)
        details = await self.inspect(name)
        if details.container.health == "none" or details.container.state != "running":
            raise Conflict(f"container {name!r} has no healthcheck, or does not run: {_last_line(done)}")
        return details.container.health

    async def usage(self) -> Mapping[str, Usage]:
        """What the running containers use."""
        return await usage_of(await self.list(), self._usage)

    async def _usage(self, ids: Sequence[str]) -> Mapping[str, Usage]:
        done = await self._run(podman_args.usage(ids), check=False)
        if done.returncode != 0:
            raise NotAll(f"podman does not tell what its containers use: {_last_line(done)}")
        found: dict[str, Usage] = {}
        for line in done.out.splitlines():
            with suppress(ValueError):
                identity, cpu, memory, limit, pids = line.split()
                if int(pids):
                    found[identity] = Usage(round(float(cpu), 2), int(memory), int(limit), int(pids))
        return found

    async def set_secret(self, name: str, value: bytes) -> None:
        """Create or replace a secret."""

        async def create(called: str, replace: bool) -> None:
            done = await self._run(podman_args.secret_create(called, replace=replace), stdin=value, check=False)
            if done.returncode != 0:
                raise _failed(done)

        there = name in await self.secrets()
        await podman_secrets.put(name, there=there, mark=self._trial, create=create, remove=self.remove_secret)

    async def secrets(self) -> tuple[str, ...]:
        """The secrets' names."""
        return tuple(sorted((await self._run(podman_args.secret_names())).out.split()))

    async def remove_secret(self, name: str) -> None:
        """Remove a secret."""
        await self._run_on("secret", name, podman_args.secret_remove(name))

    async def aclose(self) -> None:
        """Nothing is held."""


def _log_record(stream: StreamName, line: bytes) -> LogRecord:
    match = _LOG.fullmatch(line)
    at = podman_json.instant(match[1].decode(errors="replace")) if match else None
    return LogRecord(at or 0, stream, (match[2] if match and at else line).decode(errors="replace"))


def _failed(done: Completed) -> Unavailable:
    words = " ".join(done.command[1:3])
    return Unavailable(f"podman {words!r} failed ({done.returncode}): {_last_line(done)}")


def _last_line(done: Completed) -> str:
    lines = done.err.splitlines() or done.out.splitlines() or [f"exit code {done.returncode}"]
    return lines[-1].removeprefix("Error: ")[:500]


@asynccontextmanager
async def _reading(
    process: anyio.abc.Process, *, lines: bool
) -> AsyncIterator[MemoryObjectReceiveStream[tuple[StreamName, bytes]]]:
    """What a process writes on both streams, as it comes or line by line (without line ends)."""
    assert process.stdout is not None
    assert process.stderr is not None
    send, receive = anyio.create_memory_object_stream[tuple[StreamName, bytes]](64)

    async def pump(
        name: StreamName, source: anyio.abc.ByteReceiveStream, sink: MemoryObjectSendStream[tuple[StreamName, bytes]]
    ) -> None:
        rest = b""
        async with sink:
            async for chunk in source:
                if not lines:
                    await sink.send((name, chunk))
                    continue
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    await sink.send((name, line))
            if rest:
                await sink.send((name, rest))

    leaving: GeneratorExit | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(pump, "stdout", process.stdout, send.clone())
        group.start_soon(pump, "stderr", process.stderr, send.clone())
        send.close()
        async with receive:
            try:
                yield receive
            except GeneratorExit as error:
                # A reader that goes away early is no failure: a task group would wrap it as one.
                leaving = error
        group.cancel_scope.cancel()
    if leaving is not None:
        raise leaving
