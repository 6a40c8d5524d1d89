"""The cache: 30 s, never beyond the token's end, one question for many callers, refusals not kept."""

from __future__ import annotations

import anyio
import pytest

from quarterdeck.auth.cache import CachingVerifier
from quarterdeck.auth.model import Identity, Role
from quarterdeck.errors import Unauthenticated, Unavailable

pytestmark = pytest.mark.anyio


class Counting:
    """Says yes to `good*`, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refuse: Exception | None = None
        self.expires_at: float | None = None
        self.closed = False

    async def verify(self, token: str) -> Identity:
        self.asked.append(token)
        await anyio.sleep(0.01)
        if self.refuse:
            raise self.refuse
        return Identity(token, Role.ADMIN, "t", self.expires_at)

    async def aclose(self) -> None:
        self.closed = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def inner() -> Counting:
    return Counting()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(inner: Counting, clock: Clock) -> CachingVerifier:
    return CachingVerifier(inner, entries=3, monotonic=clock, now=clock)


async def test_an_answer_is_kept_for_thirty_seconds(cache: CachingVerifier, inner: Counting, clock: Clock) -> None:
    await cache.verify("good")
    clock.now += 29.9
    await cache.verify("good")
    assert inner.asked == ["good"]
    clock.now += 0.2
    await cache.verify("good")
    assert inner.asked == ["good", "good"]


async def test_a_token_ends_when_it_ends_though_it_is_kept(
    cache: CachingVerifier, inner: Counting, clock: Clock
) -> None:
    inner.expires_at = clock.now + 10
    await cache.verify("good")
    clock.now += 10
    with pytest.raises(Unauthenticated, match="expired"):
        await cache.verify("good")


async def test_many_callers_cause_one_question(cache: CachingVerifier, inner: Counting) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(cache.verify, "good")
    assert inner.asked == ["good"]
    assert not cache._asking


async def test_refusals_and_silence_are_not_kept(cache: CachingVerifier, inner: Counting) -> None:
    for error in (Unauthenticated("no"), Unavailable("silence")):
        inner.refuse = error
        with pytest.raises(type(error)):
            await cache.verify("good")
    inner.refuse = None
    assert (await cache.verify("good")).subject == "good"
    assert len(inner.asked) == 3
    assert not cache._asking


async def test_a_revocation_is_felt_at_once_also_by_a_question_under_way(
    cache: CachingVerifier, inner: Counting
) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(cache.verify, "good")
        await anyio.sleep(0.002)
        cache.forget_all()
    inner.refuse = Unauthenticated("revoked")
    with pytest.raises(Unauthenticated):
        await cache.verify("good")


async def test_it_holds_no_more_than_it_may_and_no_token(cache: CachingVerifier) -> None:
    for number in range(10):
        await cache.verify(f"good-{number}")
    assert len(cache._kept) == 3
    assert all(isinstance(key, bytes) and len(key) == 32 for key in cache._kept)


async def test_closing_closes_the_inner_one(cache: CachingVerifier, inner: Counting) -> None:
    await cache.aclose()
    assert inner.closed
