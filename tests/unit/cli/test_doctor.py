"""`qd doctor`: what is missing is a finding with what to do, never an exception."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from quarterdeck.cli import main
from quarterdeck.cli.doctor import Finding, examine

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own."""
    monkeypatch.setenv("QD_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


async def found(folder: Path) -> dict[str, Finding]:
    """Findings by name."""
    return {finding.name: finding for finding in await examine(folder)}


async def test_a_good_machine(repo: Path, state: Path) -> None:
    (repo / "quarterdeck.toml").write_text('[agents]\nprovider = "scripted"\n')
    findings = await found(repo)
    for name in ("python", "git", "repository", "agent scripted (default)", "state folder", "configuration"):
        assert findings[name].state == "ok", name
    assert "uncommitted changes" in findings["repository"].found
    assert findings["hub"].to_do.startswith("qd up")
    assert str(state) in findings["state folder"].found


async def test_the_default_agent_is_needed_the_others_are_not(repo: Path) -> None:
    (repo / "quarterdeck.toml").write_text(
        '[agents]\nprovider = "ghost"\n[providers.ghost]\nkind = "command"\ncommand = ["no-such-ghost"]\n'
        'install = "ask its maker"\n[providers.other]\nkind = "command"\ncommand = ["no-such-other"]\n'
    )
    findings = await found(repo)
    ghost = findings["agent ghost (default)"]
    assert (ghost.state, ghost.required, ghost.to_do) == ("missing", True, "ask its maker")
    assert (findings["agent other"].state, findings["agent other"].required) == ("missing", False)


async def test_the_bundled_codex_is_told_with_its_path(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the wheel has it: a module that knows where the program is."""
    package = tmp_path / "site" / "codex_cli_bin"
    package.mkdir(parents=True)
    program = package / "codex"
    (package / "__init__.py").write_text(
        "from pathlib import Path\n\ndef bundled_codex_path():\n"
        "    path = Path(__file__).with_name('codex')\n"
        "    if not path.is_file():\n        raise FileNotFoundError('its program is missing')\n"
        "    return path\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "codex_cli_bin", raising=False)
    broken = (await found(repo))["codex (bundled)"]
    assert (broken.state, broken.found) == ("problem", "its program is missing")
    program.write_text("#!/bin/sh\necho codex-cli 9.9.9\n")
    program.chmod(0o755)
    told = (await found(repo))["codex (bundled)"]
    assert (told.state, told.required, told.found) == ("ok", False, f"codex-cli 9.9.9 ({program})")
    assert "docs/providers.md" in told.to_do
    monkeypatch.delitem(sys.modules, "codex_cli_bin")


async def test_floors_that_are_not_met_carry_both_figures(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QD_FREE_MEMORY_MB", "999999999")
    findings = await found(repo)
    assert (findings["memory"].state, findings["memory"].required) == ("problem", True)
    assert "999999999 MB" in findings["memory"].found
    assert "free_memory_mb" in findings["memory"].to_do
    assert findings["disk"].state == "ok"


async def test_a_wrong_configuration_and_a_folder_that_is_none(tmp_path: Path, state: Path) -> None:
    (tmp_path / "quarterdeck.toml").write_text("[nonsense]\n")
    state.write_text("in the way")
    findings = await found(tmp_path)
    assert findings["configuration"].required
    assert "nonsense" in findings["configuration"].found
    assert findings["repository"].state == "problem"
    assert "git init" in findings["repository"].to_do.replace(f"-C {tmp_path} ", "")
    assert findings["state folder"].state == "problem"


def test_its_exit_code_and_its_json(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo)
    (repo / "quarterdeck.toml").write_text('[agents]\nprovider = "scripted"\n')
    assert main.run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    monkeypatch.setenv("QD_FREE_DISK_MB", "999999999")
    assert main.run(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "problem" in printed
    assert "999999999" in printed
