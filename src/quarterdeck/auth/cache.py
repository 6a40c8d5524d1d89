"""A verifier that remembers, for a short time, what another one said."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import anyio

from quarterdeck.auth.model import Identity, token_key
from quarterdeck.auth.ports import TokenVerifier
from quarterdeck.errors import Unauthenticated

DEFAULT_TTL_SECONDS = 30.0


class CachingVerifier:
    """Keeps good answers for `ttl_seconds`, never beyond the token's own end; refusals are not kept.

    Keys are the SHA-256 of the tokens, so that a dump of the memory of the cache holds none. Callers
    that come with the same token at once cause one question. A revocation is felt after the ttl at the
    latest, at once with `forget_all`.
    """

    def __init__(
        self,
        inner: TokenVerifier,
        *,
        ttl_seconds: float = DEFAULT_TTL_SECONDS,
        entries: int = 4096,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._ttl = ttl_seconds
        self._entries = entries
        self._monotonic = monotonic
        self._now = now
        self._kept: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        self._asking: dict[bytes, anyio.Lock] = {}
        self._epoch = 0

    async def verify(self, token: str) -> Identity:
        """As the inner verifier would, at most `ttl_seconds` late."""
        key = token_key(token)
        if (known := self._look_up(key)) is not None:
            return known
        lock = self._asking.setdefault(key, anyio.Lock())
        try:
            async with lock:
                if (known := self._look_up(key)) is not None:
                    return known
                epoch = self._epoch
                identity = await self._inner.verify(token)
                # What was asked before a revocation must not be remembered after it.
                if epoch == self._epoch:
                    self._keep(key, identity)
                return identity
        finally:
            if not lock.statistics().tasks_waiting:
                self._asking.pop(key, None)

    def forget_all(self) -> None:
        """Ask anew for every token: an account or a token was just revoked."""
        self._kept.clear()
        self._epoch += 1

    async def aclose(self) -> None:
        """Forget everything and close the inner verifier."""
        self.forget_all()
        await self._inner.aclose()

    def _look_up(self, key: bytes) -> Identity | None:
        entry = self._kept.get(key)
        if entry is None:
            return None
        until, identity = entry
        if self._monotonic() >= until:
            del self._kept[key]
            return None
        if identity.expires_at is not None and self._now() >= identity.expires_at:
            del self._kept[key]
            raise Unauthenticated("the token has expired; nothing was done", hint="`qd login` gets a new one")
        self._kept.move_to_end(key)
        return identity

    def _keep(self, key: bytes, identity: Identity) -> None:
        self._kept[key] = (self._monotonic() + self._ttl, identity)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)
