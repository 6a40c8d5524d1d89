"""The locks are those of pyproject.toml, whole, and name no address; every dependency says why it is there."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from structure.tree import ROOT

LOCKS = {file.stem: file for file in sorted((ROOT / "locks").glob("*.txt"))}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,_-]+\])?==(?P<version>[^ ;\\]+)", re.IGNORECASE)


def plain(name: str) -> str:
    """A package's name as an index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(lock: str) -> list[str]:
    """The requirements of a lock, each with its hashes."""
    text = LOCKS[lock].read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pinned(lock: str) -> dict[str, set[str]]:
    """Name to versions (more than one where markers tell platforms apart)."""
    found: dict[str, set[str]] = {}
    for entry in entries(lock):
        match = PIN.match(entry)
        assert match, entry[:80]
        found.setdefault(plain(match["name"]), set()).add(match["version"])
    return found


def asked(requirements: list[Any]) -> dict[str, str]:
    """Name to version of requirements, all of which are pinned."""
    found = {}
    for requirement in requirements:
        if isinstance(requirement, dict):
            found.update(asked(PROJECT["dependency-groups"][requirement["include-group"]]))
            continue
        match = PIN.match(requirement)
        assert match, f"not pinned with ==: {requirement}"
        found[plain(match["name"])] = match["version"]
    return found


def wanted(lock: str) -> dict[str, str]:
    """What a lock must hold according to pyproject.toml."""
    own, groups = PROJECT["project"], PROJECT["dependency-groups"]
    requirements = [*own["dependencies"], *groups["dev" if lock == "dev" else "build"]]
    return asked([*requirements, *own["optional-dependencies"].get(lock, [])])


def test_there_is_a_lock_for_every_profile() -> None:
    assert set(LOCKS) == {"run", "dev", *PROJECT["project"]["optional-dependencies"]}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_in_step_with_the_project(lock: str) -> None:
    held = pinned(lock)
    wrong = {n: (v, held.get(n)) for n, v in wanted(lock).items() if v not in held.get(n, set())}
    assert wrong == {}, "make it anew: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_hashes_and_no_address(lock: str) -> None:
    text = LOCKS[lock].read_text()
    assert "://" not in text
    assert "--index" not in text
    assert " @ " not in text
    bare = [entry[:60] for entry in entries(lock) if "--hash=sha256:" not in entry]
    assert bare == []


def test_locks_agree_with_each_other() -> None:
    """All profiles go into one venv: the same package has the same version everywhere."""
    every = pinned("dev")
    wrong = {
        f"{lock}: {name} {versions} {every[name]}"
        for lock in LOCKS
        for name, versions in pinned(lock).items()
        if name in every and every[name] != versions
    }
    assert wrong == set()


def test_every_dependency_says_why_it_is_there() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+?) \|$", text, re.MULTILINE))
    own = PROJECT["project"]
    every = [*own["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    for extra in own["optional-dependencies"].values():
        every += extra
    names = set(asked(every))
    assert names - rows.keys() == set(), "not explained in docs/dependencies.md"
    assert {plain(name) for name in rows} - names == set(), "explained, but no dependency any more"
    assert all(len(why) > 20 for why in rows.values())
