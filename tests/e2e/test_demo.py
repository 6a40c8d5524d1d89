"""`qd demo` as a newcomer runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from provider_support import absent
from quarterdeck.errors import Unavailable
from quarterdeck.sidecar.catalog import BUILT_IN, locate
from support.cli import Qd
from support.hub import left_over


@pytest.fixture
def qd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qd:
    """`qd` outside of any repository; the demo's folders are below a temporary one."""
    monkeypatch.setenv("TMPDIR", "/tmp")
    return Qd(tmp_path, tmp_path / "state")


def folders() -> set[Path]:
    """The folders of demos that are there."""
    return set(Path("/tmp").glob("qd-demo-*"))


def check(out: str) -> None:
    """What the end must say, of each of the three."""
    for name, tests in (("ada", 2), ("grace", 3), ("linus", 1)):
        assert f"{name}  branch qd/{name}  {tests} tests pass" in out
    assert out.count("    commit    ") == 4
    assert re.search(r"demo/shop#2 +open +failing: lint +none +grace", out), "a failing check is a fact of the fleet"
    assert re.search(r"task for grace, by itself: Checks fail on your pull request .* succeeded", out)
    assert "NOT SO" not in out
    assert "All of it is true" in out


def test_three_agents_work_and_nothing_is_left(qd: Qd) -> None:
    before = folders()
    said = qd("demo")
    check(said.out)
    assert re.search(r"ada +busy +", said.out), "progress is shown while they work"
    assert folders() <= before
    assert left_over(Path("/tmp/qd-demo-")) == []
    assert not qd.state.exists(), "it has a state folder of its own"


def test_kept_it_can_be_used_as_it_says_and_ended(qd: Qd) -> None:
    said = qd("demo", "--keep")
    check(said.out)
    state = Path(re.search(r"export QD_STATE_DIR=(\S+)", said.out)[1])  # type: ignore[index]
    kept = Qd(qd.folder, state)
    try:
        assert [agent["status"] for agent in kept("agents", "list", "--json").json["agents"]] == ["idle"] * 3
        for name in ("ada", "grace", "linus"):
            assert "after its check passed" in kept("agents", "merge", name).out
        assert (state.parent / "shop" / "shop" / "receipt.py").is_file()
    finally:
        kept("down", "--agents")
    assert left_over(state) == []


@pytest.mark.real_agent
def test_the_real_claude_code_does_the_same_work(qd: Qd) -> None:
    try:
        locate(BUILT_IN["claude-code"])
    except Unavailable as error:
        absent("claude", error.hint)
    before = folders()
    said = qd("demo", "--provider", "claude-code")
    check(said.out)
    assert folders() <= before
