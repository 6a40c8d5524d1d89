"""Property: whatever an agent did to its files, the rescue has exactly what was on the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quarterdeck.fleet.git import worktree
from quarterdeck.fleet.git.rescue import rescue

# Every byte that a file name may have, but for the names that git itself refuses.
_parts = st.binary(min_size=1, max_size=6).filter(
    lambda name: (
        b"\0" not in name
        and b"/" not in name
        and name not in (b".", b"..")
        and name.lower() not in (b".git", b".gitignore", b".gitmodules")
    )
)
_paths = st.lists(_parts, min_size=1, max_size=3).map(b"/".join)
_file = st.tuples(st.just("file"), st.binary(max_size=60), st.booleans())
_link = st.tuples(
    st.just("link"), st.binary(min_size=1, max_size=30).filter(lambda target: b"\0" not in target), st.booleans()
)
_trees = st.dictionaries(_paths, _file | _link, max_size=8)


def _write(top: bytes, tree: dict[bytes, tuple[str, bytes, bool]]) -> None:
    for path, (kind, data, flag) in tree.items():
        place = os.path.join(top, path)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
        except OSError:
            continue
        if os.path.lexists(place):
            continue
        if kind == "link":
            os.symlink(data, place)
        else:
            with open(place, "wb") as file:
                file.write(data)
            os.chmod(place, 0o755 if flag else 0o644)


def _on_disk(top: bytes) -> dict[bytes, tuple[bytes, bytes]]:
    found = {}
    for folder, folders, files in os.walk(top):
        for name in [*files, *folders]:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, top)
            if os.path.islink(path):
                found[key] = (b"120000", os.readlink(path))
            elif os.path.isfile(path) and key != b".git":
                mode = b"100755" if os.stat(path).st_mode & 0o100 else b"100644"
                with open(path, "rb") as file:
                    found[key] = (mode, file.read())
    return found


def _git(folder: Path, *arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", "-c", "user.name=T", "-c", "user.email=t@example.invalid", *arguments],
        cwd=folder, input=data, check=True, capture_output=True,
    ).stdout  # fmt: skip


def _committed(repo: Path, ref: str) -> dict[bytes, tuple[bytes, bytes]]:
    entries = [entry.split(b"\t", 1) for entry in _git(repo, "ls-tree", "-r", "-z", ref).split(b"\0")[:-1]]
    shas = [facts.split()[2] for facts, _ in entries]
    output, found, at = _git(repo, "cat-file", "--batch", data=b"\n".join(shas) + b"\n"), {}, 0
    for facts, path in entries:
        end = output.index(b"\n", at)
        size = int(output[at:end].split()[2])
        found[path] = (facts.split()[0], output[end + 1 : end + 1 + size])
        at = end + 2 + size
    return found


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(committed=_trees, staged=_trees, final=_trees, data=st.data())
def test_random_trees_come_back_byte_for_byte(
    committed: dict[bytes, tuple[str, bytes, bool]],
    staged: dict[bytes, tuple[str, bytes, bool]],
    final: dict[bytes, tuple[str, bytes, bool]],
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as name:
        repo, tree = Path(name) / "repo", Path(name) / "tree"
        repo.mkdir()
        _git(repo, "init", "-q", "-b", "main")
        _git(repo, "commit", "-q", "--allow-empty", "-m", "empty")
        _write(os.fsencode(repo), committed)
        _git(repo, "add", "-A")
        _git(repo, "commit", "-q", "--allow-empty", "-m", "first")
        head = _git(repo, "rev-parse", "HEAD").decode().strip()
        anyio.run(worktree.add, repo, tree, "qd/ann", head)
        for step in (staged, final):
            for path in sorted(committed):
                place = os.path.join(os.fsencode(tree), path)
                if os.path.lexists(place) and data.draw(st.booleans()):
                    shutil.rmtree(place) if os.path.isdir(place) and not os.path.islink(place) else os.unlink(place)
            _write(os.fsencode(tree), step)
            if step is staged:
                _git(tree, "add", "-A")
        before = _on_disk(os.fsencode(tree))
        found = anyio.run(rescue, repo, tree, "ann", 0.0)
        ref = found.ref if found else "qd/ann"
        assert not found or found.not_kept == []
        assert _committed(repo, ref) == before
