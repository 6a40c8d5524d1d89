"""A node agent that sees other processes than podman does (a container without `--pid host`) calls nothing ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.podman_env import IMAGE, podman

pytestmark = pytest.mark.podman

LISTING = """
import json, os, sys
import anyio
from pathlib import Path
from quarterdeck.node.options import AgentOptions
from quarterdeck.node.podman_api import PodmanApi

async def main():
    runtime = PodmanApi(AgentOptions(Path(sys.argv[1]), socket=Path(sys.argv[2])))
    listed = {each.name: each for each in await runtime.list()}[sys.argv[3]]
    inspected = (await runtime.inspect(sys.argv[3])).container
    there = os.path.exists(f"/proc/{listed.pid}/ns")
    print(json.dumps([there, [listed.state, inspected.state], (await runtime.usage())[listed.id].pids]))
    await runtime.aclose()

anyio.run(main)
"""


def test_in_a_process_namespace_of_its_own_podmans_word_holds(podman_socket: Path, tmp_path: Path, name: str) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    podman("run", "-d", "--network", "none", "--name", name, IMAGE, "sleep", "600")
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", LISTING]
    done = subprocess.run(
        [*command, str(tmp_path), str(podman_socket), name], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    seen, states, pids = json.loads(done.stdout)
    assert not seen, "it saw the container's process after all"
    assert (states, pids) == (["running", "running"], 1)
