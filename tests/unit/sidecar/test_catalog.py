from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from quarterdeck.config import FileConfig, ProviderTable
from quarterdeck.errors import InvalidInput, NotFound, Unavailable
from quarterdeck.sidecar.catalog import BUILT_IN, VERSION_ARGUMENTS, locate, resolve
from quarterdeck.sidecar.providers import make_provider


def test_the_configuration_comes_before_what_is_built_in() -> None:
    mine = ProviderTable(kind="command", command=["true"])
    config = FileConfig(providers={"mine": mine, "codex": mine})
    assert resolve("mine", config) is mine
    assert resolve("codex", config) is mine
    assert resolve("claude-code", config) is BUILT_IN["claude-code"]


def test_an_unknown_provider_is_answered_with_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        resolve("cluade", FileConfig(providers={"mine": ProviderTable(kind="command")}))
    assert "claude-code" in caught.value.hint
    assert "mine" in caught.value.hint


def test_a_program_is_found_on_the_path_that_the_provider_gives(tmp_path: Path) -> None:
    program = tmp_path / "my-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    table = ProviderTable(kind="acp", command=["my-agent"], env={"PATH": str(tmp_path)})
    assert locate(table) == str(program)
    assert locate(ProviderTable(kind="acp", command=[str(program)])) == str(program)


def test_a_missing_program_tells_how_to_install_it() -> None:
    for name, table in BUILT_IN.items():
        assert table.install, name
    table = ProviderTable(kind="acp", command=["no-such-agent"], install="ask Ann for it")
    with pytest.raises(Unavailable) as caught:
        locate(table)
    assert caught.value.hint == "ask Ann for it"
    with pytest.raises(Unavailable, match="no command"):
        locate(ProviderTable(kind="command"))


def test_the_scripted_agent_is_always_there() -> None:
    assert locate(BUILT_IN["scripted"]) == sys.executable
    assert set(VERSION_ARGUMENTS) <= set(BUILT_IN)


def test_keys_are_passed_by_name_and_never_written_down() -> None:
    for table in BUILT_IN.values():
        assert table.env == {}
        assert all(name.isupper() or name.startswith("QD_") for name in table.pass_env)


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidInput, match="telepathy"):
        make_provider("telepathy")


def test_making_a_provider_loads_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys; from quarterdeck.sidecar.providers import make_provider; "
        "[make_provider(k) for k in ('acp', 'claude-code', 'command')]; "
        "print([m for m in ('acp', 'pydantic', 'claude_agent_sdk') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"
