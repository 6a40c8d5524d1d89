"""Small files of ours, most of them JSON: private, written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from quarterdeck.errors import InternalError

T = TypeVar("T")


def write_private(file: Path, value: Any) -> None:
    """Write a JSON file, mode 0600: temporary file, fsync, rename. Raises `OSError`."""
    _write(file, msgspec.json.format(msgspec.json.encode(value), indent=2))


def write_private_text(file: Path, text: str) -> None:
    """Write a text in the same way. Raises `OSError`."""
    _write(file, text.encode())


def _write(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(file: Path, kind: type[T]) -> T | None:
    """Read such a file; None where there is none. Raises `InternalError` for one that cannot be right."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InternalError(f"{file} cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise InternalError(
            f"{file} cannot be read: {error}", hint="it was changed by hand, or by another version"
        ) from error


def read_regular(path: Path, limit: int) -> bytes:
    """Everything in a file that somebody else may have put there. It blocks no longer than a disk does.

    A named pipe, a device or a folder in its place is refused instead of waited for, and so is a file of more than
    `limit` bytes. Links are followed. Raises `OSError`.
    """
    # Without O_NONBLOCK a named pipe would hang the call until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        pieces = []
        left = limit + 1
        while left > 0 and (piece := os.read(descriptor, min(left, 1 << 20))):
            pieces.append(piece)
            left -= len(piece)
    finally:
        os.close(descriptor)
    if left <= 0:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return b"".join(pieces)


def open_to_append(path: Path) -> IO[bytes]:
    """A file that only we can read, made where it is missing, for what comes at its end. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab")
