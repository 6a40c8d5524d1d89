"""What a forge answered, in files that all processes of a machine share: asked once, used by every agent.

One file per address and token: the answer (only what we use of it), its entity tag, when it was got, and
after a failure when to ask again. Whoever wants it newer takes the file's lock, looks again, and asks;
the others wait for the answer instead of asking too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.to_thread import run_sync

T = TypeVar("T")
_LOOK_AGAIN_SECONDS = 0.03
# Raised whenever a collector keeps something else of an answer, so that it never meets the old form.
FORM = 2


class Cached(msgspec.Struct):
    """One address's last answer. `data` None: there was none yet. Moments in seconds since the epoch."""

    data: Any = None
    etag: str | None = None
    next: str | None = None
    fetched_at: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    error: str | None = None


class Quota(msgspec.Struct):
    """What is left of a token's quota on one host, and until when nothing may be asked at all."""

    limit: int = 0
    remaining: int = 0
    reset: float = 0.0
    blocked_until: float = 0.0

    def in_reserve(self, now: float, share: float) -> bool:
        """Whether only the part of the quota is left that is not ours to use up."""
        return self.reset > now and self.limit > 0 and self.remaining <= self.limit * share


class ForgeCache:
    """The files of one host and token, below a folder that is shared by the machine's processes."""

    def __init__(self, folder: Path, host: str, token: str | None) -> None:
        mark = hashlib.sha256(f"{FORM}\0{host}\0{token or ''}".encode()).hexdigest()[:16]
        self._folder = folder / mark

    async def read(self, address: str) -> Cached:
        """What is known of an address; empty when nothing is."""
        return await run_sync(_load, self._path(address), Cached)

    async def write(self, address: str, cached: Cached) -> None:
        """Take over a new answer."""
        await run_sync(_save, self._path(address), cached)

    async def quota(self) -> Quota:
        """What is left of the quota, as the last answer said."""
        return await run_sync(_load, self._folder / "quota.json", Quota)

    async def set_quota(self, quota: Quota) -> None:
        """Take over what an answer said of the quota."""
        await run_sync(_save, self._folder / "quota.json", quota)

    @asynccontextmanager
    async def locked(self, address: str) -> AsyncIterator[None]:
        """While inside, nobody else on this machine asks for this address."""
        descriptor = await run_sync(_open_lock, self._path(address).with_suffix(".lock"))
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await anyio.sleep(_LOOK_AGAIN_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _path(self, address: str) -> Path:
        return self._folder / (hashlib.sha256(address.encode()).hexdigest()[:32] + ".json")


def _load(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return kind()  # a cache: what cannot be read is asked again


def _save(path: Path, value: Any) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(value))
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _open_lock(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
