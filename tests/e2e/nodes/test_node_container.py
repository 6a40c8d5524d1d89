"""deploy/Containerfile: built on a Debian made here, and run as its head says, beside the containers it drives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from support import podman_env
from support.node_world import ROOT, NodeProcess, Person
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.podman, pytest.mark.slow, pytest.mark.timeout(900)]
# Kept for the next run, as the image of busybox is.
BASE = "localhost/qd-test-base:bookworm"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def mirror() -> str:
    """Where this machine has its Debian from."""
    for file in sorted([Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]):
        if file.exists() and file.suffix in (".list", ".sources"):
            found = re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(https?://\S*debian\S*)", file.read_text(), re.MULTILINE)
            if found:
                return found[1]
    pytest.skip("this machine's apt names no mirror of Debian")


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A Debian with Python, which stands for the image that the Containerfile names and nobody can pull here."""
    podman_env.require_podman()
    if subprocess.run(["podman", "image", "exists", BASE]).returncode == 0:
        return BASE
    if shutil.which("debootstrap") is None:
        if os.environ.get("QD_CI") == "1":
            pytest.fail("debootstrap must be installed here", pytrace=False)
        pytest.skip("debootstrap is not installed")
    root = tmp_path / "root"
    packages = "--include=python3-venv,python-is-python3,ca-certificates"
    command = ["debootstrap", "--variant=minbase", packages, "bookworm", str(root), mirror()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    if given := os.environ.get("PIP_CERT"):
        # Whom this machine trusts for its package index, the build is to trust, too.
        shutil.copy(given, root / CERTIFICATES)
        (root / "etc/pip.conf").write_text(f"[global]\ncert = /{CERTIFICATES}\n")
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["podman", "import", "-q", "-", BASE], stdin=tar.stdout, check=True, timeout=120)
    shutil.rmtree(root)
    return BASE


def test_the_agent_runs_in_a_container(base: str, tmp_path: Path, podman_socket: Path) -> None:
    with podman_env.prefix() as word:
        image = f"localhost/{word}:test"
        command = ["podman", "build", "--network", "host", "--build-arg", f"BASE={base}", "-t", image]
        done = subprocess.run(
            [*command, "-f", "deploy/Containerfile", "."], cwd=ROOT, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        try:
            person = Person(tmp_path / "person")
            person.folder.mkdir()
            node = NodeProcess("n1", tmp_path / "n1", podman_env.free_port(), person)
            node.folder.mkdir()
            fingerprint = node.init(podman_socket)
            podman(
                "run", "-d", "--name", f"{word}agent", "--network", "host", "--pid", "host", "--cap-add", "NET_ADMIN",
                "-v", f"{podman_socket}:/run/podman/podman.sock", "-v", f"{node.folder}:{node.folder}",
                image, "serve", "--config", str(node.config),
            )  # fmt: skip
            end = time.monotonic() + 60
            while (
                "serves on"
                not in subprocess.run(["podman", "logs", f"{word}agent"], capture_output=True, text=True).stderr
            ):
                assert time.monotonic() < end, podman("logs", f"{word}agent")
                time.sleep(0.2)
            node.join(fingerprint)
            assert person.qd("node", "info", "--json").json["runtime"]["kind"] == "api"
            person.define(f"{word}web", IMAGE)
            person.qd("service", "deploy", f"{word}web")
            podman("stop", "-t", "30", f"{word}agent")
            assert podman("inspect", "--format", "{{.State.ExitCode}}", f"{word}agent") == "0"
            assert podman("inspect", "--format", "{{.State.Status}}", f"{word}web-web") == "running"
        finally:
            podman("rm", "-f", "-t", "0", f"{word}agent", check=False)
            podman("rmi", "-f", image, check=False)
