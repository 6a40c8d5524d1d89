"""Tokens of an OpenID Connect provider: JWTs checked against the keys that it publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from quarterdeck.auth.model import Identity, RoleRules
from quarterdeck.errors import Unauthenticated, Unavailable

if TYPE_CHECKING:
    import httpx2
    import jwt

# Signatures made with a private key only: with HS256 the published key would be the secret.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_REQUIRED = ["exp", "nbf", "iss", "aud", "sub"]
_HINT = "`qd login` gets a new one"


class KeySet:
    """The provider's current keys (JWKS), by key id.

    Fetched when first needed, again after `fresh_seconds`, and when an unknown key id comes (rotation), but
    not more often than every `pause_seconds`, however many strange tokens come. While the provider does not
    answer, known keys serve for `stale_seconds` at most.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        issuer: str,
        jwks_url: str | None = None,
        fresh_seconds: float = 600,
        stale_seconds: float = 24 * 3600,
        pause_seconds: float = 10,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._fresh = fresh_seconds
        self._stale = stale_seconds
        self._pause = pause_seconds
        self._monotonic = monotonic
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._fetching = anyio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK:
        """The key of this id. Raises `Unauthenticated` for an unknown one, `Unavailable` without an answer."""
        if key_id in self._keys and self._age() < self._fresh:
            return self._keys[key_id]
        async with self._fetching:
            if key_id not in self._keys or self._age() >= self._fresh:
                await self._refresh(needed=key_id)
        if key_id not in self._keys:
            raise Unauthenticated("the token is signed with a key that its issuer does not publish", hint=_HINT)
        return self._keys[key_id]

    def _age(self) -> float:
        return self._monotonic() - self._fetched

    async def _refresh(self, *, needed: str) -> None:
        now = self._monotonic()
        usable = self._age() < self._stale
        if now - self._tried < self._pause:
            if usable:
                return
            raise Unavailable(f"the keys of {self._issuer} could not be read just now", hint="try again in 10 s")
        self._tried = now
        try:
            keys = await self._fetch()
        except Unavailable:
            # What a provider said yesterday is better than nobody getting in while it is down.
            if usable and needed in self._keys:
                return
            raise
        self._keys = keys
        self._fetched = self._monotonic()

    async def _fetch(self) -> dict[str, jwt.PyJWK]:
        import jwt

        url = self._jwks_url or await self._discover()
        body = await get_json(self._client, url, who=self._issuer)
        keys: dict[str, jwt.PyJWK] = {}
        for entry in body.get("keys", []):
            if (
                not isinstance(entry, Mapping)
                or entry.get("use", "sig") != "sig"
                or not isinstance(entry.get("kid"), str)
            ):
                continue
            try:
                keys[entry["kid"]] = jwt.PyJWK(dict(entry))
            except jwt.PyJWTError:
                continue  # a kind of key that we do not know says nothing about the others
        return keys

    async def _discover(self) -> str:
        url = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
        body = await get_json(self._client, url, who=self._issuer)
        if body.get("issuer") != self._issuer or not isinstance(body.get("jwks_uri"), str):
            raise Unavailable(
                f"{url} does not describe {self._issuer}", hint="compare [auth] issuer with what the provider publishes"
            )
        return str(body["jwks_uri"])


class OidcVerifier:
    """Accepts JWTs of one issuer for one audience.

    The signature, `iss`, `aud`, `exp`, `nbf` and `sub` are required and checked, with `leeway_seconds` for
    clocks that differ.
    """

    def __init__(
        self,
        keys: KeySet,
        client: httpx2.AsyncClient,
        *,
        issuer: str,
        audience: str,
        rules: RoleRules,
        subject_claim: str = "sub",
        algorithms: Sequence[str] = ALGORITHMS,
        leeway_seconds: float = 10,
    ) -> None:
        self._keys = keys
        self._client = client
        self._issuer = issuer
        self._audience = audience
        self._rules = rules
        self._subject_claim = subject_claim
        self._algorithms = [each for each in algorithms if each in ALGORITHMS]
        self._leeway = leeway_seconds

    async def verify(self, token: str) -> Identity:
        """Who bears the token. Raises `Unauthenticated`, and `Unavailable` when the keys cannot be had."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Unauthenticated("this is no token of an OpenID Connect provider", hint=_HINT) from None
        key_id, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(key_id, str) or algorithm not in self._algorithms:
            raise Unauthenticated("the token does not name its key or uses an algorithm that is refused", hint=_HINT)
        key = await self._keys.key(key_id)
        if key.algorithm_name != algorithm:
            raise Unauthenticated("the token's algorithm is not that of its key", hint=_HINT)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                options={"require": _REQUIRED},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; nothing was done", hint=_HINT) from None
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is not valid here: {error}", hint=_HINT) from None
        return self._identity(claims)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = claims.get(self._subject_claim) or claims["sub"]
        return Identity(str(subject), self._rules.role_of(claims), self._issuer, float(claims["exp"]))

    async def aclose(self) -> None:
        """Close the connections to the provider."""
        await self._client.aclose()


async def get_json(client: httpx2.AsyncClient, url: str, *, who: str) -> Mapping[str, Any]:
    """A JSON object from a URL. Raises `Unavailable` for anything else."""
    import httpx2

    try:
        answer = await client.get(url)
        body = answer.json() if answer.status_code == 200 else None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise Unavailable(f"{who} does not answer: {error or type(error).__name__}", hint="try again later") from error
    if not isinstance(body, Mapping):
        raise Unavailable(f"{who} answered {answer.status_code} without what was asked for", hint=f"look at {url}")
    return body
