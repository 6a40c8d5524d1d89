"""Finding and killing every process of an agent: with `cgroup`, the one place that knows Linux.

Process groups are not enough (facts: after SIGKILL of `claude` its Bash child lives on in a session
of its own), so three nets are laid, each catching what the others miss:

* a **cgroup** v2 per agent, where one can be made: `cgroup.kill` takes all at once;
* the **tree** below the given process, and the orphans of it that the sidecar adopted as a subreaper;
* the **mark**, an environment variable that every descendant inherits, found by a walk of all
  processes, and the only net that still holds when the sidecar itself was killed.

macOS has no cgroups and no subreaper; tree and mark work there through psutil.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from quarterdeck.cgroup import Cgroup

MARK_VARIABLE = "QD_AGENT_MARK"
_PR_SET_CHILD_SUBREAPER = 36
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_STARTING_SECONDS = 1.0


@dataclass
class _Family:
    """What this process knows of its own children: the pids it started itself, and how many it is starting."""

    subreaper: bool = False
    started: set[int] = field(default_factory=set)
    starting: int = 0
    # Children are started by the event loop and by threads, and looked at by others.
    lock: threading.Lock = field(default_factory=threading.Lock)


_family = _Family()


def become_subreaper() -> bool:
    """Make this process adopt its orphaned descendants; False where the system cannot."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    _family.subreaper = bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return _family.subreaper


@contextlib.contextmanager
def starting() -> Iterator[Callable[[int], None]]:
    """Around the start of every child of ours: call what it gives with the pid, so that it is no adopted one."""

    def started(pid: int) -> None:
        with _family.lock:
            _family.started.add(pid)

    with _family.lock:
        _family.starting += 1
    try:
        yield started
    finally:
        with _family.lock:
            _family.starting -= 1


def adopted() -> list[psutil.Process]:
    """The live orphans that this process adopted: what an agent's program left, whatever their environment.

    Blocks while a child is being started, which cannot be told from an orphan until its pid is known.
    """
    if not _family.subreaper:
        return []
    end = time.monotonic() + _STARTING_SECONDS
    children = _children()
    while _family.starting:
        if time.monotonic() > end:
            return []
        time.sleep(0.001)
        children = _children()
    with _family.lock:
        # Who is no child any more was collected: its number may come again for somebody else.
        _family.started &= set(_children())
        ours = set(_family.started)
    orphans: list[psutil.Process] = []
    for pid in children:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if pid not in ours and process.status() != psutil.STATUS_ZOMBIE:
                orphans.append(process)
    return orphans


def allow_open_files(wanted: int) -> None:
    """Raise the number of files this process may have open, as far as the system lets it.

    The usual 1024 are used up by a thousand agents, whom the hub follows on a connection each.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def reap_adopted(seen_before: set[int]) -> set[int]:
    """Collect orphans that this process adopted and that have ended; the zombies that are left.

    Only those that were zombies at the call before too: younger ones may have somebody waiting for them.
    """
    zombies = {pid for pid in _children() if _is_zombie(pid)}
    for pid in zombies & seen_before:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return zombies - seen_before


def _children() -> list[int]:
    """The direct children of this process."""
    listing = list(Path("/proc/self/task").glob("*/children"))
    if not listing:
        return [child.pid for child in psutil.Process().children()]
    pids: list[int] = []
    for file in listing:
        with contextlib.suppress(OSError):
            pids += [int(pid) for pid in file.read_text().split()]
    return pids


def _is_zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def started_at(pid: int) -> float | None:
    """When a process started (seconds since the epoch); None when there is none or it is a zombie.

    For people to read. A clock that is set moves it: to know a process again, take its `identity`.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.create_time()
    except psutil.Error:
        return None


