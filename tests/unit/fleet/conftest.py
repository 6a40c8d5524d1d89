"""Fixtures for the tests of the fleet's git work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.fleet.git import worktree
from quarterdeck.fleet.git.merge import Merged, merge

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


@pytest.fixture
def everything(git: Git) -> Callable[[Path], dict[str, str]]:
    """All that a failed operation must leave as it was: refs, worktrees, status, files of a repository."""

    def look(folder: Path) -> dict[str, str]:
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

    return look


@pytest.fixture
async def merge_tree(repo: Path, git: Git, tmp_path: Path, commit: Callable[..., str]) -> Path:
    """The worktree of an agent (`qd/ann`) in a repository with some files; nothing is done in it yet."""
    head = commit(repo, {"shared.txt": "1\n2\n3\n", "other.txt": "o\n", ".gitignore": "*.local\n"})
    await worktree.add(repo, tmp_path / "tree", "qd/ann", head)
    return tmp_path / "tree"


@pytest.fixture
def bring(repo: Path, tmp_path: Path) -> Callable[..., Any]:
    """Merge into `main` of the repository: `await bring("qd/ann", method="rebase")`."""

    async def run(branch: str = "qd/ann", base: str = "main", **options: Any) -> Merged:
        return await merge(repo, branch, base, scratch_folder=tmp_path / "scratch", **options)

    return run


@pytest.fixture
def no_scratch(repo: Path, tmp_path: Path, git: Git) -> Callable[[], bool]:
    """Whether neither a scratch folder nor its registration is left."""

    def look() -> bool:
        left = list((tmp_path / "scratch").iterdir()) if (tmp_path / "scratch").exists() else []
        return not left and "scratch" not in git(repo, "worktree", "list", "--porcelain")

    return look
