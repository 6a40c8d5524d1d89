"""The root of `qd`: quick, light, and every failure told with its exit code."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from quarterdeck import errors
from quarterdeck.cli import main

HEAVY = ("anyio", "fastmcp", "httpx2", "mcp", "msgspec", "psutil", "pydantic", "rich", "starlette", "uvicorn")
KINDS = {
    errors.InternalError: 1,
    errors.InvalidInput: 2,
    errors.TooLarge: 2,
    errors.NotFound: 3,
    errors.Conflict: 4,
    errors.PreconditionFailed: 4,
    errors.Unavailable: 5,
    errors.StorageRefused: 5,
    errors.Unauthenticated: 1,
}


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, quarterdeck.cli.main as m\n"
        "code = m.run(['--help'])\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules], code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[] 0"
    assert "qd up" in done.stdout


def test_every_command_of_the_table_can_be_loaded() -> None:
    context = click.Context(main.cli)
    names = main.cli.list_commands(context)
    assert {"up", "down", "status", "token", "mcp", "agents", "gc", "doctor", "demo", "sidecar"} <= set(names)
    for name in names:
        assert isinstance(main.cli.get_command(context, name), click.Command), name
    assert main.cli.get_command(context, "no-such") is None


@pytest.mark.parametrize(("kind", "code"), KINDS.items())
def test_errors_have_their_exit_codes(
    kind: type[errors.QuarterdeckError], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def failing(as_json: bool) -> None:
        raise kind("it went wrong", hint="do this", details={"figure": 1})

    monkeypatch.setattr(main.cli, "get_command", lambda ctx, name: failing)
    assert main.run(["failing"]) == code
    plain = capsys.readouterr()
    assert plain.out == ""
    assert plain.err == "error: it went wrong\nhint:  do this\n"
    assert main.run(["failing", "--json"]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert json.loads(told.err)["error"]["details"] == {"figure": 1}


def test_an_agents_words_in_an_error_do_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    main.tell(errors.Conflict("it asks\nRun \x1b[2J?", hint="say \x1b]0;x\x07"), as_json=False)
    assert capsys.readouterr().err == "error: it asks\nRun \\x1b[2J?\nhint:  say \\x1b]0;x\\x07\n"


class Asking:
    """A hub with an agent that asks something."""

    def __init__(self, *titles: str) -> None:
        items = [{"id": f"q{n}", "kind": "question", "title": title} for n, title in enumerate(titles)]
        self.get = lambda *_: {"needs_attention": items}
        self.post = lambda *_: items[0]


def test_what_an_agent_asks_does_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for titles in (["tea \x1b[2J?\nhint: x"], ["tea \x1b[2J?\nhint: x", "coffee"]):
        monkeypatch.setattr("quarterdeck.cli.agents.HubClient.find", lambda titles=titles: Asking(*titles))
        assert main.run(["agents", "answer", "ada", "yes"]) == (0 if len(titles) == 1 else 4)
        told = capsys.readouterr()
        assert "tea \\x1b[2J? hint: x" in told.out + told.err


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 2
    assert main.run(["no-such"]) == 2
    assert main.run(["agents", "show"]) == 2
    assert main.run(["agents", "no-such", "--json"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert json.loads(last)["error"]["code"] == "INVALID_INPUT"
    assert main.run(["--version"]) == 0


def test_a_value_after_two_hyphens_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    main.run(["agents", "no-such", "--", "--json"])
    assert "Usage:" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_failure() -> None:
    command = f"{sys.executable} -m quarterdeck --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("Usage: qd")
    assert done.stderr == ""
