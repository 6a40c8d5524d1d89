"""Facts written through the hub: what is refused before it is sent, and answers that are no error of ours."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.errors import QuarterdeckError, TooLarge, Unavailable, Unprocessable
from quarterdeck.fleet.tasking import Tasking

pytestmark = pytest.mark.anyio


class Agent:
    """A fleet with one agent, whose sidecar gives one answer to everything."""

    def __init__(self, status: int = 201, answer: bytes = b"{}") -> None:
        self.answer = status, {}, answer
        self.sent: list[bytes] = []

    async def client(self, name: str) -> Agent:
        return self

    async def forward(self, method: str, path: str, *, headers: object, body: bytes) -> Any:
        self.sent.append(body)
        return self.answer


async def put(agent: Any, value: Any) -> bool:
    return await Tasking.set_metadata(agent, "ada", "k", value)


async def test_a_value_is_sent_as_it_is() -> None:
    agent = Agent()
    assert await put(agent, {"é": [1.5, None]})
    assert agent.sent == ['{"value":{"é":[1.5,null]}}'.encode()]


@pytest.mark.parametrize("value", [float("inf"), {"a": [float("nan")]}, "\ud800"])
async def test_what_json_does_not_know_is_refused_and_not_stored_as_null(value: Any) -> None:
    agent = Agent()
    with pytest.raises(Unprocessable):
        await put(agent, value)
    with pytest.raises(TooLarge, match="4096"):
        await put(agent, "x" * 5000)
    assert agent.sent == []


@pytest.mark.parametrize("answer", [b"<html>", b"", b'"\xff"', b"[" * 100_000])
@pytest.mark.parametrize(("status", "kind"), [(502, Unavailable), (404, QuarterdeckError)])
async def test_an_answer_that_is_not_json_is_told_by_its_status(
    answer: bytes, status: int, kind: type[Exception]
) -> None:
    agent: Any = Agent(status, answer)
    with pytest.raises(kind, match=str(status)):
        await put(agent, 1)
    with pytest.raises(kind, match=str(status)):
        await Tasking.delete_metadata(agent, "ada", "k")
