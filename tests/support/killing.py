"""Death in the middle of a piece of code: after so many of its system calls nothing more happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest


class Killed(BaseException):
    """As kill -9: nobody catches it on the way."""


@contextmanager
def killed_after(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, calls: tuple[str, ...], last: int
) -> Iterator[None]:
    """Let a module make `last` of these calls of `os` in all; the next raises `Killed`."""
    made = 0
    with monkeypatch.context() as patch:
        for name in calls:
            original = getattr(os, name)

            def counted(*a: Any, _original: Any = original, **k: Any) -> Any:
                nonlocal made
                made += 1
                if made > last:
                    raise Killed
                return _original(*a, **k)

            patch.setattr(module.os, name, counted)
        yield
