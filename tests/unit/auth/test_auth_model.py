"""Roles from claims, tokens from headers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.auth.model import Identity, Role, RoleRules, bearer_token, token_key
from quarterdeck.errors import PermissionDenied, Unauthenticated

RULES = RoleRules("realm_access.roles", {"boss": Role.ADMIN, "reader": Role.VIEWER})


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"realm_access": {"roles": ["reader", "boss"]}}, Role.ADMIN),
        ({"realm_access": {"roles": "reader other"}}, Role.VIEWER),
        ({"realm_access": {"roles": []}}, Role.NOBODY),
        ({"realm_access": "boss"}, Role.NOBODY),
        ({"realm_access": {"roles": [["boss"], 3, None]}}, Role.NOBODY),
        ({}, Role.NOBODY),
    ],
)
def test_the_highest_role_that_the_claims_hold_counts(claims: dict[str, Any], role: Role) -> None:
    assert RULES.role_of(claims) is role


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(["realm_access", "roles", "groups"]), JSON))
def test_strange_claims_give_no_role(claims: dict[str, Any]) -> None:
    assert RULES.role_of(claims) is Role.NOBODY


def test_a_higher_role_includes_the_lower() -> None:
    Identity("eva", Role.ADMIN, "x").must_be(Role.VIEWER)
    with pytest.raises(PermissionDenied, match="eva is viewer, this needs admin"):
        Identity("eva", Role.VIEWER, "x").must_be(Role.ADMIN)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "abc", "Bearer ab\x00c", "Bearer " + "x" * 20_000]
)
def test_what_is_no_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        bearer_token(header)


def test_a_bearer_token_is_found() -> None:
    assert bearer_token("bearer  abc.def ") == "abc.def"
    assert token_key("abc") != token_key("abd")
    assert len(token_key("abc")) == 32
