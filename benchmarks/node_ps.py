"""`qd service ps` over twenty simulated nodes beside the same for the slowest of them alone.

A simulated node is the real gRPC server with its TLS and its guard; what a runtime would answer comes after
a delay instead. All are served by one process: `python -m benchmarks.node_ps FOLDER`.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from benchmarks import ROOT
from benchmarks.results import Aim, Figure
from quarterdeck.auth.accounts import Accounts
from quarterdeck.auth.audit import AuditFile
from quarterdeck.auth.cache import CachingVerifier
from quarterdeck.auth.credentials import Credential, Credentials
from quarterdeck.auth.local import LocalVerifier
from quarterdeck.auth.model import Role
from quarterdeck.auth.settings import Door
from quarterdeck.node import pki
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.cli_settings import NodeTable, add_node
from quarterdeck.node.model import Observed
from quarterdeck.node.results import LiveCheck, LiveComponent
from quarterdeck.node.server import listening

NODES = 20
COMPONENTS = 10
SLOWEST_SECONDS = 1.0
PASSWORD = "benchmark password"


class SimulatedAgent(NodeAgent):
    """Answers a live check after a while; nothing else."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds = name, seconds

    async def live_check(self, *, service: str = "", usage: bool = False) -> LiveCheck:
        await anyio.sleep(self.seconds)
        now = time.time()
        seen = Observed("running", at=now, container_id="0" * 64, pid=1, started_at=now - 3600)
        names = [f"c{number}" for number in range(COMPONENTS)]
        return LiveCheck(now, tuple(LiveComponent("web", c, f"web-{c}", "running", seen, "v1") for c in names))


async def serve(folder: Path) -> None:
    """Serve all of them, with a cli.toml and tokens for `qd`, until standard input ends."""
    accounts = Accounts(folder / "accounts.sqlite3")
    accounts.add("eva", PASSWORD, Role.ADMIN)
    local = LocalVerifier(accounts, os.urandom(32), issuer="local:bench")
    door = Door(CachingVerifier(local), local)
    pki.make_authority(folder / "ca.pem", folder / "ca.key", name="bench")
    pair = {"cert": folder / "n.pem", "key": folder / "n.key"}
    pki.issue(folder / "ca.pem", folder / "ca.key", hosts=("127.0.0.1",), days=1, **pair)
    token, _ = await local.login("eva", PASSWORD)
    credentials = Credentials(folder / "state" / "credentials.json")
    async with AsyncExitStack() as stack:
        audit = AuditFile(folder / "audit.jsonl")
        stack.callback(audit.close)
        for number in range(1, NODES + 1):
            name = f"n{number:02}"
            agent = SimulatedAgent(name, SLOWEST_SECONDS * number / NODES)
            bound = await stack.enter_async_context(listening(agent, door, audit, host="127.0.0.1", port=0, **pair))
            add_node(folder / "cli.toml", name, NodeTable(address=f"127.0.0.1:{bound.port}", ca="ca.pem"))
            credentials.put(name, Credential(token, "eva", "admin", time.time() + 3600))
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


def measure(n: int) -> list[Figure]:
    """All nodes, and the slowest alone, turn about."""
    with tempfile.TemporaryDirectory(prefix="qd-b-") as name:
        folder = Path(name)
        nodes = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.node_ps", name],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(folder),
        )  # fmt: skip
        try:
            assert nodes.stdout is not None
            assert nodes.stdout.readline() == b"ready\n"
            every, slowest = [], []
            for _ in range(n):
                every.append(_ps(folder, rows=NODES * COMPONENTS))
                slowest.append(_ps(folder, "--node", f"n{NODES:02}", rows=COMPONENTS))
        finally:
            nodes.communicate(b"")
    what = f"qd service ps, {NODES} simulated nodes"
    aim = Aim(under=1.5 * sorted(slowest)[len(slowest) // 2])
    note = f"Nodes that answer after {SLOWEST_SECONDS / NODES * 1000:.0f} to {SLOWEST_SECONDS * 1000:.0f} ms; whole \
commands. Aimed at: 1.5 times the slowest alone."
    return [
        Figure(group="ps", what=what, values=every, aim=aim, note=note),
        Figure(group="ps", what=what, who="the slowest alone", values=slowest),
    ]


def _environment(folder: Path) -> dict[str, str]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "src"), str(ROOT / "tests")))
    own = {"PYTHONPATH": paths, "QD_CLI_CONFIG": str(folder / "cli.toml"), "QD_STATE_DIR": str(folder / "state")}
    return {**os.environ, **own, "NO_COLOR": "1"}


def _ps(folder: Path, *options: str, rows: int) -> float:
    """Milliseconds of one command; every component must be in its table."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "quarterdeck", "service", "ps", *options],
        env=_environment(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    took = (time.perf_counter() - began) * 1000
    assert done.stdout.count("web/c") == rows, done.stdout
    return took


if __name__ == "__main__":
    anyio.run(functools.partial(serve, Path(sys.argv[1])))
