"""The hub's own files in the state folder: its lock, its token, where it listens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec

from quarterdeck import proctree, telemetry
from quarterdeck.errors import Conflict, InternalError, StorageRefused
from quarterdeck.files import read_json, write_private

LOCK_FILE = "hub.lock"
INFO_FILE = "hub.json"
TOKEN_FILE = "token"
LOG_FILE = "hub.log"
EVENTS_FILE = "events.jsonl"


class HubInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A running hub: which process (`proctree.identity`), where it listens, for which folder."""

    pid: int
    started_at: float
    url: str
    folder: str
    version: str
    identity: str


def prepare(state: Path) -> Path:
    """Make the hub's folder, mode 0700. Raises `StorageRefused` when the state folder cannot be written."""
    folder = state / "hub"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise StorageRefused(
            f"the state folder {state} cannot be written: {error.strerror}; nothing was started",
            hint="make room or set QD_STATE_DIR to a folder that can be written",
        ) from error
    return folder


@contextlib.contextmanager
def lock(state: Path) -> Iterator[None]:
    """Be the only hub of a state folder. Raises `Conflict` that says who is."""
    descriptor = os.open(prepare(state) / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            info = running(state)
            who = f"process {info.pid} at {info.url}, for {info.folder}" if info else "another process"
            raise Conflict(
                f"a hub runs on {state} already: {who}",
                hint="use that one (`qd agents list`), end it with `qd down`, or set QD_STATE_DIR",
            ) from None
        yield
    finally:
        os.close(descriptor)


def token(state: Path) -> str:
    """The hub's bearer token, made at the first call, mode 0600; never empty. Raises `StorageRefused`."""
    folder = prepare(state)
    try:
        value = stored_token(state) or _make_token(folder)
    except OSError as error:
        raise StorageRefused(f"the hub's token cannot be kept in {folder}: {error.strerror}") from error
    telemetry.hide(value)
    return value


def stored_token(state: Path) -> str | None:
    """The hub's token where there is one. Raises `OSError` when it cannot be read."""
    try:
        return (state / "hub" / TOKEN_FILE).read_text().strip() or None
    except FileNotFoundError:
        return None


def _make_token(folder: Path) -> str:
    """Write a new one, whole or not at all, unless somebody else just did; the folder's lock decides who."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        made = stored_token(folder.parent)
        if made is not None:
            return made
        value = secrets.token_urlsafe(32)
        temporary = folder / f".{TOKEN_FILE}.tmp"
        opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(opened, "w") as out:
            out.write(value)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(folder / TOKEN_FILE)
        return value
    finally:
        os.close(descriptor)


def announce(state: Path, info: HubInfo) -> None:
    """Say where the hub listens."""
    write_private(state / "hub" / INFO_FILE, info)


def running(state: Path) -> HubInfo | None:
    """The hub that runs on a state folder, None when none does."""
    try:
        info = read_json(state / "hub" / INFO_FILE, HubInfo)
    except InternalError:
        return None
    if info is None or not proctree.is_alive(info.pid, info.identity):
        return None
    return info
