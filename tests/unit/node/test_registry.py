"""The registry: rows that come back, migrations, transactions, pruning, snapshots and restore."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterdeck.errors import Conflict, InternalError, InvalidInput, NotFound, StorageRefused
from quarterdeck.node import lock, rows, schema, snapshot
from quarterdeck.node.context import event
from quarterdeck.node.looking import event_stream
from quarterdeck.node.model import (
    ComponentRecord,
    ComponentSpec,
    Event,
    Healthcheck,
    Limits,
    Observed,
    Operation,
    Planned,
    Port,
    Secret,
    ServiceDef,
    ServiceRecord,
    Volume,
)
from quarterdeck.node.registry import Registry
from quarterdeck.node.store import Store, migrate

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store.open(tmp_path / "registry.sqlite3", snapshots=tmp_path / "snapshots", keep=3) as opened:
        yield opened


def component(service: str, spec: ComponentSpec, **more: object) -> ComponentRecord:
    return ComponentRecord(service, spec, f"{service}-{spec.name}", "running", 1, "hash", **more)  # type: ignore[arg-type]


words = st.text(max_size=8)
specs = st.builds(
    ComponentSpec,
    name=st.sampled_from("abc"),
    image=words,
    ports=st.lists(
        st.builds(Port, st.integers(1, 65535), st.integers(1, 65535), st.sampled_from(["tcp", "udp"]), words),
        max_size=3,
    ).map(tuple),
    volumes=st.lists(st.builds(Volume, words, words, st.lists(words, max_size=2).map(tuple)), max_size=3).map(tuple),
    entrypoint=st.lists(words, max_size=2).map(tuple),
    cmd=st.lists(words, max_size=3).map(tuple),
    env=st.dictionaries(words, words, max_size=3),
    env_files=st.lists(words, max_size=2).map(tuple),
    secrets=st.lists(st.builds(Secret, words, st.sampled_from(["env", "file"]), words), max_size=2).map(tuple),
    user=words,
    workdir=words,
    network=words,
    restart=st.sampled_from(["no", "on-failure", "always"]),
    limits=st.builds(
        Limits, st.none() | st.integers(0, 2**50), st.none() | st.floats(0.1, 64), st.none() | st.integers(1, 99)
    ),
    healthcheck=st.none() | st.builds(Healthcheck, st.lists(words, min_size=1, max_size=3).map(tuple)),
    depends_on=st.lists(words, max_size=2).map(tuple),
    labels=st.dictionaries(words, words, max_size=2),
    stop_seconds=st.integers(0, 99),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=specs, exit_code=st.none() | st.integers(0, 255), started=st.none() | st.floats(0, 2e9))
async def test_every_definition_comes_back_as_it_was(
    store: Store, spec: ComponentSpec, exit_code: int | None, started: float | None
) -> None:
    seen = Observed("exited", 5.5, "id", 7, "img", "sha256:1", "h", 3, started, None, exit_code, "healthy", "m")
    record = component("s", spec, observed=seen, version="v1", image_digest="sha256:2")

    def write(registry: Registry) -> None:
        registry.put_service(ServiceRecord("s", 4, (), True, True, True, False, "n", 1.5))
        registry.put_component(record)

    await store.write(write)
    service = await store.read(lambda registry: registry.service("s"))
    assert service == ServiceRecord("s", 4, (record,), True, True, True, False, "n", 1.5)
    definition = service.definition()

    def history(registry: Registry) -> ServiceDef:
        registry.add_history(definition, 4, 1, "ann", ok=True)
        return registry.history("s")[0].definition

    assert await store.write(history) == definition
    await store.write(lambda registry: registry.remove_service("s"))
    assert await store.read(lambda registry: registry.services()) == ()
    left = await store.read(
        lambda registry: [
            registry._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("components", *rows.CHILD_COLUMNS)
        ]
    )
    assert left == [0] * 5


async def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    def half(registry: Registry) -> None:
        registry.put_service(ServiceRecord("s", 1, ()))
        raise NotFound("no")

    with pytest.raises(NotFound):
        await store.write(half)
    assert await store.read(lambda registry: registry.services()) == ()
    with pytest.raises(NotFound) as missing:
        await store.read(lambda registry: registry.service("s"))
    assert "none yet" in missing.value.hint

    def twice(registry: Registry) -> None:
        for service in ("a", "b"):
            registry.put_service(ServiceRecord(service, 1, ()))
            registry.put_component(replace(component(service, ComponentSpec("c", "i")), container_name="same"))

    with pytest.raises(InternalError, match="UNIQUE"):
        await store.write(twice)
    assert await store.read(lambda registry: registry.services()) == ()


async def test_the_kept_listing_is_never_older_than_a_write(store: Store) -> None:
    for generation in range(1, 4):
        await store.write(lambda r, g=generation: r.put_service(ServiceRecord("s", g, ())))  # type: ignore[misc]
        assert [each.generation for each in await store.services()] == [generation]
        assert await store.services() is await store.services()
    taken = await store.take_snapshot()
    await store.write(lambda registry: registry.remove_service("s"))
    assert await store.services() == ()
    await store.restore(taken.path)
    assert [each.name for each in await store.services()] == ["s"]


async def test_events_by_component_range_and_window_and_their_pruning(store: Store) -> None:
    def write(registry: Registry) -> None:
        for index in range(20):
            registry.add_event(
                Event(0, 100 + index, "s", "a" if index % 2 else "b", "state", "", "running", "exited", {"n": index})
            )
        registry.add_event(Event(0, 119, "s", "a", "state", "", "unknown", "running"))

    await store.write(write)
    found = await store.read(lambda registry: registry.events(service="s", component="a", since=105, until=110))
    assert [each.at for each in found] == [105, 107, 109]
    assert found[0].details == {"n": 5}
    assert await store.read(lambda r: r.count_events(service="s", component="b", kind="state", since=110)) == 5
    assert await store.read(lambda r: r.count_transitions("s", "a", 110)) == 5
    latest = await store.read(lambda registry: registry.events(limit=2))
    assert [each.id for each in latest] == [20, 21]
    assert await store.write(lambda registry: registry.prune_events(before=105, keep=10)) == 11
    assert len(await store.read(lambda registry: registry.events(limit=100))) == 10


async def test_operations_keep_the_first_answer_and_leases_move(store: Store) -> None:
    operation = Operation("op", "deploy", "s", "hash", "running", 1, "me", 10, steps='{"x":1}')
    await store.write(lambda registry: registry.begin_operation(operation, "ann"))
    with pytest.raises(InternalError):
        await store.write(lambda registry: registry.begin_operation(operation, "ann"))
    await store.write(lambda registry: registry.extend_leases("me", 99))
    await store.write(lambda registry: registry.extend_leases("other", 5))
    assert (await store.read(lambda registry: registry.running_operations()))[0].lease_until == 99
    await store.write(lambda registry: registry.end_operation("op", "done", '{"result":1}', 50))
    ended = await store.read(lambda registry: registry.operation("op"))
    assert ended is not None
    assert (ended.state, ended.answer, ended.finished_at, ended.steps) == ("done", '{"result":1}', 50, '{"x":1}')
    await store.write(lambda registry: registry.prune_operations(40))
    assert await store.read(lambda registry: registry.operation("op")) is not None
    await store.write(lambda registry: registry.prune_operations(60))
    assert await store.read(lambda registry: registry.operation("op")) is None


async def test_history_keeps_the_newest_and_the_last_good_one(store: Store) -> None:
    def write(registry: Registry) -> None:
        registry.put_service(ServiceRecord("s", 9, ()))
        for generation in range(1, 10):
            registry.add_history(ServiceDef("s", ()), generation, 0, "", ok=generation == 2)
        registry.prune_history("s", 3)

    await store.write(write)
    assert [e.generation for e in await store.read(lambda r: r.history("s"))] == [9, 8, 7, 2]


async def test_the_pragmas_hold(store: Store) -> None:
    def read(registry: Registry) -> list[object]:
        return [
            registry._db.execute(f"PRAGMA {p}").fetchone()[0]
            for p in ("journal_mode", "synchronous", "foreign_keys", "user_version")
        ]

    assert await store.read(read) == ["wal", 2, 1, schema.SCHEMA]
    with pytest.raises(InternalError, match="cannot store"):
        await store.write(lambda r: r._db.execute("INSERT INTO services VALUES ('x', 'text', 1, 1, 1, 1, '', 1)"))


async def test_migrations_go_step_by_step_with_a_snapshot_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = tmp_path / "r.sqlite3", tmp_path / "snapshots"
    async with Store.open(path, snapshots=folder, keep=3) as store:
        await store.write(lambda registry: registry.put_service(ServiceRecord("s", 1, ())))
    two = (*schema.MIGRATIONS, ("ALTER TABLE services ADD COLUMN extra TEXT NOT NULL DEFAULT 'x'",))
    for module in ("store", "snapshot"):
        monkeypatch.setattr(f"quarterdeck.node.{module}.SCHEMA", schema.SCHEMA + 1)
    monkeypatch.setattr("quarterdeck.node.store.MIGRATIONS", two)
    for _ in range(2):
        async with Store.open(path, snapshots=folder, keep=3) as store:
            assert (await store.read(lambda registry: registry.service("s"))).generation == 1
    taken = snapshot.listed(folder)
    assert [each.schema for each in taken] == [2]
    # A failing step changes nothing.
    broken = (*two, ("CREATE TABLE t (x) STRICT",))
    monkeypatch.setattr("quarterdeck.node.store.MIGRATIONS", broken)
    monkeypatch.setattr("quarterdeck.node.store.SCHEMA", schema.SCHEMA + 2)
    with pytest.raises(InternalError, match="cannot be opened"):
        async with Store.open(path, snapshots=folder, keep=3):
            pass
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone()[0] == 3
    raw.close()
    monkeypatch.undo()
    with pytest.raises(InternalError, match="schema 3, this version knows up to 2"):
        async with Store.open(path, snapshots=folder, keep=3):
            pass


async def test_snapshots_are_whole_named_by_time_and_few(store: Store, tmp_path: Path) -> None:
    for index in range(5):
        await store.write(lambda r, i=index: r.put_service(ServiceRecord(f"s{i}", 1, ())))  # type: ignore[misc]
        await store.take_snapshot()
    found = await store.snapshots()
    assert [each.services for each in found] == [5, 4, 3]
    assert found[0].at == pytest.approx(time.time(), abs=10)
    assert (Path(found[0].path).stat().st_mode & 0o777, Path(found[0].path).parent.stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    restored = await store.restore(Path(found[2].path).name)
    assert restored.services == 3
    assert len(await store.read(lambda registry: registry.services())) == 3
    await store.write(lambda registry: registry.add_event(event("", "", "recovered")))
    # What was there before is a snapshot too.
    assert (await store.snapshots())[0].services == 5


async def test_a_snapshot_leaves_alone_what_another_process_writes_just_now(store: Store, tmp_path: Path) -> None:
    await store.take_snapshot()
    folder = tmp_path / "snapshots"
    dead, alive = folder / ".registry-1.sqlite3.part", folder / ".registry-2.sqlite3.part"
    dead.touch()
    await store.take_snapshot()
    assert not dead.exists()
    with snapshot._writing(folder):
        alive.touch()
        # It does not wait for that one either.
        with anyio.fail_after(10):
            await store.take_snapshot()
        assert alive.exists()
    await store.take_snapshot()
    assert not alive.exists()


async def test_who_follows_events_hears_of_what_comes_after_a_restore(store: Store) -> None:
    async def say(text: str) -> None:
        await store.write(lambda registry: registry.add_event(event("s", "", "state", text)))

    context = SimpleNamespace(store=store)
    following = event_stream(context, service="s", component="", since=0, limit=10, follow=True)  # type: ignore[arg-type]
    async with aclosing(following):
        await say("first")
        taken = await store.take_snapshot()
        await say("second")
        with anyio.fail_after(20):
            told = [(await anext(following)).message for _ in range(2)]
            for text in ("third", "fourth"):
                await store.restore(Path(taken.path).name)
                await say(text)
                # Its number was another one's.
                told.append((await anext(following)).message)
            await say("fifth")
            told.append((await anext(following)).message)
    assert told == ["first", "second", "third", "fourth", "fifth"]


async def test_a_damaged_or_foreign_snapshot_is_refused_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    await store.write(lambda registry: registry.put_service(ServiceRecord("s", 1, ())))
    taken = Path((await store.take_snapshot()).path)
    whole = taken.read_bytes()
    bad = taken.with_name("registry-20200101T000000.000000Z.sqlite3")
    bad.write_bytes(whole[:4096] + b"\xff" * 4096 + whole[8192:])
    with pytest.raises(InvalidInput):
        await store.restore(bad.name)
    bad.write_bytes(b"no database at all")
    with pytest.raises(InvalidInput):
        await store.restore(bad.name)
    for name in ("../../etc/passwd", "/etc/passwd", "none.sqlite3"):
        with pytest.raises(NotFound):
            await store.restore(name)
    assert len(await store.read(lambda registry: registry.services())) == 1


async def test_a_disk_that_refuses_is_told_and_nothing_is_half_written(store: Store) -> None:
    def limit(registry: Registry) -> None:
        registry._db.execute(f"PRAGMA max_page_count = {registry._db.execute('PRAGMA page_count').fetchone()[0] + 4}")

    def much(registry: Registry) -> None:
        for index in range(1000):
            registry.add_event(event("s", "", "state", "x" * 1000, n=index))

    await store.read(limit)
    with pytest.raises(StorageRefused, match="nothing was changed"):
        await store.write(much)
    assert await store.read(lambda registry: registry.events()) == ()


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    with lock.held(tmp_path), pytest.raises(Conflict, match="process"), lock.held(tmp_path):
        pass
    with lock.held(tmp_path):
        pass


async def test_history_of_an_older_version_has_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = tmp_path / "r.sqlite3", tmp_path / "snapshots"
    with sqlite3.connect(path) as raw:
        for statement in schema.MIGRATIONS[0]:
            raw.execute(statement)
        raw.execute("PRAGMA user_version = 1")
        raw.execute("INSERT INTO history VALUES ('s', 1, 2.0, 'ann', 1, ?)", (rows.text(ServiceDef("s", ())),))
        raw.execute("INSERT INTO operations VALUES ('o', 'deploy', 's', '', 'running', 1, '', 1, NULL, '', '{}', '')")
    raw.close()
    for _ in range(2):
        async with Store.open(path, snapshots=folder, keep=3) as store:
            assert [each.images for each in await store.read(lambda registry: registry.history("s"))] == [{}]
            # What was interrupted by the change of versions is judged as before: by its definition.
            assert [each.plan for each in await store.read(lambda registry: registry.running_operations())] == [{}]
    planned = {"a": Planned("replace", "hash", "sha256:1", running=True)}
    async with Store.open(path, snapshots=folder, keep=3) as store:
        await store.write(lambda registry: registry.plan_operation("o", "s", planned))
        await store.write(lambda registry: registry.plan_operation("o", "t", {}))
        found = await store.read(lambda registry: registry.operation("o"))
    assert found is not None
    assert found.plan == {"s": planned, "t": {}}


async def test_a_rehearsal_changes_nothing(store: Store) -> None:
    def work(registry: Registry) -> int:
        registry.put_service(ServiceRecord("s", 7, ()))
        return registry.service("s").generation

    assert await store.rehearse(work) == 7
    assert await store.read(lambda registry: registry.find("s")) is None


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "x", isolation_level=None)
    for _ in range(2):
        migrate(database, tmp_path, 1)
    assert database.execute("PRAGMA user_version").fetchone()[0] == schema.SCHEMA
    database.close()


async def test_two_hundred_components_are_read_in_ten_milliseconds(store: Store) -> None:
    spec = ComponentSpec("c", "registry/img:v1", ports=(Port(80, 80),), env={"A": "1", "B": "2"}, cmd=("x", "y"))

    def write(registry: Registry) -> None:
        for index in range(50):
            registry.put_service(ServiceRecord(f"s{index}", 1, ()))
            for number in range(4):
                registry.put_component(component(f"s{index}", replace(spec, name=f"c{number}")))

    await store.write(write)
    took = []
    for _ in range(10):
        began = time.perf_counter()
        assert sum(len(each.components) for each in await store.read(lambda registry: registry.services())) == 200
        took.append(time.perf_counter() - began)
    # The figure itself is in the benchmark; here only that nothing became quadratic, on a busy machine too.
    assert min(took) < 0.5
