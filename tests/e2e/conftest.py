"""A hub that the tests of a module share; each test uses agents of its own."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.hub import LiveHub, whole


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Wider than the function's own, so that a module can share a hub."""
    return "asyncio"


def make_repo(folder: Path) -> Path:
    """A repository with one commit on `main`."""
    folder.mkdir()
    (folder / "README.md").write_text("# Sample\n")
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=T", "-c", "user.email=t@example.invalid", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveHub]:
    """A hub with scripted agents, the same for a whole module; nothing is left of it afterwards."""
    async with whole(make_repo(tmp_path_factory.mktemp("hub") / "repo")) as hub:
        yield hub
