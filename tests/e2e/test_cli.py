"""Every verb of `qd agents`, as a program against a real hub with real (scripted) agents."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import make_repo
from quarterdeck.cli.hubclient import HubClient
from quarterdeck.hub import place
from support.cli import QD, Qd, with_hub

WORK = "@write {0}.txt hello\n@commit add {0}\n@say {0} is done"


@pytest.fixture(scope="module")
def qd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Qd]:
    """`qd` with a hub that it started; the tests share it and use agents of their own."""
    with with_hub(make_repo(tmp_path_factory.mktemp("cli") / "repo")) as called:
        yield called


def git(qd: Qd, *arguments: str) -> str:
    """What git says of the repository."""
    done = subprocess.run(["git", *arguments], cwd=qd.folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_from_create_to_merge(qd: Qd) -> None:
    said = qd("agents", "create", "ada", "--task", WORK.format("ada"), "--wait")
    assert said.out.rstrip().endswith("of ada succeeded: ada is done")
    assert "ada.txt" not in os.listdir(qd.folder)
    assert git(qd, "log", "--format=%s", "main..qd/ada") == "add ada"

    listed = qd("agents", "list").out
    assert [word for word in ("ada", "idle", "succeeded", "coder", "qd/ada") if word not in listed] == []
    shown = qd("agents", "show", "ada").out
    assert "Scripted agent" in shown
    assert "git_subject" in shown

    log = qd("agents", "log", "ada").out
    assert log.index("prompt") < log.index("Write ada.txt") < log.rindex("ada is done"), "oldest first"
    assert "ada is done" in qd("agents", "log", "ada", "-n", "1").out
    assert "prompt" not in qd("agents", "log", "ada", "-n", "1").out
    assert "succeeded" in qd("agents", "history", "ada").out

    assert "ada.txt | 1 +" in qd("agents", "diff", "ada").out
    assert "+hello\n" in qd("agents", "diff", "ada", "--patch").out
    assert "cut here" in qd("agents", "diff", "ada", "--patch", "--max-bytes", "20").out

    merged = qd("agents", "merge", "ada", "-m", "Bring ada home").out
    assert "1 commit of ada" in merged
    assert git(qd, "log", "-1", "--format=%s", "main") == "Bring ada home"
    assert (qd.folder / "ada.txt").read_text() == "hello\n"
    assert "has all the work of ada already" in qd("agents", "merge", "ada", "--rebase").out
    assert qd("agents", "delete", "ada").out.startswith("agent ada is deleted")
    assert "succeeded" in qd("agents", "history", "ada").out, "the history of a deleted agent stays"


def test_a_conflict_leaves_everything_and_names_the_files(qd: Qd) -> None:
    for name in ("con-1", "con-2"):
        qd("agents", "create", name, "--task", f"@write same.txt {name}\n@commit {name}", "--wait")
    qd("agents", "merge", "con-1")
    before = git(qd, "rev-parse", "main")
    refused = qd("agents", "merge", "con-2", code=4)
    assert "same.txt" in refused.err
    assert git(qd, "rev-parse", "main") == before


def test_tasks_queue_cancel_and_their_exit_codes(qd: Qd) -> None:
    qd("agents", "create", "busy", "--wait")
    first = qd("agents", "task", "busy", "@sleep 60", "--json").json
    refused = qd("agents", "task", "busy", "@say no", code=4)
    assert "busy" in refused.err
    assert "hint:" in refused.err
    queued = qd("agents", "task", "busy", "@write q.txt q", "--queue", "--key", "k1").out
    assert "number 1 in the queue" in queued
    again = qd("agents", "task", "busy", "@write q.txt q", "--queue", "--key", "k1", "--json").json
    assert again["id"] in queued, "the same key gives the same task"
    assert first["id"] in qd("agents", "cancel", "busy").out
    assert qd("agents", "task", "busy", "@say after", "--queue", "--wait").out.rstrip().endswith("succeeded: after")
    history = qd("agents", "history", "busy", "--json").json["tasks"]
    assert [task["state"] for task in history] == ["succeeded", "succeeded", "canceled"]
    failed = qd("agents", "task", "busy", "@fail on purpose", "--wait", code=1)
    assert "on purpose" in failed.out


def test_a_task_from_a_file_and_from_standard_input(qd: Qd, tmp_path: Path) -> None:
    file = tmp_path / "task.txt"
    file.write_text("@say from a file")
    qd("agents", "create", "reader", "--task-file", str(file), "--wait")
    qd("agents", "task", "reader", "--file", "-", "--wait", text="@say from standard input")
    log = qd("agents", "log", "reader").out
    assert "from a file" in log
    assert "from standard input" in log
    assert qd("agents", "task", "reader", "text", "--file", str(file), code=2).err
    assert "cannot be read" in qd("agents", "task", "reader", "--file", str(tmp_path / "none"), code=2).err


def test_what_is_asked_is_shown_with_the_command_that_answers(qd: Qd) -> None:
    task = "@ask touch it\n@write asked.txt yes\n@say went on"
    qd("agents", "create", "asker", "--permissions", "ask", "--task", task)
    listed = qd.until(lambda: (out := qd("agents", "list").out).count("qd agents answer asker") and out)
    assert "waiting for permission" in listed
    assert "touch it" in listed
    command = next(line.split() for line in listed.splitlines() if "qd agents answer asker yes" in line)
    assert "touch it" in qd(*command[1:]).out
    assert "closed before" in qd(*command[1:], code=4).err
    assert qd.until(lambda: qd.agent("asker")["last_task"])["state"] == "succeeded"
    assert "asks nothing now" in qd("agents", "answer", "asker", "yes", code=4).err
    assert qd("agents", "answer", "asker", "yes", "--id", "gone", code=3).err


def test_a_permission_is_given_only_for_what_was_seen(qd: Qd) -> None:
    task = "@ask list \x1b[2Kfiles\n@write seen.txt yes"
    qd("agents", "create", "careful", "--permissions", "ask", "--task", task)
    (asked,) = qd.until(lambda: qd.agent("careful")["needs_attention"])
    refused = qd("agents", "answer", "careful", "yes", code=2).err
    assert "list \\x1b[2Kfiles" in refused
    assert f"--id {asked['id']}" in refused
    assert f"--id {asked['id']}" in qd("agents", "answer", "careful", "yes", "--json", code=2).error["hint"]
    assert qd.agent("careful")["needs_attention"] == [asked]
    screen = qd.typed("n\n", "agents", "answer", "careful", "yes", code=130)
    assert "careful asks for permission: list \\x1b[2Kfiles" in screen
    assert "\x1b" not in qd("agents", "list").out + qd("agents", "show", "careful").out
    assert qd.agent("careful")["needs_attention"] == [asked]
    assert "has the answer" in qd.typed("y\n", "agents", "answer", "careful", "yes")
    assert qd.until(lambda: qd.agent("careful")["last_task"])["state"] == "succeeded"
    # A question harms nobody: the only one is meant.
    qd("agents", "task", "careful", "@question Which?|red|blue")
    qd.until(lambda: qd.agent("careful")["needs_attention"])
    assert "Which?" in qd("agents", "answer", "careful", "blue").out


def test_watch_as_lines_ends_with_its_agent(qd: Qd) -> None:
    qd("agents", "create", "seen", "--wait")
    with qd.going("agents", "watch", "seen") as plain, qd.going("agents", "watch", "seen", "--json") as lines:
        assert "idle" in plain.line("seen")
        assert json.loads(lines.line("seen"))["status"] == "idle"
        qd("agents", "task", "seen", "@say working\n@sleep 0.3", "--wait")
        assert "busy" in plain.line("busy")
        assert json.loads(lines.line('"busy"'))["task"]["description"].startswith("@say working")
        qd("agents", "delete", "seen")
        assert plain.line("deleted")
        assert json.loads(lines.line('deleted": ')) == {"deleted": "seen"}
        assert (plain.process.wait(15), lines.process.wait(15)) == (0, 0)


def test_the_log_is_followed(qd: Qd) -> None:
    qd("agents", "create", "talker", "--task", "@say first", "--wait")
    with qd.going("agents", "log", "talker", "--follow") as log:
        log.line("first")
        qd("agents", "task", "talker", "@say second\n@write t.txt t", "--wait")
        log.line("second")
        log.line("Write t.txt")
        assert log.end() == 0, "that is how it ends"


def test_stop_and_restart(qd: Qd) -> None:
    qd("agents", "create", "sleeper", "--task", "@say one", "--wait")
    qd("agents", "stop", "sleeper")
    qd.until(lambda: qd.agent("sleeper")["status"] == "stopped")
    assert "sleeper" in qd("agents", "list", "--status", "stopped").out
    assert qd("agents", "task", "sleeper", "@say no", code=None).code in (4, 5)
    qd("agents", "restart", "sleeper")
    qd.until(lambda: qd.agent("sleeper")["status"] == "idle")
    assert qd.agent("sleeper")["incarnation"] == 2
    qd("agents", "restart", "sleeper", "--budget-usd", "3", "--budget-tokens", "1000")
    assert qd.agent("sleeper")["budget"] == {"usd": 3, "tokens": 1000}
    qd.until(lambda: qd.agent("sleeper")["status"] == "idle")
    assert qd.agent("sleeper")["incarnation"] == 3
    qd("agents", "restart", "sleeper", "--budget-usd", "0", code=2)
    assert qd("agents", "history", "sleeper", "--json").json["total_count"] == 1


def test_unsaved_work_of_a_deleted_agent_is_told(qd: Qd) -> None:
    qd("agents", "create", "messy", "--task", "@write unsaved.txt precious", "--wait")
    said = qd("agents", "delete", "messy").out
    ref = next(word.rstrip(":") for word in said.split() if word.startswith("refs/quarterdeck/rescue/messy"))
    assert git(qd, "show", f"{ref}:unsaved.txt") == "precious"
    assert qd("agents", "delete", "messy").out == said, "told again, for who has lost it"


def test_the_end_of_a_task_is_told_also_when_its_agent_ends_with_it(qd: Qd) -> None:
    task = "@usage 60 20 0.6\n@hang"
    said = qd("agents", "create", "spent", "--budget-usd", "0.5", "--task", task, "--wait", code=1)
    assert " of spent was canceled: " in said.out
    assert "budget" in said.out
    assert not said.err


def test_gc_tells_asks_and_removes(qd: Qd) -> None:
    qd("agents", "create", "gone", "--task", WORK.format("gone"), "--wait")
    qd("agents", "delete", "gone")
    assert "commits are not in main" in qd("gc", "--dry-run").out, "work that nobody has merged is kept"
    subprocess.run(["git", "merge", "-q", "qd/gone"], cwd=qd.folder, check=True, capture_output=True)
    planned = qd("gc", "--dry-run").out
    assert "remove" in next(line for line in planned.splitlines() if "qd/gone" in line)
    assert "nothing was" in qd("gc", code=4).err, "not on a terminal, so it cannot ask"
    assert "qd/gone" in git(qd, "branch", "--list", "qd/gone")
    assert "removed" in qd("gc", "--yes").out
    assert git(qd, "branch", "--list", "qd/gone") == ""
    assert isinstance(qd("gc", "--dry-run", "--json").json, list)


def test_json_is_exactly_what_the_api_answers(qd: Qd) -> None:
    qd("agents", "create", "exact", "--task", "@say it", "--wait")
    info = place.running(qd.state)
    assert info is not None
    hub = HubClient(info.url, place.token(qd.state))
    cases = {
        ("history", "exact"): hub.get("/api/agents/exact/tasks"),
        ("log", "exact", "-n", "5"): hub.get("/api/agents/exact/log", page_size=5),
        ("diff", "exact"): hub.get("/api/agents/exact/diff", form="stat"),
        ("projects",): hub.get("/api/projects"),
        ("roles",): hub.get("/api/projects/repo/roles"),
    }
    for words, answer in cases.items():
        assert qd("agents", *words, "--json").json == answer, words
    assert qd("agents", "list", "--json").json.keys() == hub.get("/api/agents").keys()
    assert qd.agent("exact").keys() == hub.get("/api/agents/exact").keys()


def test_the_token_as_text_and_as_json(qd: Qd) -> None:
    assert qd("token", "--json").json == {"token": place.token(qd.state)}
    assert qd("token").out == place.token(qd.state) + "\n"


def test_what_is_not_there_is_exit_code_3(qd: Qd) -> None:
    for verb in ("show", "cancel", "log", "history", "diff", "merge", "restart", "stop", "delete"):
        assert "nobody" in qd("agents", verb, "nobody", code=3).err, verb
    assert qd("agents", "task", "nobody", "text", "--json", code=3).error["code"] == "NOT_FOUND"
    assert qd("agents", "roles", "none", code=3).err
    with qd.going("agents", "watch", "nobody") as watch:
        assert watch.process.wait(15) == 3


def test_a_dead_sidecar_is_told_and_exit_code_5(qd: Qd) -> None:
    qd("agents", "create", "victim", "--wait")
    os.kill(qd.agent("victim")["sidecar_pid"], signal.SIGKILL)
    qd.until(lambda: qd.agent("victim")["status"] == "failed")
    refused = qd("agents", "task", "victim", "@say no", code=5)
    assert "qd agents restart victim" in refused.err
    qd("agents", "restart", "victim")
    qd.until(lambda: qd.agent("victim")["status"] == "idle")


def on_terminal(qd: Qd, *arguments: str, **more: str) -> str:
    """What `qd` writes to a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*QD, *arguments], cwd=qd.folder, stdin=slave, stdout=slave, stderr=slave,
        env=qd.environment(TERM="xterm-256color", **more),
    )  # fmt: skip
    os.close(slave)
    written = b""
    try:
        while True:
            piece = os.read(master, 65536)
            if not piece:
                break
            written += piece
            if arguments[:2] == ("agents", "watch") and b"shade" in written:
                process.send_signal(signal.SIGINT)
    except OSError:
        pass
    os.close(master)
    process.wait(15)
    return written.decode()


