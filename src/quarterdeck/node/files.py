"""Files of services, below `/srv/SERVICE` and nowhere else, whatever happens to the folders meanwhile.

A path is walked one name at a time, each opened relative to the folder before it and never through a
symlink, so a folder swapped for a link in the middle of a call leads nowhere. What is pushed is written
beside its place under a hidden name and renamed once it is whole, checked and on the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio.to_thread import run_sync

from quarterdeck.errors import Conflict, InvalidInput, NotFound, QuarterdeckError
from quarterdeck.node.filepaths import FOLDER, FOLDER_MODE, PART, made_folder, parts_of, translated
from quarterdeck.node.pushing import CHUNK, Push, check_request, is_own, part_name
from quarterdeck.node.results import FileHeader, PushedFile, PushRequest

_PART_SECONDS = 86400


class Files:
    """The files of all services below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Where pushes began, as (names of the folder, name of the part): what they left is looked for there.
        self._begun: set[tuple[tuple[str, ...], str]] = set()
        self._walked = False

    async def offset(self, service: str, path: str, sha256: str) -> int:
        """How many bytes of this content an interrupted push left."""
        return await run_sync(self._offset, service, path, sha256)

    def _offset(self, service: str, path: str, sha256: str) -> int:
        parts = parts_of(service, path)
        try:
            with self._folder(service, parts[:-1], make=False) as folder:
                facts = os.stat(part_name(parts[-1], sha256), dir_fd=folder, follow_symlinks=False)
                return facts.st_size if is_own(facts) else 0
        except (NotFound, FileNotFoundError):
            return 0

    async def push(self, request: PushRequest, chunks: AsyncIterator[bytes]) -> PushedFile:
        """Write a file; see `NodeAgent.push_file`."""
        push = await run_sync(self._begin, request)
        whole = False
        try:
            pending = bytearray()
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= CHUNK:
                    data, pending = bytes(pending), bytearray()
                    await run_sync(push.write, data)
            await run_sync(push.write, bytes(pending))
            done = await run_sync(push.finish)
            whole = True
            return done
        finally:
            push.close(whole=whole)

    def _begin(self, request: PushRequest) -> Push:
        parts = parts_of(request.service, request.path)
        check_request(request)
        with self._folder(request.service, parts[:-1], make=True) as opened:
            folder = os.dup(opened)
        part = part_name(parts[-1], request.sha256)
        self._begun.add(((request.service, *parts[:-1]), part))
        return Push.begin(request, parts[-1], part, folder)

    @asynccontextmanager
    async def pull(
        self, service: str, path: str, *, offset: int = 0
    ) -> AsyncIterator[tuple[FileHeader, AsyncGenerator[bytes, None]]]:
        """Open a file: its header and its content from `offset` on."""
        descriptor, header = await run_sync(self._open, service, path)
        try:
            if not 0 <= offset <= header.size:
                raise InvalidInput(f"offset {offset} is outside of the file's {header.size} bytes")
            yield header, _content(descriptor, offset, header)
        finally:
            os.close(descriptor)

    def _open(self, service: str, path: str) -> tuple[int, FileHeader]:
        parts = parts_of(service, path)
        with self._folder(service, parts[:-1], make=False) as folder, translated(path):
            # Without O_NONBLOCK a named pipe would hang the call.
            descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            os.close(descriptor)
            raise InvalidInput(f"{path!r} is not a plain file")
        mode = stat.S_IMODE(facts.st_mode)
        return descriptor, FileHeader(service, path, facts.st_size, mode, facts.st_uid, facts.st_gid, facts.st_mtime)

    def read_private(self, service: str, path: str, *, limit: int = 1024 * 1024) -> str:
        """The text of an env file; blocks. Raises `InvalidInput` when others may read it, `NotFound`."""
        descriptor, header = self._open(service, path)
        with os.fdopen(descriptor, "rb") as file:
            if header.mode & 0o077:
                raise InvalidInput(
                    f"{self._root}/{service}/{path} has mode {header.mode:04o}: others can read it",
                    hint="push it again with --mode 0600",
                )
            if header.size > limit:
                raise InvalidInput(f"{path!r} has {header.size} bytes; an env file may have {limit}")
            try:
                return file.read(limit).decode()
            except UnicodeDecodeError as error:
                raise InvalidInput(f"{path!r} is not text: {error}") from error

    async def remove_all(self, service: str) -> bool:
        """Remove a service's folder with everything in it; False when there is none."""
        parts_of(service, "x")
        return await run_sync(self._remove_all, service)

    def _remove_all(self, service: str) -> bool:
        try:
            root = os.open(self._root, FOLDER)
        except FileNotFoundError:
            return False
        try:
            # rmtree walks by descriptors as well, and refuses a folder that is a link.
            shutil.rmtree(service, dir_fd=root)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise InvalidInput(f"{self._root / service} was not removed: {error}") from error
        finally:
            os.close(root)
        return True

    async def prune(self) -> int:
        """Remove what interrupted pushes left a day ago; how many files.

        The whole root is walked once, for what an earlier agent left; from then on only where pushes began.
        """
        return await run_sync(self._prune)

    def _prune(self) -> int:
        if not self._walked:
            self._walked = True
            self._begun.update(self._left_before())
        gone = 0
        for parts, name in tuple(self._begun):
            try:
                with self._folder(parts[0], parts[1:], make=False) as folder:
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime > time.time() - _PART_SECONDS:
                        continue
                    os.unlink(name, dir_fd=folder)
                    gone += 1
            except (OSError, QuarterdeckError):
                # It was finished, or its folder is gone.
                pass
            self._begun.discard((parts, name))
        return gone

    def _left_before(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if not self._root.is_dir():  # nobody pushed anything yet
            return
        for path, _, names, _ in os.fwalk(self._root, follow_symlinks=False):
            parts = Path(path).relative_to(self._root).parts
            for name in names:
                if parts and name.startswith(PART):
                    yield parts, name

    @contextlib.contextmanager
    def _folder(self, service: str, parts: tuple[str, ...], *, make: bool) -> Iterator[int]:
        """The open folder of a path, reached without following a link."""
        shown = "/".join((service, *parts))
        with translated(shown):
            if make and not self._root.exists():
                self._root.mkdir(parents=True)
                self._root.chmod(FOLDER_MODE)
            folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in (service, *parts):
                with translated(shown):
                    inner = made_folder(part, folder) if make else os.open(part, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


async def _content(descriptor: int, offset: int, header: FileHeader) -> AsyncGenerator[bytes, None]:
    # What is written behind the announced end meanwhile is not part of it.
    while chunk := await run_sync(os.pread, descriptor, min(CHUNK, header.size - offset), offset):
        offset += len(chunk)
        yield chunk
    if offset != header.size:
        raise Conflict(
            f"{header.path!r} was cut to {offset} bytes while {header.size} were being read", hint="pull it again"
        )
