"""A stand-alone metadata server as a real process, for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

SCRIPT = """
import sys, anyio
from functools import partial
from pathlib import Path
from quarterdeck.metadata.server import serve
from quarterdeck.telemetry import setup_logging
setup_logging("info")
workspace, folder, token, port = sys.argv[1:]
anyio.run(
    partial(serve, Path(workspace), port=int(port), folder=Path(folder), agent="a",
            token_file=Path(token) if token else None, announce=lambda url: print(url, flush=True)),
    backend_options={"use_uvloop": True},
)
"""


@dataclass
class Server:
    """The process, its address and its token."""

    process: subprocess.Popen[str]
    url: str
    token: str | None

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs to be let in."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def client(self, **options: object) -> httpx2.Client:
        """A client for it."""
        return httpx2.Client(base_url=self.url, headers=self.headers, timeout=30, trust_env=False, **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


@contextmanager
def running(
    workspace: Path,
    folder: Path,
    *,
    token: str | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    port: int = 0,
    through: Sequence[str] = (),
) -> Iterator[Server]:
    """A server that is ready; killed at the end if it still runs. `through` is a program that starts it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    token_file = ""
    if token is not None:
        path = folder.parent / "token"
        path.write_text(token)
        path.chmod(0o600)
        token_file = str(path)
    with (log or folder.parent / "server.log").open("ab") as errors:
        process = subprocess.Popen(
            [*through, sys.executable, "-c", SCRIPT, str(workspace), str(folder), token_file, str(port)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, f"the server did not start: {(log or folder.parent / 'server.log').read_text()[-2000:]}"
        server = Server(process, url, token)
        with server.client() as client:
            for _ in range(500):
                if client.get("/health/ready").status_code == 200:
                    break
                time.sleep(0.01)
            else:
                raise AssertionError("never ready")
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
