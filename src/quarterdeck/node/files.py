"""Files of services, below `/srv/SERVICE` and nowhere else, whatever happens to the folders meanwhile.

A path is walked one name at a time, each opened relative to the folder before it and never through a
symlink, so a folder swapped for a link in the middle of a call leads nowhere. What is pushed is written
beside its place under a hidden name and renamed once it is whole, checked and on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import hashlib
import os
import pwd
import secrets
import shutil
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync

from quarterdeck.errors import Conflict, InvalidInput, NotFound, PermissionDenied, QuarterdeckError, StorageRefused
from quarterdeck.node.model import NAME
from quarterdeck.node.results import FileHeader, PushedFile, PushRequest

CHUNK = 256 * 1024
RESUMABLE = "resumable"
_PART = ".qd-push-"
_PART_SECONDS = 86400
_FOLDER_MODE = 0o755
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def parts_of(service: str, path: str) -> tuple[str, ...]:
    """The names of a path below a service's folder. Raises `InvalidInput` for one that leads out or is odd."""
    if not NAME.fullmatch(service):
        raise InvalidInput(f"{service!r} is not a service's name")
    parts = tuple(path.split("/"))
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(
            f"{path!r} is not a path below the service's folder",
            hint="write it relative, such as etc/app.conf: without '..', '.', a '/' in front or at the end",
        )
    if any(len(os.fsencode(part)) > 200 for part in parts) or len(os.fsencode(path)) > 4000:
        raise InvalidInput("the path is too long: a name may have 200 bytes, the whole 4000")
    if parts[-1].startswith(_PART):
        raise InvalidInput(f"names that begin with {_PART!r} are the node agent's own")
    return parts


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
                facts = os.stat(_part_name(parts[-1], sha256), dir_fd=folder, follow_symlinks=False)
                return facts.st_size if _is_own(facts) else 0
        except (NotFound, FileNotFoundError):
            return 0

    async def push(self, request: PushRequest, chunks: AsyncIterator[bytes]) -> PushedFile:
        """Write a file; see `NodeAgent.push_file`."""
        push = await run_sync(_Push.begin, self, request)
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
        with self._folder(service, parts[:-1], make=False) as folder, _translated(path):
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
            root = os.open(self._root, _FOLDER)
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
                if parts and name.startswith(_PART):
                    yield parts, name

    @contextlib.contextmanager
    def _folder(self, service: str, parts: tuple[str, ...], *, make: bool) -> Iterator[int]:
        """The open folder of a path, reached without following a link."""
        shown = "/".join((service, *parts))
        with _translated(shown):
            if make and not self._root.exists():
                self._root.mkdir(parents=True)
                self._root.chmod(_FOLDER_MODE)
            folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in (service, *parts):
                with _translated(shown):
                    inner = _made(part, folder) if make else os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


@dataclass
class _Push:
    """A file on its way: the open part, its folder, what was written so far."""

    request: PushRequest
    name: str
    part: str
    folder: int
    descriptor: int
    digest: hashlib._Hash
    written: int

    @classmethod
    def begin(cls, files: Files, request: PushRequest) -> _Push:
        """Open the part and go to where it ended."""
        parts = parts_of(request.service, request.path)
        if request.mode & ~0o777 or request.size < 0:
            raise InvalidInput(f"mode {request.mode:04o} or size {request.size} cannot be; a mode is up to 0777")
        owner_of(request.owner)
        with files._folder(request.service, parts[:-1], make=True) as opened:
            folder = os.dup(opened)
        try:
            with _translated(request.path):
                _refuse_folder(folder, parts[-1], request.path)
                part = _part_name(parts[-1], request.sha256)
                files._begun.add(((request.service, *parts[:-1]), part))
                descriptor = _opened_part(part, folder)
        except BaseException:
            os.close(folder)
            raise
        push = cls(request, parts[-1], part, folder, descriptor, hashlib.sha256(), 0)
        try:
            push._resume()
        except BaseException:
            push._release()
            raise
        return push

    def _resume(self) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"{self.request.path!r} is being pushed by somebody else", hint="try again later") from None
        there = os.fstat(self.descriptor).st_size
        if self.request.offset > there or self.request.offset < 0:
            raise Conflict(
                f"{self.request.path!r} cannot go on at {self.request.offset}: {there} bytes are there",
                hint="ask for the offset again, or push from 0",
            )
        os.ftruncate(self.descriptor, self.request.offset)
        while chunk := os.read(self.descriptor, CHUNK):
            self.digest.update(chunk)
            self.written += len(chunk)

    def write(self, data: bytes) -> None:
        """Add to it."""
        if self.written + len(data) > self.request.size:
            raise InvalidInput(
                f"more than the {self.request.size} bytes that were announced came; nothing was replaced"
            )
        with _translated(self.request.path):
            view = memoryview(data)
            while view:
                view = view[os.write(self.descriptor, view) :]
        self.digest.update(data)
        self.written += len(data)

    def finish(self) -> PushedFile:
        """Check it and put it in place."""
        request, found = self.request, self.digest.hexdigest()
        if self.written != request.size:
            raise InvalidInput(
                f"{self.written} of {request.size} bytes came; nothing was replaced",
                hint="push again: it goes on there",
                details={RESUMABLE: True},
            )
        if request.sha256 and request.sha256.lower() != found:
            self.request = PushRequest(request.service, request.path, request.size)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.part, dir_fd=self.folder)
            raise InvalidInput(f"the content's sha256 is {found}, not {request.sha256}; nothing was replaced")
        with _translated(request.path):
            user, group = owner_of(request.owner)
            if user >= 0 or group >= 0:
                os.fchown(self.descriptor, user, group)
            os.fchmod(self.descriptor, request.mode)
            os.fsync(self.descriptor)
            os.rename(self.part, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
            os.fsync(self.folder)
        return PushedFile(request.service, request.path, request.size, found, request.mode)

    def close(self, *, whole: bool) -> None:
        """Let go; what came stays for a resumed push where its content is known by its hash."""
        if not whole and not self.request.sha256:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.part, dir_fd=self.folder)
        self._release()

    def _release(self) -> None:
        os.close(self.descriptor)
        os.close(self.folder)


