"""What the local backend hands to a sidecar, and what of it the agent's program gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.fleet.backends.local import LocalBackend
from quarterdeck.sidecar import life as lives
from quarterdeck.sidecar.spec import LaunchSpec
from quarterdeck.sidecar.store import Store


def test_forge_tokens_reach_the_sidecar_but_not_the_agents_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "a-forge-token")
    monkeypatch.setenv("MODEL_KEY", "a-model-key")
    monkeypatch.setenv("UNRELATED_SECRET", "nobody-needs-it")
    launch = LaunchSpec(
        id="a-1", name="a", workspace=str(tmp_path), kind="command", provider="x", command=["true"],
        pass_env=["MODEL_KEY"], env={"GIVEN": "1"},
    )  # fmt: skip
    sidecar = LocalBackend(tmp_path / "state" / "agents")._environment(launch)
    assert sidecar["GITHUB_TOKEN"] == "a-forge-token"
    assert sidecar["MODEL_KEY"] == "a-model-key"
    assert sidecar["QD_STATE_DIR"] == str(tmp_path / "state")
    assert "UNRELATED_SECRET" not in sidecar

    store = Store(tmp_path / "agent.db")
    life = lives.Life(1, launch, tmp_path, store, lambda kind: pytest.fail("not started"), None, None)
    program = life._launch().env
    store.close()
    assert program["MODEL_KEY"] == "a-model-key"
    assert program["GIVEN"] == "1"
    assert not {"GITHUB_TOKEN", "QD_STATE_DIR", "UNRELATED_SECRET"} & program.keys()
