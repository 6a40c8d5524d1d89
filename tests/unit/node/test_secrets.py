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
