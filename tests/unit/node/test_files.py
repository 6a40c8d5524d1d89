"""Files of services: escapes refused (a corpus, a property, a swap during the call), atomic, resumable, flat."""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError
from quarterdeck.node.filepaths import parts_of
from quarterdeck.node.files import Files
from quarterdeck.node.pushing import CHUNK, part_name
from quarterdeck.node.results import PushRequest

pytestmark = pytest.mark.anyio

ESCAPES = [
    "", "/", "//", ".", "..", "../x", "../../etc/passwd",
    "a/../b", "a/..", "a/../../x", "./a", "a/.", "a//b",
    "/etc/passwd", "a/", "a\0b", "\0", "..\0", "link/x", "link", "folder/out/x",
    "folder/out", "folder/up/x", "loop/x", "abs/passwd",
    "file/x", ".qd-push-x", "a/.qd-push-00", "x" * 300, "/".join(["d"] * 3000),
]  # fmt: skip
NAMES = ["..", ".", "", "/", "../svc", "svc/..", "SVC", "a b", "svc/", "\0"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with every kind of link in a service's folder, and a secret outside."""
    root = tmp_path / "srv"
    service = root / "svc"
    (service / "folder").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret")
    (outside / "passwd").write_text("secret")
    (service / "file").write_text("plain")
    (service / "link").symlink_to(outside)
    (service / "folder" / "out").symlink_to(outside)
    (service / "folder" / "up").symlink_to("../../../outside")
    (service / "loop").symlink_to("loop")
    (service / "abs").symlink_to("/etc")
    (root / "linked").symlink_to(outside)
    return root


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


def request(path: str, content: bytes, service: str = "svc", **more: object) -> PushRequest:
    return PushRequest(service, path, len(content), **more)  # type: ignore[arg-type]


def outside_of(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in (root.parent / "outside").rglob("*") if p.is_file()}


@pytest.mark.parametrize("path", ESCAPES)
async def test_no_path_leads_out(root: Path, path: str) -> None:
    files, before = Files(root), outside_of(root)
    if path not in ("link", "folder/out"):
        # (A link itself may be replaced by a file: that leads nowhere.)
        with pytest.raises(QuarterdeckError):
            await files.push(request(path, b"evil"), chunks(b"evil"))
    with pytest.raises(QuarterdeckError):
        async with files.pull("svc", path) as (_, content):
            raise AssertionError([each async for each in content])
    with pytest.raises(QuarterdeckError):
        files.read_private("svc", path)
    assert outside_of(root) == before


@pytest.mark.parametrize("service", [*NAMES, "linked"])
async def test_no_service_name_leads_out(root: Path, service: str) -> None:
    files, before = Files(root), outside_of(root)
    with pytest.raises(QuarterdeckError):
        await files.push(request("x", b"evil", service), chunks(b"evil"))
    with pytest.raises(QuarterdeckError):
        async with files.pull(service, "x"):
            pass
    with pytest.raises(QuarterdeckError):
        await files.remove_all(service)
    assert outside_of(root) == before


async def test_a_pushed_file_replaces_a_link_and_never_its_target(root: Path) -> None:
    before = outside_of(root)
    await Files(root).push(request("link", b"new"), chunks(b"new"))
    assert (root / "svc" / "link").is_symlink() is False
    assert (root / "svc" / "link").read_bytes() == b"new"
    assert outside_of(root) == before


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.sampled_from(
                ["..", ".", "", "link", "folder", "out", "up", "loop", "abs", "file", "x", "passwd", "~", "%2e%2e"]
            ),
            st.text(max_size=6),
        ),
        min_size=1,
        max_size=5,
    ).map("/".join)
)
async def test_whatever_the_path_only_the_service_folder_changes(root: Path, path: str) -> None:
    before = outside_of(root)
    beside = sorted(os.listdir(root))
    try:
        await Files(root).push(request(path, b"evil"), chunks(b"evil"))
    except QuarterdeckError:
        pass
    else:
        parts = parts_of("svc", path)
        assert (root / "svc").joinpath(*parts).read_bytes() == b"evil"
        async with Files(root).pull("svc", path) as (header, content):
            assert header.size == 4
            assert b"".join([each async for each in content]) == b"evil"
    assert outside_of(root) == before
    assert sorted(os.listdir(root)) == beside


