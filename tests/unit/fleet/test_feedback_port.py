"""How feedback reaches an agent whose sidecar is of an earlier Quarterdeck, or is gone."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from quarterdeck.errors import NotFound
from quarterdeck.fleet.collecting import _Port

pytestmark = pytest.mark.anyio


@dataclass
class Client:
    """A sidecar that has no path for notes."""

    async def add_note(self, text: str, *, key: str) -> None:
        raise NotFound("there is no POST /v1/notes")


@dataclass
class Fleet:
    """The one call of a fleet that matters here."""

    clients: dict[str, Client] = field(default_factory=dict)

    async def client(self, name: str) -> Any:
        if name not in self.clients:
            raise NotFound(f"there is no agent {name!r}")
        return self.clients[name]


async def test_a_sidecar_that_keeps_no_notes_holds_nothing_back(caplog: pytest.LogCaptureFixture) -> None:
    fleet: Any = Fleet({"ada": Client()})
    port = _Port(fleet)
    with caplog.at_level(logging.WARNING):
        await port.note("ada", "a person has to look", idempotency_key="k")
    assert "agent ada keeps no notes until it is restarted: a person has to look" in caplog.text
    with pytest.raises(NotFound, match="no agent 'bob'"):
        await port.note("bob", "x", idempotency_key="k")
