"""Local accounts: signed short-lived tokens, and the verifier of them."""

from __future__ import annotations

import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync

from quarterdeck.auth.accounts import Accounts, check_password
from quarterdeck.auth.model import Identity, Role
from quarterdeck.errors import Conflict, InternalError, Unauthenticated

DEFAULT_TOKEN_SECONDS = 8 * 3600.0
_ALGORITHM = "HS256"
_REQUIRED = ["exp", "nbf", "iat", "iss", "sub", "jti"]
_HINT = "`qd login` gets a new one"


def load_or_make_key(path: Path) -> bytes:
    """The signing key in a file of mode 0600; made when there is none. Raises `InternalError` for a bad one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
    key = path.read_bytes()
    if len(key) < 32 or path.stat().st_mode & 0o077:
        raise InternalError(
            f"{path} is not a signing key of 32 bytes that only its owner can read",
            hint="mend its mode (0600), or remove it: a new one is made and everybody has to log in again",
        )
    return key


class LocalVerifier:
    """Verifies and issues the tokens of the accounts in a database.

    A token says who and until when; the role is read from the account at each check, so that a changed
    role or a removed account counts at once (within the cache's time).
    """

    def __init__(
        self,
        accounts: Accounts,
        key: bytes,
        *,
        issuer: str,
        token_seconds: float = DEFAULT_TOKEN_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._accounts = accounts
        self._key = key
        self._issuer = issuer
        self._token_seconds = token_seconds
        self._now = now
        self._failures = FailureBrake()
        # argon2 holds memory while it works; logins that come together wait for each other.
        self._hashing = anyio.Lock()

    async def login(self, user: str, password: str) -> tuple[str, Identity]:
        """A token for an account. Raises `Unauthenticated`, and `Conflict` while too many logins have failed."""
        self._failures.check(user)
        async with self._hashing:
            self._failures.check(user)
            account = await run_sync(self._accounts.get, user)
            right = await run_sync(check_password, account.password_hash if account else None, password)
            if account is None or not right:
                self._failures.failed(user)
                raise Unauthenticated("user or password is wrong", hint="`qd node account list` on the node shows all")
            self._failures.succeeded(user)
        return self._issue(account.name, account.role)

    def _issue(self, subject: str, role: Role) -> tuple[str, Identity]:
        import jwt

        now = self._now()
        expires = now + self._token_seconds
        claims = {
            "iss": self._issuer,
            "sub": subject,
            # Fractions of a second: a token made just after a revocation is valid.
            "iat": now,
            "nbf": int(now),
            "exp": int(expires),
            "jti": secrets.token_urlsafe(16),
        }
        token = jwt.encode(claims, self._key, algorithm=_ALGORITHM)
        return token, Identity(subject, role, self._issuer, float(int(expires)))

    async def verify(self, token: str) -> Identity:
        """Who bears the token. Raises `Unauthenticated`."""
        claims = self._claims(token)
        return await run_sync(self._judge, claims)

    def _judge(self, claims: dict[str, Any]) -> Identity:
        account = self._accounts.get(claims["sub"])
        if account is None or claims["iat"] < account.tokens_from or self._accounts.is_revoked(claims["jti"]):
            raise Unauthenticated("the token was revoked; nothing was done", hint=_HINT)
        return Identity(account.name, account.role, self._issuer, float(claims["exp"]))

    async def revoke(self, token: str) -> None:
        """Make this token invalid (`qd logout`). Raises `Unauthenticated` when it is not valid anyway."""
        claims = self._claims(token)
        await run_sync(self._accounts.revoke, claims["jti"], float(claims["exp"]))

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                options={
                    "require": _REQUIRED,
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.PyJWTError:
            raise Unauthenticated("the token is not one of this node; nothing was done", hint=_HINT) from None
        now = self._now()
        if not all(isinstance(claims[name], int | float) for name in ("exp", "nbf", "iat")):
            raise Unauthenticated("the token is not one of this node; nothing was done", hint=_HINT)
        if now >= claims["exp"]:
            raise Unauthenticated("the token has expired; nothing was done", hint=_HINT)
        if now < claims["nbf"] - 1:
            raise Unauthenticated("the token is not valid yet; nothing was done", hint="compare the clocks")
        return dict(claims)

    async def aclose(self) -> None:
        """Nothing is held open."""


class FailureBrake:
    """Slows guessing: after `free` failed logins of one account, each further one must wait twice as long.

    Counts names, known or not, so that it tells nothing about which accounts there are.
    """

    def __init__(
        self,
        *,
        free: int = 5,
        longest_seconds: float = 300,
        names: int = 1024,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = free
        self._longest = longest_seconds
        self._names = names
        self._monotonic = monotonic
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, name: str) -> None:
        """Raises `Conflict` while the account has to wait."""
        count, last = self._failed.get(name, (0, 0.0))
        if count < self._free:
            return
        wait = min(self._longest, 2.0 ** (count - self._free)) - (self._monotonic() - last)
        if wait > 0:
            raise Conflict(
                f"too many failed logins as {name!r}; the password was not looked at",
                hint=f"wait {wait:.0f} s",
                details={"retry_after_seconds": round(wait, 1)},
            )

    def failed(self, name: str) -> None:
        """A wrong password."""
        count, _ = self._failed.pop(name, (0, 0.0))
        self._failed[name] = (count + 1, self._monotonic())
        while len(self._failed) > self._names:
            self._failed.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """The right password: forget the failures."""
        self._failed.pop(name, None)
