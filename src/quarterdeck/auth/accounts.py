"""Accounts of one node or hub: names, argon2 hashes, roles, and what was revoked. SQLite, mode 0600."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quarterdeck.auth.model import Role
from quarterdeck.errors import Conflict, InvalidInput, NotFound, StorageRefused

if TYPE_CHECKING:
    from argon2 import PasswordHasher

_NAME = re.compile(r"[a-z][a-z0-9._@-]{0,63}")
MINIMUM_PASSWORD = 10
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS accounts (
         name TEXT PRIMARY KEY, password_hash TEXT NOT NULL, role TEXT NOT NULL,
         created_at REAL NOT NULL, tokens_from REAL NOT NULL DEFAULT 0) STRICT""",
    "CREATE TABLE IF NOT EXISTS revoked (token_id TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT",
    "PRAGMA user_version = 1",
)


@dataclass(frozen=True)
class Account:
    """An account; tokens issued before `tokens_from` (seconds since the epoch) are not valid any more."""

    name: str
    role: Role
    created_at: float
    tokens_from: float
    password_hash: str


class Accounts:
    """The accounts in a database file. Blocking, of the order of a millisecond; argon2 takes some 30 ms.

    Every call opens its own connection, so that one object may be used from several threads and several
    processes (the daemon and `qd node account`).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)
        with self._connection() as db:
            for statement in _SCHEMA:
                db.execute(statement)

    def add(self, name: str, password: str, role: Role) -> Account:
        """Make an account. Raises `InvalidInput` for a bad name or password, `Conflict` when there is one."""
        check_account(name, password)
        now = time.time()
        account = Account(name, role, now, 0.0, hash_password(password))
        try:
            with self._connection() as db:
                db.execute(
                    "INSERT INTO accounts VALUES (?, ?, ?, ?, ?)",
                    (name, account.password_hash, role.label, now, 0.0),
                )
        except sqlite3.IntegrityError:
            raise Conflict(
                f"there is an account {name} already; it was left as it is", hint=f"`qd node account passwd {name}`"
            ) from None
        return account

    def set_password(self, name: str, password: str) -> None:
        """Change a password; all tokens issued so far lose their validity. Raises `NotFound`, `InvalidInput`."""
        hashed = hash_password(password)
        self._change(name, "password_hash = ?, tokens_from = ?", (hashed, time.time()))

    def set_role(self, name: str, role: Role) -> None:
        """Change a role; felt by tokens in use within the cache's time. Raises `NotFound`."""
        self._change(name, "role = ?", (role.label,))

    def revoke_all(self, name: str) -> None:
        """Make every token of the account invalid. Raises `NotFound`."""
        self._change(name, "tokens_from = ?", (time.time(),))

    def remove(self, name: str) -> None:
        """Remove an account with all its tokens. Raises `NotFound`."""
        with self._connection() as db:
            if not db.execute("DELETE FROM accounts WHERE name = ?", (name,)).rowcount:
                raise self._missing(name)

    def get(self, name: str) -> Account | None:
        """The account, None when there is none."""
        with self._connection("DEFERRED") as db:
            row = db.execute(
                "SELECT name, role, created_at, tokens_from, password_hash FROM accounts WHERE name = ?", (name,)
            ).fetchone()
        return _account(row) if row else None

    def all(self) -> list[Account]:
        """Every account, by name."""
        with self._connection("DEFERRED") as db:
            rows = db.execute(
                "SELECT name, role, created_at, tokens_from, password_hash FROM accounts ORDER BY name"
            ).fetchall()
        return [_account(row) for row in rows]

    def revoke(self, token_id: str, expires_at: float) -> None:
        """Make one token invalid until it would have ended anyway."""
        with self._connection() as db:
            db.execute("DELETE FROM revoked WHERE expires_at < ?", (time.time() - 3600,))
            db.execute("INSERT OR IGNORE INTO revoked VALUES (?, ?)", (token_id, expires_at))

    def is_revoked(self, token_id: str) -> bool:
        """Whether this token was revoked."""
        with self._connection("DEFERRED") as db:
            return db.execute("SELECT 1 FROM revoked WHERE token_id = ?", (token_id,)).fetchone() is not None

    def _change(self, name: str, assignments: str, values: tuple[object, ...]) -> None:
        with self._connection() as db:
            # The assignments are constants of this class; values are bound.
            if not db.execute(f"UPDATE accounts SET {assignments} WHERE name = ?", (*values, name)).rowcount:  # noqa: S608
                raise self._missing(name)

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"there is no account {name}", hint="`qd node account list` shows all")

    @contextlib.contextmanager
    def _connection(self, mode: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self._path, timeout=5, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"BEGIN {mode}")
            yield db
            db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StorageRefused(
                f"the accounts in {self._path} cannot be used: {error}", hint="look at the disk and the file's owner"
            ) from error
        finally:
            db.close()


def _account(row: tuple[str, str, float, float, str]) -> Account:
    name, role, created_at, tokens_from, hashed = row
    return Account(name, Role.named(role), created_at, tokens_from, hashed)


def check_account(name: str, password: str) -> None:
    """Refuse what cannot be an account, before anything is made. Raises `InvalidInput`."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be the name of an account",
            hint="small letters, digits and ._@-, a letter first, at most 64",
        )
    _check_length(password)


def hash_password(password: str) -> str:
    """An argon2id hash. Raises `InvalidInput` for a password that is too short or absurdly long."""
    _check_length(password)
    return _hasher().hash(password)


def _check_length(password: str) -> None:
    if len(password) < MINIMUM_PASSWORD or len(password) > 1024:
        raise InvalidInput(
            f"the password has {len(password)} characters; {MINIMUM_PASSWORD} to 1024 are taken", hint="use a phrase"
        )


def check_password(hashed: str | None, password: str) -> bool:
    """Whether the password belongs to the hash. Without a hash (no such account) it takes as long, and is False."""
    from argon2.exceptions import VerificationError

    try:
        matches = _hasher().verify(hashed or _NOBODY, password[:1024])
    except VerificationError:
        return False
    return matches and hashed is not None


# A hash of a random value that nobody knows, with the parameters below.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$B2mJwYvd0OaNDZ4QNz0k2w$m5wcm1FQnVYkmHZgWwMq4k6hZb1gYt2o9b7y6m9Yf0E"


def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    # OWASP's parameters of 19 MiB: a login must not push the daemon over its memory budget.
    return PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
