"""What this machine's own files do to a command: told with the path and what to do, exit code 2, no traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.node import pki
from support.node_world import PASSWORD, Done, Person


@pytest.fixture
def someone(tmp_path: Path) -> Person:
    """A person with a node that nobody listens at."""
    person = Person(tmp_path)
    ca = tmp_path / "ca.pem"
    pki.make_authority(ca, tmp_path / "ca.key", name="n1")
    person.qd("node", "add", "n1", "127.0.0.1:1", "--ca", ca)
    return person


def refused(done: Done, *words: object) -> None:
    assert "Traceback" not in done.err
    assert done.code == 2, done
    for word in words:
        assert str(word) in done.err


def test_a_definition_with_a_key_twice_stands_in_nobodys_way(someone: Person) -> None:
    good = someone.define("good", "localhost/x:1")
    bad = someone.define("bad", "localhost/x:1", more='image = "localhost/x:2"\n')
    done = someone.qd("service", "show", "good")
    assert done.out == good.read_text()
    assert f"passed over: {bad} is not TOML" in done.err
    for command in ("logs", "stop", "history"):
        done = someone.qd("service", command, "good", code=None)
        assert "Traceback" not in done.err
        assert done.err.count("passed over") == 1
    refused(someone.qd("service", "show", "bad", code=None), bad, "image")
    refused(someone.qd("service", "sync", code=None), bad)
    editor = someone.folder / "editor"
    editor.write_text('#!/bin/sh\necho \'image = "y"\' >> "$1"\n')
    editor.chmod(0o755)
    refused(someone.qd("service", "edit", "good", code=None, stdin="n\n", env={"EDITOR": str(editor)}), good)


def test_files_of_this_machine_that_cannot_be_used(someone: Person, tmp_path: Path) -> None:
    someone.define("good", "localhost/x:1")
    refused(someone.qd("service", "pull", "good", "x", tmp_path / "no" / "x", code=None), tmp_path / "no")
    blob = tmp_path / "blob"
    blob.write_bytes(b"\xff\xfe\x00nothing")
    refused(someone.qd("node", "add", "n2", "127.0.0.1:1", "--ca", blob, code=None), blob)
    refused(someone.qd("node", "join", "n2", "127.0.0.1:1", "--ca", blob, code=None), blob)
    # A file where a folder is needed stands for a folder that refuses: root may write into every other.
    refused(someone.qd("node", "init", "--dir", blob / "etc", code=None), blob / "etc")
    state = tmp_path / "state-n"
    config = tmp_path / "etc" / "node.toml"
    arguments = ("node", "init", "--dir", config.parent, "--state-dir", state)
    someone.qd(*arguments)
    state.mkdir()
    for name in ("accounts.sqlite3", "registry.sqlite3"):
        (state / name).write_bytes(b"this is no database at all" * 100)
    refused(someone.qd("node", "account", "list", "--config", config, code=None), config, "database")
    done = someone.qd("node", "snapshot", "--config", config, code=None)
    assert "Traceback" not in done.err
    assert done.code in (1, 2)


def as_somebody_else(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command without the rights of root."""
    without = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run([*without, *command], capture_output=True, text=True, timeout=100, check=False, **more)


def runs_for_everybody() -> bool:
    """Whether this interpreter is one that other users may run: one in the home of root is not."""
    return os.getuid() == 0 and as_somebody_else(sys.executable, "-c", "import quarterdeck").returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_without_the_right_to(open_folder: Path) -> None:
    if not runs_for_everybody():
        pytest.skip(f"{sys.executable} is not for others to run")
    root, nobody = Person(open_folder), Person(open_folder)
    config = open_folder / "etc" / "node.toml"
    root.qd("node", "init", "--dir", config.parent, "--state-dir", open_folder / "state-n", "--admin", "eva",
            stdin=PASSWORD + "\n")  # fmt: skip

    def as_nobody(*arguments: object) -> Done:
        done = as_somebody_else(
            sys.executable, "-m", "support.qd_nodes", *map(str, arguments), env=nobody.environment(), cwd=open_folder
        )
        return Done(done.returncode, done.stdout, done.stderr)

    renewed = as_nobody("node", "init", "--dir", config.parent, "--renew")
    refused(renewed, "ca.key", "as root")
    assert "your copy" not in renewed.err
    refused(as_nobody("node", "init", "--dir", open_folder / "new"), open_folder / "new", "as root")
    refused(as_nobody("node", "account", "list", "--config", config), "as root")
    refused(as_nobody("node", "serve", "--config", config))
    with contextlib.closing(sqlite3.connect(open_folder / "state-n" / "registry.sqlite3")) as database:
        database.execute("CREATE TABLE t (c)")
    refused(as_nobody("node", "snapshot", "--config", config))
    refused(as_nobody("node", "restore", "any", "--config", config, "--yes"), "as root")
    refused(as_nobody("node", "add", "n2", "127.0.0.1:1", "--ca", config.parent / "tls" / "ca.pem"), "as root")


def test_init_may_be_repeated_and_makes_nothing_for_a_bad_password(tmp_path: Path) -> None:
    person = Person(tmp_path)
    folder = tmp_path / "etc"
    arguments = ("node", "init", "--dir", folder, "--state-dir", tmp_path / "state-n", "--admin", "eva")
    refused(person.qd(*arguments, stdin="short\n", code=None), "5 characters")
    assert not folder.exists()
    first = person.qd(*arguments, stdin=PASSWORD + "\n")
    before = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    again = person.qd(*arguments)
    assert {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()} == before
    fingerprint = next(word for word in first.out.split() if word.startswith("sha256:"))
    assert fingerprint in again.out
    assert "eva: account is there already" in again.out
    # Half of a pair is made whole, and the CA stays.
    (folder / "tls" / "node.pem").unlink()
    assert fingerprint in person.qd(*arguments).out
    assert fingerprint in person.qd("node", "init", "--dir", folder, "--renew").out


def test_a_table_is_named_and_a_bad_number_too(someone: Person) -> None:
    file = someone.folder / "config" / "cli.toml"
    file.write_text(file.read_text() + '\n[nodes.second]\naddress = "127.0.0.1:2"\n')
    refused(someone.qd("service", "list", code=None), file, "$.nodes.second", "ca")
    for more, key in (
        ("limits = { memory = 99999999999999999999 }", "limits.memory"),
        ('ports = ["1.2.3.999:80:80"]', "ports[0]"),
    ):
        path = someone.define("odd", "localhost/x:1", more=f"{more}\n")
        refused(someone.qd("service", "deploy", "odd", "-f", path, code=None, env={"QD_CLI_CONFIG": "none"}), path, key)
        path.write_text(path.read_text().replace("stop_seconds = 0", "stop_seconds = 99999999999").replace(more, ""))
        refused(
            someone.qd("service", "deploy", "odd", "-f", path, code=None, env={"QD_CLI_CONFIG": "none"}),
            path,
            "stop_seconds",
        )


def test_who_interrupts_a_change_is_told_that_it_goes_on(someone: Person) -> None:
    """The command itself, stopped while it waits for an answer that does not come."""
    program = (
        "import sys, anyio\n"
        "from quarterdeck.cli import nodes_common\n"
        "@nodes_common.command\n"
        "async def wait():\n"
        "    with nodes_common.goes_on('shop'):\n"
        "        print('ready', flush=True)\n"
        "        await anyio.sleep_forever()\n"
        "try:\n"
        "    wait()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=someone.environment(),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "goes on there; `qd service status shop` shows it" in err
