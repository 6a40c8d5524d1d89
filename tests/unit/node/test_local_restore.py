"""`qd node restore --config`: what is there is never lost, and the agent's user can use what root restored."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from quarterdeck.cli.node_machine import local_restore, local_snapshot
from quarterdeck.errors import Conflict, StorageRefused
from quarterdeck.node import snapshot
from quarterdeck.node.lock import held
from quarterdeck.node.model import ServiceRecord
from quarterdeck.node.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    file = tmp_path / "node.toml"
    file.write_text('name = "n1"\nstate_dir = "state"\n[tls]\ncert = "c"\nkey = "k"\n[auth]\nkind = "local"\n')
    return file


async def filled(config: Path) -> str:
    """A registry whose snapshot knows `first`, and which itself knows `second` too, but only in its log, as after a
    kill; the snapshot's name."""
    state = config.parent / "state"
    registry = state / "registry.sqlite3"
    async with Store.open(registry, snapshots=state / "snapshots", keep=5) as store:
        await store.write(lambda each: each.put_service(ServiceRecord("first", 1, ())))
        taken = await store.take_snapshot()
        await store.write(lambda each: each.put_service(ServiceRecord("second", 1, ())))
        for ending in ("", "-wal", "-shm"):
            shutil.copy(state / f"registry.sqlite3{ending}", config.parent / f"copy{ending}")
    for ending in ("", "-wal", "-shm"):
        shutil.move(config.parent / f"copy{ending}", state / f"registry.sqlite3{ending}")
    return Path(taken.path).name


def services(registry: Path) -> list[str]:
    with closing(sqlite3.connect(registry)) as database:
        return [name for (name,) in database.execute("SELECT name FROM services ORDER BY name")]


def kept(config: Path) -> list[Path]:
    found = (config.parent / "state").glob("registry.sqlite3.before-restore-*Z")
    return sorted(found)


async def test_what_was_there_is_kept_as_it_was_with_its_log(config: Path) -> None:
    name = await filled(config)
    assert (await local_restore(config, name)).services == 1
    assert services(config.parent / "state/registry.sqlite3") == ["first"]
    (before,) = kept(config)
    assert services(before) == ["first", "second"]
    # Once more: the first one is not overwritten.
    await local_restore(config, name)
    assert [services(each) for each in kept(config)] == [["first", "second"], ["first"]]


async def test_a_disk_that_does_not_take_it_leaves_the_registry(config: Path) -> None:
    name = await filled(config)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        with pytest.raises(StorageRefused, match="the registry is as before"):
            await local_restore(config, name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert services(config.parent / "state/registry.sqlite3") == ["first", "second"]
    assert not list((config.parent / "state").glob(".registry*"))


async def test_a_restore_that_is_killed_leaves_the_registry(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await filled(config)

    def killed(wanted: Path, registry: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(snapshot, "put_back", killed)
    with pytest.raises(KeyboardInterrupt):
        await local_restore(config, name)
    assert services(config.parent / "state/registry.sqlite3") == ["first", "second"]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
async def test_what_root_makes_belongs_to_the_agents_user(config: Path) -> None:
    name = await filled(config)
    state = config.parent / "state"
    for each in (state, *state.rglob("*")):
        os.chown(each, 1234, 2345)
    await local_restore(config, name)
    taken = await local_snapshot(config)
    for each in (state / "registry.sqlite3", *kept(config), Path(taken.path)):
        facts = each.stat()
        assert (facts.st_uid, facts.st_gid, facts.st_mode & 0o777) == (1234, 2345, 0o600), each


async def test_a_running_agent_is_not_robbed(config: Path) -> None:
    name = await filled(config)
    with held(config.parent / "state"), pytest.raises(Conflict, match="runs with"):
        await local_restore(config, name)
    assert not kept(config)
