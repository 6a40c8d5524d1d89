"""`--json` makes every answer JSON, for programs; tables and warnings for people, beside it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from quarterdeck.cli import login, node, service
from support.node_world import PASSWORD, NodeProcess, Person
from support.podman_env import IMAGE

pytestmark = [pytest.mark.podman, pytest.mark.slow]
# One hands on what a command in a container writes, the other runs for ever and only logs.
NO_ANSWER = {"exec", "serve"}


def commands(group: click.Group) -> Iterator[click.Command]:
    for each in group.commands.values():
        yield from commands(each) if isinstance(each, click.Group) else (each,)


def test_every_command_that_answers_knows_json() -> None:
    found = [*commands(node.group), *commands(service.group), login.login, login.logout, login.whoami]
    missing = {each.name for each in found if "as_json" not in {option.name for option in each.params}}
    assert missing == NO_ANSWER


def test_what_changes_answers_in_json(person: Person, n1: NodeProcess, name: str, tmp_path: Path) -> None:
    person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    assert person.qd("service", "pause", name, "--json").json == {"service": name, "node": "n1", "paused": True}
    assert person.qd("service", "resume", name, "--json").json == {"service": name, "node": "n1", "paused": False}
    file = str(person.definitions / f"{name}.toml")
    expected = {"service": name, "node": "n1", "path": file, "changed": False}
    assert person.qd("service", "export", name, "--json").json == expected
    shown = person.qd("service", "export", name, "--stdout", "--json").json
    assert (shown["name"], shown["components"][0]["image"]) == (name, IMAGE)
    edited = person.qd("service", "edit", name, "--json", env={"EDITOR": "sed -i s/1000/2000/"}).json
    assert edited == {"service": name, "path": file, "changed": True}
    assert not person.qd("service", "edit", name, "--json", env={"EDITOR": "true"}).json["changed"]
    assert person.qd("node", "pause", "--json").json == {"node": "n1", "paused": True}
    assert person.qd("node", "resume", "--json").json == {"node": "n1", "paused": False}
    secret = {"secret": f"{name}-s", "node": "n1"}
    assert person.qd("node", "secret", "set", f"{name}-s", "--json", stdin="sesame").json == secret
    assert person.qd("node", "secret", "remove", f"{name}-s", "--json").json == secret


def test_accounts_and_tokens_answer_in_json(person: Person, n1: NodeProcess, tmp_path: Path) -> None:
    def account(*words: str, stdin: str = "") -> object:
        return person.qd("node", "account", *words, "--json", "--config", n1.config, stdin=stdin).json

    assert account("add", "pia", "--role", "viewer", stdin=PASSWORD + "\n") == {"name": "pia", "role": "viewer"}
    assert account("role", "pia", "admin") == {"name": "pia", "role": "admin"}
    assert account("passwd", "pia", stdin=PASSWORD + "\n") == {"name": "pia", "revoked": True}
    assert account("revoke", "pia") == {"name": "pia", "revoked": True}

    other = Person(tmp_path)
    config = str(tmp_path / "config" / "cli.toml")
    address, ca = f"127.0.0.1:{n1.port}", n1.folder / "etc/tls/ca.pem"
    added = other.qd("node", "add", "n1", address, "--ca", ca, "--json").json
    assert added == {"node": "n1", "address": address, "path": config}
    got = other.qd("login", "--user", "pia", "--json", stdin=PASSWORD + "\n")
    assert got.json["errors"] == {}
    assert (got.json["nodes"]["n1"]["user"], got.json["nodes"]["n1"]["role"]) == ("pia", "admin")
    assert got.json["nodes"]["n1"]["expires_at"] > time.time()
    token = json.loads((tmp_path / "state" / "credentials.json").read_text())["n1"]["token"]
    assert token not in got.out
    refused = other.qd("login", "--user", "pia", "--json", stdin="wrong\n", code=1)
    assert refused.json["errors"]["n1"]["code"] == "UNAUTHENTICATED"
    assert other.qd("logout", "--json").json == {"nodes": {"n1": {"forgotten": True}}, "errors": {}}
    kept = other.qd("login", "--token-stdin", "--json", stdin="abc\n").json
    assert kept["nodes"] == {"n1": {"user": "", "role": "", "expires_at": None}}
    assert other.qd("node", "remove", "n1", "--json").json == {"node": "n1", "path": config, "forgotten": True}
    joined = other.qd("node", "join", "n1", address, "--ca", ca, "--json").json
    assert (joined["node"], joined["address"]) == ("n1", address)
    assert joined["fingerprint"].startswith("sha256:")
    assert account("remove", "pia") == {"name": "pia", "removed": True}


def test_init_answers_in_json(person: Person, tmp_path: Path) -> None:
    words = ("node", "init", "--dir", tmp_path, "--host", "a.example", "--state-dir", tmp_path / "state", "--json")
    made = person.qd(*words, "--admin", "eva", stdin=PASSWORD + "\n").json
    assert made["certificate"]["hosts"] == ["a.example"]
    assert made["certificate"]["expires_at"] > time.time() + 300 * 86400
    assert made["ca"]["fingerprint"].startswith("sha256:")
    assert (made["config"], made["admin"]) == (str(tmp_path / "node.toml"), "eva")


def test_a_token_that_expires_soon_is_told_before_a_call_fails(person: Person, n1: NodeProcess, tmp_path: Path) -> None:
    other = Person(tmp_path)
    other.qd("node", "add", "n1", f"127.0.0.1:{n1.port}", "--ca", n1.folder / "etc/tls/ca.pem")
    other.qd("login", "--user", "eva", stdin=PASSWORD + "\n")
    assert other.qd("service", "list", "--json").err == ""
    file = tmp_path / "state" / "credentials.json"
    kept = json.loads(file.read_text())
    for left, code in ((240, 0), (-1, 1)):
        kept["n1"]["expires_at"] = time.time() + left
        file.write_text(json.dumps(kept))
        done = other.qd("service", "list", "--json", code=code)
        if code == 0:
            assert re.search(r"the token for n1 expires in \d+ \w+.*`qd login` gets a new one", done.err), done.err
            # For people: programs still get whole JSON.
            assert "n1" in done.json["nodes"]
        else:
            assert "expire" in done.err


def test_ps_shows_uptime_processor_and_memory(person: Person, name: str) -> None:
    file = person.define(name, IMAGE)
    file.write_text(file.read_text().replace('["/bin/sleep", "1000"]', '["/bin/sh", "-c", "while true; do :; done"]'))
    person.qd("service", "deploy", name)
    time.sleep(2)
    lines = person.qd("service", "ps").out.splitlines()
    assert {"UP", "CPU", "MEMORY"} <= set(lines[0].split())

    def cell(line: str, title: str) -> str:
        begin = lines[0].index(title)
        return line[begin:].split("  ")[0].strip()

    (line,) = [each for each in lines if name in each]
    assert re.fullmatch(r"\d+ ?s|1 ?m.*", cell(line, "UP")), line
    # A loop takes a core, or what is left of one.
    assert float(re.sub(r"[^\d.]", "", cell(line, "CPU"))) > 5, line
    assert re.match(r"\d[\d.]* ?[kKM]i?B?", cell(line, "MEMORY")), line
    live = person.qd("service", "ps", "--json").json["nodes"]["n1"]
    (found,) = [each for each in live["components"] if each["service"] == name]
    assert found["usage"]["pids"] >= 1
    assert found["usage"]["memory"] > 0
