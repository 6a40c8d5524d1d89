"""The agent as its unit runs it: not root, with a handful of capabilities and podman's socket."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import node_world, podman_env
from support.node_world import ROOT, NodeProcess, Person
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.podman, pytest.mark.slow]
USER = "daemon"


def capabilities() -> list[str]:
    """Those of the unit."""
    unit = (ROOT / "deploy" / "systemd" / "quarterdeck-node.service").read_text()
    line = next(line for line in unit.splitlines() if line.startswith("AmbientCapabilities="))
    return [each.removeprefix("CAP_").lower() for each in line.partition("=")[2].split()]


@pytest.fixture
def unprivileged(open_folder: Path) -> Iterator[NodeProcess]:
    podman_env.require_podman()
    caps = ",".join(f"+{each}" for each in capabilities())
    prefix = (
        "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", f"--inh-caps={caps}",
        f"--ambient-caps={caps}", f"--bounding-set=-all,{caps}", "--no-new-privs",
    )  # fmt: skip
    person = Person(open_folder / "person")
    person.folder.mkdir()
    (open_folder / "n1").mkdir()
    shutil.chown(open_folder / "n1", USER, USER)
    with podman_env.service(open_folder) as socket:
        shutil.chown(socket, "root", USER)
        socket.chmod(0o660)
        with node_world.node(open_folder / "n1", person, socket, prefix=prefix) as made:
            yield made


def test_everything_works_without_root(unprivileged: NodeProcess, open_folder: Path) -> None:
    assert unprivileged.process is not None
    status = Path(f"/proc/{unprivileged.process.pid}/status").read_text()
    assert f"Uid:\t{pwd.getpwnam(USER).pw_uid}\t" in status
    person = unprivileged.person
    with podman_env.prefix() as name:
        port = podman_env.free_port()
        file = person.define(name, IMAGE, more=f'ports = ["127.0.0.1:{port}:80"]\n')
        text = file.read_text().replace('["/bin/sleep", "1000"]', '["/bin/httpd", "-f", "-p", "80"]')
        file.write_text(text.replace('network = "none"\n', ""))
        source = open_folder / "x.txt"
        source.write_text("x")
        person.qd("service", "push", name, source, "a/b.txt", "--owner", "1234:1234", "--node", "n1")
        there = unprivileged.folder / "srv" / name / "a" / "b.txt"
        assert (there.stat().st_uid, there.read_text()) == (1234, "x")
        person.qd("service", "deploy", name)
        assert podman("inspect", "--format", "{{.State.Status}}", f"{name}-web") == "running"
        file.write_text(file.read_text().replace("/bin/httpd", "/bin/no-such-program"))
        assert "restored" in person.qd("service", "deploy", name, code=1).err
        person.qd("service", "restart", name)
        assert "uid=0" in person.qd("service", "exec", name, "id").out
        person.qd("node", "snapshot")
        person.qd("service", "purge", name, "--yes", "--files")
        assert not there.exists()
