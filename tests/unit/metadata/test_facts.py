"""Facts as answers show them, and what makes one stale."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import watchfiles
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.metadata.collector import Known
from quarterdeck.metadata.facts import Fact
from quarterdeck.metadata.model import Schema
from quarterdeck.metadata.service import MetadataService

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@given(
    value=st.none() | st.integers(-(2**53), 2**53) | TEXT | st.lists(TEXT, max_size=3),
    error=st.none() | TEXT,
    observed=st.none() | st.floats(0, 4e9),
    later=st.floats(-100, 1e6),
    schema=st.builds(Schema, description=TEXT, include_in_list=st.booleans()),
    limit=st.none() | st.floats(0, 1e6),
)
def test_both_forms_of_an_entry_are_the_same(
    value: Any, error: str | None, observed: float | None, later: float, schema: Schema, limit: float | None
) -> None:
    fact = Fact(
        "k",
        msgspec.json.encode(value),
        source="s",
        observed=observed,
        revision=7,
        schema=schema,
        error=error,
        stale=None if limit is None else lambda age: age > limit,
    )
    now = (observed or 0.0) + later
    written = json.loads(b"{" + fact.json(now))
    built = msgspec.to_builtins(fact.entry(now))
    assert written.pop("age_seconds") == pytest.approx(built.pop("age_seconds"), abs=0.002)
    assert written == built
    if observed is not None:
        fact.seen(observed + 5)
        assert json.loads(b"{" + fact.json(now))["observed_at"] == fact.entry(now).observed_at


class Old:
    """A collector whose values are as old as it says, and which nothing pokes."""

    name = "old"
    deadline = 5.0
    max_age = 60.0
    trigger = "age"
    keys = {"young": Schema(), "old": Schema()}  # noqa: RUF012 - a protocol's attribute

    async def collect(self, workspace: Path) -> dict[str, Any]:
        now = time.time()
        return {"young": Known(1, None, now - 0.5), "old": Known(1, None, now - 600)}


@pytest.mark.anyio
async def test_age_alone_makes_a_fact_stale(tmp_path: Path, repo: Path) -> None:
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        service._gathering.add("old", Old())  # type: ignore[arg-type]
        data = (await service.read(source="old", fresh=True)).data
        assert (data["young"].stale, data["young"].error) == (False, None)
        assert (data["old"].stale, data["old"].error) == (True, None)
        assert (data["old"].age_seconds or 0) >= 600


@pytest.mark.anyio
async def test_without_watches_ages_decide_and_health_says_so(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> AsyncIterator[Any]:
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(watchfiles, "awatch", refused)
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        with anyio.fail_after(20):
            while service.health()["file_watch"] == "starting":
                await anyio.sleep(0.01)
        assert service.health()["file_watch"].startswith("not watching (")
        assert "refreshed by age" in service.health()["file_watch"]
        assert (await service.read(fresh=True)).data["git_branch"].value == "main"


@pytest.mark.anyio
async def test_collectors_are_discovered_by_their_entry_point(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an installed package brings them: a module, and a folder that says what is in it."""
    (tmp_path / "qd_weather.py").write_text(
        "from quarterdeck.metadata.model import Schema\n"
        "class Weather:\n"
        "    name, deadline, max_age, trigger = 'weather', 1.0, 60.0, 'age'\n"
        "    keys = {'sky': Schema('what it looks like', True)}\n"
        "    def __init__(self, workspace): self.workspace = workspace\n"
        "    async def collect(self, workspace): return {'sky': self.workspace.name}\n"
    )
    info = tmp_path / "qd_weather-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qd-weather\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[quarterdeck.metadata.collectors]\nweather = qd_weather:Weather\nbroken = qd_weather:Nothing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        entry = (await service.read(source="weather", fresh=True)).data["sky"]
        assert (entry.value, entry.schema) == ("repo", Schema("what it looks like", True))
        [problem] = service.health()["problems"]
        assert "collector broken cannot be loaded" in problem
