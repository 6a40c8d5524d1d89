"""Our own processes that outlive this one (a sidecar, the hub): started in a session of their own, or forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from quarterdeck.files import open_to_append

_detached: dict[int, subprocess.Popen[bytes]] = {}


def spawn(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> int:
    """Start a process of our own that outlives this one (own session, no terminal); its pid.

    Its output goes to the end of `log`. The caller learns from the process itself (a file, a socket)
    when it is ready. It stays our child while we live: `reap` collects it.
    """
    with open_to_append(log) as output:
        process = subprocess.Popen(
            tuple(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            close_fds=True,
        )
    _detached[process.pid] = process
    return process.pid


def can_fork() -> bool:
    """Whether `fork` may be used: elsewhere than on Linux a fork without exec is not safe."""
    return sys.platform == "linux"


def fork(run: Callable[[], None], *, cwd: Path, env: Mapping[str, str], log: Path) -> int:
    """Like `spawn`, but a fork of this process, which has everything imported already; its pid.

    Only for a process without threads. `run` is called in the child, which ends with it and keeps
    nothing of this process open but its memory.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with open_to_append(log) as output:
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (output.fileno(), 1), (output.fileno(), 2)):
                os.dup2(source, target)
        os.closerange(3, 256)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 (the child must end here, whatever happened)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reap() -> dict[int, int]:
    """Collect the detached processes that ended: pid to exit code. Cheap; call it now and then."""
    ended = {pid: code for pid, process in list(_detached.items()) if (code := process.poll()) is not None}
    for pid in ended:
        del _detached[pid]
    return ended
