"""The power goes after any call of the store: what was answered is on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from quarterdeck.metadata import journal, store
from quarterdeck.metadata.journal import FILE
from quarterdeck.metadata.model import encode_value
from quarterdeck.metadata.store import Put, Store
from support.power import Disk

pytestmark = pytest.mark.anyio
WRITES = 12


class Cuts:
    """Looks after each call what the next start would find, and counts."""

    def __init__(self, folder: Path, scratch: Path, *, ignored: str = "") -> None:
        self.folder = folder
        self.disk = Disk(folder, ignored=ignored)
        self.answered = self.asked = -1
        self.looked = 0
        self.found: set[int] = set()
        self.kept: bytes | None = None
        self._scratch = scratch

    @classmethod
    def within(cls, place: Path, *, ignored: str = "") -> Self:
        """An empty folder for the store, and one for what would be found."""
        folder, scratch = place / "facts", place / "scratch"
        folder.mkdir()
        scratch.mkdir()
        return cls(folder, scratch, ignored=ignored)

    def look(self) -> None:
        for files in self.disk.after_a_cut():
            self.looked += 1
            folder = self._scratch / str(self.looked)
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            loaded = journal.load(folder)
            found = msgspec.json.decode(loaded.entries["n"].value) if "n" in loaded.entries else -1
            assert self.answered <= found <= self.asked, f"{found} of {self.answered}: {sorted(files)}"
            assert {f"k{n}" for n in range(found + 1)} <= loaded.entries.keys()
            self.found.add(found)
            assert self.kept is None or self.kept in files.values(), "what could not be read is gone"


async def lives(folder: Path, cuts: Cuts) -> None:
    """Three servers, one after the other; each folds at its end, and the second in between, too."""
    for life in range(3):
        async with Store.open(folder) as opened:
            for _ in range(WRITES // 3):
                cuts.asked += 1
                values: dict[str, Any] = {"n": cuts.asked, f"k{cuts.asked}": "x" * 200}
                await opened.write({key: Put(encode_value(key, value)) for key, value in values.items()})
                cuts.answered = cuts.asked
        assert cuts.answered == (life + 1) * WRITES // 3 - 1


@pytest.mark.parametrize("fold_bytes", [500, 4_000_000])
async def test_what_was_answered_is_found_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold_bytes: int
) -> None:
    monkeypatch.setattr(store, "FOLD_BYTES", fold_bytes)
    cuts = Cuts.within(tmp_path)
    with cuts.disk.followed(cuts.look):
        await lives(cuts.folder, cuts)
    assert cuts.found == set(range(-1, WRITES))
    assert cuts.looked > 80


async def test_nor_is_anything_lost_while_a_bad_file_is_replaced(tmp_path: Path) -> None:
    before = Cuts.within(tmp_path)
    await lives(before.folder, before)
    (before.folder / FILE).write_bytes(b"{torn")
    cuts = Cuts(before.folder, tmp_path / "scratch")
    cuts.answered = cuts.asked = before.answered
    cuts.kept = b"{torn"
    with cuts.disk.followed(cuts.look):
        async with Store.open(cuts.folder) as opened:
            cuts.asked += 1
            await opened.write({"n": Put(encode_value("n", cuts.asked)), f"k{cuts.asked}": Put(b"1")})
            cuts.answered = cuts.asked
    assert cuts.looked > 20


@pytest.mark.parametrize("ignored", ["O_DSYNC", "fsync"])
async def test_a_store_that_does_not_wait_for_the_disk_would_be_found_out(tmp_path: Path, ignored: str) -> None:
    cuts = Cuts.within(tmp_path, ignored=ignored)
    with pytest.raises((AssertionError, ExceptionGroup)) as caught, cuts.disk.followed(cuts.look):
        await lives(cuts.folder, cuts)
    lost = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert "-1 of 0" in str(lost)
