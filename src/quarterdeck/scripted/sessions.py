"""The scripted agent's sessions: a JSONL file each, written line by line, so that they survive a SIGKILL."""

from __future__ import annotations

import json
import os
from typing import Any

Record = dict[str, Any]


def folder() -> str:
    """Where sessions lie: `QD_SCRIPTED_HOME`, else a folder below TMPDIR or HOME."""
    given = os.environ.get("QD_SCRIPTED_HOME")
    base = os.environ.get("TMPDIR") or os.environ.get("HOME") or "."
    path = given or os.path.join(base, ".quarterdeck-scripted")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def file_of(session: str) -> str:
    """The file of a session. Raises ValueError for an id that is none of ours."""
    if not session.replace("-", "").isalnum():
        raise ValueError(f"no session {session!r}")
    return os.path.join(folder(), session + ".jsonl")


def append(session: str, record: Record) -> None:
    """Add one record, in a single write."""
    data = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(file_of(session), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def read(session: str) -> list[Record]:
    """All records but a last line that a kill cut off. Raises ValueError when there is no such session."""
    try:
        with open(file_of(session), "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        raise ValueError(f"no session {session!r}") from None
    return [json.loads(line) for line in lines[:-1] if line]


def known() -> list[str]:
    """The ids of all sessions."""
    return sorted(name.removesuffix(".jsonl") for name in os.listdir(folder()) if name.endswith(".jsonl"))
