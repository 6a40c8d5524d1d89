"""Projects and roles of quarterdeck.toml reach real agents: the branch, the provider, the variables, the words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.hub import CONFIG, LiveHub, git, whole

pytestmark = pytest.mark.anyio
_TABLES = f"""
[roles.reviewer]
description = "Reads what others wrote."
prompt = "You are a reviewer of the whole fleet."

[projects.shop]
repo = "."
base = "main"

[projects.bank]
repo = "../bank"
base = "develop"
provider = "second"
env = {{ STAGE = "vault" }}

[projects.bank.roles.auditor]
description = "Counts the money."
prompt = "You are an auditor of the bank."

[providers.second]
kind = "acp"
command = [{sys.executable!r}, "-m", "quarterdeck.scripted.agent"]
pass_env = ["QD_SCRIPTED_HOME"]
"""


async def said(hub: LiveHub, name: str) -> str:
    """All that an agent's AI said."""
    log = await hub.get(f"/api/agents/{name}/log", page_size=100)
    return "\n".join(entry["text"] for entry in log["entries"] if entry["kind"] == "text")


async def test_two_projects_and_roles_of_their_own(repo: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    git(tmp_path, "clone", "-q", str(repo), str(bank))
    git(bank, "checkout", "-q", "-b", "develop")
    (bank / "vault.txt").write_text("gold\n")
    git(bank, "add", "-A")
    git(bank, "-c", "user.name=T", "-c", "user.email=t@example.invalid", "commit", "-qm", "on develop alone")
    git(bank, "checkout", "-q", "main")
    script = (
        f"@instructions\n@run {sys.executable} -c \"import os; open('stage', 'w').write(str(os.environ.get('STAGE')))\""
    )
    async with whole(repo, CONFIG + _TABLES) as hub:
        listed = {p["name"]: p for p in await hub.get("/api/projects")}
        assert set(listed) == {"shop", "bank"}
        assert [p["problem"] for p in listed.values()] == [None, None]
        await hub.create("seller", script, role="reviewer", spec="Mind the blue door.")
        await hub.create("teller", script, project="bank", role="auditor", spec="Count twice.")
        for name, base, provider, stage in (
            ("seller", "main", "scripted", "None"),
            ("teller", "develop", "second", "vault"),
        ):
            assert (await hub.until_done(name))["state"] == "succeeded"
            shown = await hub.show(name)
            where = Path(listed[shown["project"]]["repo"])
            assert (shown["base"], shown["provider"], shown["repo"]) == (base, provider, str(where))
            assert shown["base_sha"] == git(where, "rev-parse", base) == git(where, "rev-parse", f"qd/{name}")
            assert (Path(shown["workspace"]) / "stage").read_text() == stage
        assert (Path((await hub.show("teller"))["workspace"]) / "vault.txt").exists()
        for name, role, spec in (
            ("seller", "You are a reviewer of the whole fleet.", "Mind the blue door."),
            ("teller", "You are an auditor of the bank.", "Count twice."),
        ):
            words = await said(hub, name)
            assert role in words
            assert spec in words
        # A project's own role is nobody else's; a file's is everybody's.
        sources = {
            name: {r["name"]: r["source"] for r in await hub.get(f"/api/projects/{name}/roles")} for name in listed
        }
        assert sources["bank"]["auditor"] == "project"
        assert "auditor" not in sources["shop"]
        assert sources["shop"]["reviewer"] == sources["bank"]["reviewer"] == "file"
        refused = await hub.post("/api/agents", {"name": "x", "role": "auditor"}, expect=404)
        assert "reviewer" in refused["error"]["hint"]


async def test_a_linked_worktree_works_on_the_branch_one_stands_on(repo: Path, tmp_path: Path) -> None:
    side = tmp_path / "side"
    git(repo, "worktree", "add", "-q", "-b", "feature-x", str(side))
    (repo / "only-here.txt").write_text("the main worktree is not clean\n")
    async with whole(side) as hub:
        (listed,) = await hub.get("/api/projects")
        assert (listed["base"], listed["problem"]) == ("feature-x", None)
        await hub.create("wtx", "@write done.txt done\n@commit work")
        assert (await hub.until_done("wtx"))["state"] == "succeeded"
        shown = await hub.show("wtx")
        assert (shown["base"], shown["base_sha"]) == ("feature-x", git(side, "rev-parse", "HEAD"))
        assert not any("uncommitted" in note for note in shown["notes"])
        before = git(repo, "rev-parse", "main")
        await hub.post("/api/agents/wtx/merge")
        assert (side / "done.txt").exists()
        assert git(repo, "rev-parse", "main") == before
        # The other way round: this worktree is the one that the note is about; a deletion tells only its own.
        (side / "only-there.txt").write_text("x\n")
        made = await hub.post("/api/agents", {"name": "dirty"})
        assert any("uncommitted" in note for note in made["notes"])
        await hub.until_status("dirty", "idle")
        assert any("uncommitted" in note for note in (await hub.show("dirty"))["notes"])
        deleted = (await hub.http.delete("/api/agents/dirty")).json()
        assert (deleted["done"], deleted["notes"]) == (True, [])
