"""Logging: one line per record on standard error or in a file, with secrets taken out."""

from __future__ import annotations

import logging
import re
import sys
import time

_SECRET = re.compile(
    r"(?i)(bearer\s+|(?:api[_-]?key|token|password|secret|authorization)[\"']?\s*[:=]\s*[\"']?(?:bearer\s+)?)"
    r"([A-Za-z0-9._~+/=-]{6,})"
)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_known: set[str] = set()


def hide(secret: str) -> None:
    """Never show this value in a log of this process."""
    if len(secret) >= 6:
        _known.add(secret)


def redacted(text: str) -> str:
    """The text without the known secrets and without what looks like one."""
    for secret in _known:
        text = text.replace(secret, "***")
    return _URL_CREDENTIALS.sub("***@", _SECRET.sub(r"\1***", text))


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def setup_logging(level: str = "info") -> None:
    """Log to standard error (a detached process has its log file there). Raises `ValueError` for an unknown level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpcore2").setLevel(logging.WARNING)
