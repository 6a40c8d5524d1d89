"""docs/nodes.md as a newcomer follows it: its named blocks are run as they stand, in their order."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import podman_env
from support.node_world import PASSWORD, ROOT, Person
from support.podman_env import IMAGE, IMAGE_2, podman

pytestmark = [pytest.mark.podman, pytest.mark.slow]
DOCS = ROOT / "docs" / "nodes.md"
BLOCK = re.compile(r"^```(?P<kind>sh|toml) (?P<name>\S+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    "qd": 'exec {python} -m support.qd_nodes "$@"\n',
    # Stands for systemd: starts and stops this test's agent.
    "systemctl": """\
        case "$1 $*" in
          stop*) kill "$(cat {root}/pid)"; while kill -0 "$(cat {root}/pid)" 2>/dev/null; do sleep 0.05; done ;;
          *) setsid {python} -m support.qd_nodes node serve --config {root}/etc/node.toml >>{root}/log 2>&1 </dev/null &
             echo $! >{root}/pid ;;
        esac
        """,
}


class Machine:
    """One machine as the documentation has it, with its paths, names and images put elsewhere."""

    def __init__(self, folder: Path, podman_socket: Path) -> None:
        self.folder = folder
        self.person = Person(folder / "home")
        self.port = podman_env.free_port()
        self.published = podman_env.free_port()
        self.fingerprint = ""
        self.snapshot = ""
        for each in (folder / "etc", folder / "state", folder / "srv", folder / "bin", self.person.definitions):
            each.mkdir(parents=True)
        config = (ROOT / "deploy" / "examples" / "node.toml").read_text()
        changes = {
            "/var/lib/quarterdeck-node": str(folder / "state"),
            "/run/quarterdeck/podman.sock": str(podman_socket),
            'host = "0.0.0.0"': f'host = "127.0.0.1"\nport = {self.port}',
            '#root = "/srv"': f'root = "{folder}/srv"',
            "#probe_seconds = 60": "probe_seconds = 3",
        }
        for before, after in changes.items():
            assert before in config
            config = config.replace(before, after)
        (folder / "etc" / "node.toml").write_text(config)
        for name, text in PROGRAMS.items():
            file = folder / "bin" / name
            file.write_text("#!/bin/sh\n" + text.format(python=sys.executable, root=folder))
            file.chmod(0o755)

    def translated(self, text: str, word: str) -> str:
        """The text for this machine; the services get names of this test's own."""
        changes = {
            "node-1.example --fing": f"127.0.0.1:{self.port} --fing",
            "--host node-1.example": "--host 127.0.0.1",
            "--owner quarterdeck": "--owner root",
            "/etc/quarterdeck": str(self.folder / "etc"),
            "sha256:FINGERPRINT": self.fingerprint,
            "SNAPSHOT": self.snapshot,
            "registry.example/web:v1": IMAGE,
            "web:v1|web:v2": f"{IMAGE}|{IMAGE_2}",
            "/srv/web": f"{self.folder}/srv/{word}web",
            "8080": str(self.published),
            "old-shop": f"{word}-old",
        }
        for before, after in changes.items():
            text = text.replace(before, after)
        return re.sub(r"(?<![\w/-])(web|shop)\b(?=[\s\"]|\.toml|$)", rf"{word}\1", text).replace(
            "services/web.toml", f"services/{word}web.toml"
        )

    def run(self, text: str) -> str:
        """Run lines as bash would, stopping at the first that fails; the password is on standard input."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            input=f"{PASSWORD}\n",
            capture_output=True,
            text=True,
            timeout=100,
            env=self.person.environment({"PATH": path, "QD_LOGIN_PASSWORD": PASSWORD}),
            cwd=self.person.folder / "config",
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}\n{self.log()[-2000:]}"
        return done.stdout + done.stderr

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text() if file.exists() else ""

    def wait(self) -> None:
        end = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)


@pytest.fixture
def machine(tmp_path: Path, podman_socket: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, podman_socket)
    yield made
    if (tmp_path / "pid").exists():
        subprocess.run(["kill", (tmp_path / "pid").read_text().strip()], check=False)


def blocks() -> dict[str, str]:
    return {match["name"]: match["text"] for match in BLOCK.finditer(DOCS.read_text())}


def test_the_examples_stand_in_the_documentation_whole() -> None:
    text = DOCS.read_text()
    for name in ("node.toml", "cli.toml", "services/shop.toml"):
        assert (ROOT / "deploy" / "examples" / name).read_text() in text


def test_every_verb_is_documented() -> None:
    from quarterdeck.cli import node, service

    text = DOCS.read_text()
    for group in (service.group, node.group):
        for verb in group.commands:
            assert re.search(rf"\b{verb}\b", text), verb


def test_the_documentation_works_as_written(machine: Machine) -> None:
    with podman_env.prefix() as word:
        parts = blocks()
        run = lambda name: machine.run(machine.translated(parts[name], word))  # noqa: E731

        told = run("init")
        machine.fingerprint = next(each for each in told.split() if each.startswith("sha256:"))
        machine.wait()
        assert " up " in run("join")
        definition = machine.translated(parts["web.toml"], word)
        (machine.person.definitions / f"{word}web.toml").write_text(definition)
        told = run("deploy")
        assert told.count("<h1>hello</h1>") == 1
        told = run("break")
        assert "restored" in told
        assert "<h1>hello</h1>" in told
        assert podman("inspect", "--format", "{{.Config.Image}}", f"{word}web-front") == IMAGE
        run("accounts")

        run("expired")
        assert f"{word}web on node-1" in run("disk").replace("exit", "")
        machine.snapshot = sorted((machine.folder / "state" / "snapshots").iterdir())[-1].name
        assert f"{word}web" in run("restore")
        run_offline = parts["restore-offline"].replace("qd service status", "sleep 2; qd service status")
        assert f"{word}web" in machine.run(machine.translated(run_offline, word))

        # The machine is lost: only the copies of the CA are left, and the definitions.
        backup = machine.person.folder / "config" / "backup"
        backup.mkdir()
        for name in ("ca.pem", "ca.key"):
            shutil.copy(machine.folder / "etc" / "tls" / name, backup)
        machine.run("systemctl stop quarterdeck-node.service")
        podman("rm", "-f", "-t", "0", f"{word}web-front")
        shutil.rmtree(machine.folder / "etc" / "tls")
        shutil.rmtree(machine.folder / "state")
        (machine.folder / "state").mkdir()
        lost = parts["lost-node"].replace("qd login", "sleep 2; qd login")
        machine.run(machine.translated(lost, word).replace("systemctl stop quarterdeck-node.service", "true"))
        assert podman("inspect", "--format", "{{.State.Status}}", f"{word}web-front") == "running"

        podman("run", "-d", "--name", f"{word}-old", "--network", "none", IMAGE, "/bin/sleep", "1000")
        made = podman("inspect", "--format", "{{.Id}}", f"{word}-old")
        told = run("bootstrap")
        assert "nothing would change" in told
        assert podman("inspect", "--format", "{{.Id}}", f"{word}shop") == made
