"""The documentation says what the program does: settings, commands, calls, tools."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, get_args, get_origin

import msgspec
import pytest

from quarterdeck import config
from structure.tree import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
# What the page says of a default that is not a literal.
IN_WORDS = re.compile(r"needed|none|see below|the branch that is checked out|(that|those) of `\[agents\]`")


def tables(kind: type, name: str) -> dict[str, type]:
    """Every table that can be written, by its heading; below `fields` and the like a NAME stands for any."""
    found = {name: kind} if name else {}
    for field in msgspec.structs.fields(kind):
        inner, below = field.type, f"{name}.{field.name}" if name else field.name
        if get_origin(inner) is dict and isinstance(get_args(inner)[1], type):
            inner, below = get_args(inner)[1], f"{below}.NAME"
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found |= tables(inner, below)
    return found


def section(heading: str) -> dict[str, str]:
    """Key to default, as the page says below a heading."""
    found = re.search(rf"^## \[{re.escape(heading)}\]\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/configuration.md has no section [{heading}]"
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", found[1], re.MULTILINE))


# Told of in the section of their twin.
ELSEWHERE = {"projects.NAME.roles.NAME": "roles.NAME", "metadata.gitlab": "metadata.github"}


@pytest.mark.parametrize("heading", sorted(tables(config.FileConfig, "").keys() - ELSEWHERE.keys()))
def test_every_key_is_documented_with_its_default(heading: str) -> None:
    told = section(heading)
    fields = {field.name: field for field in msgspec.structs.fields(tables(config.FileConfig, "")[heading])}
    assert sorted(told) == sorted(fields)
    for name, text in told.items():
        default = literal(fields[name])
        if not IN_WORDS.fullmatch(text):
            assert json.loads(text.strip("`")) == default, f"[{heading}] {name}"
        else:
            assert default in (None, msgspec.NODEFAULT) or isinstance(default, dict), f"[{heading}] {name}"


def literal(field: Any) -> Any:
    """A key's default as JSON would write it."""
    value = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    if field.default_factory is msgspec.NODEFAULT and value is msgspec.NODEFAULT:
        return value
    # The page says of `token_env` what GitHub's table has.
    return list(config.FORGE_VARIABLES["github"]) if field.name == "token_env" else msgspec.to_builtins(value)


def test_the_page_has_no_table_that_is_gone() -> None:
    assert set(re.findall(r"^## \[([\w.]+)\]$", PAGE, re.MULTILINE)) == (
        tables(config.FileConfig, "").keys() - ELSEWHERE.keys()
    )


def test_every_variable_is_documented() -> None:
    found = re.search(r"^## Variables\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    assert set(re.findall(r"^\| `(\w+)` \|", found[1], re.MULTILINE)) == config.VARIABLES.keys()


def test_the_example_is_a_configuration() -> None:
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    assert config.parse(found[1], origin="the page").projects["shop"].check == ["make", "test"]


def test_commands_calls_and_tools_are_documented_as_they_are() -> None:
    # In a process of its own: click remembers how a command was called first in this one.
    command = [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
