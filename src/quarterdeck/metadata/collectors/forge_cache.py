"""What a forge answered, in files that all processes of a machine share: asked once, used by every agent.

One file per address and token: the answer (only what we use of it), its entity tag, when it was got, and
after a failure when to ask again. Whoever wants it newer takes the file's lock, looks again, and asks;
the others wait for the answer instead of asking too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.to_thread import run_sync

log = logging.getLogger(__name__)
T = TypeVar("T")
# A commit's checks have an address of their own, so addresses come without end; one that nobody has asked for so
# long is forgotten. Looked for once in a while by each process.
KEEP_SECONDS = 7 * 86400.0
PRUNE_SECONDS = 3600.0
MOST_UNSAVED = 500
_LOOK_AGAIN_SECONDS = 0.03
# Raised whenever a collector keeps something else of an answer, so that it never meets the old form.
FORM = 3


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
        self._pruned = 0.0
        # What the disk did not take: without it, a full disk would have the forge asked again and again.
        self._unsaved: dict[Path, Any] = {}

    async def read(self, address: str) -> Cached:
        """What is known of an address; empty when nothing is."""
        path = self._path(address)
        return self._unsaved[path] if path in self._unsaved else await run_sync(_load, path, Cached)

    async def write(self, address: str, cached: Cached) -> None:
        """Take over a new answer."""
        await run_sync(self._keep, self._path(address), cached)

    async def quota(self) -> Quota:
        """What is left of the quota, as the last answer said."""
        return await run_sync(self._quota)

    async def update_quota(self, change: Callable[[Quota], None]) -> None:
        """Change what is known of the quota; answers of other agents that come at the same time are not lost."""
        await run_sync(self._update_quota, change)

    def _quota(self) -> Quota:
        path = self._folder / "quota.json"
        return self._unsaved[path] if path in self._unsaved else _load(path, Quota)

    def _update_quota(self, change: Callable[[Quota], None]) -> None:
        path = self._folder / "quota.json"
        descriptor = _open_lock(path.with_suffix(".lock"))
        try:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            quota = self._quota()
            change(quota)
            self._keep(path, quota)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _keep(self, path: Path, value: Any) -> None:
        try:
            _save(path, value)
            self._unsaved.pop(path, None)
            if time.monotonic() - self._pruned > PRUNE_SECONDS or not self._pruned:
                self._pruned = time.monotonic()
                _prune(self._folder.parent, time.time() - KEEP_SECONDS)
        except OSError as error:
            if not self._unsaved:
                log.warning("what a forge said is not kept in %s: %s", path.parent, error.strerror)
            if len(self._unsaved) >= MOST_UNSAVED:
                del self._unsaved[next(iter(self._unsaved))]
            self._unsaved[path] = value

    @asynccontextmanager
    async def locked(self, address: str) -> AsyncIterator[None]:
        """While inside, nobody else on this machine asks for this address."""
        descriptor = await run_sync(_open_lock, self._path(address).with_suffix(".lock"))
        try:
            while descriptor is not None:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await anyio.sleep(_LOOK_AGAIN_SECONDS)
            yield
        finally:
            if descriptor is not None:
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


def _open_lock(path: Path) -> int | None:
    """None where the disk has no room for it: then two may ask at once, which is better than nobody."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _prune(folder: Path, before: float) -> None:
    """Remove what was not written since a moment, and folders that are empty then."""
    for mark in folder.iterdir():
        with contextlib.suppress(OSError):
            for path in mark.iterdir():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < before:
                        path.unlink()
            mark.rmdir()
