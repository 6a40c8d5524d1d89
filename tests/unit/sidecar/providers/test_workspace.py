from __future__ import annotations

import os
from pathlib import Path

import pytest

from quarterdeck.errors import InvalidInput, NotFound, PermissionDenied
from quarterdeck.sidecar.providers.workspace import MAX_FILE_BYTES, is_inside, read_text, write_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "work-beside").mkdir()
    return folder


def test_what_is_outside_is_refused_however_it_is_named(root: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(tmp_path / "secret.txt")
    (root / "folder").symlink_to(tmp_path)
    (root / "dangling").symlink_to(tmp_path / "new.txt")
    ways = [
        "../secret.txt", str(tmp_path / "secret.txt"), "link", "folder/secret.txt", "a/../../secret.txt",
        str(tmp_path / "work-beside" / "x"),
    ]  # fmt: skip
    for way in ways:
        assert not is_inside(root, way)
        with pytest.raises(PermissionDenied):
            read_text(root, way)
    for way in (*ways, "dangling"):
        with pytest.raises(PermissionDenied):
            write_text(root, way, "changed")
    assert (tmp_path / "secret.txt").read_text() == "secret"
    assert not (tmp_path / "new.txt").exists()


def test_files_are_written_with_their_folders_and_read_in_part(root: Path) -> None:
    write_text(root, "a/b.txt", "one\ntwo\nthree\n")
    assert read_text(root, str(root / "a" / "b.txt")) == "one\ntwo\nthree\n"
    assert read_text(root, "a/b.txt", line=2, limit=1) == "two\n"
    assert read_text(root, "a/b.txt", line=3) == "three\n"
    (root / "alias").symlink_to("a/b.txt")
    write_text(root, "alias", "through a link inside")
    assert (root / "a" / "b.txt").read_text() == "through a link inside"


def test_what_is_no_readable_file_is_refused(root: Path) -> None:
    with pytest.raises(NotFound):
        read_text(root, "missing")
    os.mkfifo(root / "pipe")
    with pytest.raises(InvalidInput):
        read_text(root, "pipe")
    with (root / "big").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(InvalidInput, match=str(MAX_FILE_BYTES)):
        read_text(root, "big")
    (root / "file").write_text("x")
    with pytest.raises(InvalidInput):
        write_text(root, "file/below", "x")
    assert not is_inside(root, "zero\0byte")