async def test_a_folder_swapped_for_a_link_during_the_call_leads_nowhere(root: Path) -> None:
    """A thread swaps a folder for a link outside, as fast as it can, while files are pushed and pulled."""
    service, outside = root / "svc", root.parent / "outside"
    (service / "d").mkdir()
    (service / "d" / "x").write_text("inside")
    (service / "spare").symlink_to(outside)
    before, done = outside_of(root), threading.Event()

    def swap() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        one, two = os.fsencode(service / "d"), os.fsencode(service / "spare")
        while not done.is_set():
            # AT_FDCWD, RENAME_EXCHANGE: both names change hands in one step.
            assert libc.renameat2(-100, one, -100, two, 2) == 0

    thread = threading.Thread(target=swap)
    thread.start()
    files, got = Files(root), 0
    try:
        for _ in range(300):
            try:
                async with files.pull("svc", "d/x") as (_, content):
                    assert b"".join([each async for each in content]) != b"secret"
                await files.push(request("d/y", b"evil"), chunks(b"evil"))
                got += 1
            except (InvalidInput, NotFound):
                continue
    finally:
        done.set()
        thread.join()
    assert got > 0
    assert outside_of(root) == before
    assert not (outside / "y").exists()


async def test_a_push_makes_folders_sets_mode_and_owner_and_comes_back_whole(root: Path) -> None:
    files = Files(root)
    content = os.urandom(3 * CHUNK + 17)
    digest = hashlib.sha256(content).hexdigest()
    done = await files.push(
        request("a/b/c.bin", content, sha256=digest, mode=0o640, owner="1234:2345" if os.getuid() == 0 else ""),
        chunks(content[:100], b"", content[100:]),
    )
    assert (done.sha256, done.size, done.mode) == (digest, len(content), 0o640)
    facts = (root / "svc/a/b/c.bin").stat()
    assert stat.S_IMODE(facts.st_mode) == 0o640
    if os.getuid() == 0:
        assert (facts.st_uid, facts.st_gid) == (1234, 2345)
    async with files.pull("svc", "a/b/c.bin") as (header, read):
        assert header.mode == 0o640
        assert b"".join([each async for each in read]) == content
    async with files.pull("svc", "a/b/c.bin", offset=CHUNK) as (_, read):
        assert b"".join([each async for each in read]) == content[CHUNK:]
    assert [p.name for p in (root / "svc/a/b").iterdir()] == ["c.bin"]


@pytest.mark.parametrize(("sent", "size", "sha256"), [(b"abc", 4, ""), (b"abcd", 3, ""), (b"abc", 3, "0" * 64)])
async def test_what_is_not_whole_replaces_nothing(root: Path, sent: bytes, size: int, sha256: str) -> None:
    with pytest.raises(InvalidInput, match="nothing was replaced"):
        await Files(root).push(PushRequest("svc", "file", size, sha256), chunks(sent))
    assert (root / "svc/file").read_text() == "plain"
    assert not [p for p in (root / "svc").iterdir() if p.name.startswith(".qd")]


