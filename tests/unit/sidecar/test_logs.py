"""The log files do not grow without end, and what a program says last is found in them all the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from quarterdeck.sidecar import logs
from quarterdeck.sidecar.spec import STDERR_FILE
from support.session import give, living, new_session, until


def test_a_log_keeps_its_last_part_and_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    assert not logs.cap(file)
    with file.open("ab") as log:
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        assert writer.stdin is not None
        log.write(b"".join(b"line %d\n" % n for n in range(1000)))
        log.flush()
        size = file.stat().st_size
        assert not logs.cap(file, size, 100)
        assert logs.cap(file, size - 1, 100)
        assert file.stat().st_size == 0
        kept = (tmp_path / "x.log.1").read_text().splitlines()
        assert kept == [f"line {n}" for n in range(1000 - len(kept), 1000)]
        assert len(kept) == 11
        writer.communicate(b"and on\n")
    assert file.read_text() == "and on\n"
    assert (tmp_path / "x.log.1").stat().st_mode & 0o777 == 0o600


def test_a_single_endless_line_is_kept_in_part(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"x" * 5000)
    assert logs.cap(tmp_path / "x.log", 1000, 100)
    assert (tmp_path / "x.log.1").read_bytes() == b"x" * 100


@pytest.mark.anyio
async def test_a_program_that_floods_its_standard_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 100_000)
    monkeypatch.setattr(logs, "KEPT_BYTES", 1000)
    script = tmp_path / "flood.sh"
    script.write_text("#!/bin/sh\nhead -c 2000000 /dev/zero | tr '\\0' x >&2\nuntil [ -e go ]; do sleep 0.05; done\n"
                      "echo the last words >&2\nexit 3\n")  # fmt: skip
    script.chmod(0o755)
    (tmp_path / STDERR_FILE).write_text("of an earlier program\n" * 100)
    session = new_session(tmp_path, kind="command", command=[str(script)])
    async with living(session):
        await until(lambda: session.state == "running")
        task = give(session, "flood")
        await until((tmp_path / f"{STDERR_FILE}.1").exists)
        await until(lambda: (tmp_path / STDERR_FILE).stat().st_size < 100_000)
        (tmp_path / "work" / "go").touch()
        await until(lambda: session.store.task(task.id).ended_at)
        assert session.store.task(task.id).detail == "exit code 3: the last words"
