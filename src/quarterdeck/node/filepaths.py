"""Paths below a service's folder: which may be asked for, how a folder is made, what the disk's refusals mean."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from quarterdeck.errors import InvalidInput, NotFound, PermissionDenied, StorageRefused
from quarterdeck.node.model import NAME

# Files that are on their way have hidden names of the node agent's own.
PART = ".qd-push-"
FOLDER_MODE = 0o755
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    if parts[-1].startswith(PART):
        raise InvalidInput(f"names that begin with {PART!r} are the node agent's own")
    return parts


def made_folder(name: str, folder: int) -> int:
    """The open folder of this name, made where it is not there."""
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=folder)
    except FileExistsError:
        return os.open(name, FOLDER, dir_fd=folder)
    made = os.open(name, FOLDER, dir_fd=folder)
    try:
        # The unit's umask made it private; a container of another user is to read what is pushed into it. One that
        # was put in its place meanwhile is left as it is.
        if os.fstat(made).st_uid == os.geteuid():
            os.fchmod(made, FOLDER_MODE)
    except BaseException:
        os.close(made)
        raise
    return made


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
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
