"""`qd metadata get|set|rm|watch` against a hub of which only the calls matter here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from quarterdeck.cli.hubclient import HubClient
from quarterdeck.cli.metadata import group

ENTRY = {"value": {"a": "é"}, "error": None, "stale": False, "source": "stored"}


class Hub:
    """Remembers calls, and answers as the hub does."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def get(self, path: str, **query: Any) -> Any:
        self.calls.append(("GET", path, {k: v for k, v in query.items() if v is not None}))
        if path.endswith("/k"):
            return {"key": "k", **ENTRY}
        broken = {**ENTRY, "value": "main", "error": "no network"}
        return {"data": {"k": ENTRY, "branch": broken}, "meta": {}}

    def post(self, path: str, body: Any) -> Any:
        self.calls.append(("POST", path, body))
        return {"created": ["a"], "updated": ["b"], "revision": 7}

    def delete(self, path: str) -> None:
        self.calls.append(("DELETE", path))

    def lines(self, path: str, **query: Any) -> Iterator[str]:
        self.calls.append(("WATCH", path))
        yield "event: snapshot"
        yield 'data: {"revision": 1, "data": {"k": {"value": 1}}}'
        yield "event: change"
        yield 'data: {"revision": 2, "data": {"k": {"value": 2}, "gone": null}}'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub()
    monkeypatch.setattr(HubClient, "find", lambda: found)
    return found


def run(hub: Hub, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_get(hub: Hub) -> None:
    assert run(hub, "get", "al/ice", "k") == '{"a": "é"}\n'
    assert hub.calls[-1][1] == "/api/agents/al%2Fice/metadata/k"
    assert run(hub, "get", "alice", "--fresh", "--source", "git") == 'k       {"a": "é"}\nbranch  main  (no network)\n'
    assert hub.calls[-1] == ("GET", "/api/agents/alice/metadata", {"source": "git", "fresh": "true"})


def test_set_and_rm(hub: Hub) -> None:
    assert run(hub, "set", "alice", "a=x=y", "b=") == "a stored\nb updated\n"
    assert hub.calls[-1][2] == {"data": {"a": "x=y", "b": ""}}
    run(hub, "set", "alice", "--json", 'a={"n": 1}')
    assert hub.calls[-1][2] == {"data": {"a": {"n": 1}}}
    run(hub, "set", "alice", "nothing", code=2)
    run(hub, "set", "alice", "--json", "a=x", code=2)
    run(hub, "rm", "alice", "a/b", "c")
    assert [c[:2] for c in hub.calls[-2:]] == [
        ("DELETE", "/api/agents/alice/metadata/a%2Fb"),
        ("DELETE", "/api/agents/alice/metadata/c"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--json", 'k={"x":1,"x":2}'], "'x' more than once"),
        (["--json", 'k=[{"a":{"x":1,"x":2}}]'], "'x' more than once"),
        (["k=1", "j=1", "k=2"], "'k' is given more than once"),
        (["--json", "k=1e999"], "1e999"),
        (["--json", "k=[NaN]"], "NaN"),
    ],
)
def test_what_would_not_be_stored_as_given_is_refused(hub: Hub, arguments: list[str], words: str) -> None:
    assert words in run(hub, "set", "alice", *arguments, code=2)
    assert hub.calls == []


def test_watch(hub: Hub) -> None:
    assert run(hub, "watch", "alice") == "k  2\ngone  (gone)\n"


def test_nothing_heavy_is_imported_at_the_start() -> None:
    script = (
        "import sys, quarterdeck.cli.metadata; print([m for m in ('anyio','starlette','httpx2') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
