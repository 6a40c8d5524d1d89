"""`qd service` and `qd node` before and after they ask a node: which file is meant, and what is told of an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from quarterdeck.cli import service_where
from quarterdeck.cli.login import _account
from quarterdeck.cli.node import _why
from quarterdeck.cli.nodes_common import settings, tell_missing
from quarterdeck.cli.service_sync import edit, show
from quarterdeck.errors import InvalidInput, NotFound, QuarterdeckError, StorageRefused, Unauthenticated, Unavailable
from quarterdeck.node.wire_errors import Overdue, Unreachable

DEFINITION = 'name = "web"\nnode = "{node}"\n[[components]]\nname = "c"\nimage = "i:1"\nports = ["{port}"]\n'


@dataclass
class Here:
    """A folder with a cli.toml of two nodes, and those that answer that they have the service."""

    folder: Path
    having: list[str] = field(default_factory=list)

    def define(self, path: str, *, node: str = "a", port: str = "8080:80", text: str = DEFINITION) -> Path:
        file = self.folder / "services" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(node=node, port=port))
        return file

    def run(self, command: click.Command, *args: str) -> QuarterdeckError | None:
        error = CliRunner().invoke(command, args).exception
        assert error is None or isinstance(error, QuarterdeckError), error
        return error


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    made = Here(tmp_path)
    nodes = "".join(f'[nodes.{name}]\naddress = "127.0.0.1:1"\nca = "ca.pem"\n' for name in ("a", "b"))
    (tmp_path / "cli.toml").write_text(nodes)
    monkeypatch.setenv("QD_CLI_CONFIG", str(tmp_path / "cli.toml"))
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/no port/8080:80/; s/broken/=/" "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)

    async def answered(*args: object) -> tuple[dict[str, bool], dict[str, QuarterdeckError]]:
        return dict.fromkeys(made.having, True), {} if made.having else {"b": Unreachable("b is away")}

    monkeypatch.setattr(service_where, "ask_nodes", answered)
    return made


@pytest.mark.parametrize("path", ["web.toml", "prod/web.toml", "prod/w.toml"])
def test_a_broken_definition_is_edited_wherever_it_lies(here: Here, path: str) -> None:
    file = here.define(path, port="no port")
    assert here.run(edit, "web") is None
    assert "8080:80" in file.read_text()


def test_what_is_not_even_toml_is_edited_by_its_name(here: Here) -> None:
    file = here.define("prod/web.toml", text=DEFINITION.replace("node =", "node broken"))
    assert here.run(edit, "web") is None
    assert "broken" not in file.read_text()


def test_an_edit_says_that_it_does_not_know_which_is_meant(here: Here) -> None:
    here.having = ["a", "b"]
    error = here.run(edit, "web")
    assert isinstance(error, InvalidInput)
    assert (error.message, error.hint) == ("'web' is on several nodes: a, b", "say which with --node")
    files = [here.define("web.toml"), here.define("prod/web.toml", node="b", port="no port")]
    error = here.run(edit, "web")
    assert isinstance(error, InvalidInput)
    assert all(str(each) in error.message for each in files)
    assert here.run(edit, "web", "--node", "b") is None
    assert "8080:80" in files[1].read_text()


def test_what_nobody_defines_is_told_with_the_folder_and_with_who_was_silent(here: Here) -> None:
    error = here.run(show, "web")
    assert isinstance(error, NotFound)
    assert str(here.folder / "services") in error.message
    assert "no answer from b" in error.message
    assert "-f FILE" in error.hint
    (here.folder / "cli.toml").write_text("")
    # Without any node the way on is another one.
    error = here.run(show, "web")
    assert isinstance(error, NotFound)
    assert "qd node join" in error.hint


def test_a_password_from_elsewhere_may_lie_beside_an_open_file(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    file = here.folder / "cli.toml"
    file.write_text('[login]\nuser = "eva"\n')
    file.chmod(0o644)
    monkeypatch.setenv("QD_LOGIN_PASSWORD", "a long password")
    assert _account(settings(), "") == ("eva", "a long password")
    file.write_text('[login]\nuser = "eva"\npassword = "its own"\n')
    for _ in range(2):
        with pytest.raises(InvalidInput, match="holds a password and others can read it"):
            _account(settings(), "")
        monkeypatch.delenv("QD_LOGIN_PASSWORD", raising=False)
    file.chmod(0o600)
    assert _account(settings(), "") == ("eva", "its own")


def test_only_a_node_that_does_not_answer_is_unreachable(capsys: pytest.CaptureFixture[str]) -> None:
    errors = {
        "away": Unreachable("the connection is refused"),
        "slow": Overdue("it did not answer in time"),
        "full": StorageRefused("no snapshot was made: the disk is full"),
        "podman": Unavailable("podman does not answer"),
        "out": Unauthenticated("log in"),
    }
    assert tell_missing(dict(errors)) == Unavailable.exit_code
    told = dict(line.split(": ")[:2] for line in capsys.readouterr().err.splitlines())
    assert told == {
        "away": "unreachable", "slow": "unreachable", "full": "failed", "podman": "failed", "out": "failed",
    }  # fmt: skip
    assert [_why(each) for each in errors.values()] == [
        "unreachable", "unreachable", "failed", "failed", "unauthenticated",
    ]  # fmt: skip
