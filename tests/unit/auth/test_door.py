"""The [auth] table: each kind opens a door that judges real tokens; what is missing is named. And `qd login`'s side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quarterdeck.auth.model import Role
from quarterdeck.auth.provider_login import token_from_provider
from quarterdeck.auth.settings import AuthTable, open_door
from quarterdeck.errors import InvalidInput, Unauthenticated, Unavailable
from support.identity_services import AUDIENCE, Provider, provider

pytestmark = pytest.mark.anyio
ROLES: Any = {"admins": "admin"}


@pytest.fixture
def identity() -> Any:
    with provider() as found:
        yield found


async def test_local_makes_its_key_and_accounts(tmp_path: Path) -> None:
    door = open_door(AuthTable(token_seconds=60), state_dir=tmp_path, name="n1", origin="node.toml")
    assert door.local is not None
    assert {each.name for each in tmp_path.iterdir()} == {"accounts.sqlite3", "token.key"}
    with pytest.raises(Unauthenticated):
        await door.local.login("eva", "a long password")
    await door.verifier.aclose()


async def test_oidc(identity: Provider, tmp_path: Path) -> None:
    table = AuthTable(kind="oidc", issuer=identity.url, audience=AUDIENCE, roles=ROLES)
    door = open_door(table, state_dir=tmp_path, name="n1", origin="node.toml")
    assert door.local is None
    assert (await door.verifier.verify(identity.jwt())).role is Role.ADMIN
    assert not list(tmp_path.iterdir())
    await door.verifier.aclose()


async def test_introspection(identity: Provider, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(identity.client[1] + "\n")
    table = AuthTable(
        kind="introspection",
        url=f"{identity.url}/introspect",
        client_id=identity.client[0],
        client_secret_file=str(secret),
        roles=ROLES,
    )
    door = open_door(table, state_dir=tmp_path, name="n1", origin="node.toml")
    token = identity.opaque()
    for _ in range(3):
        assert (await door.verifier.verify(token)).role is Role.ADMIN
    assert identity.asked == ["/introspect"]
    await door.verifier.aclose()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "oidc", "roles": ROLES}, "[auth] issuer is missing; kind 'oidc' needs it"),
        ({"kind": "oidc", "issuer": "http://i", "roles": ROLES}, "[auth] audience is missing"),
        ({"kind": "oidc", "issuer": "http://i", "audience": "a"}, "[auth.roles] is missing: nobody could do anything"),
        ({"kind": "introspection", "roles": ROLES}, "[auth] url is missing"),
        ({"kind": "introspection", "url": "http://i", "client_id": "x", "roles": ROLES}, "[auth] client_secret_file"),
        ({"kind": "introspection", "url": "http://i", "client_id": "x", "client_secret_file": "/no", "roles": ROLES},
         "client_secret_file: /no cannot be read"),
        ({"kind": "introspection", "url": "http://i", "ca": "/no", "roles": ROLES}, "[auth] ca: /no is no CA"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_door(AuthTable(**changes), state_dir=tmp_path, name="n1", origin="node.toml")
    assert caught.value.message.startswith("node.toml: ")
    assert expected in caught.value.message


async def test_a_token_from_the_provider_is_one_that_a_node_takes(identity: Provider, tmp_path: Path) -> None:
    found = await token_from_provider(f"{identity.url}/token", user="eva", password="pw of eva", client_id="qd")
    assert found.user == "eva"
    left = found.seconds_left()
    assert left is not None
    assert 290 < left <= 300
    table = AuthTable(kind="oidc", issuer=identity.url, audience=AUDIENCE, roles=ROLES)
    door = open_door(table, state_dir=tmp_path, name="n1", origin="node.toml")
    assert (await door.verifier.verify(found.token)).subject == "eva"
    await door.verifier.aclose()
    machine = await token_from_provider(
        f"{identity.url}/token", user="", password="", client_id="qd", client_secret="s"
    )
    assert machine.user == "qd"


async def test_a_refused_login_and_a_silent_provider_are_told_apart(identity: Provider) -> None:
    with pytest.raises(Unauthenticated, match="wrong user or password"):
        await token_from_provider(f"{identity.url}/token", user="eva", password="nonsense")
    identity.broken = "500"
    with pytest.raises(Unavailable):
        await token_from_provider(f"{identity.url}/token", user="eva", password="pw of eva")
    with pytest.raises(Unavailable, match="does not answer"):
        await token_from_provider("http://127.0.0.1:1/token", user="eva", password="x")
