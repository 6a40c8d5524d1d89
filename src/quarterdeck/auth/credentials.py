"""The tokens of the person at the command line: one file, mode 0600."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from quarterdeck.errors import InternalError, Unauthenticated

SOON_SECONDS = 600.0


class Credential(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token with what is known of it. `expires_at` is in seconds since the epoch, None when unknown."""

    token: str
    user: str = ""
    role: str = ""
    expires_at: float | None = None

    def seconds_left(self, now: float | None = None) -> float | None:
        """How long it is still valid; negative afterwards, None when unknown."""
        return None if self.expires_at is None else self.expires_at - (time.time() if now is None else now)


class Credentials:
    """Credentials by name (of a node, or of an identity provider) in a JSON file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> Credential | None:
        """What is kept under this name. Raises `InternalError` for a file that others can read or that is damaged."""
        return self._read().get(name)

    def valid(self, name: str, *, now: float | None = None) -> Credential:
        """A credential that has not expired. Raises `Unauthenticated` before any call is made with an old one."""
        found = self.get(name)
        if found is None:
            raise Unauthenticated(f"there is no token for {name}; nothing was sent", hint=f"`qd login {name}`")
        left = found.seconds_left(now)
        if left is not None and left <= 0:
            raise Unauthenticated(
                f"the token for {name} expired {ago(-left)} ago; nothing was sent", hint=f"`qd login {name}`"
            )
        return found

    def put(self, name: str, credential: Credential) -> None:
        """Keep a credential, in place of one of the same name."""
        with self._locked():
            self._write({**self._read(), name: credential})

    def remove(self, name: str) -> bool:
        """Forget a credential; whether there was one."""
        with self._locked():
            known = self._read()
            if known.pop(name, None) is None:
                return False
            self._write(known)
        return True

    def all(self) -> dict[str, Credential]:
        """Everything that is kept, by name."""
        return self._read()

    def _read(self) -> dict[str, Credential]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InternalError(f"the tokens in {self._path} cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_mode & 0o077:
                raise InternalError(
                    f"others can read the tokens in {self._path}; they were not used",
                    hint=f"`chmod 600 {self._path}`, and `qd login` again if somebody may have seen them",
                )
            data = file.read()
        try:
            return msgspec.json.decode(data, type=dict[str, Credential])
        except msgspec.DecodeError as error:
            raise InternalError(
                f"{self._path} is damaged: {error}", hint=f"remove it and `qd login` again: {self._path}"
            ) from error

    def _write(self, known: dict[str, Credential]) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(known)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def ago(seconds: float) -> str:
    """A span of time as people say it: `40 s`, `5 min`, `3 h`, `2 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"
