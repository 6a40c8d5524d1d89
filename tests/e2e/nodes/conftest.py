"""One node agent, registry and podman service for all end-to-end tests of a module."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import node_world, podman_env
from support.node_world import NodeProcess, Person


@pytest.fixture(scope="module")
def podman_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    podman_env.require_podman()
    with podman_env.service(tmp_path_factory.mktemp("podman")) as socket:
        yield socket


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[podman_env.Registry]:
    podman_env.require_podman()
    with podman_env.registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(tmp_path_factory.mktemp("person"))


@pytest.fixture(scope="module")
def n1(
    tmp_path_factory: pytest.TempPathFactory, person: Person, podman_socket: Path, registry: podman_env.Registry
) -> Iterator[NodeProcess]:
    with node_world.node(tmp_path_factory.mktemp("n1"), person, podman_socket, insecure=registry.address) as found:
        yield found


@pytest.fixture
def name(n1: NodeProcess) -> Iterator[str]:
    """A service's name; what is left of it is purged and swept."""
    with podman_env.prefix() as found:
        yield found
        n1.person.qd("service", "purge", found, "--yes", "--files", "--node", "n1", code=None)
        (n1.person.definitions / f"{found}.toml").unlink(missing_ok=True)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)
