"""A folder as a power cut would leave it: the real one goes on, and a model beside it knows what is on the disk.

Of a file that is what was synced, or was written to a descriptor with O_DSYNC; the rest of it is there or not. Of the
folder it is the names of its last fsync; of what was made, renamed, linked or removed since, the first few are there,
or all but one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_CALLS = ("open", "write", "fsync", "fdatasync", "ftruncate", "link", "replace", "unlink", "close")


class _File:
    def __init__(self, content: bytes = b"") -> None:
        self.now = bytearray(content)
        self.on_disk = content

    def sync(self) -> None:
        self.on_disk = bytes(self.now)


class Disk:
    """Follows the calls of this process that change the files of one folder; what is there at first is on the disk.

    A call or flag that is `ignored` has no effect on the disk, as if it had been left out.
    """

    def __init__(self, folder: Path, *, ignored: str = "") -> None:
        self._folder = folder
        self._ignored = ignored
        self._names = {path.name: _File(path.read_bytes()) for path in folder.iterdir()}
        self._names_on_disk = dict(self._names)
        self._pending: list[dict[str, _File | None]] = []
        self._open: dict[int, tuple[_File | None, int]] = {}

    def after_a_cut(self) -> Iterator[dict[str, bytes]]:
        """The folders that may be found when the power goes now: names to contents."""
        pending = self._pending
        kept = [pending[:count] for count in range(len(pending) + 1)]
        kept += [pending[:left_out] + pending[left_out + 1 :] for left_out in range(len(pending) - 1)]
        for changes in kept:
            names: dict[str, _File | None] = dict(self._names_on_disk)
            for change in changes:
                names |= change
            found = {name: file for name, file in names.items() if file is not None}
            yield {name: file.on_disk for name, file in found.items()}
            if any(file.on_disk != file.now for file in found.values()):
                yield {name: bytes(file.now) for name, file in found.items()}

    def _change(self, **names: _File | None) -> None:
        """Names that come, go or change together."""
        self._pending.append(names)
        for name, file in names.items():
            if file is None:
                self._names.pop(name, None)
            else:
                self._names[name] = file

    @contextmanager
    def followed(self, after_each: Callable[[], None]) -> Iterator[None]:
        """Follow what the block does; `after_each` is called when a call has changed something."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _CALLS:
                patch.setattr(os, name, self._wrapped(name, after_each))
            yield

    def _wrapped(self, name: str, after_each: Callable[[], None]) -> Callable[..., Any]:
        real, follow = getattr(os, name), getattr(self, f"_did_{name}")

        def call(*given: Any, **named: Any) -> Any:
            answer = real(*given, **named)
            if follow(answer, *given):
                after_each()
            return answer

        return call

    def _mine(self, path: Any) -> str | None:
        return Path(path).name if Path(path).parent == self._folder else None

    def _did_open(self, descriptor: int, path: Any, flags: int, *_: Any) -> bool:
        if Path(path) == self._folder:
            self._open[descriptor] = (None, flags)
        if (name := self._mine(path)) is None:
            return False
        if name not in self._names:
            self._change(**{name: _File()})
        file = self._names[name]
        if flags & os.O_TRUNC:
            file.now.clear()
        self._open[descriptor] = (file, flags)
        return True

    def _did_close(self, _: None, descriptor: int) -> bool:
        self._open.pop(descriptor, None)
        return False

    def _did_write(self, count: int, descriptor: int, data: bytes) -> bool:
        file, flags = self._open.get(descriptor, (None, 0))
        if file is None:
            return False
        file.now += bytes(data[:count])
        if flags & os.O_DSYNC and self._ignored != "O_DSYNC":
            file.sync()
        return True

    def _did_ftruncate(self, _: None, descriptor: int, size: int) -> bool:
        file, _flags = self._open.get(descriptor, (None, 0))
        if file is None:
            return False
        del file.now[size:]
        return True

    def _did_fsync(self, _: None, descriptor: int) -> bool:
        if descriptor not in self._open or self._ignored == "fsync":
            return False
        file, _flags = self._open[descriptor]
        if file is None:
            self._names_on_disk, self._pending = dict(self._names), []
        else:
            file.sync()
        return True

    _did_fdatasync = _did_fsync

    def _did_link(self, _: None, source: Any, target: Any) -> bool:
        if (name := self._mine(target)) is None:
            return False
        self._change(**{name: self._names[str(self._mine(source))]})
        return True

    def _did_replace(self, _: None, source: Any, target: Any) -> bool:
        if (name := self._mine(target)) is None:
            return False
        before = str(self._mine(source))
        self._change(**{name: self._names[before], before: None})
        return True

    def _did_unlink(self, _: None, path: Any, *__: Any) -> bool:
        if (name := self._mine(path)) is None or name not in self._names:
            return False
        self._change(**{name: None})
        return True
