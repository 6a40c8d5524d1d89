"""SIGTERM in the middle of a real deploy: it comes to its end, its caller hears how, and nothing is left half-way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import node_world, podman_env
from support.node_world import Person
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.podman, pytest.mark.fault, pytest.mark.timeout(180)]


@pytest.fixture(params=["api", "cli"])
def socket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | None]:
    podman_env.require_podman()
    if request.param == "cli":
        yield None
        return
    with podman_env.service(tmp_path) as path:
        yield path


def test_a_deploy_in_progress_comes_to_its_end(tmp_path: Path, socket: Path | None) -> None:
    person = Person(tmp_path / "person")
    person.folder.mkdir()
    with podman_env.prefix("qdterm") as name, node_world.node(tmp_path / "n1", person, socket) as n1:
        file = person.define(name, IMAGE)
        slow = '["/bin/sh", "-c", "trap \'sleep 2; exit 0\' TERM; while true; do sleep 0.1; done"]'
        text = file.read_text().replace('["/bin/sleep", "1000"]', slow).replace("stop_seconds = 0", "stop_seconds = 8")
        file.write_text(text)
        person.qd("service", "deploy", name)
        before = podman("inspect", "--format", "{{.Id}}", f"{name}-web")
        file.write_text(text.replace("sleep 0.1;", "sleep 0.2;"))
        running = person.start("service", "deploy", name, "--json", "--operation-id", f"{name}-op")
        end = time.monotonic() + 30
        while f"{name}-web.qd-old" not in podman("ps", "-a", "--format", "{{.Names}}"):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert n1.stop() == 0
        out, _ = running.communicate(timeout=60)
        assert running.returncode == 0
        assert json.loads(out)["components"][0]["outcome"] == "replaced"
        assert podman("ps", "-a", "--format", "{{.Names}}", "--filter", f"name=^{name}") == f"{name}-web"
        assert podman("inspect", "--format", "{{.State.Status}}", f"{name}-web") == "running"
        after = podman("inspect", "--format", "{{.Id}}", f"{name}-web")
        assert after != before
        n1.start()
        again = person.qd("service", "deploy", name, "--json", "--operation-id", f"{name}-op").json
        assert again["components"][0]["outcome"] == "replaced"
        person.qd("service", "status", name)
        assert podman("inspect", "--format", "{{.Id}}", f"{name}-web") == after
        assert "interrupted" not in n1.log
