"""A node agent over real podman for the tests of its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.options import AgentOptions, MonitorOptions
from support import podman_env

# Quick enough for a test, slow enough that nothing happens behind its back.
QUIET = MonitorOptions(list_seconds=600, backoff_seconds=600)


@pytest.fixture(scope="session")
def podman_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    podman_env.require_podman()
    with podman_env.service(tmp_path_factory.mktemp("podman")) as path:
        yield path


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[podman_env.Registry]:
    podman_env.require_podman()
    with podman_env.registry(tmp_path_factory.mktemp("images")) as found:
        yield found


@pytest.fixture
def name() -> Iterator[str]:
    """A service's name; what is called so is removed at the end."""
    podman_env.require_podman()
    with podman_env.prefix("qda") as found:
        yield found


@pytest.fixture
async def unix_race() -> AsyncIterator[None]:
    """Overlook one race of anyio's: a read of a unix socket that is cancelled in the very moment in which data
    comes sets the result of a cancelled future. It harms nothing, and anyio's test runner fails for it."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        callback = getattr(context.get("handle"), "_callback", None)
        # Only that: the loop itself, not a task, sets the result of a future that was cancelled.
        late = getattr(callback, "__name__", "") == "set_result" and callback.__self__.cancelled()
        if late and isinstance(context.get("exception"), asyncio.InvalidStateError):
            return
        if before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handler)
    yield
    loop.set_exception_handler(before)


@pytest.fixture
def options(unix_race: None, tmp_path: Path, podman_socket: Path, image_registry: podman_env.Registry) -> AgentOptions:
    return AgentOptions(
        state_dir=tmp_path / "state",
        node_name="test-node",
        files_root=tmp_path / "srv",
        socket=podman_socket,
        insecure_registries=(image_registry.address,),
        probe_seconds=20,
        monitor=QUIET,
    )


@pytest.fixture
async def agent(options: AgentOptions) -> AsyncIterator[NodeAgent]:
    async with NodeAgent.open(options) as opened:
        yield opened
