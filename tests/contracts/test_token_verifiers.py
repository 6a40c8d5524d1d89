"""One suite over every `TokenVerifier`: local accounts, OpenID Connect, introspection, and the cache over each."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jwt
import pytest

from quarterdeck.auth.accounts import Accounts
from quarterdeck.auth.cache import CachingVerifier
from quarterdeck.auth.introspection import IntrospectionVerifier
from quarterdeck.auth.local import LocalVerifier
from quarterdeck.auth.model import Role, RoleRules
from quarterdeck.auth.oidc import KeySet, OidcVerifier
from quarterdeck.auth.ports import TokenVerifier
from quarterdeck.errors import Unauthenticated, Unavailable
from support.identity_services import AUDIENCE, Provider, provider

pytestmark = pytest.mark.anyio
RULES = RoleRules("groups", {"admins": Role.ADMIN, "readers": Role.VIEWER})
KEY = b"k" * 32


@dataclass
class Harness:
    """A verifier and how to get tokens for it: `token(seconds_until_end, seconds_until_start, role)`."""

    verifier: TokenVerifier
    token: Callable[[float, float, Role], str]
    service: Provider | None = None


@pytest.fixture
def identity() -> Any:
    with provider() as found:
        yield found


def oidc(identity: Provider, monotonic: Callable[[], float] = time.monotonic, **options: Any) -> OidcVerifier:
    client = httpx2.AsyncClient(timeout=20, trust_env=False)
    keys = KeySet(client, issuer=identity.url, monotonic=monotonic, **options)
    return OidcVerifier(keys, client, issuer=identity.url, audience=AUDIENCE, rules=RULES, leeway_seconds=0)


GROUPS = {Role.ADMIN: ["admins", "readers"], Role.VIEWER: ["readers"], Role.NOBODY: ["strangers"]}


def harness_of(kind: str, identity: Provider, folder: Path) -> Harness:
    def times(end: float, start: float) -> dict[str, int]:
        return {"exp": int(time.time() + end), "nbf": int(time.time() + start)}

    if kind == "local":
        accounts = Accounts(folder / "accounts.sqlite3")
        for role in GROUPS:
            accounts.add(f"eva.{role.label}", "a long password", role)

        def local_token(end: float, start: float, role: Role) -> str:
            claims = {"iss": "local:n1", "sub": f"eva.{role.label}", "iat": time.time(), "jti": f"{end}{start}"}
            return jwt.encode({**claims, **times(end, start)}, KEY, algorithm="HS256")

        return Harness(LocalVerifier(accounts, KEY, issuer="local:n1"), local_token)
    if kind == "oidc":
        return Harness(
            oidc(identity), lambda end, start, role: identity.jwt(groups=GROUPS[role], **times(end, start)), identity
        )
    client = httpx2.AsyncClient(timeout=20, trust_env=False, auth=httpx2.BasicAuth(*identity.client))
    return Harness(
        IntrospectionVerifier(
            client, f"{identity.url}/introspect", rules=RULES, audience=AUDIENCE, issuer=identity.url
        ),
        lambda end, start, role: identity.opaque(groups=GROUPS[role], **times(end, start)),
        identity,
    )


@pytest.fixture(params=["local", "oidc", "introspection", "cached-local", "cached-oidc", "cached-introspection"])
async def harness(request: pytest.FixtureRequest, identity: Provider, tmp_path: Path) -> AsyncIterator[Harness]:
    made = harness_of(request.param.removeprefix("cached-"), identity, tmp_path)
    if request.param.startswith("cached-"):
        made.verifier = CachingVerifier(made.verifier)
    yield made
    await made.verifier.aclose()


@pytest.mark.parametrize("role", list(GROUPS))
async def test_a_good_token_says_who_and_what_and_until_when(harness: Harness, role: Role) -> None:
    found = await harness.verifier.verify(harness.token(300, -1, role))
    assert found.subject.startswith("eva")
    assert found.role is role
    assert found.issuer
    assert found.expires_at is not None
    assert 270 < found.expires_at - time.time() <= 300


@pytest.mark.parametrize(("end", "start"), [(-2, -10), (300, 60)], ids=["expired", "not yet valid"])
async def test_a_token_counts_in_its_time_only(harness: Harness, end: float, start: float) -> None:
    token = harness.token(end, start, Role.ADMIN)
    with pytest.raises(Unauthenticated) as caught:
        await harness.verifier.verify(token)
    assert token not in str(caught.value)
    assert caught.value.hint


GARBAGE = ["x", "a.b.c", "..", "é", "eyJhbGciOiJub25lIn0.e30.", "{}", "\x00", "A" * 10_000, "%s%n", "' OR 1=1 --"]


@pytest.mark.parametrize("token", GARBAGE)
async def test_garbage_is_unauthenticated_and_nothing_else(harness: Harness, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await harness.verifier.verify(token)


async def test_a_token_that_was_tampered_with_is_refused(harness: Harness) -> None:
    token = harness.token(300, -1, Role.ADMIN)
    middle = len(token) // 2
    for place in (0, middle, len(token) - 8):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(Unauthenticated):
            await harness.verifier.verify(token[:place] + other + token[place + 1 :])
    await harness.verifier.verify(token)


async def test_many_at_once_get_their_own_answers(harness: Harness) -> None:
    tokens = {role: harness.token(300, -1, role) for role in GROUPS}
    wrong: list[Role] = []

    async def one(role: Role) -> None:
        if (await harness.verifier.verify(tokens[role])).role is not role:
            wrong.append(role)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            for role in GROUPS:
                group.start_soon(one, role)
    assert not wrong


@pytest.mark.parametrize("answer", ["500", "nonsense", '["a list"]'])
async def test_a_service_that_does_not_tell_says_nothing_about_the_token(harness: Harness, answer: str) -> None:
    if harness.service is None:
        return  # local accounts ask nobody
    harness.service.broken = answer
    with pytest.raises(Unavailable):
        await harness.verifier.verify(harness.token(300, -1, Role.ADMIN))


async def test_closing_twice_is_harmless(harness: Harness) -> None:
    await harness.verifier.aclose()
    assert await harness.verifier.aclose() is None  # type: ignore[func-returns-value]


# OpenID Connect alone


async def test_rotated_keys_are_found_without_a_restart(identity: Provider) -> None:
    now = [1000.0]
    verifier = oidc(identity, lambda: now[0])
    await verifier.verify(identity.jwt("k1"))
    identity.add_key("k2", "RSA")
    now[0] += 11
    await verifier.verify(identity.jwt("k2"))
    identity.published.remove("k1")
    await verifier.verify(identity.jwt("k1"))
    now[0] += 601
    with pytest.raises(Unauthenticated, match="does not publish"):
        await verifier.verify(identity.jwt("k1"))
    await verifier.aclose()


async def test_strange_key_ids_do_not_make_us_hammer_the_provider(identity: Provider) -> None:
    now = [1000.0]
    verifier = oidc(identity, lambda: now[0], jwks_url=f"{identity.url}/keys")
    await verifier.verify(identity.jwt())
    identity.add_key("unpublished", publish=False)
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await verifier.verify(identity.jwt("unpublished"))
    assert identity.asked == ["/keys"]
    now[0] += 11
    with pytest.raises(Unauthenticated):
        await verifier.verify(identity.jwt("unpublished"))
    assert identity.asked == ["/keys", "/keys"]
    await verifier.aclose()


async def test_known_keys_serve_while_the_provider_is_down_but_not_for_ever(identity: Provider) -> None:
    now = [1000.0]
    verifier = oidc(identity, lambda: now[0])
    token = identity.jwt()
    await verifier.verify(token)
    identity.broken = "500"
    now[0] += 601
    await verifier.verify(token)
    now[0] += 24 * 3600
    with pytest.raises(Unavailable):
        await verifier.verify(token)
    await verifier.aclose()


@pytest.mark.parametrize(
    "changes",
    [{"aud": "other"}, {"aud": None}, {"aud": ["a", "b"]}, {"iss": "http://evil"}, {"iss": None}, {"exp": None},
     {"exp": "soon"}, {"nbf": None}, {"sub": None}],
    ids=str,
)  # fmt: skip
async def test_every_claim_that_is_required_is_checked(identity: Provider, changes: dict[str, Any]) -> None:
    verifier = oidc(identity)
    try:
        token = identity.jwt(**changes)
    except (TypeError, ValueError):
        token = jwt.api_jws.encode(
            str(identity.claims(**changes)).replace("'", '"').encode(), identity.keys["k1"], "ES256", {"kid": "k1"}
        )
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)
    await verifier.aclose()


async def test_the_public_key_is_no_shared_secret(identity: Provider) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    verifier = oidc(identity)
    public = identity.keys["k1"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    parts = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=")
        for each in ({"alg": "HS256", "kid": "k1", "typ": "JWT"}, identity.claims())
    ]
    signature = base64.urlsafe_b64encode(hmac.digest(public, b".".join(parts), "sha256")).rstrip(b"=")
    forged = b".".join([*parts, signature]).decode()
    with pytest.raises(Unauthenticated, match="algorithm"):
        await verifier.verify(forged)
    unsigned = jwt.encode(identity.claims(), None, algorithm="none", headers={"kid": "k1"})
    with pytest.raises(Unauthenticated, match="algorithm"):
        await verifier.verify(unsigned)
    await verifier.aclose()


async def test_a_provider_that_says_it_is_another_is_not_believed(identity: Provider) -> None:
    identity.discovered_issuer = "http://evil"
    verifier = oidc(identity)
    with pytest.raises(Unavailable, match="does not describe"):
        await verifier.verify(identity.jwt())
    await verifier.aclose()


# Introspection alone


@pytest.mark.parametrize(
    "changes", [{"aud": "other"}, {"iss": "http://evil"}, {"exp": "soon"}, {"sub": None}, {"active": "true"}]
)
async def test_what_the_service_says_is_checked(identity: Provider, tmp_path: Path, changes: dict[str, Any]) -> None:
    made = harness_of("introspection", identity, tmp_path)
    with pytest.raises(Unauthenticated):
        await made.verifier.verify(identity.opaque(**changes))
    await made.verifier.aclose()


async def test_a_service_that_refuses_us_is_our_fault_not_the_tokens(identity: Provider, tmp_path: Path) -> None:
    made = harness_of("introspection", identity, tmp_path)
    token = identity.opaque()
    identity.client = ("node", "changed")
    with pytest.raises(Unavailable, match="refuses to answer us"):
        await made.verifier.verify(token)
    await made.verifier.aclose()


async def test_a_revoked_token_is_refused_after_the_cache_at_the_latest(identity: Provider, tmp_path: Path) -> None:
    made = harness_of("introspection", identity, tmp_path)
    now = [0.0]
    cached = CachingVerifier(made.verifier, monotonic=lambda: now[0])
    token = identity.opaque()
    await cached.verify(token)
    identity.known[token]["active"] = False
    now[0] = 29
    await cached.verify(token)
    now[0] = 31
    with pytest.raises(Unauthenticated):
        await cached.verify(token)
    await cached.aclose()
