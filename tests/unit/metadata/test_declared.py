"""What is written in `Taskfile.yml` and `quarterdeck.toml` is told when it is wrong, and ends nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from quarterdeck import config
from quarterdeck.config import FieldTable, MetadataTable
from quarterdeck.errors import InvalidInput
from quarterdeck.metadata import declared
from quarterdeck.metadata.collectors import taskfile
from quarterdeck.metadata.service import MetadataService
from quarterdeck.scripted.forge import scripted_forge

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


@pytest.mark.parametrize(
    "api", ["https://[git.example/api/v3", "git.example/api", "file:///x", "http://", "http://h:x"]
)
async def test_an_address_that_is_none_is_a_problem_and_nothing_else(tmp_path: Path, repo: Path, api: str) -> None:
    text = f'[metadata.github]\nhosts = ["git.example"]\napi = "{api}"\n'
    with pytest.raises(InvalidInput, match=r"api = .* is no http or https address.*metadata\.github"):
        config.parse(text, origin="it")
    async with MetadataService.open(tmp_path / "a", repo, agent="a", config_folder=repo) as service:
        (repo / "quarterdeck.toml").write_text(text)
        with anyio.fail_after(20):
            while "is no http or https address" not in str(service.health()["problems"]):
                await anyio.sleep(0.05)
        assert (await service.read(fresh=True)).data["git_branch"].value == "main"


async def test_a_collector_that_cannot_be_made_is_a_problem_until_it_can(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = declared.make

    def make(name: str, what: Any, task: Any) -> Any:
        if getattr(what, "interval", None) == 77:
            raise ZeroDivisionError("odd")
        return real(name, what, task)

    monkeypatch.setattr(declared, "make", make)

    async def until(words: str, there: bool) -> None:
        with anyio.fail_after(20):
            while (words in str(service.health()["problems"])) != there:
                await anyio.sleep(0.05)

    async with MetadataService.open(tmp_path / "a", repo, agent="a", config_folder=repo) as service:
        (repo / "quarterdeck.toml").write_text("[metadata.github]\ninterval = 77\n")
        await until("github cannot be started: ZeroDivisionError: odd", there=True)
        assert "gitlab" in service.health()["collectors"]
        assert "github" not in service.health()["collectors"]
        (repo / "quarterdeck.toml").write_text("[metadata.github]\ninterval = 78\n")
        await until("github", there=False)
        assert "github" in service.health()["collectors"]


async def test_a_field_that_cannot_be_a_key_is_a_problem(tmp_path: Path, repo: Path) -> None:
    table = MetadataTable(fields={"not a key": FieldTable(run=["true"]), "fine": FieldTable(run=["echo", "7"])})
    async with MetadataService.open(tmp_path / "a", repo, agent="a", config=table) as service:
        assert "cannot be a key" in service.health()["problems"][0]
        assert (await service.read(fresh=True)).data["fine"].value == 7


@pytest.mark.parametrize("key", ["pull_request_check_status", "fleet_mcp_pull_request_url", "git_dirty", "task_title"])
async def test_no_declared_field_takes_the_place_of_a_fact_of_ours(tmp_path: Path, repo: Path, key: str) -> None:
    (repo / "Taskfile.yml").write_text(f"version: '3'\ntasks:\n  {key}: {{meta: {{}}, cmds: ['echo passing']}}\n")
    table = MetadataTable(fields={key: FieldTable(run=["echo", "passing"]), "fine": FieldTable(run=["echo", "1"])})
    async with MetadataService.open(tmp_path / "a", repo, agent="a", config=table) as service:
        data = (await service.read(fresh=True)).data
        assert data["fine"].value == 1
        assert key not in data or data[key].source == "git"
        problems = service.health()["problems"]
        assert [problem.split(" ")[0] for problem in problems] == [f"command:{key}", f"taskfile:{key}"]
        assert "no declared field may replace" in problems[0]
        (repo / "Taskfile.yml").unlink()
        await service._gathering._reload()
        assert len(service.health()["problems"]) == 1


@pytest.mark.parametrize(
    ("printed", "kind", "value"),
    [
        ("3.10", "auto", "3.10"),
        ("1234e56", "auto", "1234e56"),
        ("007", "auto", "007"),
        ("12345678901234567890.0", "auto", "12345678901234567890.0"),
        ("-0", "auto", "-0"),
        ("87.5", "auto", 87.5),
        ("-12", "auto", -12),
        ("true", "auto", True),
        ('{"a": 1.50}', "auto", {"a": 1.5}),
        ('"quoted"', "auto", '"quoted"'),
        ("87.5", "text", "87.5"),
        ("null", "text", "null"),
        ("3.10", "json", 3.1),
        ('"quoted"', "json", "quoted"),
    ],
)
async def test_what_a_command_prints_is_not_changed_silently(
    tmp_path: Path, repo: Path, printed: str, kind: str, value: object
) -> None:
    table = config.convert({"run": ["echo", printed], "format": kind}, FieldTable, origin="x")
    async with MetadataService.open(
        tmp_path / "a", repo, agent="a", config=MetadataTable(fields={"f": table})
    ) as service:
        found = (await service.read(fresh=True, keys=["f"])).data["f"]
        assert found.error is None
        assert (found.value, type(found.value)) == (value, type(value))


async def test_text_for_json_and_unknown_formats_are_told(tmp_path: Path, repo: Path) -> None:
    with pytest.raises(InvalidInput, match="format"):
        config.convert({"run": ["true"], "format": "yaml"}, FieldTable, origin="x")
    (repo / "quarterdeck.toml").write_text('[metadata.fields.f]\nrun = ["echo", "hello"]\nformat = "json"\n')
    async with MetadataService.open(tmp_path / "a", repo, agent="a", config_folder=repo) as service:
        found = (await service.read(fresh=True, keys=["f"])).data["f"]
        assert "is not JSON" in (found.error or "")


async def test_all_of_the_metadata_table_takes_effect_without_a_restart(
    tmp_path: Path, repo: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QD_STATE_DIR", str(tmp_path / "state"))
    async with (
        scripted_forge() as forge,
        MetadataService.open(tmp_path / "a", repo, agent="a", config_folder=repo) as service,
    ):
        git(repo, "remote", "add", "origin", forge.remote("acme/shop"))
        pull = forge.open_pull("acme/shop", "main", sha="1" * 40)
        data = (await service.read(fresh=True)).data
        assert "pull_request_number" not in data
        assert "task_id" not in data

        host = forge.url.partition("://")[2]
        (repo / "task.json").write_text('{"id": "7"}')
        forge_table = f'[metadata.github]\nhosts = ["{host}"]\napi = "{forge.url}"\n'
        (repo / "quarterdeck.toml").write_text('[metadata]\ntask_file = "task.json"\n' + forge_table)
        await service._gathering._reload()
        data = (await service.read(fresh=True)).data
        assert data["pull_request_number"].value == pull.number
        assert data["task_id"].value == "7"
        health = service.health()["collectors"]
        await service._gathering._reload()
        assert service.health()["collectors"]["github"] == health["github"], "made anew though nothing changed"

        (repo / "quarterdeck.toml").unlink()
        await service._gathering._reload()
        data = (await service.read()).data
        assert "pull_request_number" not in data
        assert "task_id" not in data
