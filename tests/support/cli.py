"""`qd` as a program, on a state folder of its own, and a hub that it started itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from quarterdeck.hub import place
from support.hub import CONFIG, assert_nothing_left, configure, end_agents, state_folder

QD = [sys.executable, "-m", "quarterdeck"]
SECONDS = 100


@dataclass(frozen=True)
class Said:
    """What a call of `qd` left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, decoded."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error on standard error, as JSON."""
        return json.loads(self.err)["error"]


@dataclass
class Qd:
    """Calls `qd` in a folder, with a state folder."""

    folder: Path
    state: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What it is called with: nothing of a terminal, nothing of the caller's own settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("QD_", "_QD_", "NO_COLOR"))}
        scripted = os.environ.get("QD_SCRIPTED_HOME")
        given = {"QD_SCRIPTED_HOME": scripted} if scripted else {}
        return {**kept, **given, "QD_STATE_DIR": str(self.state), **more}

    def __call__(
        self, *arguments: str, code: int | None = 0, text: str = "", cwd: Path | None = None, **more: str
    ) -> Said:
        """Call it; the exit code must be `code` (None: any). `more` is added to the environment."""
        done = subprocess.run(
            [*QD, *arguments], cwd=cwd or self.folder, input=text.encode(), capture_output=True, timeout=SECONDS,
            env=self.environment(**more), check=False,
        )  # fmt: skip
        said = Said(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert code is None or said.code == code, f"{arguments} ended with {said.code}:\n{said.out}\n{said.err}"
        return said

    def typed(self, keys: str, *arguments: str, code: int = 0) -> str:
        """Call it with a terminal as standard input, on which this is typed; all that it wrote."""
        ours, its = os.openpty()
        try:
            os.write(ours, keys.encode())
            done = subprocess.run(
                [*QD, *arguments], cwd=self.folder, stdin=its, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=SECONDS, env=self.environment(), check=False,
            )  # fmt: skip
        finally:
            os.close(ours)
            os.close(its)
        written = done.stdout.decode()
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{written}"
        return written

    @contextmanager
    def going(self, *arguments: str, **more: str) -> Iterator[Going]:
        """Start it and leave it going; interrupted at the end."""
        process = subprocess.Popen(
            [*QD, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=self.environment(**more),
        )  # fmt: skip
        with process:
            try:
                yield Going(process)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    process.wait(15)

    def until(self, right: Callable[[], Any], seconds: float = 20) -> Any:
        """Ask again until the answer is true; the answer."""
        end = time.monotonic() + seconds
        while not (found := right()):
            assert time.monotonic() < end, "it did not become right in time"
            time.sleep(0.05)
        return found

    def agent(self, name: str) -> Any:
        """All of an agent."""
        return self("agents", "show", name, "--json").json


@dataclass
class Going:
    """A call of `qd` that goes on."""

    process: subprocess.Popen[bytes]

    def line(self, holding: str) -> str:
        """Read lines until one holds this; that one. The test's own time limit ends a wait for nothing."""
        assert self.process.stdout is not None
        seen: list[str] = []
        for raw in self.process.stdout:
            seen.append(raw.decode())
            if holding in seen[-1]:
                return seen[-1].rstrip("\n")
        raise AssertionError(f"{holding!r} is not in {seen}")

    def end(self, number: int = signal.SIGINT) -> int:
        """Signal it; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(15)


@contextmanager
def on_state(folder: Path) -> Iterator[Qd]:
    """`qd` in a folder with a state folder of its own; afterwards every agent and hub is ended, nothing is left."""
    with state_folder() as state:
        qd = Qd(folder, state)
        try:
            yield qd
        finally:
            if place.running(state) is not None:
                qd("down", code=None)
            anyio.run(end_agents, state)
        anyio.run(assert_nothing_left, state)


@contextmanager
def with_hub(repo: Path, config: str = CONFIG) -> Iterator[Qd]:
    """`on_state`, with a hub in the background for a repository that is configured for scripted agents."""
    with on_state(configure(repo, config)) as qd:
        qd("up", "--detach", "--port", "0")
        yield qd
