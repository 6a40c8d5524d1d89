"""One record per call: who did what, from where, with which outcome. Never a token."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Protocol

import msgspec

from quarterdeck.telemetry import redacted

log = logging.getLogger("quarterdeck.audit")
_FRESH = ".fresh"


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call. `at` is in seconds since the epoch, `duration_ms` in milliseconds.

    `outcome` is `OK` or the wire's name of the error; `caller` is empty when nobody was recognised.
    """

    at: float
    method: str
    caller: str
    peer: str
    outcome: str
    duration_ms: float
    operation_id: str = ""
    detail: str = ""


class AuditSink(Protocol):
    """Where audit records go."""

    def write(self, record: AuditRecord) -> None:
        """Keep a record. Never raises: a call that was made must not fail afterwards."""
        ...

    def close(self) -> None:
        """No more records."""
        ...


class AuditLog:
    """Audit records in the log of the process."""

    def write(self, record: AuditRecord) -> None:
        """One line per record."""
        log.info("%s", msgspec.json.encode(record).decode())

    def close(self) -> None:
        """Nothing to close."""


class AuditFile:
    """Audit records as JSON lines in a file of mode 0600, with older files beside it.

    A file that passes `rotate_bytes` becomes `NAME.1`, that one `NAME.2` and so on; `keep` older ones
    stay. A disk that is full loses records to the log of the process, it does not refuse calls.
    """

    def __init__(self, path: Path, *, rotate_bytes: int = 10_000_000, keep: int = 5) -> None:
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._fallback = AuditLog()
        self._descriptor = self._open()

    def write(self, record: AuditRecord) -> None:
        """Append the record in one write."""
        line = redacted(msgspec.json.encode(record).decode()).encode() + b"\n"
        try:
            os.write(self._descriptor, line)
        except OSError as error:
            log.warning("the audit file %s cannot be written (%s); the record follows", self._path, error)
            self._fallback.write(record)
            return
        try:
            if os.fstat(self._descriptor).st_size >= self._rotate_bytes:
                self._rotate()
        except OSError as error:
            log.warning("the audit file %s was not rotated (%s); it grows on", self._path, error)

    def close(self) -> None:
        """Close the file; harmless twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self, suffix: str = "") -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        path = self._beside(suffix)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}{suffix}")

    def _rotate(self) -> None:
        # The new file first: a number that is closed before its follower is open may be anybody's next file.
        fresh = self._open(_FRESH)
        try:
            for number in range(self._keep, 0, -1):
                newer = self._beside(f".{number - 1}" if number > 1 else "")
                if newer.exists():
                    newer.replace(self._beside(f".{number}"))
            self._beside(_FRESH).replace(self._path)
        except BaseException:
            os.close(fresh)
            raise
        before, self._descriptor = self._descriptor, fresh
        os.close(before)
