"""The demo believes git and the tests, not what agents say: every lie is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.demo.sample import CONFIG, WORK, Work
from quarterdeck.demo.truth import git, look, make_sample
from quarterdeck.scripted.script import parse

IDENTITY = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
LINUS = next(work for work in WORK if work.agent == "linus")


@pytest.fixture
def sample(tmp_path: Path) -> tuple[Path, str, dict[str, Any]]:
    """The sample with a branch on which linus did his work, its base, and what a hub would tell of him."""
    repo, workspace = tmp_path / "shop", tmp_path / "linus"
    repo.mkdir()
    make_sample(repo, CONFIG.format(provider="scripted"))
    base = git(repo, "rev-parse", "main")
    git(repo, "worktree", "add", "-q", "-b", "qd/linus", str(workspace))
    for step in parse(LINUS.task):
        if step.name in ("write", "append"):
            name, text = step.split()
            file = workspace / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text if step.name == "write" else file.read_text() + text)
    git(workspace, "add", "-A")
    git(workspace, *IDENTITY, "commit", "-qm", "docs")
    told = {
        "workspace": str(workspace),
        "base_sha": base,
        "metadata": {"tests": {"source": "stored", "value": "1 passed"}, "git_head": {"source": "git", "value": "x"}},
        "report": {"summary": "done", "state": "complete"},
        "last_task": {"state": "succeeded", "detail": ""},
    }
    return repo, base, told


Sample = tuple[Path, str, dict[str, Any]]


def test_what_is_true_is_believed(sample: Sample) -> None:
    repo, base, told = sample
    outcome = look(repo, base, LINUS, told)
    assert outcome.problems == []
    assert (outcome.tests_run, outcome.tests_passed) == (1, True)
    assert outcome.metadata == {"tests": "1 passed"}, "stored facts only"
    assert [line.split(" ", 1)[1] for line in outcome.commits] == ["docs"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"last_task": {"state": "failed", "detail": "why"}}, "task is failed: why"),
        ({"last_task": None}, "task is missing"),
        ({"base_sha": "0" * 40}, "starts from another commit"),
        ({"report": None}, "reports nothing"),
        ({"metadata": {"tests": {"source": "stored", "value": "9 passed"}}}, "9 passed"),
    ],
)
def test_what_the_hub_tells_must_agree(sample: Sample, change: dict[str, Any], words: str) -> None:
    repo, base, told = sample
    assert words in " ".join(look(repo, base, LINUS, {**told, **change}).problems)


def test_other_files_missing_tests_and_missing_commits_are_found(sample: Sample) -> None:
    repo, base, told = sample
    other: Work = replace(LINUS, files=frozenset({"x"}), tests=5)
    assert len(look(repo, base, other, told).problems) == 2
    git(Path(told["workspace"]), "reset", "-q", "--hard", base)
    assert "it committed nothing" in look(repo, base, LINUS, told).problems


def test_failing_tests_and_uncommitted_files_are_found(sample: Sample) -> None:
    repo, base, told = sample
    Path(told["workspace"], "shop", "prices.py").write_text("def total(prices, discount=0):\n    return 0\n")
    problems = look(repo, base, LINUS, told).problems
    assert "the tests fail on its branch" in problems
    assert "its worktree has uncommitted files" in problems