async def test_an_interrupted_push_goes_on_where_it_ended(root: Path) -> None:
    files, content = Files(root), os.urandom(4 * CHUNK)
    digest = hashlib.sha256(content).hexdigest()

    async def broken() -> AsyncIterator[bytes]:
        yield content[: 2 * CHUNK]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await files.push(request("big", content, sha256=digest), broken())
    assert not (root / "svc/big").exists()
    offset = await files.offset("svc", "big", digest)
    assert offset == 2 * CHUNK
    assert await files.offset("svc", "big", "f" * 64) == 0
    with pytest.raises(Conflict, match="bytes are there"):
        await files.push(request("big", content, sha256=digest, offset=offset + 1), chunks(b""))
    await files.push(request("big", content, sha256=digest, offset=offset), chunks(content[offset:]))
    assert (root / "svc/big").read_bytes() == content
    assert await files.offset("svc", "big", digest) == 0


async def test_readers_see_the_old_file_or_the_new_one(root: Path) -> None:
    files, stop = Files(root), threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(len(set((root / "svc/file").read_bytes())))

    (root / "svc/file").write_bytes(b"0" * 100_000)
    thread = threading.Thread(target=read)
    thread.start()
    try:
        for index in range(60):
            content = bytes([index]) * 100_000
            await files.push(request("file", content), chunks(content[:50_000], content[50_000:]))
    finally:
        stop.set()
        thread.join()
    assert seen == {1}


async def test_two_pushes_of_one_content_at_once_do_not_mix(root: Path) -> None:
    content = b"x" * CHUNK
    digest = hashlib.sha256(content).hexdigest()
    begun, release = anyio.Event(), anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield content[:10]
        begun.set()
        await release.wait()
        yield content[10:]

    async with anyio.create_task_group() as group:
        group.start_soon(Files(root).push, request("f", content, sha256=digest), slow())
        await begun.wait()
        with pytest.raises(Conflict, match="somebody else"):
            await Files(root).push(request("f", content, sha256=digest), chunks(content))
        release.set()
    assert (root / "svc/f").read_bytes() == content


async def test_only_plain_files_are_pulled_and_folders_are_not_replaced(root: Path) -> None:
    os.mkfifo(root / "svc/pipe")
    with anyio.fail_after(5):
        for path in ("pipe", "folder"):
            with pytest.raises(InvalidInput):
                async with Files(root).pull("svc", path):
                    pass
    with pytest.raises(InvalidInput, match="folder"):
        await Files(root).push(request("folder", b"x"), chunks(b"x"))
    with pytest.raises(InvalidInput, match="mode"):
        await Files(root).push(request("s", b"x", mode=0o4755), chunks(b"x"))
    with pytest.raises(InvalidInput, match="no owner"):
        await Files(root).push(request("s", b"x", owner="nobody-of-that-name"), chunks(b"x"))


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o077, 0o027, 0o000])
async def test_folders_that_a_push_makes_can_be_entered_by_a_container_of_any_user(tmp_path: Path, umask: int) -> None:
    private = tmp_path / "srv/svc/mine"
    before = os.umask(umask)
    try:
        await Files(tmp_path / "srv").push(request("a/b/c.txt", b"x", mode=0o644), chunks(b"x"))
        private.mkdir(mode=0o700)
        await Files(tmp_path / "srv").push(request("mine/x", b"x"), chunks(b"x"))
    finally:
        os.umask(before)
    folders = [tmp_path / "srv", *(tmp_path / "srv" / each for each in ("svc", "svc/a", "svc/a/b"))]
    assert [stat.S_IMODE(each.stat().st_mode) for each in folders] == [0o755] * 4
    # What was there before stays as somebody made it.
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _second_link(path: Path) -> None:
    (path.parent / "planted").write_bytes(b"evil")
    os.link(path.parent / "planted", path)


def _foreign(path: Path) -> None:
    path.write_bytes(b"new")
    os.chown(path, 1234, 1234)


def _link(path: Path) -> None:
    path.symlink_to("../file")


