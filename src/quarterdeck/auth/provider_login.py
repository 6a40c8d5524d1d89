"""Getting a token from an identity provider's token endpoint (OAuth 2.0), for `qd login`."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Any

from quarterdeck.auth.credentials import Credential
from quarterdeck.errors import Unauthenticated, Unavailable


async def token_from_provider(
    url: str,
    *,
    user: str,
    password: str,
    client_id: str = "",
    client_secret: str = "",
    scope: str = "",
    verify: ssl.SSLContext | bool = True,
    timeout_seconds: float = 10,
) -> Credential:
    """A token for user and password (password grant), without a user for the client itself (client credentials).

    Raises `Unauthenticated` when the provider refuses, `Unavailable` when it does not answer as it should.
    """
    import httpx2

    form = {"grant_type": "password", "username": user, "password": password} if user else {}
    form = form or {"grant_type": "client_credentials"}
    if scope:
        form["scope"] = scope
    if client_id and not client_secret:
        form["client_id"] = client_id
    auth = httpx2.BasicAuth(client_id, client_secret) if client_secret else httpx2.USE_CLIENT_DEFAULT
    try:
        async with httpx2.AsyncClient(timeout=timeout_seconds, verify=verify) as client:
            answer = await client.post(url, data=form, auth=auth, headers={"accept": "application/json"})
            body = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise Unavailable(
            f"the identity provider does not answer: {error or type(error).__name__}",
            hint="look at [login] token_url in cli.toml",
        ) from error
    if answer.status_code in (400, 401, 403):
        said = body.get("error_description") or body.get("error") if isinstance(body, Mapping) else None
        raise Unauthenticated(
            f"the identity provider refuses the login: {said or answer.status_code}", hint="user, password and client"
        )
    if answer.status_code != 200 or not isinstance(body, Mapping) or not isinstance(body.get("access_token"), str):
        raise Unavailable(f"the identity provider answered {answer.status_code} without a token")
    return Credential(body["access_token"], user or client_id, expires_at=_end(body))


def _end(body: Mapping[str, Any]) -> float | None:
    seconds = body.get("expires_in")
    return time.time() + seconds if isinstance(seconds, int | float) and not isinstance(seconds, bool) else None
