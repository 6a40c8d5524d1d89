"""The hub's own files: one hub a state folder, a private token, an honest word when it cannot write."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anyio
import pytest

from quarterdeck import proctree, web
from quarterdeck.errors import Conflict, InternalError, InvalidInput, StorageRefused, Unavailable
from quarterdeck.hub import app, logfile, place


def info(pid: int, identity: str | None) -> place.HubInfo:
    return place.HubInfo(
        pid=pid, started_at=1.0, url="http://127.0.0.1:1", folder="/p", version="0", identity=identity or ""
    )


def test_one_hub_a_state_folder(tmp_path: Path) -> None:
    with place.lock(tmp_path):
        place.announce(tmp_path, info(os.getpid(), proctree.identity(os.getpid())))
        with (
            pytest.raises(Conflict, match=f"process {os.getpid()} at http://127.0.0.1:1, for /p"),
            place.lock(tmp_path),
        ):
            pass
    with place.lock(tmp_path):
        pass


def test_the_lock_of_a_killed_hub_is_free(tmp_path: Path) -> None:
    program = "import sys, pathlib, time; from quarterdeck.hub import place\nwith place.lock(pathlib.Path(sys.argv[1])):\n print('held', flush=True); time.sleep(60)"  # noqa: E501
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Conflict), place.lock(tmp_path):
            pass
        holder.kill()
    with place.lock(tmp_path):
        pass


def test_a_pid_alone_is_no_hub(tmp_path: Path) -> None:
    place.prepare(tmp_path)
    assert place.running(tmp_path) is None
    place.announce(tmp_path, info(os.getpid(), "0.1"))  # the pid lives, but is another process
    assert place.running(tmp_path) is None
    place.announce(tmp_path, info(os.getpid(), proctree.identity(os.getpid())))
    assert place.running(tmp_path) is not None
    (tmp_path / "hub" / place.INFO_FILE).write_text("{")
    assert place.running(tmp_path) is None


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    token = place.token(tmp_path)
    assert len(token) >= 40
    assert place.token(tmp_path) == token
    assert (tmp_path / "hub" / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "hub").stat().st_mode & 0o777 == 0o700
    assert place.token(tmp_path / "other") != token


def test_a_token_that_a_crash_left_empty_is_made_anew(tmp_path: Path) -> None:
    file = place.prepare(tmp_path) / place.TOKEN_FILE
    for left in ("", "\n"):
        file.write_text(left)
        assert place.stored_token(tmp_path) is None
        token = place.token(tmp_path)
        assert len(token) >= 40
        assert place.token(tmp_path) == token == file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600


def test_everybody_who_asks_first_gets_the_same_token(tmp_path: Path) -> None:
    place.prepare(tmp_path)
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return place.token(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {place.token(tmp_path)}


@pytest.mark.anyio
async def test_the_log_stays_small_while_it_is_written(tmp_path: Path) -> None:
    log = place.prepare(tmp_path) / place.LOG_FILE
    program = "import itertools, sys, time\nfor n in itertools.count(): print(n, 'x' * 90, file=sys.stderr, flush=True); time.sleep(0.0005)"  # noqa: E501
    with log.open("ab") as appended, subprocess.Popen([sys.executable, "-c", program], stderr=appended) as writer:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(logfile.keep_small, log, max_bytes=20_000, every_seconds=0.01))
            older = log.with_name("hub.log.1")
            with anyio.fail_after(20):
                while not older.exists() or log.stat().st_size > 10_000:
                    await anyio.sleep(0.005)
            size = log.stat().st_size
            with anyio.fail_after(20):
                while log.stat().st_size <= size:
                    await anyio.sleep(0.005)
            group.cancel_scope.cancel()
        writer.kill()
    assert older.stat().st_size > 20_000
    assert b"\0" not in log.read_bytes(), "the writer goes on at the new end"


async def _nothing(*_: object) -> None:
    """An application that does nothing."""


@pytest.mark.parametrize("token", ["", " \n"])
def test_an_empty_token_guards_nothing(token: str) -> None:
    with pytest.raises(InternalError, match="empty token"):
        web.Guard(_nothing, token=token)


def test_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageRefused, match="nothing was started"):
        place.prepare(tmp_path / "file" / "state")


def test_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="loopback"):
        app.settings(tmp_path, host="0.0.0.0")
    assert app.settings(tmp_path, host="127.0.0.1", port=0).port == 0


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with app.bind("127.0.0.1", 0) as first, pytest.raises(Unavailable, match="cannot listen"):
        app.bind("127.0.0.1", first.getsockname()[1])
