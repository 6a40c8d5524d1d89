"""A node's server on loopback with real TLS and real accounts, over an agent that only remembers."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio

from quarterdeck.auth.accounts import Accounts
from quarterdeck.auth.audit import AuditRecord
from quarterdeck.auth.cache import CachingVerifier
from quarterdeck.auth.local import LocalVerifier
from quarterdeck.auth.model import Role
from quarterdeck.auth.settings import Door
from quarterdeck.node import pki
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.client import NodeClient, Target
from quarterdeck.node.model import Event, Mutation, ServiceDef, ServiceRecord
from quarterdeck.node.results import DeployProgress, FileHeader, ServiceResult
from quarterdeck.node.server import listening

PASSWORD = "a long password"


class Recorded(NodeAgent):
    """An agent that runs nothing: it remembers mutations and fails as it is told. Only what these tests call."""

    def __init__(self) -> None:
        self.mutations: list[Mutation] = []
        self.error: Exception | None = None
        self.slow = anyio.Event()
        self.followed = 0
        self.delay = 0.0

    async def list_services(self, *, service: str = "") -> tuple[ServiceRecord, ...]:
        await anyio.sleep(self.delay)
        if self.error:
            raise self.error
        return ()

    async def stop_service(self, service: str, mutation: Mutation, *, component: str = "") -> ServiceResult:
        self.mutations.append(mutation)
        if service == "slow":
            await self.slow.wait()
        return ServiceResult(service, mutation.operation_id, 1)

    async def deploy(self, service: ServiceDef, mutation: Mutation, **_: Any) -> AsyncIterator[DeployProgress]:  # type: ignore[override]
        self.mutations.append(mutation)
        yield DeployProgress(service.name, "web", "pulling", 1.0)
        if self.error:
            raise self.error

    @contextlib.asynccontextmanager
    async def pull_file(self, service: str, path: str, *, offset: int = 0) -> AsyncIterator[Any]:
        async def content() -> AsyncIterator[bytes]:
            yield b"short"

        yield FileHeader(service, path, 100, 0o644, 0, 0, 0.0), content()

    async def events(self, **_: Any) -> AsyncIterator[Event]:  # type: ignore[override]
        self.followed += 1
        try:
            yield Event(1, 2.0, "s", "", "state")
            await anyio.sleep_forever()
        finally:
            self.followed -= 1


class Kept:
    """An audit sink in memory."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []

    def write(self, record: AuditRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass


@functools.cache
def _accounts() -> Path:
    """Two accounts, hashed once: argon2 is slow on purpose."""
    file = Path(tempfile.mkdtemp()) / "accounts.sqlite3"
    found = Accounts(file)
    found.add("eva", PASSWORD, Role.ADMIN)
    found.add("max", PASSWORD, Role.VIEWER)
    return file


class Node:
    """A server on loopback with two accounts."""

    def __init__(self, folder: Path, agent: NodeAgent | None = None) -> None:
        self.folder = folder
        self.agent: Any = agent or Recorded()
        self.audit = Kept()
        shutil.copy(_accounts(), folder / "accounts.sqlite3")
        self.accounts = Accounts(folder / "accounts.sqlite3")
        self.local = LocalVerifier(self.accounts, b"k" * 32, issuer="local:n1")
        self.door = Door(CachingVerifier(self.local), self.local)
        pki.make_authority(folder / "ca.pem", folder / "ca.key", name="n1")
        self.issue()
        self.port = 0

    def issue(self, *hosts: str, days: float = 1) -> None:
        pki.issue(self.folder / "ca.pem", self.folder / "ca.key", cert=self.folder / "n.pem",
                  key=self.folder / "n.key", hosts=hosts or ("localhost", "127.0.0.1"), days=days)  # fmt: skip

    @contextlib.asynccontextmanager
    async def up(self, **options: Any) -> AsyncIterator[None]:
        async with listening(
            self.agent, self.door, self.audit, host="127.0.0.1", port=0,
            cert=self.folder / "n.pem", key=self.folder / "n.key", **options,
        ) as bound:  # fmt: skip
            self.port = bound.port
            yield

    async def token(self, user: str = "eva") -> str:
        account = self.accounts.get(user)
        assert account is not None
        return self.local._issue(user, account.role)[0]

    def target(self, token: str = "", **changes: Any) -> Target:
        ca = (self.folder / "ca.pem").read_bytes()
        return Target("n1", f"127.0.0.1:{self.port}", **{"ca": ca, "token": token, "timeout_seconds": 10, **changes})

    @contextlib.asynccontextmanager
    async def client(self, user: str = "eva") -> AsyncIterator[NodeClient]:
        async with NodeClient.to(self.target(await self.token(user))) as client:
            yield client
