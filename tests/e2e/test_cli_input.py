"""Bad input through `qd`: refused with a clear error and the right exit code, and nothing is changed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import make_repo
from support.cli import Qd, on_state, with_hub
from support.hub import CONFIG

GHOST = """
[providers.ghost]
kind = "command"
command = ["no-such-program-of-ours"]
install = "get it from its maker"
"""


@pytest.fixture(scope="module")
def qd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qd]:
    """`qd` with a hub that it started, shared by the tests."""
    with with_hub(make_repo(tmp_path_factory.mktemp("input") / "repo"), CONFIG + GHOST) as called:
        called("agents", "create", "one", "--wait")
        yield called


def fleet(qd: Qd) -> object:
    """What must not change: the agents and their tasks, the branches and the worktrees."""
    refs = subprocess.run(["git", "for-each-ref"], cwd=qd.folder, check=True, capture_output=True).stdout
    names = [agent["name"] for agent in qd("agents", "list", "--json").json["agents"]]
    return names, qd("agents", "history", "one", "--json").json["total_count"], refs


@pytest.fixture(autouse=True)
def unchanged(qd: Qd) -> Iterator[None]:
    """Nothing is changed by what is refused."""
    before = fleet(qd)
    yield
    assert fleet(qd) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x", "not allowed"),
        ("a" * 21, "21 characters"),
        ("", "empty"),
        ("zoë", "not allowed"),
        ("a b", "not allowed"),
        ("-rf", "hyphen"),
        ("a/b", "not allowed"),
        ("x\n", "not allowed"),
    ],
)
def test_names(qd: Qd, name: str, words: str) -> None:
    refused = qd("agents", "create", "--json", "--", name, code=2)
    assert refused.error["code"] == "INVALID_INPUT"
    assert words in refused.error["message"]
    assert "1 to 20" in refused.error["hint"]


def test_a_name_like_an_option_is_wrong_usage(qd: Qd) -> None:
    assert "-r" in qd("agents", "create", "-rf", code=2).err


def test_a_taken_name(qd: Qd) -> None:
    assert "one" in qd("agents", "create", "one", code=4).err


@pytest.mark.parametrize(
    ("option", "known"), [("--project", "repo"), ("--role", "coder"), ("--provider", "claude-code")]
)
def test_unknown_things_are_named_with_what_there_is(qd: Qd, option: str, known: str) -> None:
    refused = qd("agents", "create", "two", option, "nonsense", code=3)
    assert "nonsense" in refused.err
    assert known in refused.err, "the hint lists what there is"


def test_an_unknown_workspace(qd: Qd) -> None:
    assert "nobody" in qd("agents", "create", "two", "--workspace", "nobody", code=3).err


def test_a_provider_whose_program_is_missing_says_how_to_install_it(qd: Qd) -> None:
    refused = qd("agents", "create", "two", "--provider", "ghost", code=5)
    assert "no-such-program-of-ours" in refused.err
    assert "get it from its maker" in refused.err


@pytest.mark.parametrize("text", ["", "   \n\t "])
def test_an_empty_task(qd: Qd, text: str) -> None:
    assert "empty" in qd("agents", "task", "one", "--file", "-", code=2, text=text).err
    assert "empty" in qd("agents", "create", "two", "--task", text, code=2).err


def test_a_task_of_2_mb_is_refused_with_both_figures(qd: Qd) -> None:
    refused = qd("agents", "task", "one", "--file", "-", "--json", code=2, text="x" * 2_000_000)
    assert refused.error["code"] == "INVALID_INPUT"
    assert "2000000" in refused.error["message"]
    assert "1000000" in refused.error["message"]


def test_a_task_that_is_no_text(qd: Qd, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in qd("agents", "task", "one", "--file", str(tmp_path / "binary"), code=2).err


def test_pages_and_limits(qd: Qd) -> None:
    for arguments in (
        ("history", "one", "--page", "0"),
        ("history", "one", "--page-size", "101"),
        ("log", "one", "--page", "0"),
        ("log", "one", "-n", "0"),
        ("list", "--limit", "0"),
        ("list", "--cursor", "nonsense"),
        ("list", "--status", "nonsense"),
        ("diff", "one", "--max-bytes", "0"),
        ("create", "two", "--budget-usd", "0"),
        ("create", "two", "--permissions", "everything"),
    ):
        assert qd("agents", *arguments, code=2).err, arguments


def test_wrong_usage_is_told_as_json_when_json_is_asked_for(qd: Qd) -> None:
    assert qd("agents", "show", "--json", code=2).error["code"] == "INVALID_INPUT"
    assert "--help" in qd("agents", "list", "--nonsense", "--json", code=2).error["hint"]


def git(folder: Path, *arguments: str) -> None:
    """Run git."""
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_repositories_that_cannot_be_worked_in(tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    git(empty, "init", "-q")
    (bare := tmp_path / "bare").mkdir()
    git(bare, "init", "-q", "--bare")
    (none := tmp_path / "none").mkdir()
    with on_state(none) as qd:
        for folder, words in ((empty, "no commit"), (bare, "bare"), (none, "not in a git repository")):
            for way in ("--foreground", "--detach"):
                refused = qd("up", way, "--port", "0", cwd=folder, code=2)
                assert words in refused.err, way
                assert "hint:" in refused.err
            assert words in qd("mcp", cwd=folder, code=2).err
        assert not (qd.state / "hub" / "hub.json").exists()


def test_a_dirty_repository_works_and_says_so(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    with on_state(repo) as qd:
        (repo / "README.md").write_text("changed\n")
        said = qd("up", "--detach", "--port", "0", QD_FREE_MEMORY_MB="0", QD_FREE_DISK_MB="0").out
        assert "uncommitted changes" in said
        task = ("--task", "@run cat README.md\n@say ok")
        made = qd("agents", "create", "clean", "--provider", "scripted", *task, "--wait")
        assert "uncommitted changes" in made.err
        assert Path(qd.agent("clean")["workspace"], "README.md").read_text() == "# Sample\n"
        assert (repo / "README.md").read_text() == "changed\n"


def test_a_configuration_with_an_unknown_key_names_it(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "repo")
    (repo / "quarterdeck.toml").write_text("[agents]\nproviderr = 'scripted'\n")
    with on_state(repo) as qd:
        for way in ("--foreground", "--detach"):
            refused = qd("up", way, "--port", "0", code=2)
            assert "providerr" in refused.err
            assert "quarterdeck.toml" in refused.err