@pytest.mark.parametrize("plant", [_pipe, _second_link, _foreign, _link])
async def test_what_a_container_plants_in_the_place_of_a_part_is_not_used(
    root: Path, plant: Callable[[Path], None]
) -> None:
    if plant is _foreign and os.getuid() != 0:
        pytest.skip("needs root")
    files, content = Files(root), b"new content"
    digest = hashlib.sha256(content).hexdigest()
    plant(root / "svc/folder" / part_name("c.txt", digest))
    assert await files.offset("svc", "folder/c.txt", digest) == 0
    with anyio.fail_after(10):
        await files.push(request("folder/c.txt", content, sha256=digest), chunks(content))
    facts = (root / "svc/folder/c.txt").lstat()
    assert (facts.st_uid, facts.st_nlink, stat.S_ISREG(facts.st_mode)) == (os.geteuid(), 1, True)
    assert (root / "svc/folder/c.txt").read_bytes() == content
    assert (root / "svc/file").read_text() == "plain"
    planted = root / "svc/folder/planted"
    assert not planted.exists() or planted.read_bytes() == b"evil"


async def test_a_file_of_a_gigabyte_passes_with_flat_memory(root: Path) -> None:
    files, block, number = Files(root), os.urandom(1024 * 1024), 1024
    # Not the high-water mark that the kernel keeps: an earlier test may have set it.
    process, seen = psutil.Process(), [0]

    async def many() -> AsyncIterator[bytes]:
        for _ in range(number):
            seen.append(process.memory_info().rss)
            yield block

    before = process.memory_info().rss
    await files.push(PushRequest("svc", "big", number * len(block)), many())
    digest = hashlib.sha256()
    async with files.pull("svc", "big") as (header, content):
        assert header.size == number * len(block)
        async for each in content:
            seen.append(process.memory_info().rss)
            digest.update(each)
    expected = hashlib.sha256()
    for _ in range(number):
        expected.update(block)
    assert digest.digest() == expected.digest()
    assert max(seen) - before < 30 * 1024**2


def _aged(path: Path, seconds: float) -> None:
    os.utime(path, (path.stat().st_mtime - seconds,) * 2)


async def test_a_file_that_changes_while_it_is_read_is_told_or_read_as_it_was_announced(root: Path) -> None:
    files, path = Files(root), root / "svc/log"
    path.write_bytes(b"x" * 3 * CHUNK)
    async with files.pull("svc", "log") as (header, content):
        with path.open("ab") as file:
            file.write(b"more")
        assert b"".join([each async for each in content]) == b"x" * header.size
    async with files.pull("svc", "log") as (_, content):
        await anext(content)
        os.truncate(path, CHUNK + 1)
        with pytest.raises(Conflict, match="was cut to"):
            [each async for each in content]


async def test_before_the_first_push_there_is_nothing_to_remove(tmp_path: Path) -> None:
    assert await Files(tmp_path / "not-there").prune() == 0


async def test_what_interrupted_pushes_left_a_day_ago_goes(root: Path) -> None:
    for name, age in ((".qd-push-old", 90_000), (".qd-push-new", 10)):
        path = root / "svc/folder" / name
        path.write_text("x")
        _aged(path, age)
    files = Files(root)
    assert await files.prune() == 1
    assert sorted(p.name for p in (root / "svc/folder").iterdir()) == [".qd-push-new", "out", "up"]
    # It is remembered until it is old enough.
    _aged(root / "svc/folder/.qd-push-new", 90_000)
    assert await files.prune() == 1


async def test_all_of_the_root_is_walked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, walks, walk = Files(root), [], os.fwalk

    def counted(top: Path, **more: Any) -> Any:
        walks.append(top)
        return walk(top, **more)

    monkeypatch.setattr(os, "fwalk", counted)
    assert await files.prune() == 0

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * CHUNK
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        await files.push(request("a/b", b"x" * CHUNK * 2, sha256="0" * 64), broken())
    (part,) = [p for p in (root / "svc/a").iterdir() if p.name.startswith(".qd-push-")]
    assert await files.prune() == 0
    _aged(part, 90_000)
    assert await files.prune() == 1
    assert not part.exists()
    assert walks == [root]
