"""Finding and ending the processes of an agent: real ones, in all the ways in which they get away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from quarterdeck import proctree
from quarterdeck.cgroup import Cgroup

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def mark() -> str:
    return f"test-{os.urandom(6).hex()}"


@pytest.fixture
def start(mark: str) -> Iterator[Start]:
    """Start a marked process; all are ended afterwards."""
    made: list[subprocess.Popen[bytes]] = []

    def run(*command: str, **options: object) -> subprocess.Popen[bytes]:
        env = {**os.environ, proctree.MARK_VARIABLE: mark}
        settings = {"stdin": subprocess.DEVNULL, "start_new_session": True, "env": env, **options}
        made.append(subprocess.Popen(command, **settings))  # type: ignore[call-overload]
        return made[-1]

    yield run
    proctree.kill_everything(None, mark, None)
    for process in made:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def until(found: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not found():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- when something was started ---------------------------------------------------------------------------


def test_ticks_tell_what_came_first(start: Start) -> None:
    before = proctree.ticks_now()
    process = start("sleep", "60")
    begun, after = proctree.started_ticks(process.pid), proctree.ticks_now()
    assert begun is not None
    assert before <= begun <= after
    assert after - before < 10 * os.sysconf("SC_CLK_TCK")
    process.kill()
    process.wait()
    assert proctree.started_ticks(process.pid) is None


# -- what a cancelled turn left ---------------------------------------------------------------------------


def test_only_what_began_since_then_is_found(start: Start, mark: str) -> None:
    start("sleep", "60")
    time.sleep(0.05)  # a clock tick is 10 ms
    since = proctree.ticks_now()
    time.sleep(0.05)
    new = start("sleep", "60")
    assert [p.pid for p in proctree.begun_since(since, mark, None, None)] == [new.pid]


def test_the_program_and_the_helpers_that_it_talks_to_are_spared(start: Start, mark: str, tmp_path: Path) -> None:
    """An MCP or language server that was first needed in the cancelled turn is needed in the next one, too."""
    script = tmp_path / "program.py"
    script.write_text(
        "import subprocess, sys\n"
        "helper = subprocess.Popen(['cat'], stdin=subprocess.PIPE)\n"
        "inherits = subprocess.Popen(['sleep', '60'])\n"
        "silent = subprocess.Popen(['sleep', '60'], stdin=subprocess.DEVNULL, start_new_session=True)\n"
        "bare = subprocess.Popen(['sleep', '60'], stdin=subprocess.DEVNULL, env={}, start_new_session=True)\n"
        "print(helper.pid, inherits.pid, silent.pid, bare.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    since = proctree.ticks_now()
    program = start(sys.executable, str(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout is not None
    helper, *commands = map(int, program.stdout.readline().split())
    left = proctree.begun_since(since, mark, None, program.pid)
    assert sorted(p.pid for p in left) == sorted(commands)
    assert proctree.kill_trees(left, program.pid) == 3
    until(lambda: all(gone(pid) for pid in commands))
    assert not gone(helper)
    assert program.poll() is None


def test_a_tree_that_forks_is_ended_whole(start: Start) -> None:
    """What a victim starts after it was listed is the victim's."""
    root = start("sh", "-c", "while :; do env -i sleep 60 & sleep 0.01; done")
    listed = [psutil.Process(root.pid)]
    until(lambda: len(listed[0].children()) > 3)
    children = listed[0].children()
    assert proctree.kill_trees(listed, None) > 3
    root.wait()
    until(lambda: all(gone(p.pid) for p in children))


# -- orphans ----------------------------------------------------------------------------------------------

ADOPTS = """
import os, subprocess, sys, time, anyio
from quarterdeck import proctree, process

assert proctree.adopted() == []
assert proctree.become_subreaper()

async def main():
    codes = []
    async def helper():
        done = await process.run(["sh", "-c", "sleep 0.7; exit 3"], check=False)
        codes.append(done.returncode)
        quick = await process.run_quick(["sh", "-c", "sleep 0.4; exit 4"], cwd="/", env={}, timeout_seconds=9)
        codes.append(quick.returncode)
    async with anyio.create_task_group() as group:
        group.start_soon(helper)
        subprocess.run(["sh", "-c", "env -i setsid sleep 600 >/dev/null 2>&1 & echo $!"], check=True)
        for _ in range(20):
            await anyio.to_thread.run_sync(lambda: proctree.kill_everything(None, "no-such-mark", None, orphans=True))
            await anyio.sleep(0.07)
    print(codes, [p.pid for p in proctree.adopted()], flush=True)

anyio.run(main)
"""


def test_orphans_without_a_mark_are_ended_and_own_helpers_are_not() -> None:
    done = subprocess.run([sys.executable, "-c", ADOPTS], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    orphan, told = done.stdout.splitlines()
    assert told == "[3, 4] []"
    assert gone(int(orphan))


# -- the cgroup -------------------------------------------------------------------------------------------


def test_a_cgroup_takes_what_has_lost_its_mark(start: Start, mark: str) -> None:
    group = Cgroup.create(mark)
    if group is None:
        pytest.skip("no cgroup v2 can be made here: it is not mounted, or its folder is not ours to write")
    try:
        assert Cgroup.find(mark) == group
        script = "read x; env -i setsid sleep 600 & env -i setsid sleep 600 & wait"
        root = start("sh", "-c", script, env={}, stdin=subprocess.PIPE)
        assert group.add(root.pid)
        assert root.stdin is not None
        root.stdin.write(b"\n")
        root.stdin.flush()
        until(lambda: len(group.pids()) >= 3)
        inside = group.pids()
        assert proctree.marked(mark) == []
        assert proctree.kill_everything(None, mark, group) >= 3
        assert root.wait() == -signal.SIGKILL
        until(lambda: all(gone(pid) for pid in inside))
        assert group.pids() == []
        assert not group.add(2**22 + 1), "a process that is not there"
    finally:
        until(lambda: not group.pids())
        group.remove()
    assert Cgroup.find(mark) is None
