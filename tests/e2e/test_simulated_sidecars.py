"""A hub over many simulated sidecars (tests/support/fake_sidecars.py), which the benchmarks use, too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from quarterdeck.files import read_json
from quarterdeck.metadata.model import MetadataAnswer
from quarterdeck.sidecar.client import SidecarClient
from quarterdeck.sidecar.spec import ADDRESS_FILE, Address
from support.hub import CONFIG, configure, in_process, state_folder

pytestmark = pytest.mark.anyio
TESTS = Path(__file__).resolve().parents[1]


@asynccontextmanager
async def simulated(
    state: Path, repo: Path, number: int, changes_per_second: float = 0, kinds: Sequence[str] = ("ok",)
) -> AsyncIterator[subprocess.Popen[str]]:
    """The process that serves them; ended afterwards."""
    command = [sys.executable, "-m", "support.fake_sidecars", str(state), str(repo), str(number)]
    with subprocess.Popen(
        [*command, "--changes-per-second", str(changes_per_second), "--kinds", ",".join(kinds)], cwd=TESTS, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            assert await run_sync(process.stdout.readline) == "ready\n"
            yield process
        finally:
            process.kill()


async def test_they_keep_the_contract_of_a_sidecar(repo: Path) -> None:
    with state_folder() as state:
        async with simulated(state, repo, 1, changes_per_second=50):
            address = read_json(state / "agents" / "sim-0000" / ADDRESS_FILE, Address)
            assert address is not None
            client = SidecarClient.connect(address, "sim-0000")
            facts = await client.facts()
            assert (facts.agent, facts.status) == ("sim-0000", "busy")
            assert [t.state for t in (await client.tasks(offset=0, limit=20)).tasks] == ["started"]
            assert (await client.log(offset=0, limit=1)).entries == []
            known = await client.call(MetadataAnswer, "GET", "/metadata")
            assert known.data["git.dirty"].value is True
            with anyio.fail_after(10):
                async with client.events(after=0, facts=True) as events:
                    kinds = [(await anext(events)).kind for _ in range(3)]
            assert kinds == ["facts"] * 3
            await client.aclose()


async def test_a_hub_follows_many_and_tells_the_truth_when_they_die(repo: Path) -> None:
    number = 200
    configure(repo, CONFIG)
    with state_folder() as state:
        async with simulated(state, repo, number, changes_per_second=20) as process, in_process(repo, state) as live:
            with anyio.fail_after(60):
                while True:
                    agents = (await live.get("/api/agents", limit=1000))["agents"]
                    if len(agents) == number and all(a["status"] == "busy" and not a["unreachable"] for a in agents):
                        break
                    await anyio.sleep(0.05)
            cursor = (await live.get("/api/wait", timeout=0))["cursor"]
            seen = await live.get("/api/wait", timeout=20, cursor=cursor)
            assert seen["changed"], "a change reaches a client that waits"
            assert not seen["timed_out"]
            process.kill()
            with anyio.fail_after(60):
                while {a["status"] for a in (await live.get("/api/agents", limit=1000))["agents"]} != {"failed"}:
                    await anyio.sleep(0.05)
