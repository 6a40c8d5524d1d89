"""Secrets through the node agent: what a name may be, and what a refused change leaves."""

from __future__ import annotations

import pytest

from quarterdeck.errors import InvalidInput
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.model import Mutation

pytestmark = [pytest.mark.anyio, pytest.mark.podman]


@pytest.mark.parametrize("evil", ["", "--all", "-a", "../containers/web", "..", "a/b", "a b", "a,type=env", "x" * 300])
async def test_what_is_no_name_goes_nowhere(agent: NodeAgent, name: str, evil: str) -> None:
    await agent.set_secret(name, b"kept", Mutation())
    with pytest.raises(InvalidInput, match="not a secret's name"):
        await agent.remove_secret(evil, Mutation())
    with pytest.raises(InvalidInput, match="not a secret's name"):
        await agent.set_secret(evil, b"value", Mutation())
    assert name in await agent.list_secrets()
    assert evil not in await agent.list_secrets()


@pytest.mark.parametrize("size", [0, 512_000])
async def test_a_value_that_podman_does_not_take_is_refused(agent: NodeAgent, name: str, size: int) -> None:
    with pytest.raises(InvalidInput, match="a secret has 1 to 511999 bytes"):
        await agent.set_secret(name, b"x" * size, Mutation())
    assert name not in await agent.list_secrets()
    await agent.set_secret(name, b"x" * 511_999, Mutation())
    assert name in await agent.list_secrets()
