"""The Taskfile collector with the real `task`, and its refusal where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.metadata.collectors import taskfile
from quarterdeck.metadata.service import MetadataService

pytestmark = pytest.mark.anyio
TASKFILE = """
version: '3'
tasks:
  coverage:
    desc: test coverage in percent
    meta: {include_in_list: true, timeout: 5, interval: 30}
    sources: [README.md]
    cmds: ["echo 87.5"]
  title:
    meta: {desc: the first line}
    cmds: ["head -n 1 README.md"]
  broken:
    meta: {}
    cmds: ["echo no coverage here >&2; exit 3"]
  hangs:
    meta: {timeout: 0.4}
    cmds: ["sleep 60"]
  build:
    cmds: ["touch built"]
"""


@pytest.fixture
def task_on_path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real `task`, which the development dependencies bring."""
    program = Path(sys.executable).parent / "task"
    assert program.exists(), "go-task-bin is a development dependency"
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


async def test_tasks_with_meta_are_facts(
    task_on_path: Path, tmp_path: Path, repo: Path, git: Callable[..., str]
) -> None:
    (repo / "Taskfile.yml").write_text(TASKFILE)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "tasks")
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        found = (await service.read(source="taskfile", fresh=True)).data
        assert found.keys() == {"coverage", "title", "broken", "hangs"}, "a task without `meta` is not run"
        coverage = found["coverage"]
        assert (coverage.value, coverage.error) == (87.5, None)
        assert coverage.schema.description == "test coverage in percent"
        assert service.summary()["coverage"] == 87.5
        assert "title" not in service.summary()
        assert found["title"].value == "# Sample"
        assert found["title"].schema.description == "the first line"
        assert "no coverage here" in (found["broken"].error or "") or "ended with" in (found["broken"].error or "")
        assert "0.4 s" in (found["hangs"].error or "")
        # A second time, with unchanged `sources`, and the workspace is as it was.
        again = (await service.read(keys=["coverage"], fresh=True)).data["coverage"]
        assert (again.value, again.error) == (87.5, None)
        assert git(repo, "status", "--porcelain", "--ignored") == ""
        with anyio.fail_after(30):  # what is declared later takes effect by itself
            (repo / "Taskfile.yml").write_text("version: '3'\ntasks:\n  n: {meta: {}, cmds: ['echo 3']}\n")
            while True:
                found = (await service.read(source="taskfile", fresh=True)).data
                if found.keys() == {"n"} and found["n"].value == 3:
                    break
                await anyio.sleep(0.05)


async def test_without_task_the_fact_says_what_to_do(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_git = next(p for f in os.environ["PATH"].split(os.pathsep) if (p := Path(f) / "git").exists())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(real_git)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (repo / "Taskfile.yml").write_text(TASKFILE)
    async with MetadataService.open(tmp_path / "a", repo, agent="a") as service:
        found = (await service.read(fresh=True)).data
        assert found["coverage"].value is None
        assert "`task` is not installed" in (found["coverage"].error or "")
        assert "install go-task" in (found["coverage"].error or "")
        assert found["git_branch"].value == "main"
    [field] = taskfile.parse("tasks: {x: {meta: {}}}", origin="Taskfile.yml")
    with pytest.raises(Unavailable) as refused:
        await taskfile.collector(field).collect(repo)
    assert "install go-task" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tasks: {x: {meta: {descr: y}}}", "unknown key descr"),
        ("tasks: {x: {meta: {timeout: soon}}}", "timeout"),
        ("tasks: {'a b': {meta: {}}}", "a b"),
        ("tasks: [", "not YAML"),
    ],
)
async def test_a_taskfile_that_cannot_be_right(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        taskfile.parse(text, origin="Taskfile.yml")
