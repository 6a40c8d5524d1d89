"""The `[auth]` table of a server's configuration file, and the verifier that it asks for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from quarterdeck.auth.accounts import Accounts
from quarterdeck.auth.cache import CachingVerifier
from quarterdeck.auth.local import LocalVerifier, load_or_make_key
from quarterdeck.auth.model import Role, RoleRules
from quarterdeck.auth.ports import TokenVerifier
from quarterdeck.errors import InvalidInput

Seconds = Annotated[float, msgspec.Meta(gt=0)]
RoleName = Literal["nobody", "viewer", "operator", "admin"]


class AuthTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[auth]`: who may call.

    `kind` *local* has accounts on this machine, *oidc* takes the JWTs of `issuer` for `audience`,
    *introspection* asks `url` about each token. `role_claim` and `roles` say how claims become a role.
    """

    kind: Literal["local", "oidc", "introspection"] = "local"
    cache_seconds: Seconds = 30
    token_seconds: Seconds = 8 * 3600
    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    url: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    ca: str = ""
    timeout_seconds: Seconds = 5
    role_claim: str = "groups"
    roles: dict[str, RoleName] = {}
    audit_file: str = ""


@dataclass(frozen=True)
class Door:
    """What guards a server: the verifier to ask, and the local accounts where there are any."""

    verifier: CachingVerifier
    local: LocalVerifier | None


def open_door(table: AuthTable, *, state_dir: Path, name: str, origin: str) -> Door:
    """The verifier of a table. `name` is the server's own, `origin` the file to name in errors.

    Raises `InvalidInput` that says which key is missing or unreadable.
    """
    local: LocalVerifier | None = None
    inner: TokenVerifier
    match table.kind:
        case "local":
            local = LocalVerifier(
                Accounts(state_dir / "accounts.sqlite3"),
                load_or_make_key(state_dir / "token.key"),
                issuer=f"local:{name}",
                token_seconds=table.token_seconds,
            )
            inner = local
        case "oidc":
            inner = _oidc(table, origin)
        case "introspection":
            inner = _introspection(table, origin)
    return Door(CachingVerifier(inner, ttl_seconds=table.cache_seconds), local)


def _rules(table: AuthTable, origin: str) -> RoleRules:
    if not table.roles:
        raise InvalidInput(
            f"{origin}: [auth.roles] is missing: nobody could do anything",
            hint='write for example `roles = { node-admins = "admin" }`',
        )
    return RoleRules(table.role_claim, {value: Role.named(role) for value, role in table.roles.items()})


def _needs(table: AuthTable, origin: str, *keys: str) -> None:
    for key in keys:
        if not getattr(table, key):
            raise InvalidInput(
                f"{origin}: [auth] {key} is missing; kind {table.kind!r} needs it",
                hint="docs/nodes.md shows a whole table for each kind",
            )


def _verify(table: AuthTable, origin: str) -> ssl.SSLContext | bool:
    if not table.ca:
        return True
    try:
        return ssl.create_default_context(cafile=table.ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"{origin}: [auth] ca: {table.ca} is no CA certificate that can be read: {error}") from error


def _oidc(table: AuthTable, origin: str) -> TokenVerifier:
    import httpx2

    from quarterdeck.auth.oidc import KeySet, OidcVerifier

    _needs(table, origin, "issuer", "audience")
    client = httpx2.AsyncClient(timeout=table.timeout_seconds, verify=_verify(table, origin), trust_env=False)
    keys = KeySet(client, issuer=table.issuer, jwks_url=table.jwks_url or None)
    return OidcVerifier(keys, client, issuer=table.issuer, audience=table.audience, rules=_rules(table, origin))


def _introspection(table: AuthTable, origin: str) -> TokenVerifier:
    import httpx2

    from quarterdeck.auth.introspection import IntrospectionVerifier

    _needs(table, origin, "url")
    auth: httpx2.BasicAuth | None = None
    if table.client_id:
        _needs(table, origin, "client_secret_file")
        try:
            secret = Path(table.client_secret_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidInput(
                f"{origin}: [auth] client_secret_file: {table.client_secret_file} cannot be read: {error.strerror}"
            ) from error
        auth = httpx2.BasicAuth(table.client_id, secret)
    client = httpx2.AsyncClient(
        timeout=table.timeout_seconds,
        verify=_verify(table, origin),
        auth=auth,
        trust_env=False,
    )
    return IntrospectionVerifier(
        client,
        table.url,
        rules=_rules(table, origin),
        audience=table.audience or None,
        issuer=table.issuer or None,
    )
