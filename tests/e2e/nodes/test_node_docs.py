"""docs/nodes.md as a newcomer follows it: its named blocks are run as they stand, in their order."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support import podman_env
from support.node_world import PASSWORD, ROOT, Person
from support.podman_env import IMAGE, IMAGE_2, podman

pytestmark = [pytest.mark.podman, pytest.mark.slow]
DOCS = ROOT / "docs" / "nodes.md"
BLOCK = re.compile(r"^```(?P<kind>sh|toml) (?P<name>\S+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    # Stands for apt: what the documentation installs must be there already, as it is in CI.
    "apt-get": """\
        for each in "$@"; do
          case $each in install | -y) ;; *) dpkg-query -W "$each" >/dev/null || exit 1 ;; esac
        done
        """,
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
            each.mkdir(parents=True, exist_ok=True)
        config = (ROOT / "deploy" / "examples" / "node.toml").read_text()
        changes = {
            "/var/lib/quarterdeck-node": str(folder / "state"),
            "/run/quarterdeck/podman.sock": str(podman_socket),
            'host = "0.0.0.0"': f'host = "127.0.0.1"\nport = {self.port}',
            '#root = "/srv"': f'root = "{folder}/srv"',
            "#probe_seconds = 60": "probe_seconds = 20",
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
            # First: the port may be in what the others put in.
            "8080": str(self.published),
            # What is put back is started, not probed: it may not listen yet.
            "wget -qO- ": "wget -qO- --retry-connrefused --waitretry=1 --tries=10 ",
            "node-1.example --fing": f"127.0.0.1:{self.port} --fing",
            "--host node-1.example": "--host 127.0.0.1",
            "--owner quarterdeck": "--owner root",
            "/etc/quarterdeck": str(self.folder / "etc"),
            "sha256:FINGERPRINT": self.fingerprint,
            "SNAPSHOT": self.snapshot,
            "registry.example/web:v1": IMAGE,
            "web:v1|web:v2": f"{IMAGE}|{IMAGE_2}",
            "/srv/web": f"{self.folder}/srv/{word}web",
            "old-shop": f"{word}-old",
        }
        for before, after in changes.items():
            text = text.replace(before, after)
        return re.sub(r"(?<![\w/-])(web|shop)\b(?=[\s\"]|\.toml|$)", rf"{word}\1", text).replace(
            "services/web.toml", f"services/{word}web.toml"
        )

    def run(self, text: str, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run lines as bash would, stopping at the first that fails; the password is on standard input."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            input=f"{PASSWORD}\n",
            capture_output=True,
            text=True,
            timeout=100,
            env=self.person.environment({"PATH": path, "QD_LOGIN_PASSWORD": PASSWORD, **(env or {})}),
            cwd=cwd or self.person.folder / "config",
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}\n{self.log()[-2000:]}"
        return done.stdout + done.stderr

    def log(self) -> str:
        file = self.folder / "log"
        return file.read_text() if file.exists() else ""

    def up(self, command: str) -> str:
        """`command` once the node listens, as lines for `run`."""
        listens = f"until (exec 3<>/dev/tcp/127.0.0.1/{self.port}) 2>/dev/null; do sleep 0.1; done"
        return f"timeout 60 bash -c '{listens}'; {command}"

    def wait(self) -> None:
        end = time.monotonic() + 60
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


@pytest.mark.timeout(400)
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

        # It really expires; the very next call tells, and the block of the runbook mends it.
        machine.run(f"qd node init --dir {machine.folder}/etc --renew --days 0.00001; sleep 1")
        assert "or has expired" in machine.run("qd node list || true")
        run("expired")
        assert " up " in machine.run("qd node list")
        assert f"{word}web on node-1" in run("disk").replace("exit", "")
        machine.snapshot = sorted((machine.folder / "state" / "snapshots").iterdir())[-1].name
        assert f"{word}web" in run("restore")
        offline = machine.translated(parts["restore-offline"], word)
        assert f"{word}web" in machine.run(offline.replace("qd service status", machine.up("qd service status")))

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
        lost = machine.translated(parts["lost-node"], word).replace("qd login", machine.up("qd login"))
        machine.run(lost.replace("systemctl stop quarterdeck-node.service", "true"))
        assert podman("inspect", "--format", "{{.State.Status}}", f"{word}web-front") == "running"

        podman("run", "-d", "--name", f"{word}-old", "--network", "none", IMAGE, "/bin/sleep", "1000")
        made = podman("inspect", "--format", "{{.Id}}", f"{word}-old")
        told = run("bootstrap")
        assert "nothing would change" in told
        assert podman("inspect", "--format", "{{.Id}}", f"{word}shop") == made


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.timeout(400)
def test_the_installation_works_as_written_and_again(machine: Machine) -> None:
    root = machine.folder / "root"
    given = ("PIP_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_PROXY", "no_proxy")
    env = {name: value for name, value in os.environ.items() if name.startswith(given)}
    # From what pip installed alone, not from this clone.
    env |= {"DESTDIR": str(root), "QD_INSTALL_USER": "root", "PYTHONPATH": ""}
    (root / "usr/local/bin").mkdir(parents=True)
    text = blocks()["install"].replace("/opt/", f"{root}/opt/").replace("/usr/local/", f"{root}/usr/local/")
    qd = root / "usr/local/bin/qd"

    def run(text: str) -> str:
        return machine.run(text, cwd=ROOT, env=env)

    assert "Quarterdeck in /opt/quarterdeck" in run(text)
    version = run(f"{qd} --version")
    assert "serve" in run(f"{qd} node --help")
    before = (root / "opt/quarterdeck/bin/qd").stat().st_mtime_ns
    assert "install: nothing to change" in run(text)
    assert (root / "opt/quarterdeck/bin/qd").stat().st_mtime_ns == before
    # A broken installation is what an upgrade mends.
    (module,) = (root / "opt/quarterdeck/lib").glob("python3*/site-packages/quarterdeck/node/agent.py")
    module.unlink()
    assert "Quarterdeck in /opt/quarterdeck" in run("deploy/install.sh --source . --upgrade")
    assert module.exists()
    assert run(f"{qd} --version") == version


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB for what the agent keeps."""
    folder = tmp_path / "state"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "qd-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_a_full_disk_refuses_changes_and_nothing_else(tmp_path: Path, small_disk: Path, machine: Machine) -> None:
    with podman_env.prefix() as word:
        parts = blocks()
        told = machine.run(machine.translated(parts["init"], word))
        machine.fingerprint = next(each for each in told.split() if each.startswith("sha256:"))
        machine.wait()
        machine.run(machine.translated(parts["join"], word))
        file = machine.person.define(f"{word}web", IMAGE, node="node-1")
        machine.run(f"qd service deploy {word}web")
        made = podman("inspect", "--format", "{{.Id}}", f"{word}web-web")

        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as full, contextlib.suppress(OSError):
            while True:
                full.write(bytes(4096))
        assert shutil.disk_usage(small_disk).free == 0
        file.write_text(file.read_text().replace("1000", "2000"))
        refused = machine.run(f"! qd service deploy {word}web")
        assert "disk is full" in refused, refused
        assert "disk is full" in machine.run("! qd node snapshot")
        # Containers and reads go on.
        assert podman("inspect", "--format", "{{.Id}} {{.State.Status}}", f"{word}web-web") == f"{made} running"
        assert f"{word}web" in machine.run("qd service list")
        assert f"{word}web" in machine.run("qd service ps")

        filler.unlink()
        assert f"{word}web on node-1" in machine.run(machine.translated(parts["disk"], word))
        machine.run(f"qd service deploy {word}web")
        assert podman("inspect", "--format", "{{.Config.Cmd}}", f"{word}web-web") == "[/bin/sleep 2000]"
