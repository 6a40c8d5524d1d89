"""Fixtures for the tests of the fleet's git work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Git = Callable[..., str]


@pytest.fixture(autouse=True)
def known_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a git identity, whoever runs the tests; its `.gitconfig`."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text("[user]\n\tname = Some User\n\temail = user@example.invalid\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home / ".gitconfig"


@pytest.fixture
def commit(git: Git) -> Callable[..., str]:
    """Write files and commit them: `commit(folder, {"a.txt": "text"})` gives the commit's sha."""

    def make(folder: Path, files: dict[str, str], message: str = "work") -> str:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", message)
        return git(folder, "rev-parse", "HEAD")

    return make


def everything(folder: Path, git: Git) -> dict[str, str]:
    """All that a failed operation must leave as it was: refs, worktrees, status, files of a repository."""
    return {
        "refs": git(folder, "for-each-ref"),
        "head": git(folder, "symbolic-ref", "-q", "HEAD"),
        "worktrees": git(folder, "worktree", "list", "--porcelain"),
        "status": git(folder, "status", "--porcelain", "--ignored"),
        **{
            str(path.relative_to(folder)): path.read_text()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(folder).parts
        },
    }
