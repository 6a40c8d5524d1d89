"""Identity services that are asked about each token: OAuth 2.0 token introspection (RFC 7662)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from quarterdeck.auth.model import Identity, RoleRules
from quarterdeck.errors import Unauthenticated, Unavailable

if TYPE_CHECKING:
    import httpx2

_HINT = "`qd login` gets a new one"


class IntrospectionVerifier:
    """Asks the service at `url` about each token.

    `client` carries our own credentials (HTTP Basic) and the deadline. `audience` and `issuer`, when given,
    must be in the answer. `exp` and `nbf` are checked where the service tells them.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        url: str,
        *,
        rules: RoleRules,
        audience: str | None = None,
        issuer: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._url = url
        self._rules = rules
        self._audience = audience
        self._issuer = issuer
        self._now = now

    async def verify(self, token: str) -> Identity:
        """Who bears the token. Raises `Unauthenticated`, and `Unavailable` when the service does not tell."""
        claims = await self._ask(token)
        if claims.get("active") is not True:
            raise Unauthenticated("the identity service does not know the token (any more)", hint=_HINT)
        self._check(claims)
        subject = claims.get("username") or claims.get("sub") or claims.get("client_id")
        if not isinstance(subject, str):
            raise Unauthenticated("the identity service does not say whose token it is", hint=_HINT)
        expires = claims.get("exp")
        return Identity(
            subject,
            self._rules.role_of(claims),
            str(claims.get("iss") or self._url),
            float(expires) if _is_time(expires) else None,
        )

    def _check(self, claims: Mapping[str, Any]) -> None:
        now = self._now()
        for name in ("exp", "nbf"):
            if claims.get(name) is not None and not _is_time(claims[name]):
                raise Unauthenticated(f"the identity service tells {name} in a form that is none", hint=_HINT)
        if claims.get("exp") is not None and now >= claims["exp"]:
            raise Unauthenticated("the token has expired; nothing was done", hint=_HINT)
        if claims.get("nbf") is not None and now < claims["nbf"]:
            raise Unauthenticated("the token is not valid yet; nothing was done", hint="compare the clocks")
        if self._issuer is not None and claims.get("iss") != self._issuer:
            raise Unauthenticated("the token is of another issuer", hint=_HINT)
        if self._audience is not None:
            audience = claims.get("aud")
            if self._audience not in (audience if isinstance(audience, list) else [audience]):
                raise Unauthenticated("the token is meant for somebody else", hint=_HINT)

    async def _ask(self, token: str) -> Mapping[str, Any]:
        import httpx2

        try:
            answer = await self._client.post(
                self._url,
                data={"token": token, "token_type_hint": "access_token"},
                headers={"accept": "application/json"},
            )
            body = answer.json() if answer.status_code == 200 else None
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise Unavailable(
                f"the identity service does not answer: {error or type(error).__name__}", hint="try again later"
            ) from error
        if answer.status_code in (401, 403):
            raise Unavailable(
                "the identity service refuses to answer us", hint="look at [auth] client_id and client_secret_file"
            )
        if not isinstance(body, Mapping):
            raise Unavailable(f"the identity service answered {answer.status_code}, which says nothing about a token")
        return body

    async def aclose(self) -> None:
        """Close the connections to the service."""
        await self._client.aclose()


def _is_time(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
