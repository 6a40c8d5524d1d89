"""What a folder is to git."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from quarterdeck.errors import InvalidInput, NotFound
from quarterdeck.fleet.git import repository

Git = Callable[..., str]
pytestmark = pytest.mark.anyio


async def test_a_repository_from_its_top_and_from_below(repo: Path, git: Git) -> None:
    (repo / "deep" / "er").mkdir(parents=True)
    for folder in (repo, repo / "deep" / "er"):
        facts = await repository.inspect(folder)
        assert facts == repository.RepoFacts(
            root=repo,
            worktree=repo,
            git_dir=repo / ".git",
            branch="main",
            head=git(repo, "rev-parse", "HEAD"),
            dirty=False,
            shallow=False,
        )


async def test_a_linked_worktree_names_the_main_one(repo: Path, git: Git, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    (tmp_path / "linked" / "new").write_text("x")
    facts = await repository.inspect(tmp_path / "linked")
    assert (facts.root, facts.worktree, facts.git_dir) == (repo, tmp_path / "linked", repo / ".git")
    assert (facts.branch, facts.dirty) == ("other", True)
    assert not (await repository.inspect(repo)).dirty


async def test_dirty_detached_and_shallow(repo: Path, git: Git, tmp_path: Path) -> None:
    git(repo, "commit", "-q", "--allow-empty", "-m", "two")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    facts = await repository.inspect(tmp_path / "shallow")
    assert facts.shallow
    git(repo, "checkout", "-q", "--detach")
    (repo / "README.md").write_text("changed")
    facts = await repository.inspect(repo)
    assert facts.branch is None
    assert facts.dirty


async def test_a_submodule_is_a_repository_of_its_own(repo: Path, git: Git, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main", "lib")
    git(tmp_path / "lib", "commit", "-q", "--allow-empty", "-m", "lib")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "lib"), "sub")
    facts = await repository.inspect(repo / "sub")
    assert (facts.root, facts.worktree) == (repo / "sub", repo / "sub")


async def test_a_worktree_of_a_bare_repository_stands_for_itself(repo: Path, git: Git, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    git(tmp_path / "bare.git", "worktree", "add", "-q", str(tmp_path / "tree"), "main")
    assert (await repository.inspect(tmp_path / "tree")).root == tmp_path / "tree"


async def test_what_cannot_be_used_is_refused_with_a_hint(repo: Path, git: Git, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").write_text("")
    git(tmp_path, "init", "-q", "--bare", "bare")
    git(tmp_path, "init", "-q", "unborn")
    for name, said, hint in [
        ("missing", "does not exist", "folder"),
        ("file", "is not a folder", "folder"),
        ("plain", "not in a git repository", "git -C"),
        ("bare", "bare", "clone"),
        ("unborn", "no commit yet", "commit"),
    ]:
        with pytest.raises(InvalidInput) as caught:
            await repository.inspect(tmp_path / name)
        assert said in caught.value.message
        assert hint in caught.value.hint
    with pytest.raises(InvalidInput, match="bare"):
        await repository.inspect(repo / ".git")


async def test_the_base(repo: Path, git: Git) -> None:
    head = git(repo, "rev-parse", "HEAD")
    git(repo, "branch", "release/1")
    assert await repository.resolve_base(repo, None) == ("main", head)
    assert await repository.resolve_base(repo, "release/1") == ("release/1", head)
    git(repo, "checkout", "-q", "--detach")
    with pytest.raises(InvalidInput, match="detached"):
        await repository.resolve_base(repo, None)


@pytest.mark.parametrize("base", ["nope", "main~0", "-x", "", "a\0b", "HEAD", "../main", "refs/heads/main"])
async def test_an_unknown_base_is_not_found_and_the_hint_lists_the_branches(repo: Path, base: str) -> None:
    with pytest.raises(NotFound) as caught:
        await repository.resolve_base(repo, base)
    assert "main" in caught.value.hint


async def test_the_installed_git_is_new_enough() -> None:
    assert (await repository.git_version()).startswith("2.")


async def test_an_identity_is_lent_only_where_there_is_none(repo: Path, known_user: Path) -> None:
    assert await repository.identity(repo) == {}
    known_user.unlink()
    assert (await repository.identity(repo))["GIT_COMMITTER_NAME"] == "Quarterdeck"
