"""What is left over: found, planned, removed; and never anything that holds work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.fleet.git import leftover_plan as planning
from quarterdeck.fleet.git import usage, worktree
from quarterdeck.fleet.git.leftover_plan import Leftover
from quarterdeck.fleet.git.rescue import rescue

Git = Callable[..., str]
Commit = Callable[..., str]
pytestmark = pytest.mark.anyio


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    (tmp_path / "agents").mkdir()
    return tmp_path / "agents"


async def find(agents: Path, repo: Path, *living: str) -> dict[str, Leftover]:
    found = await usage.find_leftovers(
        agents, set(living), {repo: None}, scratch_folder=agents.parent / "scratch", grace_seconds=0
    )
    return {Path(each.what).name if each.kind != "branch" else each.what: each for each in found}


async def make(repo: Path, agents: Path, git: Git, name: str) -> Path:
    path = agents / name / "workspace"
    await worktree.add(repo, path, f"qd/{name}", git(repo, "rev-parse", "HEAD"))
    return path


async def test_disk_use(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").write_bytes(b"x" * 1_000_000)
    empty = await usage.disk_use(tmp_path / "a" / "b")
    whole = await usage.disk_use(tmp_path / "a")
    assert 1_000_000 <= whole <= 1_000_000 + 3 * 4096 + 2 * empty
    os.link(tmp_path / "a" / "file", tmp_path / "a" / "b" / "hard")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert await usage.disk_use(tmp_path / "a") - whole < 100_000
    with (tmp_path / "a" / "sparse").open("wb") as file:
        file.truncate(10**9)
    assert await usage.disk_use(tmp_path / "a") - whole < 100_000
    assert await usage.disk_use(tmp_path / "missing") == 0


async def test_everything_of_living_agents_is_left_out(repo: Path, agents: Path, git: Git) -> None:
    tree = await make(repo, agents, git, "ann")
    (tree / "dirty").write_text("x")
    shutil.rmtree(await make(repo, agents, git, "bob"))
    git(repo, "branch", "qd/ann-2")
    assert await find(agents, repo, "ann", "bob") == {}


async def test_a_folder_without_an_agent_goes_with_its_registration_and_then_its_branch(
    repo: Path, agents: Path, git: Git
) -> None:
    tree = await make(repo, agents, git, "ann")
    (agents / "ann" / "log").write_text("x" * 5000)
    found = await find(agents, repo)
    assert (found["ann"].kind, found["ann"].action) == ("folder", "remove")
    assert found["ann"].bytes >= 8192
    assert (found["qd/ann"].action, found["qd/ann"].reason) == ("keep", "a worktree has it checked out")
    await usage.remove_leftover(found["ann"])
    await usage.remove_leftover(found["ann"])
    assert not (agents / "ann").exists()
    assert str(tree) not in git(repo, "worktree", "list", "--porcelain")
    found = await find(agents, repo)
    assert {name: each.action for name, each in found.items()} == {"qd/ann": "remove"}
    await usage.remove_leftover(found["qd/ann"])
    assert git(repo, "branch", "--list", "qd/*") == ""
    assert await find(agents, repo) == {}


async def test_what_holds_work_is_kept_with_the_reason(
    repo: Path, agents: Path, git: Git, commit: Commit, tmp_path: Path
) -> None:
    (await make(repo, agents, git, "dirty") / "new").write_text("x")
    loose = await make(repo, agents, git, "loose")
    git(loose, "checkout", "-q", "--detach")
    commit(loose, {"a": "1"})
    merging = await make(repo, agents, git, "merging")
    git(merging, "merge", "-q", "--no-ff", "--no-commit", "-s", "ours", commit(loose, {"b": "1"}))
    own = agents / "own" / "some" / "clone"
    own.mkdir(parents=True)
    git(own, "init", "-q")
    lost = await make(repo, agents, git, "lost")
    (lost / "x").write_text("x")
    (repo / ".git" / "worktrees" / "workspace3").rename(tmp_path / "away")
    orphan = await make(repo, agents, git, "orphan")
    (orphan / ".git").unlink()
    found = await find(agents, repo)
    for name, reason in {
        "orphan": "files that belong to no repository",
        "dirty": "1 uncommitted files",
        "loose": "commits that no branch holds",
        "merging": "a merge under way",
        "own": "a repository of its own",
        "lost": "a repository of its own",
    }.items():
        assert found[name].action == "keep", name
        assert reason in found[name].reason, name
        with pytest.raises(InvalidInput):
            await usage.remove_leftover(found[name])
        with pytest.raises(Conflict, match="was kept"):
            await usage.remove_leftover(Leftover(kind="folder", what=found[name].what, action="remove", reason=""))
        assert Path(found[name].what).exists()


async def test_unmerged_branches_are_kept_and_their_folders_may_go(
    repo: Path, agents: Path, git: Git, commit: Commit
) -> None:
    work = commit(await make(repo, agents, git, "ann"), {"a": "1"})
    found = await find(agents, repo)
    await usage.remove_leftover(found["ann"])
    found = await find(agents, repo)
    assert (found["qd/ann"].action, found["qd/ann"].sha) == ("keep", work)
    assert "1 of its commits are not in main" in found["qd/ann"].reason
    git(repo, "merge", "-q", "qd/ann")
    found = await find(agents, repo)
    git(repo, "reset", "-q", "--hard", "HEAD~1")
    with pytest.raises(Conflict, match="was kept"):
        await usage.remove_leftover(found["qd/ann"])
    assert git(repo, "rev-parse", "qd/ann") == work


async def test_registrations_whose_folder_is_gone(repo: Path, agents: Path, git: Git, tmp_path: Path) -> None:
    tree = await make(repo, agents, git, "ann")
    git(repo, "worktree", "add", "-q", "-b", "users", str(tmp_path / "usb-stick"))
    shutil.rmtree(agents / "ann")
    shutil.rmtree(tmp_path / "usb-stick")
    found = await find(agents, repo)
    assert {name: (each.kind, each.action) for name, each in found.items()} == {
        "workspace": ("worktree", "remove"),
        "qd/ann": ("branch", "remove"),
    }
    tree.mkdir(parents=True)
    with pytest.raises(Conflict, match="there again"):
        await usage.remove_leftover(found["workspace"])
    shutil.rmtree(agents / "ann")
    for each in found.values():
        await usage.remove_leftover(each)
    listed = git(repo, "worktree", "list", "--porcelain")
    assert "workspace" not in listed
    assert "usb-stick" in listed


async def test_scratch_worktrees_and_rescue_refs(repo: Path, agents: Path, git: Git, tmp_path: Path) -> None:
    dead = tmp_path / "scratch" / "merge-999999-ab.1-00000000"
    git(repo, "worktree", "add", "-q", "--detach", str(dead))
    (repo / "new").write_text("x")
    saved = await rescue(repo, repo, "ann", 0.0)
    assert saved is not None
    found = await find(agents, repo)
    assert found[dead.name].action == "remove"
    await usage.remove_leftover(found[dead.name])
    assert not dead.exists()
    kept = found[Path(saved.ref).name]
    assert (kept.kind, kept.action, kept.what, kept.sha) == ("rescue", "keep", saved.ref, saved.sha)


async def test_a_project_that_is_no_repository_any_more_is_passed_over(agents: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (agents / "old").mkdir()
    found = await usage.find_leftovers(
        agents,
        (),
        {tmp_path / "plain": None, tmp_path / "missing": "main"},
        scratch_folder=tmp_path / "scratch",
        grace_seconds=0,
    )
    assert [(each.what, each.action) for each in found] == [(str(agents / "old"), "remove")]


async def test_without_a_known_base_no_branch_is_removed(repo: Path, agents: Path, git: Git, tmp_path: Path) -> None:
    git(repo, "branch", "qd/ann")
    found = await usage.find_leftovers(agents, (), {repo: "gone"}, scratch_folder=tmp_path / "s")
    assert [(each.what, each.action) for each in found] == [("qd/ann", "keep")]


def test_the_plan_keeps_what_is_young() -> None:
    survey = planning.Survey(folders=[planning.FolderFacts(path="/a/x", name="x", age_seconds=5, bytes=1, unsaved="")])
    assert planning.plan(survey, (), grace_seconds=600)[0].action == "keep"
    assert planning.plan(survey, (), grace_seconds=5)[0].action == "remove"
    assert planning.plan(survey, ("x",), grace_seconds=5) == []


@pytest.mark.parametrize(
    ("branch", "mine"),
    [("qd/ann", True), ("qd/ann-2", True), ("qd/ann-x", False), ("qd/annie", False), ("qd/a", False)],
)
def test_which_branches_belong_to_an_agent(branch: str, mine: bool) -> None:
    assert planning.belongs_to(branch, {"ann"}) is mine
