"""The clock of the machine, set for one test: what the kernel tells of the boot moves with it, nothing else does."""

from __future__ import annotations

import psutil
import pytest


def stepped(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the clock forward (or back) as far as the start times of processes are concerned."""
    booted = psutil.boot_time() + seconds
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted)
