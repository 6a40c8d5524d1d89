"""Others on the same machine in the same run: mngr and CLI Agent Orchestrator, from PyPI, in venvs of their own.

Each gets a home, a tmux server and a repository of its own, and the cheapest agent that it can run: a shell
loop. A peer that cannot be installed or run here is told as not measured; nothing fails because of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks import ROOT
from benchmarks.results import Figure

FOLDER = ROOT / ".bench"
MNGR, CAO = "mngr", "CLI Agent Orchestrator"
# The newest first; older ones serve where the newest does not install (it needs Python 3.12).
WANTED = {MNGR: ["imbue-mngr==0.3.0", "imbue-mngr"], CAO: ["cli-agent-orchestrator==2.5.4", "cli-agent-orchestrator"]}
MAIN_PACKAGE = {MNGR: "imbue-mngr", CAO: "cli-agent-orchestrator"}
PROGRAM = {MNGR: "mngr", CAO: "cao-server"}
NOTICE_SECONDS = 30
LIST_SIZES = (1, 10)


def pythons() -> Iterator[str]:
    """Interpreters that may run a peer, the newest first."""
    for version in ("3.13", "3.12"):
        if found := shutil.which(f"python{version}"):
            yield found
        yield from map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")))
    yield sys.executable


def install(who: str) -> tuple[Path, str]:
    """The peer's programs and its version; installed at the first call. Raises `RuntimeError`."""
    venv = FOLDER / PROGRAM[who]
    said = ""
    for requirement in WANTED[who]:
        for python in pythons():
            if (venv / "bin" / PROGRAM[who]).exists():
                return venv / "bin", version(venv, MAIN_PACKAGE[who])
            shutil.rmtree(venv, ignore_errors=True)
            made = subprocess.run([python, "-m", "venv", str(venv)], capture_output=True, text=True)
            if made.returncode:
                continue
            pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            done = subprocess.run([*pip, requirement], capture_output=True, text=True, timeout=600)
            said = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
            if done.returncode:
                shutil.rmtree(venv, ignore_errors=True)
    if (venv / "bin" / PROGRAM[who]).exists():
        return venv / "bin", version(venv, MAIN_PACKAGE[who])
    raise RuntimeError(f"could not be installed: {said[:200]}")


