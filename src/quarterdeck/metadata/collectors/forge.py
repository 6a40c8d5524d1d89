"""Asking a forge: conditional requests through the shared cache, pages, quota, and patience after failures."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from quarterdeck import config
from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.files import read_regular
from quarterdeck.metadata.collectors.forge_cache import Cached, ForgeCache, Quota
from quarterdeck.telemetry import hide

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger(__name__)
MAX_PAGES = 20
# Of a repository's requests, newest first; ours is asked for alone where it is not among them.
LISTING_PAGES = 3
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_TOKEN_BYTES = 64 * 1024
RESERVE_SHARE = 0.1
LONGEST_PAUSE_SECONDS = 900.0
LONGEST_BLOCK_SECONDS = 3600.0
# By which a clock may be set back without all that was just got being asked for again.
_JITTER = 1.0
# What GitHub asks for where a secondary limit is met and no header says how long.
_SECONDARY = (b"secondary rate limit", 60.0)
TIMEOUT_SECONDS = 4.0
# Without a token a forge gives a few dozen answers an hour, and unchanged ones count too.
ANONYMOUS_SECONDS = 600.0
Keep = Callable[[Any], Any]
Enough = Callable[[list[Any]], bool]


@dataclass(frozen=True)
class Document:
    """An answer: what was kept of it, when it was got, and why it is not newer (None: it is new enough).

    `whole` is false where a list goes on behind the pages that were asked for.
    """

    data: Any
    fetched_at: float
    error: str | None = None
    whole: bool = True


class Forge:
    """One forge, as one token sees it. Close it with `aclose`."""

    def __init__(
        self, api: str, token: str | None, token_place: str, interval: float, headers: Mapping[str, str], what: str
    ) -> None:
        self.api = api.rstrip("/")
        self.token = token
        self._token_place = token_place
        self._what = what
        self._headers = dict(headers)
        self._cache = ForgeCache(config.state_dir() / "forge", urlsplit(self.api).netloc, token)
        self._client: httpx2.AsyncClient | None = None
        self.interval = interval if token else max(interval, ANONYMOUS_SECONDS)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def pages(
        self, path: str, keep: Keep, max_age: float, *, most: int = MAX_PAGES, enough: Enough | None = None
    ) -> Document:
        """The pages of a list in one, at most `most`, and none after the one with which the items are `enough`;
        each is asked for on its own condition.
        """
        items: list[Any] = []
        oldest, error = time.time(), None
        address: str | None = self.api + path
        for _ in range(most):
            if address is None or (items and enough is not None and enough(items)):
                break
            cached = await self._fetched(address, keep, max_age)
            items += cached.data
            oldest, error = min(oldest, cached.fetched_at), error or cached.error
            address = cached.next
        return Document(items, oldest, error, address is None)

    async def get(self, path: str, keep: Keep, max_age: float) -> Document:
        """One answer. Raises `Unavailable` when nothing is known and the forge does not tell it."""
        cached = await self._fetched(self.api + path, keep, max_age)
        return Document(cached.data, cached.fetched_at, cached.error)

    async def _fetched(self, address: str, keep: Keep, max_age: float) -> Cached:
        cached = await self._cache.read(address)
        if not _good(cached, max_age):
            async with self._cache.locked(address):
                cached = await self._cache.read(address)
                if not _good(cached, max_age):
                    cached = await self._asked(address, cached, keep)
        if cached.data is None:
            raise Unavailable(cached.error or f"{self._what} told nothing")
        return cached

    async def _asked(self, address: str, cached: Cached, keep: Keep) -> Cached:
        now = time.time()
        quota = await self._cache.quota()
        blocked = quota.blocked_until if quota.blocked_until <= now + LONGEST_BLOCK_SECONDS else 0.0
        if blocked > now or quota.in_reserve(now, RESERVE_SHARE):
            until = max(blocked, quota.reset if quota.remaining <= quota.limit * RESERVE_SHARE else 0)
            # Not written down: it is the token's state, not this address's.
            cached.error = f"{self._what} gives no more answers for {until - now:.0f} s ({_left(quota)})"
            return cached
        try:
            await self._request(address, cached, keep)
        except Unavailable as error:
            cached.failures += 1
            cached.error = error.message
            pause = min(max(self.interval, 1.0) * 2.0 ** min(cached.failures - 1, 10), LONGEST_PAUSE_SECONDS)
            cached.retry_at = time.time() + pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
            log.info("%s", error.message)
        await self._cache.write(address, cached)
        return cached

    async def _request(self, address: str, cached: Cached, keep: Keep) -> None:
        import httpx2

        headers = {"If-None-Match": cached.etag} if cached.etag and cached.data is not None else {}
        began = time.time()
        try:
            async with self._connected().stream("GET", address, headers=headers) as response:
                await self._note_quota(response, began)
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise Unavailable(f"{self._what} answered with more than {MAX_BODY_BYTES} bytes")
        except httpx2.TimeoutException as error:
            raise Unavailable(f"{self._what} did not answer within {TIMEOUT_SECONDS:g} s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable(f"{self._what} cannot be reached: {type(error).__name__}") from error
        if response.status_code == 304:
            # A full page stays as it is when one more begins behind it.
            if "link" in response.headers:
                cached.next = self._next_page(response)
        elif response.status_code == 200:
            try:
                cached.data = keep(msgspec.json.decode(bytes(body)))
            except (
                msgspec.DecodeError,
                ValueError,
                OverflowError,
                RecursionError,
                KeyError,
                TypeError,
                AttributeError,
            ) as error:
                raise Unavailable(
                    f"{self._what} answered with something else than it should: {type(error).__name__}"
                ) from error
            cached.etag = response.headers.get("etag")
            cached.next = self._next_page(response)
        else:
            if response.status_code == 403 and _SECONDARY[0] in bytes(body).lower():
                blocked = Quota(blocked_until=began + _SECONDARY[1])
                await self._cache.update_quota(lambda known: merge_quota(known, blocked))
            raise Unavailable(self._refusal(response.status_code))
        cached.fetched_at, cached.failures, cached.retry_at, cached.error = began, 0, 0.0, None

    def _connected(self) -> httpx2.AsyncClient:
        import httpx2

        if self._client is None:
            headers = {"User-Agent": "quarterdeck", **self._headers}
            if self.token:
                headers["Authorization"] = f"Bearer {self.token}"
            self._client = httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=True)
        return self._client

    def _next_page(self, response: httpx2.Response) -> str | None:
        address: str | None = response.links.get("next", {}).get("url")
        if address is None:
            return None
        # The token goes along: never to another place than the one it is for.
        return address if urlsplit(address)[:2] == urlsplit(self.api)[:2] else None

    async def _note_quota(self, response: httpx2.Response, now: float) -> None:
        told = quota_of(response.status_code, response.headers, now)
        if told.limit or told.blocked_until:
            await self._cache.update_quota(lambda known: merge_quota(known, told))

    def _refusal(self, status: int) -> str:
        if status == 401:
            return f"{self._what} refuses the token (HTTP 401); check {self._token_place}"
        if status in (403, 429):
            return f"{self._what} refuses (HTTP {status}): the quota is used up, or the token may not read this"
        if status == 404:
            missing = (
                "the token may not see it" if self.token else f"it is private and {self._token_place} has no token"
            )
            return f"{self._what} does not know the repository (HTTP 404), or {missing}"
        return f"{self._what} answered HTTP {status}"


def _good(cached: Cached, max_age: float) -> bool:
    now = time.time()
    # A moment far ahead is of a clock that was set back since.
    if cached.error is not None and now < cached.retry_at <= now + 1.2 * LONGEST_PAUSE_SECONDS:
        return max_age > FRESH_SECONDS
    return cached.data is not None and cached.error is None and -_JITTER <= now - cached.fetched_at < max_age


# An answer this young is as good as a new one for somebody who asks for a fresh one: agents ask together.
FRESH_SECONDS = 1.0


def quota_of(status: int, headers: Mapping[str, str], now: float) -> Quota:
    """What one answer says of the quota."""
    told = Quota()
    for name in ("x-ratelimit-{}", "ratelimit-{}"):
        texts = [headers.get(name.format(part), "") for part in ("limit", "remaining", "reset")]
        if all(text.isascii() and text.isdigit() and len(text) < 16 for text in texts):
            told.limit, told.remaining, told.reset = int(texts[0]), int(texts[1]), float(texts[2])
    if status in (403, 429, 503):
        pause = _retry_after(headers.get("retry-after"), now)
        if pause is None and status != 503 and told.limit and told.remaining == 0:
            pause = told.reset - now
        if pause is None and status == 429:
            pause = 60.0
        if pause is not None:
            told.blocked_until = now + min(max(pause, 1.0), LONGEST_BLOCK_SECONDS)
    return told


def merge_quota(known: Quota, told: Quota) -> None:
    """Take over what an answer says. Answers overtake each other: who was told to wait waits, whatever else came."""
    if told.blocked_until and known.blocked_until > told.blocked_until + LONGEST_BLOCK_SECONDS:
        known.blocked_until = 0.0  # of a clock that was set back since
    known.blocked_until = max(known.blocked_until, told.blocked_until)
    if not told.limit:
        return
    if told.reset == known.reset and told.limit == known.limit:
        known.remaining = min(known.remaining, told.remaining)
    else:
        known.limit, known.remaining, known.reset = told.limit, told.remaining, told.reset


def _left(quota: Quota) -> str:
    return f"{quota.remaining} of {quota.limit} requests are left" if quota.limit else "it asked us to wait"


def _retry_after(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None


def read_token(file: str | None, variables: Sequence[str]) -> str | None:
    """The token for a forge: from its file, else from the first of these variables that is set.

    Raises `InvalidInput` when the file cannot be read. It is never shown in a log from then on.
    """
    token: str | None = None
    if file:
        try:
            token = read_regular(Path(file).expanduser(), MAX_TOKEN_BYTES).decode().strip() or None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the token file {file} cannot be read: {error}") from error
    if token is None:
        found = config.passed(list(variables))
        token = next((found[name] for name in variables if name in found), None)
    if token is not None:
        hide(token)
    return token


async def together(*documents: Any) -> list[Document]:
    """Several documents asked for side by side; the first failure is raised when all have ended."""
    done = await asyncio.gather(*documents, return_exceptions=True)
    for item in done:
        if isinstance(item, BaseException):
            raise item
    return [item for item in done if isinstance(item, Document)]
