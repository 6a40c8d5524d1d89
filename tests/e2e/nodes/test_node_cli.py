"""Every verb of `qd service` and `qd node` against a real node agent, over real TLS, with real podman."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from support import podman_env
from support.node_world import PASSWORD, NodeProcess, Person
from support.podman_env import IMAGE, podman

pytestmark = [pytest.mark.podman, pytest.mark.slow]


def container(name: str, field: str) -> str:
    return podman("inspect", "--format", f"{{{{{field}}}}}", name)


def test_deploy_plan_repeat_change_and_roll_back(person: Person, name: str) -> None:
    file = person.define(name, IMAGE)
    planned = person.qd("service", "deploy", name, "--plan", "--json").json
    assert [each["action"] for each in planned["actions"]] == ["create"]
    assert name not in podman("ps", "-a", "--format", "{{.Names}}")

    first = person.qd("service", "deploy", name, "--json").json
    assert (first["generation"], first["components"][0]["outcome"]) == (1, "created")
    made = container(f"{name}-web", ".Id")

    again = person.qd("service", "deploy", name, "--json").json
    assert (again["generation"], again["components"][0]["outcome"]) == (1, "unchanged")
    assert container(f"{name}-web", ".Id") == made

    file.write_text(file.read_text().replace("1000", "2000"))
    changes = person.qd("service", "deploy", name, "--plan").out
    assert "replace" in changes
    assert "1000" in changes
    assert "2000" in changes
    person.qd("service", "deploy", name)
    assert container(f"{name}-web", ".Config.Cmd") == "[/bin/sleep 2000]"

    history = person.qd("service", "history", name, "--json").json
    assert [(each["generation"], each["current"]) for each in history] == [(2, True), (1, False)]
    person.qd("service", "rollback", name)
    assert container(f"{name}-web", ".Config.Cmd") == "[/bin/sleep 1000]"
    # The file is the person's: it still says what was deployed before.
    assert "2000" in file.read_text()


def test_a_deploy_that_fails_puts_the_old_one_back(person: Person, name: str) -> None:
    file = person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    made = container(f"{name}-web", ".Id")
    good = file.read_text()
    file.write_text(good.replace('["/bin/sleep", "1000"]', '["/bin/false"]'))
    done = person.qd("service", "deploy", name, code=1)
    assert "restored" in done.err
    assert "not deployed as asked for" in done.out
    assert container(f"{name}-web", ".Id") == made
    assert container(f"{name}-web", ".State.Status") == "running"
    file.write_text(good.replace(IMAGE, "127.0.0.1:1/none:v1"))
    done = person.qd("service", "deploy", name, code=1)
    assert "failed" in done.err
    assert container(f"{name}-web", ".Id") == made


def test_a_real_registry_and_the_version_from_the_tag(person: Person, name: str, registry: podman_env.Registry) -> None:
    person.define(name, registry.add(f"{name}:v1.2.0"))
    try:
        person.qd("service", "deploy", name)
        (service,) = [s for s in person.qd("service", "list", "--json").json["nodes"]["n1"] if s["name"] == name]
        assert service["components"][0]["version"] == "v1.2.0"
        assert service["components"][0]["image_digest"]
    finally:
        person.qd("service", "purge", name, "--yes")
        podman("rmi", "-f", f"{registry.address}/{name}:v1.2.0", check=False)


def test_stop_and_start_write_active_and_restart_does_not(person: Person, name: str) -> None:
    file = person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    assert "stopped" in person.qd("service", "stop", name).out
    assert "active = false" in file.read_text()
    assert "# long" in file.read_text()
    assert container(f"{name}-web", ".State.Status") == "exited"
    podman("rm", f"{name}-web")
    person.qd("service", "start", name)
    assert "active = true" in file.read_text()
    assert container(f"{name}-web", ".State.Status") == "running"
    text, started = file.read_text(), container(f"{name}-web", ".State.StartedAt")
    person.qd("service", "restart", f"{name}/web")
    assert file.read_text() == text
    assert container(f"{name}-web", ".State.StartedAt") != started
    person.qd("service", "stop", f"{name}/web")
    assert file.read_text() == text
    person.qd("service", "stop", "nobody-here", code=3)


def test_list_reads_the_registry_and_ps_the_truth(person: Person, name: str) -> None:
    person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    person.qd("service", "pause", name)
    podman("stop", "-t", "0", f"{name}-web")
    table = person.qd("service", "ps").out
    (line,) = [each for each in table.splitlines() if name in each]
    assert "exited" in line
    assert "should be running" in line
    live = person.qd("service", "ps", "--json").json["nodes"]["n1"]
    (found,) = [each for each in live["components"] if each["service"] == name]
    assert found["observed"]["state"] == "exited"
    assert name in person.qd("service", "list").out
    person.qd("service", "resume", name)


def test_status_shows_drift_and_its_exit_code(person: Person, name: str) -> None:
    person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    assert f"{name} on n1" in person.qd("service", "status", name).out
    person.qd("service", "pause", name)
    podman("rm", "-f", "-t", "0", f"{name}-web")
    podman("run", "-d", "--name", f"{name}-web", "--network", "none", IMAGE, "/bin/sleep", "7")
    done = person.qd("service", "status", name, code=4)
    assert "drift" in done.out
    drift = person.qd("service", "status", name, "--json", code=4).json["nodes"]["n1"][0]["drift"]
    assert {"cmd"} <= {each["field"] for each in drift}
    person.qd("service", "status", "nobody-here", code=3)


def test_a_container_that_dies_is_started_again_and_told(person: Person, name: str) -> None:
    person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    os.kill(int(container(f"{name}-web", ".State.Pid")), signal.SIGKILL)
    end = time.monotonic() + 15
    while True:
        events = [json.loads(line) for line in person.qd("service", "events", name, "--json").out.splitlines()]
        states = [(each["from_state"], each["to_state"]) for each in events if each["kind"] == "state"]
        if ("running", "exited") in states and container(f"{name}-web", ".State.Status") == "running":
            break
        assert time.monotonic() < end, events
        time.sleep(0.2)


def test_logs_events_and_exec(person: Person, name: str) -> None:
    file = person.define(name, IMAGE)
    file.write_text(
        file.read_text().replace(
            '["/bin/sleep", "1000"]',
            '["/bin/sh", "-c", "echo one; echo two >&2; while true; do sleep 1; echo more; done"]',
        )
    )
    person.qd("service", "deploy", name)
    done = person.qd("service", "logs", name)
    assert "web one" in done.out
    assert "web two" in done.err
    assert len(person.qd("service", "logs", name, "--tail", "1", "--json").out.splitlines()) == 1
    follower = person.start("service", "logs", name, "-f")
    assert follower.stdout is not None
    lines = [follower.stdout.readline() for _ in range(3)]
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 130
    follower.communicate()
    assert any("more" in line for line in lines)
    assert "deploy" in person.qd("service", "events", name).out
    assert person.qd("service", "exec", name, "--", "echo", "-n", "hi").out == "hi"
    assert person.qd("service", "exec", "-i", f"{name}/web", "cat", stdin="from here").out == "from here"
    failed = person.qd("service", "exec", name, "sh", "-c", "echo bad >&2; exit 7", code=7)
    assert failed.err == "bad\n"
    person.qd("service", "exec", f"{name}/nothing", "true", code=3)


def test_push_and_pull(person: Person, n1: NodeProcess, name: str) -> None:
    person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    source = person.folder / "data.bin"
    source.write_bytes(os.urandom(3_000_000))
    source.chmod(0o640)
    pushed = person.qd("service", "push", name, source, "deep/er/data.bin", "--json").json
    there = n1.folder / "srv" / name / "deep" / "er" / "data.bin"
    assert there.read_bytes() == source.read_bytes()
    assert there.stat().st_mode & 0o777 == 0o640
    assert pushed["size"] == 3_000_000
    person.qd("service", "pull", name, "deep/er/data.bin", person.folder / "back.bin")
    assert (person.folder / "back.bin").read_bytes() == source.read_bytes()
    assert (person.folder / "back.bin").stat().st_mode & 0o777 == 0o640
    for bad in ("../../etc/passwd", "/etc/passwd", "a/../../x", ""):
        person.qd("service", "push", name, source, bad, code=2)
        person.qd("service", "pull", name, bad, code=2)
    (n1.folder / "srv" / name / "out").symlink_to("/etc")
    person.qd("service", "pull", name, "out/hostname", code=2)
    person.qd("service", "push", name, source, "out/qd-was-here", code=2)
    assert not Path("/etc/qd-was-here").exists()
    person.qd("service", "pull", name, "nothing", code=3)


def test_secrets_and_env_files_are_never_shown(person: Person, n1: NodeProcess, name: str) -> None:
    person.qd("node", "secret", "set", f"{name}-key", stdin="sesame-open")
    assert f"{name}-key" in person.qd("node", "secret", "list").out
    env = person.folder / "web.env"
    env.write_text("TOKEN=hidden-value\n")
    env.chmod(0o600)
    secret = f'secrets = [{{ name = "{name}-key", target = "KEY" }}]\nenv_files = ["web.env"]\n'
    person.define(name, IMAGE, more=secret)
    person.qd("service", "push", name, env, "web.env")
    person.qd("service", "deploy", name)
    assert person.qd("service", "exec", name, "sh", "-c", "echo $KEY $TOKEN").out == "sesame-open hidden-value\n"
    told = "".join(
        person.qd(*arguments, code=None).out
        for arguments in (
            ("service", "list", "--json"),
            ("service", "status", name, "--json"),
            ("service", "export", name, "--stdout"),
            ("service", "history", name, "--json"),
            ("service", "events", name, "--json"),
            ("service", "show", name),
        )
    )
    kept = told + n1.log + (n1.folder / "audit.jsonl").read_text()
    assert "sesame-open" not in kept
    assert "hidden-value" not in kept
    person.qd("node", "secret", "remove", f"{name}-key", code=4)
    person.qd("service", "purge", name, "--yes")
    person.qd("node", "secret", "remove", f"{name}-key")


def test_show_export_edit_and_where_definitions_come_from(person: Person, name: str) -> None:
    file = person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    assert person.qd("service", "show", name).out == file.read_text()
    before = file.read_text()
    assert "says so already" in person.qd("service", "export", name).out
    assert file.read_text() == before
    file.unlink()
    # From the node's registry now: the same, so nothing changes.
    assert person.qd("service", "deploy", name, "--json").json["components"][0]["outcome"] == "unchanged"
    # Its name needs quotes, and it has an option.
    editor = person.folder / "my editor"
    editor.write_text('#!/bin/sh\nsed -i s/1000/3000/ "$2"\n')
    editor.chmod(0o755)
    done = person.qd("service", "edit", name, env={"EDITOR": f"'{editor}' --wait"})
    assert "exported from node n1" in done.err
    assert "3000" in file.read_text()
    assert "replace" in person.qd("service", "deploy", name, "--plan").out
    elsewhere = person.folder / "elsewhere.toml"
    file.rename(elsewhere)
    person.qd("service", "deploy", name, "-f", elsewhere)
    assert container(f"{name}-web", ".Config.Cmd") == "[/bin/sleep 3000]"
    person.qd("service", "deploy", "other", "-f", elsewhere, code=2)
    done = person.qd("service", "deploy", "nowhere", code=3)
    assert "is defined neither in" in done.err
    elsewhere.write_text(elsewhere.read_text().replace("image", "imgae"))
    done = person.qd("service", "deploy", name, "-f", elsewhere, code=2)
    assert f"{elsewhere}: components[0].imgae: there is no such key" in done.err


def test_a_stale_generation_and_a_retried_operation(person: Person, name: str) -> None:
    person.define(name, IMAGE)
    first = person.qd("service", "deploy", name, "--operation-id", f"{name}-1", "--json").json
    made = container(f"{name}-web", ".Id")
    podman("rm", "-f", "-t", "0", f"{name}-web")
    retried = person.qd("service", "deploy", name, "--operation-id", f"{name}-1", "--json").json
    assert retried == first
    stale = person.qd("service", "stop", name, "--expect-generation", "41", "--json", code=4)
    assert json.loads(stale.err)["error"]["code"] == "CONFLICT"
    assert made


def test_drain_takes_no_deploys(person: Person, name: str) -> None:
    person.define(name, IMAGE)
    person.qd("node", "drain")
    try:
        assert "draining" in person.qd("node", "list").out
        done = person.qd("service", "deploy", name, code=4)
        assert "drain" in done.err
    finally:
        person.qd("node", "resume")
    person.qd("service", "deploy", name)
    person.qd("node", "pause")
    assert person.qd("node", "info", "--json").json["paused"]
    person.qd("node", "resume")


def test_snapshot_and_restore(person: Person, n1: NodeProcess, name: str) -> None:
    person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    taken = person.qd("node", "snapshot", "--json").json["nodes"]["n1"]
    person.qd("service", "purge", name, "--yes")
    person.qd("service", "show", f"{name}x", code=3)
    assert Path(taken["path"]).name in person.qd("node", "snapshots").out
    person.qd("node", "restore", Path(taken["path"]).name, "--yes")
    assert name in person.qd("service", "list").out
    person.qd("service", "start", name)
    assert container(f"{name}-web", ".State.Status") == "running"
    # On the node itself, as the timer does it.
    person.qd("node", "snapshot", "--config", n1.config)
    person.qd("node", "restore", Path(taken["path"]).name, "--yes", "--config", n1.config, code=4)
    person.qd("node", "restore", "registry-nonsense.sqlite3", "--yes", code=3)


def test_sync_prune_and_what_is_not_ours(person: Person, name: str) -> None:
    file = person.define(name, IMAGE)
    podman("run", "-d", "--name", f"{name}alien", "--network", "none", IMAGE, "/bin/sleep", "1000")
    planned = person.qd("service", "sync", "--plan", "--json").json["nodes"]["n1"]
    assert {each["service"]: each["outcome"] for each in planned["items"]}[name] == "created"
    person.qd("service", "show", name)
    person.qd("service", "sync")
    listed = {each["name"]: each for each in person.qd("service", "list", "--json").json["nodes"]["n1"]}
    assert listed[name]["components"][0]["desired"] == "running"
    alien = listed[f"{name}alien"]
    assert not alien["managed"]
    assert alien["components"][0]["desired"] == "ignore"
    file.write_text(file.read_text() + "# more\n")
    unchanged = person.qd("service", "sync", "--json").json["nodes"]["n1"]
    assert {each["service"]: each["outcome"] for each in unchanged["items"]}.get(name, "unchanged") == "unchanged"
    person.qd("service", "deploy", name)
    file.unlink()
    kept = person.qd("service", "sync", "--json").json["nodes"]["n1"]
    assert name in kept["undefined"]
    done = person.qd("service", "sync", "--prune", code=2)
    assert "pruning would remove all" in done.err
    person.define(f"{name}b", IMAGE)
    try:
        person.qd("service", "sync", "--prune")
        assert f"{name}-web" not in podman("ps", "-a", "--format", "{{.Names}}").split()
        assert container(f"{name}alien", ".State.Status") == "running"
    finally:
        (person.definitions / f"{name}b.toml").unlink()
        person.qd("service", "purge", f"{name}b", "--yes", code=None)


def test_bootstrap_of_a_node_with_foreign_containers(person: Person, n1: NodeProcess, name: str) -> None:
    port = podman_env.free_port()
    podman("run", "-d", "--name", name, "--network", "none", "-e", "A=b", IMAGE, "/bin/sleep", "500")
    podman("run", "-d", "--name", f"{name}-web", "-p", f"127.0.0.1:{port}:80", "-v", f"{n1.folder}/srv:/data:ro",
           "--memory", "64m", IMAGE, "/bin/httpd", "-f", "-p", "80", "-h", "/data")  # fmt: skip
    podman("create", "--name", f"{name}-job", "--network", "none", IMAGE, "/bin/true")
    made = {each: container(each, ".Id") for each in (name, f"{name}-web", f"{name}-job")}

    adopted = person.qd("service", "adopt", name, "--json").json
    assert {each["component"]: each["outcome"] for each in adopted["containers"]} == dict.fromkeys(
        (name, "web", "job"), "adopted"
    )
    assert {each["component"]: each["desired"] for each in adopted["containers"]}["job"] == "stopped"
    assert {each: container(each, ".Id") for each in made} == made

    person.qd("service", "export", name)
    text = (person.definitions / f"{name}.toml").read_text()
    assert f'"127.0.0.1:{port}:80"' in text
    assert 'memory = "64m"' in text
    assert 'A = "b"' in text
    planned = person.qd("service", "deploy", f"{name}/web", "--plan", "--json").json
    assert [each["action"] for each in planned["actions"]] == ["keep"], planned
    person.qd("service", "adopt", f"{name}nothing", code=3)


def test_who_may_and_who_may_not(person: Person, n1: NodeProcess, tmp_path: Path) -> None:
    person.qd("node", "account", "add", "max", "--role", "viewer", "--config", n1.config, stdin=PASSWORD + "\n")
    other = Person(tmp_path)
    other.qd("node", "add", "n1", f"127.0.0.1:{n1.port}", "--ca", n1.folder / "etc/tls/ca.pem")
    assert "there is no token" in other.qd("service", "list", code=1).err
    assert "user or password is wrong" in other.qd("login", "--user", "max", code=1, stdin="wrong password\n").err
    unattended = {"QD_LOGIN_USER": "max", "QD_LOGIN_PASSWORD": PASSWORD}
    assert "logged in as max" in other.qd("login", env=unattended).out
    assert "max is viewer, this needs admin" in other.qd("service", "list", code=1).err
    assert "viewer" in other.qd("whoami").out
    n1.person.qd("node", "account", "role", "max", "admin", "--config", n1.config)
    n1.person.qd("node", "account", "revoke", "max", "--config", n1.config)
    other.qd("login", env=unattended)
    other.qd("service", "list")
    other.qd("logout")
    assert "there is no token" in other.qd("service", "list", code=1).err
    credentials = tmp_path / "state" / "credentials.json"
    assert credentials.stat().st_mode & 0o777 == 0o600
    assert {each["name"] for each in n1.person.qd("node", "account", "list", "--json", "--config", n1.config).json} == {
        "eva", "max",
    }  # fmt: skip
    n1.person.qd("node", "account", "remove", "max", "--config", n1.config)
    audit = (n1.folder / "audit.jsonl").read_text()
    assert PASSWORD not in audit
    records = [json.loads(line) for line in audit.splitlines()]
    assert {"OK", "UNAUTHENTICATED", "PERMISSION_DENIED"} <= {each["outcome"] for each in records}


def test_joining_a_node_that_is_not_the_one_meant(person: Person, n1: NodeProcess, tmp_path: Path) -> None:
    stranger = Person(tmp_path)
    done = stranger.qd("node", "join", "n1", f"127.0.0.1:{n1.port}", "--fingerprint", "sha256:" + "0" * 64, code=1)
    assert "it is not trusted" in done.err
    assert not (tmp_path / "config" / "cli.toml").exists()
    assert stranger.qd("node", "join", "n1", f"127.0.0.1:{n1.port}", stdin="n\n", code=None).code
    stranger.qd("node", "join", "n1", f"127.0.0.1:{n1.port}", stdin="y\n")
    stranger.qd("node", "join", "n1", f"127.0.0.1:{n1.port}", stdin="y\n", code=4)
    stranger.qd("node", "remove", "n1")
    stranger.qd("node", "remove", "n1", code=3)


def test_a_dead_node_is_shown_and_the_others_answer(person: Person, n1: NodeProcess) -> None:
    ca = n1.folder / "etc/tls/ca.pem"
    person.qd("node", "add", "dead", "127.0.0.1:1", "--ca", ca)
    try:
        person.qd("login", "dead", "--token-stdin", stdin="abc\n")
        done = person.qd("node", "list", code=5)
        assert "unreachable" in done.out
        assert "connection is refused" in done.err
        assert any("n1" in line and " up" in line for line in done.out.splitlines())
        found = person.qd("service", "ps", "--json", code=5).json
        assert set(found["nodes"]) == {"n1"}
        assert found["errors"]["dead"]["code"] == "UNAVAILABLE"
        person.qd("service", "list", "--node", "n1")
    finally:
        person.qd("node", "remove", "dead")
    person.qd("service", "list")


def test_a_certificate_is_renewed_under_a_running_agent(person: Person, n1: NodeProcess) -> None:
    person.qd("node", "init", "--dir", n1.folder / "etc", "--renew", "--days", "0.00001")
    time.sleep(1)
    done = person.qd("service", "list", code=5)
    assert "or has expired" in done.err
    person.qd("node", "init", "--dir", n1.folder / "etc", "--renew")
    person.qd("service", "list")
    done = person.qd("node", "init", "--dir", n1.folder / "etc")
    assert "is kept" in done.out


def test_sigterm_and_sigkill_leave_the_containers_running(person: Person, n1: NodeProcess, name: str) -> None:
    person.define(name, IMAGE)
    person.qd("service", "deploy", name)
    made = container(f"{name}-web", ".Id")
    assert n1.stop() == 0
    assert container(f"{name}-web", ".State.Status") == "running"
    assert "unreachable" in person.qd("service", "ps", code=5).err
    n1.start()
    assert name in person.qd("service", "ps").out
    n1.stop(signal.SIGKILL)
    n1.start()
    assert person.qd("service", "deploy", name, "--json").json["components"][0]["outcome"] == "unchanged"
    assert container(f"{name}-web", ".Id") == made
