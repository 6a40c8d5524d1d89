"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from support.must_run import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 (hooks)

# How quickly a loaded machine makes examples, and runs them, says nothing of the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# What runs in the background of a script ignores SIGINT, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests must not depend on the configuration of whoever runs them.
os.environ["GIT_CONFIG_GLOBAL"] = "/dev/null"
os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
GIT_IDENTITY = {
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.invalid",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.invalid",
}


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, as the product does."""
    return "asyncio"


Git = Callable[..., str]


@pytest.fixture
def git() -> Git:
    """Run real git: `git(folder, "commit", "-m", "x")` gives its output."""

    def run(folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, **GIT_IDENTITY},
        )
        return done.stdout.rstrip("\n")

    return run


@pytest.fixture
def repo(tmp_path: Path, git: Git) -> Path:
    """A real repository with one commit on `main`."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "README.md").write_text("# Sample\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder
