"""The store against a plain dict, through kills, torn files and full journals."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterdeck.errors import PreconditionFailed
from quarterdeck.metadata import journal, store
from quarterdeck.metadata.model import encode_value
from quarterdeck.metadata.store import Put, Store
from support.killing import Killed, killed_after

pytestmark = pytest.mark.anyio
KEYS = st.sampled_from(["a", "b", "c/d", "e.f", "G"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=5,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.dictionaries(KEYS, VALUES, min_size=1, max_size=3)),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.sampled_from(["crash", "stop", "fold"]), st.none()),
    ),
    max_size=25,
)


def values(found: Store) -> dict[str, Any]:
    return {key: msgspec.json.decode(entry.value) for key, entry in found.entries.items()}


async def write(found: Store, data: dict[str, Any]) -> None:
    await found.write({key: Put(encode_value(key, value)) for key, value in data.items()})


@given(steps=STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_behaves_as_a_dict_whatever_happens_in_between(steps: list[tuple[str, Any]]) -> None:
    async def run(folder: Path) -> None:
        model: dict[str, Any] = {}
        position = 0
        while position <= len(steps):
            crashed = False
            async with Store.open(folder) as found:
                assert found.problems == []
                # Byte for byte: the file is indented, and that must not become part of the values.
                stored = {key: bytes(entry.value) for key, entry in found.entries.items()}
                assert stored == {key: encode_value(key, value) for key, value in model.items()}
                while position < len(steps):
                    kind, argument = steps[position]
                    position += 1
                    if kind == "put":
                        await write(found, argument)
                        model.update(argument)
                    elif kind == "delete":
                        await found.write({}, (argument,))
                        model.pop(argument, None)
                    elif kind == "fold":
                        await found._fold()
                    elif kind == "stop":
                        break
                    else:
                        crashed = True
                        break
                    assert values(found) == model
                else:
                    position += 1
                if crashed:  # what a kill leaves: the files as they are now
                    copy = {p.name: p.read_bytes() for p in folder.iterdir()}
            if crashed:
                for path in folder.iterdir():
                    path.unlink()
                for name, data in copy.items():
                    (folder / name).write_bytes(data)

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder))


async def test_preconditions_are_decided_in_order(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as found:
        await write(found, {"n": 0})
        wins: list[int] = []

        async def compare_and_set(worker: int) -> None:
            revision = found.entries["n"].revision
            try:
                await found.write(
                    {"n": Put(b"%d" % worker)}, match=lambda _, e: e is not None and e.revision == revision
                )
                wins.append(worker)
            except PreconditionFailed:
                pass

        async with anyio.create_task_group() as group:
            for worker in range(20):
                group.start_soon(compare_and_set, worker)
        assert len(wins) == 1
        assert values(found) == {"n": wins[0]}
        assert found.flushes == 2


async def test_a_torn_last_line_was_never_answered(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as found:
        await write(found, {"a": 1})
        data = (tmp_path / journal.JOURNAL).read_bytes()
    (tmp_path / journal.FILE).unlink()
    (tmp_path / (journal.JOURNAL + journal.PREVIOUS)).unlink()
    (tmp_path / journal.JOURNAL).write_bytes(data + data[: len(data) // 2].rstrip(b"\n"))
    async with Store.open(tmp_path) as found:
        assert values(found) == {"a": 1}
        assert found.problems == []
        await write(found, {"b": 2})
    async with Store.open(tmp_path) as found:
        assert values(found) == {"a": 1, "b": 2}


async def test_a_damaged_line_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    async with Store.open(tmp_path) as found:
        for n in range(5):
            await write(found, {f"k{n}": n})
        lines = (tmp_path / journal.JOURNAL).read_bytes().splitlines(keepends=True)
    for path in (journal.FILE, journal.JOURNAL + journal.PREVIOUS):
        (tmp_path / path).unlink()
    lines[2] = lines[2].replace(b'"value":1', b'"value":7')
    (tmp_path / journal.JOURNAL).write_bytes(b"".join(lines))
    async with Store.open(tmp_path) as found:
        assert values(found) == {"k0": 0, "k2": 2, "k3": 3, "k4": 4}
        assert "1 unreadable lines (3)" in found.problems[0]
    assert [p for p in tmp_path.iterdir() if "unreadable" in p.name]


@pytest.mark.parametrize("damage", ["torn", "newer", "garbage", "empty"])
async def test_an_unreadable_file_is_kept_aside_and_the_last_good_copy_loaded(tmp_path: Path, damage: str) -> None:
    for n in range(3):
        async with Store.open(tmp_path) as found:
            await write(found, {f"k{n}": n})
    path = tmp_path / journal.FILE
    data = path.read_bytes()
    newer = data.replace(b'"schema_version": 1', b'"schema_version": 2')
    bad = {"torn": data[: len(data) // 2], "newer": newer, "garbage": b"\x00\xff" * 50, "empty": b""}[damage]
    path.write_bytes(bad)
    async with Store.open(tmp_path) as found:
        assert values(found) == {"k0": 0, "k1": 1, "k2": 2}, "an acknowledged write is lost"
        assert any("it is kept as" in problem for problem in found.problems)
    kept = [p for p in tmp_path.iterdir() if "unreadable" in p.name]
    assert [p.read_bytes() for p in kept] == [bad]
    async with Store.open(tmp_path) as found:
        assert found.problems == []
        assert values(found) == {"k0": 0, "k1": 1, "k2": 2}


async def test_the_journal_is_folded_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FOLD_BYTES", 2000)
    async with Store.open(tmp_path) as found:
        for n in range(100):
            await write(found, {"k": "x" * 100 + str(n)})
        assert (tmp_path / journal.JOURNAL).stat().st_size < 3000
        assert json.loads((tmp_path / journal.FILE).read_text())["entries"]["k"]["value"].startswith("x")
        assert values(found)["k"].endswith("99")


async def test_killed_at_any_step_of_a_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every system call of a fold is made to be the last one, in turn."""

    for last in range(12):
        folder = tmp_path / str(last)
        async with Store.open(folder) as found:
            await write(found, {"a": 1})
            await found._fold()
            await write(found, {"b": 2})
            await found._fold()
            await write(found, {"c": 3})
            snapshot = found._snapshot()
            with (
                contextlib.suppress(Killed),
                killed_after(monkeypatch, journal, ("fsync", "link", "open"), last),
            ):
                found._journal.fold(snapshot)
            copy = {p.name: p.read_bytes() for p in folder.iterdir()}
        for path in folder.iterdir():
            path.unlink()
        for name, data in copy.items():
            (folder / name).write_bytes(data)
        async with Store.open(folder) as found:
            assert values(found) == {"a": 1, "b": 2, "c": 3}, last
            assert found.problems == []


WRITER = """
import sys, anyio, os
from pathlib import Path
from quarterdeck.metadata.store import Put, Store
from quarterdeck.metadata import store
store.FOLD_BYTES = 3000
async def main():
    async with Store.open(Path(sys.argv[1])) as found:
        async def work(worker):
            n = int(found.entries[f"w{worker}"].value) if f"w{worker}" in found.entries else 0
            while True:
                n += 1
                await found.write({f"w{worker}": Put(b"%d" % n), f"pad{worker}": Put(b'"' + b"x" * 50 + b'"')})
                os.write(1, b"%d %d\\n" % (worker, n))
        async with anyio.create_task_group() as group:
            for worker in range(8):
                group.start_soon(work, worker)
anyio.run(main)
"""


@pytest.mark.fault
def test_killed_a_hundred_times_under_concurrent_writes(tmp_path: Path) -> None:
    """Every acknowledged write is there afterwards, and no write is half there."""
    acknowledged: dict[str, int] = {}
    for _ in range(100):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "s")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(random.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        output = process.stdout.read()
        process.stdout.close()
        process.wait()
        for line in output.splitlines():
            worker, _, number = line.decode().partition(" ")
            if number:
                acknowledged[f"w{worker}"] = max(acknowledged.get(f"w{worker}", 0), int(number))
        loaded = journal.load(tmp_path / "s")
        assert loaded.problems == []
        for key, number in acknowledged.items():
            assert int(bytes(loaded.entries[key].value)) >= number
            assert f"pad{key[1:]}" in loaded.entries
    assert sum(acknowledged.values()) > 1000