def owner_of(text: str) -> tuple[int, int]:
    """User and group ids of `USER`, `USER:GROUP` or empty (-1: as it is). Raises `InvalidInput`."""
    if not text:
        return -1, -1
    user, _, group = text.partition(":")
    try:
        found = int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
        return found, -1 if not group else int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidInput(f"the node knows no owner {text!r}", hint="write numbers, such as 1000:1000") from None


def _part_name(name: str, sha256: str) -> str:
    # By name and content, so that a resumed push finds it and another one does not.
    told = hashlib.sha256(f"{name}\0{sha256.lower()}".encode()).hexdigest()[:32] if sha256 else secrets.token_hex(16)
    return f"{_PART}{told}"


def _made(name: str, folder: int) -> int:
    """The open folder of this name, made where it is not there."""
    try:
        os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
    except FileExistsError:
        return os.open(name, _FOLDER, dir_fd=folder)
    made = os.open(name, _FOLDER, dir_fd=folder)
    try:
        # The unit's umask made it private; a container of another user is to read what is pushed into it. One that
        # was put in its place meanwhile is left as it is.
        if os.fstat(made).st_uid == os.geteuid():
            os.fchmod(made, _FOLDER_MODE)
    except BaseException:
        os.close(made)
        raise
    return made


def _opened_part(name: str, folder: int) -> int:
    """The part of a push, open to read (what is there is hashed first) and to write.

    A container that has the folder mounted can put something of its own there: a pipe would hang the push, its own
    file or a second link would let it change what was checked. Such a thing is removed.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        if _is_own(os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return os.open(name, flags | os.O_EXCL, 0o600, dir_fd=folder)


def _is_own(facts: os.stat_result) -> bool:
    return stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_uid == os.geteuid()


def _refuse_folder(folder: int, name: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise InvalidInput(f"{path!r} is a folder", hint="name the file in it")


async def _content(descriptor: int, offset: int, header: FileHeader) -> AsyncGenerator[bytes, None]:
    # What is written behind the announced end meanwhile is not part of it.
    while chunk := await run_sync(os.pread, descriptor, min(CHUNK, header.size - offset), offset):
        offset += len(chunk)
        yield chunk
    if offset != header.size:
        raise Conflict(
            f"{header.path!r} was cut to {offset} bytes while {header.size} were being read", hint="pull it again"
        )


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Errors of the file system as ours."""
    try:
        yield
    except OSError as error:
        match error.errno:
            case errno.ENOENT:
                raise NotFound(f"there is no {path!r} below the service's folder") from error
            case errno.ELOOP | errno.ENOTDIR:
                raise InvalidInput(f"{path!r} goes through a link or something that is no folder") from error
            case errno.ENOSPC | errno.EDQUOT | errno.EROFS | errno.EFBIG:
                raise StorageRefused(f"{path!r} was not written: {error.strerror}", hint="free space") from error
            case errno.EACCES | errno.EPERM:
                raise PermissionDenied(f"the node agent may not touch {path!r}: {error.strerror}") from error
            case _:
                raise InvalidInput(f"{path!r} cannot be used: {error.strerror}") from error
