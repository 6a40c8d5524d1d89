"""What the command line does with several calls: pushing a local file, asking all nodes at once."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import anyio

from quarterdeck.errors import Conflict, InvalidInput, QuarterdeckError
from quarterdeck.node.client import ANY, Change, NodeClient, Target
from quarterdeck.node.results import PushedFile, PushRequest

T = TypeVar("T")
CHUNK_BYTES = 256 * 1024


async def file_chunks(path: anyio.Path, offset: int = 0) -> AsyncIterator[bytes]:
    """A file's content from `offset` on, a chunk at a time."""
    async with await path.open("rb") as file:
        await file.seek(offset)
        while chunk := await file.read(CHUNK_BYTES):
            yield chunk


async def push_local_file(
    client: NodeClient,
    service: str,
    path: str,
    source: anyio.Path,
    *,
    mode: int,
    owner: str = "",
    change: Change = ANY,
    sent: Callable[[int, int], None] = lambda done, size: None,
) -> PushedFile:
    """Push a file of this machine, from where an interrupted push of the same content ended.

    `sent` hears of bytes done and in all. Raises `InvalidInput` when the file cannot be read, otherwise as
    `NodeClient.push_file`.
    """
    try:
        digest, size = await anyio.to_thread.run_sync(_digest, source)
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}; nothing was sent") from error
    for attempt in (1, 2):
        offset = await client.push_offset(service, path, digest)

        async def counted(start: int) -> AsyncIterator[bytes]:
            done = start
            async for chunk in file_chunks(source, start):
                yield chunk
                done += len(chunk)
                sent(done, size)

        request = PushRequest(service, path, size, digest, mode, owner, offset)
        try:
            return await client.push_file(request, counted(offset), change)
        except Conflict:
            # Somebody else pushed the same content in between; the offset is another now.
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _digest(source: anyio.Path) -> tuple[str, int]:
    with Path(source).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()


async def ask_all(
    targets: Mapping[str, Target | QuarterdeckError], ask: Callable[[NodeClient], Awaitable[T]]
) -> dict[str, T | QuarterdeckError]:
    """Ask all nodes at once; for each its answer, or the error that it gave or could not even be asked for."""
    answers: dict[str, T | QuarterdeckError] = {}

    async def one(name: str, target: Target | QuarterdeckError) -> None:
        try:
            if isinstance(target, QuarterdeckError):
                raise target
            async with NodeClient.to(target) as client:
                answers[name] = await ask(client)
        except QuarterdeckError as error:
            answers[name] = error

    async with anyio.create_task_group() as group:
        for name, target in targets.items():
            group.start_soon(one, name, target, name=f"ask {name}")
    return {name: answers[name] for name in targets}
