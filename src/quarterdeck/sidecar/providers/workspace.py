"""Reading and writing files for an agent that asks its client to, inside its workspace and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

from quarterdeck.errors import InvalidInput, NotFound, PermissionDenied

MAX_FILE_BYTES = 10 * 1024 * 1024


def inside(root: Path, path: str) -> Path:
    """The real place of a path, links resolved. Raises `PermissionDenied` when that is not below `root`."""
    real_root = os.path.realpath(root)
    real = os.path.realpath(Path(real_root) / path)
    if real != real_root and not real.startswith(real_root + os.sep):
        raise PermissionDenied(f"{path} is outside of the workspace", hint=f"the workspace is {root}")
    return Path(real)


def is_inside(root: Path, path: str) -> bool:
    """Whether a path, links resolved, lies below `root`."""
    try:
        inside(root, path)
    except (PermissionDenied, ValueError):
        return False
    return True


def read_text(root: Path, path: str, *, line: int | None = None, limit: int | None = None) -> str:
    """A text file, or `limit` lines of it from `line` (from 1) on; undecodable bytes are replaced.

    Raises `PermissionDenied` outside of the workspace, `NotFound`, and `InvalidInput` for what is no
    regular file or too large.
    """
    place = inside(root, path)
    if not place.exists():
        raise NotFound(f"there is no file {path}")
    if not place.is_file():
        raise InvalidInput(f"{path} is not a regular file")
    if (size := place.stat().st_size) > MAX_FILE_BYTES:
        raise InvalidInput(f"{path} has {size} bytes, more than {MAX_FILE_BYTES}")
    text = place.read_bytes().decode(errors="replace")
    if line is None and limit is None:
        return text
    start = max((line or 1) - 1, 0)
    return "".join(text.splitlines(keepends=True)[start : None if limit is None else start + limit])


def write_text(root: Path, path: str, content: str) -> None:
    """Write a text file, its folders made where missing.

    Raises `PermissionDenied` outside of the workspace, `InvalidInput` where no file can be written.
    """
    place = inside(root, path)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # `inside` resolved every link; one that appeared since then is refused.
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error
