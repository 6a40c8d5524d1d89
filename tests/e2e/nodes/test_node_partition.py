"""Two nodes in network namespaces of their own; one is cut off in the middle of a deploy."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import node_world, podman_env
from support.node_world import NodeProcess, Person
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.podman, pytest.mark.slow]


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@dataclass
class Link:
    """A network namespace and the cable to it."""

    namespace: str
    cable: str
    address: str

    def cut(self) -> None:
        ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        ip("link", "set", self.cable, "up")


@pytest.fixture
def links() -> Iterator[list[Link]]:
    podman_env.require_podman()
    word = f"qdt{secrets.token_hex(2)}"
    made: list[Link] = []
    try:
        for number in (1, 2):
            link = Link(f"{word}{number}", f"{word}h{number}", f"10.213.{secrets.randbelow(250)}.{4 * number + 2}")
            gateway = link.address.rpartition(".")[0] + f".{4 * number + 1}"
            ip("netns", "add", link.namespace)
            made.append(link)
            ip("link", "add", link.cable, "type", "veth", "peer", "name", "eth0", "netns", link.namespace)
            ip("addr", "add", f"{gateway}/30", "dev", link.cable)
            link.mend()
            ip("-n", link.namespace, "addr", "add", f"{link.address}/30", "dev", "eth0")
            ip("-n", link.namespace, "link", "set", "eth0", "up")
            ip("-n", link.namespace, "link", "set", "lo", "up")
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        for link in made:
            ip("netns", "del", link.namespace, check=False)
        if os.environ.get("QD_CI") == "1":
            pytest.fail(f"network namespaces are needed here: {error}", pytrace=False)
        pytest.skip(f"no network namespaces here: {error}")
    yield made
    for link in made:
        ip("netns", "del", link.namespace, check=False)
        ip("link", "del", link.cable, check=False)


def replacing(container: str) -> None:
    """Wait until a deploy puts another in the place of this container."""
    end = time.monotonic() + 60
    while f"{container}.qd-old" not in podman("ps", "-a", "--format", "{{.Names}}").split():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.timeout(400)
def test_a_node_that_is_cut_off_goes_on_and_the_other_answers(
    links: list[Link], tmp_path: Path, podman_socket: Path
) -> None:
    person = Person(tmp_path / "person", {"QD_CONNECT_SECONDS": "2", "QD_TIMEOUT_SECONDS": "5"})
    person.folder.mkdir()
    with ExitStack() as stack:
        word = stack.enter_context(podman_env.prefix())
        nodes: list[NodeProcess] = []
        for number, link in enumerate(links, 1):
            prefix = (shutil.which("ip") or "ip", "netns", "exec", link.namespace)
            nodes.append(
                stack.enter_context(
                    node_world.node(
                        tmp_path / f"n{number}",
                        person,
                        podman_socket,
                        name=f"n{number}",
                        host=link.address,
                        prefix=prefix,
                    )
                )
            )
        for node in ("n1", "n2"):
            # Ignores SIGTERM, so that putting another in its place takes the whole grace.
            file = person.define(f"{word}{node}", IMAGE, node=node)
            stubborn = '["/bin/sh", "-c", "trap : TERM; while true; do sleep 1; done"]'
            text = (
                file.read_text()
                .replace('["/bin/sleep", "1000"]', stubborn)
                .replace("stop_seconds = 0", "stop_seconds = 6")
            )
            file.write_text(text)
            person.qd("service", "deploy", f"{word}{node}")
            file.write_text(text.replace("sleep 1;", "sleep 2;"))

        # Cut off for a moment: the deploy's own connection survives.
        running = person.start("service", "deploy", f"{word}n2", "--json")
        replacing(f"{word}n2-web")
        links[1].cut()
        done = person.qd("service", "ps", "--json", code=5).json
        assert set(done["nodes"]) == {"n1"}
        assert done["errors"]["n2"]["code"] == "UNAVAILABLE"
        table = person.qd("node", "list", code=5)
        assert "unreachable" in table.out
        person.qd("service", "deploy", f"{word}n1", "--plan")
        links[1].mend()
        out, err = running.communicate(timeout=90)
        assert running.returncode == 0, err
        assert '"outcome": "replaced"' in out

        # Cut off for long: the work goes on there, and is found done afterwards, once.
        file = person.definitions / f"{word}n2.toml"
        file.write_text(file.read_text().replace("sleep 2;", "sleep 3;"))
        running = person.start("service", "deploy", f"{word}n2", "--operation-id", f"{word}-long", "--json")
        replacing(f"{word}n2-web")
        links[1].cut()
        end = time.monotonic() + 60
        while "sleep 3" not in podman(
            "inspect", "--format", "{{.Config.Cmd}} {{.State.Status}}", f"{word}n2-web", check=False
        ):
            assert time.monotonic() < end
            time.sleep(0.3)
        running.terminate()
        running.communicate()
        links[1].mend()
        made = podman("inspect", "--format", "{{.Id}}", f"{word}n2-web")
        again = person.qd("service", "deploy", f"{word}n2", "--operation-id", f"{word}-long", "--json").json
        assert again["components"][0]["outcome"] == "replaced"
        assert podman("inspect", "--format", "{{.Id}}", f"{word}n2-web") == made
        containers = podman("ps", "-a", "--format", "{{.Names}}").split()
        assert [each for each in containers if each.startswith(f"{word}n2")] == [f"{word}n2-web"]
        for node in nodes:
            person.qd("service", "purge", f"{word}{node.name}", "--yes")
