"""The sidecar's MCP server for its own agent: there when it is used, and not before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.sidecar import Sidecar, sidecar

pytestmark = pytest.mark.anyio
IMPORT_TIME = ("-X", "importtime")


async def said(side: Sidecar) -> Any:
    """What the agent was answered by the tool that it called last."""
    return json.loads((await side.log("text"))[-1]["text"])


def imported(side: Sidecar, module: str) -> bool:
    """Whether the sidecar has imported it; `-X importtime` tells on its standard error."""
    lines = (side.folder / "sidecar.log").read_text().splitlines()
    return any(line.startswith("import time:") and line.rpartition("|")[2].strip() == module for line in lines)


async def test_fastmcp_is_imported_when_it_is_first_used(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work", python=IMPORT_TIME) as side:
        await side.until(status="idle")
        assert (await side.run("@say hello"))["state"] == "succeeded"
        await side.post("/v1/report", {"summary": "over HTTP"})
        assert imported(side, "quarterdeck.sidecar.mcp")
        assert not imported(side, "fastmcp")
        ended = await side.run('@mcp report_task {"summary": "over MCP"}')
        assert ended["state"] == "succeeded", ended
        assert (await side.facts())["report"]["summary"] == "over MCP"
        assert imported(side, "fastmcp")
        await side.run("@mcp report_task " + json.dumps({"summary": "too much", "link": "x" * 2049}))
        assert (await side.facts())["report"]["summary"] == "over MCP"
        assert "the link has 2049 characters, at most 2048" in (await side.log("text"))[-1]["text"]
        await side.run("@mcp report_task " + json.dumps({"summary": "just right", "link": "x" * 2048}))
        assert (await side.facts())["report"]["summary"] == "just right"


async def test_ask_human_never_reports_an_answer_that_nobody_gave(tmp_path: Path) -> None:
    async with sidecar(tmp_path / "agent", tmp_path / "work") as side:
        await side.until(status="idle")
        await side.run('@mcp ask_human {"question": "Deploy?", "wait_seconds": 0}')
        open_one = await said(side)
        assert (open_one["answered"], open_one["answer"]) == (False, None)
        assert "closed_because" not in open_one
        again = {"question": "", "question_id": open_one["question_id"], "wait_seconds": 30}
        await side.run(f"@mcp ask_human {json.dumps(again)}")
        assert await said(side) == {
            "question_id": open_one["question_id"],
            "answered": False,
            "answer": None,
            "closed_because": "the turn ended",
        }
