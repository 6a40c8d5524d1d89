"""A cgroup v2 for an agent's processes, where one can be made: the net that no process of it escapes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

_ROOTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))


@dataclass(frozen=True)
class Cgroup:
    """A cgroup v2 folder that holds one agent's processes."""

    path: Path

    @classmethod
    def create(cls, name: str) -> Cgroup | None:
        """Make (or find) the group `quarterdeck-NAME`; None where cgroups v2 are missing or not ours to write."""
        for root in _ROOTS:
            if not (root / "cgroup.procs").exists():
                continue
            path = root / _own_group(root) / f"quarterdeck-{name}"
            try:
                path.mkdir(exist_ok=True)
            except OSError:
                continue
            if (path / "cgroup.kill").exists():
                return cls(path)
            with contextlib.suppress(OSError):
                path.rmdir()
        return None

    @classmethod
    def find(cls, name: str) -> Cgroup | None:
        """The group `quarterdeck-NAME` where it was made before; None where not."""
        for root in _ROOTS:
            path = root / _own_group(root) / f"quarterdeck-{name}"
            if (path / "cgroup.kill").exists():
                return cls(path)
        return None

    def add(self, pid: int) -> bool:
        """Move a process in; False when it is gone or may not be moved."""
        try:
            (self.path / "cgroup.procs").write_text(str(pid))
        except OSError:
            return False
        return True

    def pids(self) -> list[int]:
        """The processes in it now."""
        try:
            return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    def kill(self) -> None:
        """SIGKILL everything in it, atomically."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def remove(self) -> None:
        """Remove the folder; kept silently while something is still in it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def _own_group(root: Path) -> str:
    """Where this process stands below `root`: a delegated (systemd user) slice is the one we may write."""
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                inside = line[3:].strip("/").split("/")
                kept = [part for part in inside if part and not part.startswith("quarterdeck-")]
                # A group with controllers may hold processes or groups, not both: go beside our own.
                candidate = "/".join(kept[:-1]) if kept and str(root) == "/sys/fs/cgroup" else "/".join(kept)
                return candidate if (root / candidate).is_dir() else ""
    except OSError:
        pass
    return ""
