"""One file on its way to a service's folder: beside its place under a hidden name, renamed once it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import os
import pwd
import secrets
import stat
from dataclasses import dataclass

from quarterdeck.errors import Conflict, InvalidInput
from quarterdeck.node.filepaths import PART, translated
from quarterdeck.node.results import PushedFile, PushRequest

CHUNK = 256 * 1024
# In the details of an error: a retry with the same operation id is to go on, not to hear it again.
RESUMABLE = "resumable"


@dataclass
class Push:
    """A file on its way: the open part, its folder, what was written so far."""

    request: PushRequest
    name: str
    part: str
    folder: int
    descriptor: int
    digest: hashlib._Hash
    written: int

    @classmethod
    def begin(cls, request: PushRequest, name: str, part: str, folder: int) -> Push:
        """Open the part in its folder, which is the push's own from now on, and go to where it ended."""
        try:
            with translated(request.path):
                _refuse_folder(folder, name, request.path)
                descriptor = _opened_part(part, folder)
        except BaseException:
            os.close(folder)
            raise
        push = cls(request, name, part, folder, descriptor, hashlib.sha256(), 0)
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
            raise Conflict(
                f"{self.request.path!r} is being pushed by somebody else",
                hint="try again later",
                details={RESUMABLE: True},
            ) from None
        there = os.fstat(self.descriptor).st_size
        if self.request.offset > there or self.request.offset < 0:
            raise Conflict(
                f"{self.request.path!r} cannot go on at {self.request.offset}: {there} bytes are there",
                hint="ask for the offset again, or push from 0",
                details={RESUMABLE: True},
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
        with translated(self.request.path):
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
        with translated(request.path):
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


def check_request(request: PushRequest) -> None:
    """Refuse what cannot be pushed, before anything is made. Raises `InvalidInput`."""
    if request.mode & ~0o777 or request.size < 0:
        raise InvalidInput(f"mode {request.mode:04o} or size {request.size} cannot be; a mode is up to 0777")
    owner_of(request.owner)


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


def part_name(name: str, sha256: str) -> str:
    """The hidden name of a push's part."""
    # By name and content, so that a resumed push finds it and another one does not.
    told = hashlib.sha256(f"{name}\0{sha256.lower()}".encode()).hexdigest()[:32] if sha256 else secrets.token_hex(16)
    return f"{PART}{told}"


def _opened_part(name: str, folder: int) -> int:
    """The part of a push, open to read (what is there is hashed first) and to write.

    A container that has the folder mounted can put something of its own there: a pipe would hang the push, its own
    file or a second link would let it change what was checked. Such a thing is removed.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
        if is_own(os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return os.open(name, flags | os.O_EXCL, 0o600, dir_fd=folder)


def is_own(facts: os.stat_result) -> bool:
    """Whether it is a file that only the node agent can have put there."""
    return stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_uid == os.geteuid()


def _refuse_folder(folder: int, name: str, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise InvalidInput(f"{path!r} is a folder", hint="name the file in it")