def test_a_terminal_is_shown_control_characters_not_given_them(qd: Qd) -> None:
    qd("agents", "create", "trick", "--task", "@say a \x1b]0;title\x07\n@write evil.txt b \x1b[2J")
    qd.until(lambda: (qd.agent("trick")["last_task"] or {}).get("state") == "succeeded")
    for arguments, seen in ((("log",), "a \\x1b]0;title\\x07"), (("diff", "--patch"), "+b \\x1b[2J")):
        screen = on_terminal(qd, "agents", arguments[0], "trick", *arguments[1:])
        assert seen in screen
        assert "\x1b]0;" not in screen
        assert "\x1b[2J" not in screen
    assert "+b \x1b[2J" in qd("agents", "diff", "trick", "--patch").out, "a patch in a file is the patch"


def test_colour_is_for_terminals_that_want_it(qd: Qd) -> None:
    qd("agents", "create", "shade", "--wait")
    assert "\x1b" not in qd("agents", "list").out + qd("agents", "show", "nobody", code=3).err
    assert "\x1b[32midle" in on_terminal(qd, "agents", "list")
    assert "\x1b[31m" in on_terminal(qd, "agents", "show", "nobody")
    plain = on_terminal(qd, "agents", "list", NO_COLOR="1") + on_terminal(qd, "agents", "show", "nobody", NO_COLOR="1")
    assert "idle" in plain
    assert "\x1b[3" not in plain
    assert "\x1b[32midle" in on_terminal(qd, "agents", "watch", "shade"), "a table, live"


def test_shells_complete_agents_and_commands(qd: Qd) -> None:
    qd("agents", "create", "complete-me", "--wait")

    def completed(words: str) -> str:
        number = str(len(words.split()) - (0 if words.endswith(" ") else 1))
        return qd(_QD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=number, code=None).out

    assert "plain,complete-me" in completed("qd agents show comp")
    assert "plain,merge" in completed("qd agents mer")
    for shell in ("bash", "zsh", "fish"):
        assert "_QD_COMPLETE" in qd("completion", shell).out


def test_prs_of_a_fleet_without_any(qd: Qd) -> None:
    assert "no agent works on a pull request" in qd("prs").out
