"""Names of agents."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.fleet import names
from quarterdeck.fleet.names import check_name, make_name


@pytest.mark.parametrize("name", ["a", "7", "fix-login", "A-1", "x" * 20, "a--b"])
def test_allowed(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"),
        ("x" * 21, "21 characters"),
        ("../x", "'/'"),
        ("-rf", "hyphen"),
        ("x-", "hyphen"),
        ("-", "hyphen"),
        ("grün", "'ü'"),
        ("a b", "' '"),
        ("a\n", "n'"),
        ("a\0", "x00"),
        ("１", "'１'"),
        ("a.lock", "'.'"),
    ],
)
def test_refused_with_what_is_allowed(name: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name(name)
    assert said in caught.value.message
    assert "1 to 20 characters" in caught.value.hint


@given(st.text(max_size=25))
def test_exactly_the_rule_is_accepted(name: str) -> None:
    allowed = (
        1 <= len(name) <= 20 and name.strip("-") == name and all(re.fullmatch("[0-9A-Za-z-]", each) for each in name)
    )
    try:
        assert check_name(name) == name
        assert allowed
    except InvalidInput:
        assert not allowed


def test_made_up_names_are_allowed_and_never_taken() -> None:
    taken: set[str] = set()
    for _ in range(1000):
        name = make_name(taken)
        assert name not in taken
        taken.add(check_name(name))


def test_made_up_names_are_numbered_when_all_are_taken() -> None:
    taken = {f"{one}-{other}" for one in names._ADJECTIVES for other in names._ANIMALS}
    made = make_name(taken)
    assert made.endswith("-2")
    assert check_name(made) not in taken
    assert max(map(len, taken)) <= 17


def test_made_up_names_are_free_in_any_case() -> None:
    seen = {make_name(()) for _ in range(300)}
    assert make_name({name.upper() for name in seen}) not in seen