def version(venv: Path, package: str) -> str:
    """Which one was installed."""
    program = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(venv / "bin" / "python"), "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def place(folder: Path, programs: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A repository and an environment with a home and a tmux server of its own, ended afterwards."""
    home, sockets, repo, bin_ = (folder / name for name in ("home", "tmux", "repo", "bin"))
    for path in (home, sockets, repo, bin_):
        path.mkdir(parents=True)
    path = f"{bin_}:{programs}:{os.environ['PATH']}"
    for profile in (".profile", ".bash_profile"):
        (home / profile).write_text(f"export PATH={path}\n")
    environment = {
        "HOME": str(home), "PATH": path, "TMUX_TMPDIR": str(sockets), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color",
        "SHELL": "/bin/bash", "GIT_CONFIG_NOSYSTEM": "1", "MNGR_HEADLESS": "1",
    }  # fmt: skip
    identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.invalid"]
    for command in (["init", "-q", "-b", "main"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=repo, env=environment, check=True)
    try:
        yield repo, environment
    finally:
        subprocess.run(["tmux", "kill-server"], env=environment, capture_output=True)
        end_all(str(folder))


def end_all(needle: str) -> None:
    """Kill every process whose environment or command line names this folder."""
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(needle in word for word in words):
                process.kill()
        except (psutil.Error, OSError):
            continue


def find(command: str, folder: Path) -> int:
    """The pid of the newest process below a folder whose command line holds these words."""
    found = []
    for process in psutil.process_iter():
        try:
            if command in " ".join(process.cmdline()) and process.environ().get("HOME", "").startswith(str(folder)):
                found.append((process.create_time(), process.pid))
        except (psutil.Error, OSError):
            continue
    if not found:
        raise RuntimeError(f"no process runs {command!r}")
    return max(found)[1]


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds of a call."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def noticed(state: Callable[[], str], before: str) -> float | None:
    """Milliseconds until the state is another one; None when it is not within the time."""
    began = time.perf_counter()
    while time.perf_counter() - began < NOTICE_SECONDS:
        if state() != before:
            return (time.perf_counter() - began) * 1000
        time.sleep(0.1)
    return None


def told(who: str, way: str, created: list[float], listed: dict[int, list[float]], death: float | None) -> list[Figure]:
    """The figures of one peer, compared with ours of the same way in: its command line or its API."""
    label = {"cli": "command line", "api": "API"}[way]
    never = f"not noticed within {NOTICE_SECONDS} s"
    return [
        Figure(group=f"create-{way}", what=f"create to ready ({label})", who=who, values=created),
        *(
            Figure(group=f"list-{size}-{way}", what=f"list {size} agents with their states ({label})", who=who,
                   values=values)
            for size, values in listed.items()
        ),
        Figure(group="kill", what="kill -9 of the AI until it is reported", who=who,
               values=[] if death is None else [death], failed=never if death is None else ""),
    ]  # fmt: skip


def mngr(folder: Path, n: int) -> list[Figure]:
    """mngr has no server: every call is a process of its command line."""
    programs, release = install(MNGR)
    who = f"{MNGR} {release}"
    with place(folder, programs) as (repo, environment):

        def call(*arguments: str) -> str:
            done = subprocess.run(
                [str(programs / "mngr"), *arguments], cwd=repo, env=environment, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"mngr {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
            return done.stdout

        def state(name: str) -> str:
            agents = json.loads(call("list", "--format", "json"))["agents"]
            return str(next(a["state"] for a in agents if a["name"] == name))

        def create(name: str) -> None:
            call("create", name, "--type", "command", "--no-connect", "-y", "--", "sleep", f"9900{int(name[1:]):02d}")

        call("list", "--format", "json")  # what only the first call does
        created, listed = [], {}
        for number in range(1, max(LIST_SIZES) + 1):
            created.append(timed(lambda number=number: create(f"a{number}")))
            if number in LIST_SIZES:
                listed[number] = [timed(lambda: call("list", "--format", "json")) for _ in range(n)]
        before = state("a1")
        os.kill(find("sleep 990001", folder), signal.SIGKILL)
        death = noticed(lambda: state("a1"), before)
    return told(who, "cli", created[:n], listed, death)


MOCK = """#!/bin/sh
printf '\\342\\235\\257 '
while IFS= read -r line; do
  case $line in *WORK*) sleep 600 ;; esac
  printf '> MOCK: %s\\n\\342\\235\\257 ' "$line"
done
"""


def cao(folder: Path, n: int) -> list[Figure]:
    """CLI Agent Orchestrator: its server over HTTP, its own `mock_cli` provider on a shell loop."""
    programs, release = install(CAO)
    who = f"{CAO} {release}"
    with place(folder, programs) as (repo, environment):
        program = folder / "bin" / "mock_cli"
        program.write_text(MOCK)
        program.chmod(0o755)
        port = free_port()
        base = f"http://127.0.0.1:{port}"

        def call(method: str, path: str) -> Any:
            request = urllib.request.Request(base + path, method=method)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())

        def create() -> str:
            query = f"provider=mock_cli&agent_profile=developer&working_directory={repo}"
            return str(call("POST", f"/sessions?{query}")["id"])

        def state(terminal: str) -> str:
            return str(call("GET", f"/terminals/{terminal}")["status"])

        log = (folder / "server.log").open("wb")
        command = [str(programs / "cao-server"), "--port", str(port)]
        server = subprocess.Popen(command, cwd=repo, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until_up(lambda: call("GET", "/health"))
            created, listed, terminals = [], {}, []
            for number in range(1, max(LIST_SIZES) + 1):
                created.append(timed(lambda: terminals.append(create())))
                if number in LIST_SIZES:
                    listed[number] = [timed(lambda: [state(t) for t in terminals]) for _ in range(n)]
            call("POST", f"/terminals/{terminals[-1]}/input?message=WORK")
            end = time.monotonic() + 20
            while (before := state(terminals[-1])) != "processing" and time.monotonic() < end:
                time.sleep(0.1)
            time.sleep(1)
            os.kill(psutil.Process(find("sleep 600", folder)).ppid(), signal.SIGKILL)
            death = noticed(lambda: state(terminals[-1]), before)
        finally:
            server.terminate()
            server.wait(20)
            log.close()
    return told(who, "api", created[:n], listed, death)


def wait_until_up(ask: Callable[[], Any]) -> None:
    """Wait until a server answers. Raises `RuntimeError`."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            ask()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not come up within 30 s")


def free_port() -> int:
    """A port that is free now."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def measure(folder: Path, n: int) -> list[Figure]:
    """Both peers; what cannot be measured here says why."""
    figures: list[Figure] = []
    for who, run in ((MNGR, mngr), (CAO, cao)):
        print(f"  {who} ...", flush=True)
        try:
            if shutil.which("tmux") is None:
                raise RuntimeError("tmux is missing")
            figures += run(folder / PROGRAM[who], n)
        except (RuntimeError, OSError, subprocess.SubprocessError, ValueError, KeyError, StopIteration) as error:
            figures.append(Figure(group="create-cli", what="create to ready", who=who, failed=f"not measured: {error}"))
    return figures
