"""What is written in `Taskfile.yml` and `quarterdeck.toml` is told when it is wrong, and ends nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck import config
from quarterdeck.errors import InvalidInput
from quarterdeck.metadata import declared
from quarterdeck.metadata.collectors import taskfile
from quarterdeck.metadata.service import MetadataService

pytestmark = pytest.mark.anyio
BAD_YAML = ["vars: {RELEASED: 2024-13-45}", "a: !!int abc", f"a: {'9' * 5000}", "a: !!timestamp x", "[" * 5000]
BAD_TOML = [f"a = {'9' * 5000}", "a = " + "[" * 20000, "a = 2024-13-45"]


@pytest.mark.parametrize("text", BAD_YAML, ids=range(len(BAD_YAML)))
async def test_a_taskfile_that_cannot_be_read_is_a_problem_and_nothing_else(
    tmp_path: Path, repo: Path, text: str
) -> None:
    with pytest.raises(InvalidInput, match=r"Taskfile\.yml is not YAML"):
        taskfile.parse(text, origin="Taskfile.yml")
    (repo / "Taskfile.yml").write_text(text)
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        assert service.health()["status"] == "degraded"
        assert "Taskfile.yml is not YAML" in service.health()["problems"][0]
        assert (await service.read(fresh=True)).data["git_branch"].value == "main"
        (repo / "Taskfile.yml").write_text("version: '3'")
        await service._gathering._reload()
        assert service.health()["problems"] == []


@pytest.mark.parametrize("text", BAD_TOML, ids=range(len(BAD_TOML)))
def test_a_configuration_that_cannot_be_read_names_its_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"quarterdeck\.toml is not TOML"):
        config.parse(text, origin="quarterdeck.toml")
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(InvalidInput, match=r"x\.toml cannot be read as TOML"):
        config.load_settings(tmp_path / "x.toml", config.FileConfig, prefix="QD_NOTHING")


async def test_what_no_parser_foresees_is_a_problem_too(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path) -> list[taskfile.TaskField]:
        raise ZeroDivisionError("nobody thought of that")

    monkeypatch.setattr(declared.taskfile, "read", read)
    (repo / "Taskfile.yml").write_text("version: '3'")
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        assert "nobody thought of that" in service.health()["problems"][0]
