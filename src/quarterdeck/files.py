"""Small files of ours, most of them JSON: private, written whole or not at all."""

from __future__ import annotations

import os
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


def open_to_append(path: Path) -> IO[bytes]:
    """A file that only we can read, made where it is missing, for what comes at its end. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab")
