"""A merge belongs to the hub, not to the connection of whoever asked for it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from support.hub import CONFIG, git, until_written, whole

pytestmark = pytest.mark.anyio
# Says that it began, then waits until it may end, well or not.
_CHECK = "touch {0}/begun; while [ ! -e {0}/go ]; do sleep 0.05; done; exit $(cat {0}/go)"


@pytest.mark.parametrize("code", [0, 3])
async def test_a_merge_goes_on_without_its_client(repo: Path, tmp_path: Path, code: int) -> None:
    check = _CHECK.format(tmp_path)
    config = CONFIG + f'\n[projects.repo]\nrepo = "."\nbase = "main"\ncheck = ["sh", "-c", "{check}"]\n'
    async with whole(repo, config) as hub:
        await hub.create("ada", "@write a.txt hello\n@commit add a")
        await hub.until_done("ada")
        before = git(hub.repo, "rev-parse", "main")
        async with anyio.create_task_group() as group, hub.mcp() as client:
            group.start_soon(client.call_tool, "merge_agent_work", {"agent_name": "ada"})
            await until_written(tmp_path / "begun")
            group.cancel_scope.cancel()
        again = await hub.post("/api/agents/ada/merge", expect=409)
        assert "is being merged already" in again["error"]["message"]
        (tmp_path / "go").write_text(str(code))
        with anyio.fail_after(20):
            while (outcome := (await hub.show("ada"))["last_merge"]) is None:
                await anyio.sleep(0.05)
        events = (hub.state / "hub" / "events.jsonl").read_text()
        if code == 0:
            assert git(hub.repo, "show", "main:a.txt") == "hello"
            assert (outcome["commits"], outcome["after"]) == (1, git(hub.repo, "rev-parse", "main"))
            assert '"event":"WorkMerged"' in events
        else:
            assert git(hub.repo, "rev-parse", "main") == before
            assert "check" in outcome["failure"]
            assert '"event":"MergeFailed"' in events


@pytest.mark.parametrize(("method", "merges"), [("merge", 1), ("rebase", 0)])
async def test_the_method_decides_whether_history_stays_a_line(repo: Path, method: str, merges: int) -> None:
    async with whole(repo, CONFIG) as hub:
        await hub.create("ada", "@write a.txt hello\n@commit add a")
        await hub.until_done("ada")
        git(
            hub.repo,
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.invalid",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        )
        meanwhile = git(hub.repo, "rev-parse", "main")
        async with hub.mcp() as client:
            done = await client.call_tool("merge_agent_work", {"agent_name": "ada", "method": method})
        assert done.structured_content["commits"] == 1
        assert git(hub.repo, "show", "main:a.txt") == "hello"
        assert git(hub.repo, "rev-list", "--count", "--merges", "main") == str(merges)
        assert git(hub.repo, "rev-parse", "main^1") == meanwhile
