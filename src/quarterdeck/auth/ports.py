"""The contract of whoever can tell whether a token is valid."""

from __future__ import annotations

from typing import Protocol

from quarterdeck.auth.model import Identity


class TokenVerifier(Protocol):
    """Judges bearer tokens. Safe to call concurrently."""

    async def verify(self, token: str) -> Identity:
        """Who bears this token.

        Raises `Unauthenticated` when it is not valid (malformed, expired, revoked, for somebody else),
        and `Unavailable` when whoever must be asked does not answer: that says nothing about the token.
        The token is never in an error's text.
        """
        ...

    async def aclose(self) -> None:
        """Give up connections and files. Harmless twice."""
        ...
