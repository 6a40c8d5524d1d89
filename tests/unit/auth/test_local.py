"""Local accounts: argon2, short-lived signed tokens, revocation, and slow guessing."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest

from quarterdeck.auth.accounts import Accounts, check_password
from quarterdeck.auth.local import FailureBrake, LocalVerifier, load_or_make_key
from quarterdeck.auth.model import Role
from quarterdeck.errors import Conflict, InternalError, InvalidInput, NotFound, Unauthenticated

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"


@pytest.fixture
def accounts(tmp_path: Path) -> Accounts:
    found = Accounts(tmp_path / "state" / "accounts.sqlite3")
    found.add("eva", PASSWORD, Role.ADMIN)
    return found


@pytest.fixture
def verifier(accounts: Accounts) -> LocalVerifier:
    return LocalVerifier(accounts, b"k" * 32, issuer="local:n1")


async def test_a_login_gives_a_token_that_says_who(verifier: LocalVerifier) -> None:
    token, identity = await verifier.login("eva", PASSWORD)
    assert await verifier.verify(token) == identity
    assert (identity.subject, identity.role, identity.issuer) == ("eva", Role.ADMIN, "local:n1")
    assert identity.expires_at is not None
    assert 7.9 * 3600 < identity.expires_at - time.time() <= 8 * 3600


@pytest.mark.parametrize(("user", "password"), [("eva", "wrong password"), ("nobody", PASSWORD), ("", ""), ("eva", "")])
async def test_a_wrong_login_says_nothing_about_which_part(verifier: LocalVerifier, user: str, password: str) -> None:
    with pytest.raises(Unauthenticated, match="user or password is wrong"):
        await verifier.login(user, password)


async def test_an_unknown_account_takes_as_long_as_a_wrong_password(accounts: Accounts) -> None:
    eva = accounts.get("eva")
    assert eva is not None
    spent = []
    for hashed in (eva.password_hash, None):
        samples = []
        for _ in range(5):
            began = time.perf_counter()
            assert not check_password(hashed, "wrong password")
            samples.append(time.perf_counter() - began)
        spent.append(min(samples))  # what the machine does besides only adds
    assert spent[1] > spent[0] / 4


async def test_revocation_of_one_token_and_of_all(verifier: LocalVerifier, accounts: Accounts) -> None:
    first, _ = await verifier.login("eva", PASSWORD)
    second, _ = await verifier.login("eva", PASSWORD)
    await verifier.revoke(first)
    with pytest.raises(Unauthenticated, match="revoked"):
        await verifier.verify(first)
    await verifier.verify(second)
    accounts.revoke_all("eva")
    with pytest.raises(Unauthenticated, match="revoked"):
        await verifier.verify(second)
    third, _ = await verifier.login("eva", PASSWORD)
    await verifier.verify(third)


async def test_a_changed_password_role_or_removed_account_counts_at_once(
    verifier: LocalVerifier, accounts: Accounts
) -> None:
    token, _ = await verifier.login("eva", PASSWORD)
    accounts.set_role("eva", Role.VIEWER)
    assert (await verifier.verify(token)).role is Role.VIEWER
    accounts.set_password("eva", "another long password")
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)
    token, _ = await verifier.login("eva", "another long password")
    accounts.remove("eva")
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


async def test_nothing_readable_lies_on_disk(accounts: Accounts, tmp_path: Path) -> None:
    database = tmp_path / "state" / "accounts.sqlite3"
    assert database.stat().st_mode & 0o777 == 0o600
    data = database.read_bytes()
    assert PASSWORD.encode() not in data
    assert b"$argon2id$" in data


def test_accounts_refuse_what_cannot_be_right(accounts: Accounts) -> None:
    with pytest.raises(Conflict):
        accounts.add("eva", PASSWORD, Role.VIEWER)
    with pytest.raises(InvalidInput, match="10 to 1024"):
        accounts.add("max", "short", Role.VIEWER)
    with pytest.raises(InvalidInput, match="cannot be the name"):
        accounts.add("Max Power", PASSWORD, Role.VIEWER)
    with pytest.raises(NotFound):
        accounts.set_role("max", Role.VIEWER)
    with pytest.raises(NotFound):
        accounts.remove("max")
    assert [each.name for each in accounts.all()] == ["eva"]


async def test_guessing_becomes_slow_and_the_right_password_waits_too(accounts: Accounts) -> None:
    verifier = LocalVerifier(accounts, b"k" * 32, issuer="local:n1")
    verifier._failures = FailureBrake(monotonic=lambda: 0.0)  # the first wait is a second: time stands still
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await verifier.login("eva", "wrong password")
    with pytest.raises(Conflict, match="too many failed logins"):
        await verifier.login("eva", PASSWORD)


def test_the_brake_doubles_and_forgets() -> None:
    now = [0.0]
    brake = FailureBrake(free=2, longest_seconds=10, names=2, monotonic=lambda: now[0])
    for _ in range(4):
        brake.failed("eva")
    with pytest.raises(Conflict) as caught:
        brake.check("eva")
    assert caught.value.details["retry_after_seconds"] == 4
    now[0] = 4
    brake.check("eva")
    for _ in range(20):
        brake.failed("eva")
    with pytest.raises(Conflict) as caught:
        brake.check("eva")
    assert caught.value.details["retry_after_seconds"] == 10
    brake.succeeded("eva")
    brake.check("eva")


def test_the_key_is_made_once_and_guarded(tmp_path: Path) -> None:
    file = tmp_path / "a" / "token.key"
    key = load_or_make_key(file)
    assert len(key) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_or_make_key(file) == key
    file.chmod(0o644)
    with pytest.raises(InternalError, match="only its owner can read"):
        load_or_make_key(file)


async def test_a_token_of_another_node_or_form_is_refused(accounts: Accounts, verifier: LocalVerifier) -> None:
    other = LocalVerifier(accounts, b"k" * 32, issuer="local:n2")
    token, _ = await other.login("eva", PASSWORD)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)
    claims = jwt.decode((await verifier.login("eva", PASSWORD))[0], options={"verify_signature": False})
    for change in ({"exp": "never"}, {"iat": "x"}, {"sub": None}):
        forged = {**claims, **change}
        forged = {key: value for key, value in forged.items() if value is not None}
        try:
            token = jwt.encode(forged, b"k" * 32, algorithm="HS256")
        except (TypeError, ValueError):
            continue
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)
