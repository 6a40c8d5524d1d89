"""Where a sidecar listens, and that it is the only one of its folder: lock, socket, token."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from quarterdeck import telemetry
from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.files import write_private_text
from quarterdeck.sidecar.spec import SOCKET_FILE

TOKEN_FILE = "sidecar.token"
_SOCKET_PATH_LIMIT = 100


@contextlib.contextmanager
def lock(file: Path) -> Iterator[None]:
    """Hold the folder's lock. Raises `Conflict` that names the holder's pid."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode() or "another process"
            raise Conflict(f"a sidecar (pid {holder}) serves {file.parent} already") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def socket_path(folder: Path) -> Path:
    """Where the socket goes: into the agent's folder, or, where that path is too long for one, a short one."""
    path = folder / SOCKET_FILE
    if len(str(path).encode()) <= _SOCKET_PATH_LIMIT:
        return path
    base = Path(tempfile.gettempdir()) / f"quarterdeck-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.stat().st_uid != os.getuid() or base.stat().st_mode & 0o077:
        raise Conflict(f"{base} belongs to somebody else", hint="set QD_STATE_DIR to a shorter path")
    return base / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:20]}.sock"


def listen(path: Path) -> socket.socket:
    """A unix socket, mode 0600; a left-over one is replaced (the lock is held)."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def listen_tcp(address: str) -> socket.socket:
    """A TCP socket on `HOST:PORT`. Raises `InvalidInput`."""
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server((host or "127.0.0.1", int(port)))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot listen on {address!r}: {error}") from error


def token(folder: Path) -> str:
    """The bearer token of the folder, made at the first call, mode 0600; the folder's lock must be held.

    It is there whole or not at all: with an empty one, everybody would have it. Raises `OSError`.
    """
    file = folder / TOKEN_FILE
    value = file.read_text().strip() if file.exists() else ""
    if not value:
        value = secrets.token_urlsafe(32)
        write_private_text(file, value)
    telemetry.hide(value)
    return value
