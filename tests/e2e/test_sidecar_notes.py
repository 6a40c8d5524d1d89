"""Notes beside the tasks: `POST /v1/notes`, and where they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.sidecar import offline
from quarterdeck.sidecar.client import SidecarClient
from support.sidecar import sidecar

pytestmark = pytest.mark.anyio


async def test_a_note_is_in_the_log_the_history_and_the_facts_once(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work") as side:
        await side.until(status="idle")
        done = await side.run("@say hello")
        note = await side.post("/v1/notes", {"key": "k 1/ü", "text": "somebody has to look"}, expect=201)
        again = await side.post("/v1/notes", {"key": "k 1/ü", "text": "other words"}, expect=200)
        assert again == note
        client = SidecarClient.connect(side.address, "tester")
        await client.add_note("from the hub", key="k2")
        await client.add_note("from the hub", key="k2")
        page = await client.tasks(offset=0, limit=20)
        await client.aclose()
        assert ([t.id for t in page.tasks], [n.text for n in page.notes]) == (
            [done["id"]],
            ["from the hub", "somebody has to look"],
        )
        assert [e["text"] for e in await side.log("note")][-2:] == ["somebody has to look", "from the hub"]
        assert (await side.facts())["notes"][-2:] == ["somebody has to look", "from the hub"]
        for body in ({"key": "", "text": "x"}, {"key": "k", "text": ""}, {"key": "k", "text": "x" * 2001},
                     {"key": "k" * 256, "text": "x"}, {"text": "x"}):  # fmt: skip
            await side.post("/v1/notes", body, expect=400)
        folder = side.folder
    # Nothing of it is gone with the process.
    kept = offline.tasks(folder, offset=0, limit=20, dead=True)
    assert [n.text for n in kept.notes][-2:] == ["from the hub", "somebody has to look"]