def started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot, exactly as the kernel says; None when there is none."""
    try:
        # The name, in brackets, may itself hold spaces and brackets.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def ticks_now() -> int:
    """Now, on the scale of `started_ticks`."""
    if sys.platform != "linux":
        return int(time.time() * _TICKS_A_SECOND)
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS_A_SECOND // 1_000_000_000


def identity(pid: int) -> str | None:
    """What names, with the pid, one process for ever: the boot it belongs to and its start in ticks.

    No setting of the clock moves it. None when there is no such process, or only a zombie of it.
    """
    born = started_at(pid)
    if born is None:
        return None
    ticks = started_ticks(pid) if sys.platform == "linux" else int(born * 100)
    return None if ticks is None else f"{_boot()}.{ticks}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    except OSError:
        return ""


def is_alive(pid: int, known: str) -> bool:
    """Whether the very process that `identity` told of still runs."""
    return identity(pid) == known


def marked(mark: str) -> list[psutil.Process]:
    """Every live process whose environment carries this mark, this process excepted."""
    wanted, me = (MARK_VARIABLE, mark), os.getpid()
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid == me:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(wanted[0]) == wanted[1] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def session_of(leader: int) -> list[psutil.Process]:
    """Every live process of the session that this process began, also when its parents are gone.

    What a program forked in the moment of its death is nobody's descendant any more, but still of its session.
    """
    found: list[psutil.Process] = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(pid) == leader and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def working_in(folder: Path, word: str) -> list[psutil.Process]:
    """Every live process, this one excepted, with this working folder and this word in its command line."""
    wanted, me = str(folder), os.getpid()
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid == me:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == wanted and any(word in part for part in process.cmdline()):
                found.append(process)
    return found


def descendants(pid: int) -> list[psutil.Process]:
    """The live tree below `pid`, itself included and last."""
    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True), root]
    except psutil.Error:
        return []
    alive: list[psutil.Process] = []
    for process in tree:
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def signal_all(processes: list[psutil.Process], number: int) -> None:
    """Send a signal to each that is still the process it was (psutil checks the start time)."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def kill_everything(
    pid: int | None,
    mark: str | None,
    cgroup: Cgroup | None,
    *,
    orphans: bool = False,
    deadline_seconds: float = 5,
) -> int:
    """SIGKILL the whole tree, the marked, the cgroup and, with `orphans`, the adopted, until none is left.

    Gives how many were killed. Walks again after each round, since a process may fork between the walk and
    the kill. Blocks for some milliseconds: call it in a thread from async code.
    """
    killed: set[int] = set()
    end = time.monotonic() + deadline_seconds
    while True:
        found = [*(descendants(pid) + session_of(pid) if pid else ()), *(marked(mark) if mark else ())]
        for orphan in adopted() if orphans else ():
            found += descendants(orphan.pid)
        victims = {process.pid: process for process in found}
        in_group = cgroup.pids() if cgroup else []
        victims.pop(os.getpid(), None)
        killed |= victims.keys() | set(in_group)
        if cgroup and in_group:
            cgroup.kill()
        if not victims and not in_group:
            return len(killed)
        signal_all(list(victims.values()), signal.SIGKILL)
        if time.monotonic() > end:
            return len(killed)
        time.sleep(0.002)


def begun_since(ticks: int, mark: str, cgroup: Cgroup | None, program: int | None) -> list[psutil.Process]:
    """What an agent started at `ticks` or later and still runs: the commands of a turn that has just ended.

    `program` is the agent's own process; it is spared, and so are its helpers (MCP and language servers), which
    it talks to through a pipe of their own. Blocks as `kill_everything` does.
    """
    found = {p.pid: p for p in (*marked(mark), *(descendants(program) if program else ()), *adopted())}
    for pid in cgroup.pids() if cgroup else ():
        with contextlib.suppress(psutil.Error):
            found.setdefault(pid, psutil.Process(pid))
    return [
        process
        for pid, process in found.items()
        if pid not in (program, os.getpid())
        and (_begun(process) or 0) >= ticks
        and not (program and _is_helper(pid, program))
    ]


def _begun(process: psutil.Process) -> int | None:
    """`started_ticks`, and beside Linux what comes nearest to it."""
    with contextlib.suppress(psutil.Error):
        portable = None if sys.platform == "linux" else int(process.create_time() * _TICKS_A_SECOND)
        return started_ticks(process.pid) if portable is None else portable
    return None


def _is_helper(pid: int, program: int) -> bool:
    """Whether it reads from a pipe or a socket that is not the program's own input, which a command inherits."""
    try:
        given, own = (str(Path(f"/proc/{each}/fd/0").readlink()) for each in (pid, program))
    except OSError:
        return False
    return given.startswith(("pipe:", "socket:")) and given != own


def kill_trees(roots: list[psutil.Process], spared: int | None) -> int:
    """SIGKILL those of `roots` that still run, with all below them, one pid spared; how many.

    They are stopped first, so that none can fork while the tree is walked. Blocks as `kill_everything` does.
    """
    known: dict[int, psutil.Process] = {}
    while True:
        walked = [p for root in (*roots, *known.values()) if root.is_running() for p in descendants(root.pid)]
        fresh = {p.pid: p for p in walked if p.pid not in known and p.pid not in (spared, os.getpid())}
        if not fresh:
            break
        signal_all(list(fresh.values()), signal.SIGSTOP)
        known |= fresh
    signal_all(list(known.values()), signal.SIGKILL)
    return len(known)
