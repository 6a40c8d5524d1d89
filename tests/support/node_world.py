"""A real node agent with real TLS and real podman, and a person's `qd` beside it, for end-to-end tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import podman_env

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a long password"


@dataclass
class Done:
    """What a `qd` command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Person:
    """Somebody with a cli.toml, tokens and a folder of definitions."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def definitions(self) -> Path:
        return self.folder / "config" / "services"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = ("PATH", "CONTAINERS_CONF")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.folder),
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}",
            "QD_CLI_CONFIG": str(self.folder / "config" / "cli.toml"),
            "QD_STATE_DIR": str(self.folder / "state"),
            "NO_COLOR": "1",
            **self.env,
            **(extra or {}),
        }

    def qd(
        self, *arguments: str | Path, code: int | None = 0, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Done:
        """Run `qd`; its exit code must be `code` (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "support.qd_nodes", *map(str, arguments)],
            input=stdin, capture_output=True, text=True, timeout=100, env=self.environment(env), cwd=self.folder,
        )  # fmt: skip
        assert code is None or done.returncode == code, (
            f"qd {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `qd` and leave it running."""
        return subprocess.Popen(
            [sys.executable, "-m", "support.qd_nodes", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(), cwd=self.folder,
        )  # fmt: skip

    def define(self, name: str, image: str, *, node: str = "n1", more: str = "") -> Path:
        """Write a definition of one component `web`."""
        self.definitions.mkdir(parents=True, exist_ok=True)
        file = self.definitions / f"{name}.toml"
        file.write_text(
            f'# {name}, for tests\nname = "{name}"\nnode = "{node}"\n\n[[components]]\nname = "web"\n'
            f'image = "{image}"\n'
            f'cmd = ["/bin/sleep", "1000"]  # long\nnetwork = "none"\nstop_seconds = 0\n{more}'
        )
        return file


@dataclass
class NodeProcess:
    """A node agent as a process of its own."""

    name: str
    folder: Path
    port: int
    person: Person
    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "etc" / "node.toml"

    @property
    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text() if file.exists() else ""

    def init(self, socket: Path | None, *, insecure: str = "", tuned: bool = True) -> str:
        """`qd node init`, and the settings that tests need (`tuned`: quicker than by default); the CA's fingerprint."""
        done = self.person.qd(
            "node", "init", "--dir", self.folder / "etc", "--name", self.name, "--host", self.host,
            "--listen", self.host, "--port", str(self.port), "--state-dir", self.folder / "state", "--admin", "eva",
            stdin=PASSWORD + "\n",
        )  # fmt: skip
        runtime = f'kind = "api"\nsocket = "{socket}"' if socket else 'kind = "cli"'
        quick = "probe_seconds = 5\nlease_seconds = 3\n[monitor]\nlist_seconds = 2\nbackoff_seconds = 0.2\n"
        with self.config.open("a") as file:
            file.write(
                f'audit_file = "{self.folder}/audit.jsonl"\n[files]\nroot = "{self.folder}/srv"\n'
                f'[runtime]\n{runtime}\ninsecure_registries = ["{insecure}"]\n{quick if tuned else ""}'
            )
        (self.folder / "srv").mkdir(exist_ok=True)
        return next(word for word in done.out.split() if word.startswith("sha256:"))

    def start(self) -> None:
        """Start it and wait until it takes calls."""
        begun = len(self.log)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "support.qd_nodes", "node", "serve", "--config", str(self.config)],
                stdout=log, stderr=log, env=self.person.environment(), cwd=self.folder,
            )  # fmt: skip
        end = time.monotonic() + 30
        while "serves on" not in self.log[begun:]:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait for its end; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def join(self, fingerprint: str) -> None:
        """Make the person know it and log in."""
        self.person.qd("node", "join", self.name, f"{self.host}:{self.port}", "--fingerprint", fingerprint)
        self.person.qd("login", self.name, "--user", "eva", stdin=PASSWORD + "\n")


@contextlib.contextmanager
def node(
    folder: Path, person: Person, socket: Path | None, *, name: str = "n1", insecure: str = "", **options: Any
) -> Iterator[NodeProcess]:
    """A node agent that runs and is joined; its process ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    made = NodeProcess(name, folder, podman_env.free_port(), person, **options)
    fingerprint = made.init(socket, insecure=insecure)
    made.start()
    try:
        made.join(fingerprint)
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.stop()
