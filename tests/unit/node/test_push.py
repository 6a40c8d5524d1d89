"""A push as the caller streams it: what is wrong with it is told as what it is, and what came is not lost."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest

from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.convert import to_wire
from quarterdeck.node.model import Mutation
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.proto import node_pb2
from quarterdeck.node.results import PushRequest
from quarterdeck.node.service import _chunks

pytestmark = [pytest.mark.anyio, pytest.mark.podman]
CONTENT = b"0123456789" * 100_000


def wanted(service: str) -> PushRequest:
    return PushRequest(service, "big", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), mode=0o600)


async def messages(*sent: bytes | None, request: PushRequest) -> AsyncIterator[node_pb2.PushFileRequest]:
    """Chunks; None is one more header."""
    for each in sent:
        if each is None:
            yield node_pb2.PushFileRequest(header=node_pb2.PushFileHeader(file=to_wire(request)))
        else:
            yield node_pb2.PushFileRequest(chunk=each)


@pytest.mark.parametrize("sent", [(None,), (CONTENT[:1000], None, CONTENT[1000:]), (CONTENT, None)])
async def test_a_second_header_is_the_callers_mistake(
    agent: NodeAgent, name: str, options: AgentOptions, sent: tuple[bytes | None, ...]
) -> None:
    request = wanted(name)
    for _ in range(2):
        # Also for a retry of the same id.
        with pytest.raises(InvalidInput, match="one header; nothing was written"):
            await agent.push_file(request, _chunks(messages(*sent, request=request)), Mutation(f"{name}p"))
    assert not (options.files_root / name / "big").exists()


async def test_a_chunk_that_is_too_large_is_refused(agent: NodeAgent, name: str) -> None:
    huge = PushRequest(name, "big", 2**20 + 1)
    with pytest.raises(InvalidInput, match="a chunk has 1048577 bytes"):
        await agent.push_file(huge, _chunks(messages(bytes(2**20 + 1), request=huge)), Mutation())
    exact = replace(huge, size=2**20)
    assert (await agent.push_file(exact, _chunks(messages(bytes(2**20), request=exact)), Mutation())).size == 2**20


async def test_what_came_fast_before_the_caller_went_is_kept(agent: NodeAgent, name: str) -> None:
    request, sent = wanted(name), anyio.Event()

    async def fast() -> AsyncIterator[bytes]:
        for number in range(3):
            yield CONTENT[number * 1000 : number * 1000 + 1000]
        sent.set()
        await anyio.sleep_forever()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(agent.push_file, request, fast(), Mutation(f"{name}p"))
            await sent.wait()
            # At once: the operation has read nothing of it yet.
            group.cancel_scope.cancel()
        while agent._engine.operations.running:
            await anyio.sleep(0.01)
        offset = await agent.push_offset(name, "big", request.sha256)
        assert offset in (0, 3000)

        async def rest() -> AsyncIterator[bytes]:
            yield CONTENT[offset:]

        # The same id: that the first caller went away is no answer to keep.
        done = await agent.push_file(replace(request, offset=offset), rest(), Mutation(f"{name}p"))
    assert done.sha256 == request.sha256


async def test_a_push_that_begins_where_no_part_ends_may_begin_elsewhere_with_its_id(
    agent: NodeAgent, name: str
) -> None:
    request = wanted(name)

    async def content() -> AsyncIterator[bytes]:
        yield CONTENT

    with pytest.raises(Conflict, match="cannot go on at 5000: 0 bytes are there"):
        await agent.push_file(replace(request, offset=5000), content(), Mutation(f"{name}p"))
    assert (await agent.push_file(request, content(), Mutation(f"{name}p"))).sha256 == request.sha256
