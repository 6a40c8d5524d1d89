"""`qd metadata serve` in a workspace whose files are none: an agent can make what it wants there."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from metadata_server import running

from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.files import read_regular
from quarterdeck.metadata.collectors import forge, gitfiles, task, taskfile

SECONDS = 30.0


def until(client: httpx2.Client, path: str, condition: Callable[[Any], bool]) -> Any:
    """The answer of which the condition is true."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = client.get(path).json()
        if condition(found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def told(health: Any, words: str) -> bool:
    return any(words in problem for problem in health["problems"])


def test_a_named_pipe_for_a_taskfile_hangs_neither_start_nor_reload_nor_stop(tmp_path: Path, repo: Path) -> None:
    os.mkfifo(repo / "Taskfile.yml")
    with running(repo, tmp_path / "facts") as server, server.client() as client:
        until(client, "/health", lambda health: told(health, "Taskfile.yml cannot be read"))
        (repo / "quarterdeck.toml").write_text('[metadata.fields.two]\nrun = ["echo", "2"]\n')
        until(client, "/metadata?fresh=true", lambda answer: "two" in answer["data"])
        (repo / "Taskfile.yml").unlink()
        (repo / "Taskfile.yml").symlink_to("/dev/zero")
        until(client, "/health", lambda health: told(health, "not a plain file"))
        (repo / "Taskfile.yml").unlink()
        until(client, "/health", lambda health: health["status"] == "ok")
        (repo / "quarterdeck.toml").unlink()
        os.mkfifo(repo / "quarterdeck.toml")
        until(client, "/health", lambda health: told(health, "quarterdeck.toml cannot be read"))
        assert server.stop() == 0


def test_a_named_pipe_for_a_task_file_is_an_error_of_its_keys(tmp_path: Path, repo: Path) -> None:
    (repo / "quarterdeck.toml").write_text('[metadata]\ntask_file = "task.json"\n')
    os.mkfifo(repo / "task.json")
    with running(repo, tmp_path / "facts") as server, server.client() as client:
        entry = until(client, "/metadata?fresh=true", lambda answer: "task_id" in answer["data"])["data"]["task_id"]
        assert "not a plain file" in entry["error"]
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 0


@pytest.mark.parametrize("what", ["pipe", "device", "folder", "large"])
def test_whatever_is_no_small_plain_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "Taskfile.yml"
    match what:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case _:
            with path.open("wb") as file:
                file.truncate(1 << 40)
    with pytest.raises(OSError, match=r"plain file|more than 10 bytes"):
        read_regular(path, 10)
    with pytest.raises(InvalidInput, match=r"Taskfile\.yml cannot be read"):
        taskfile.read(tmp_path)
    with pytest.raises(Unavailable, match=r"Taskfile\.yml cannot be read"):
        task.read_file(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        forge.read_token(str(path), ())
    assert gitfiles.head(gitfiles.Repository(tmp_path, tmp_path, tmp_path)) is None
    path.rename(tmp_path / "packed-refs")
    if what != "large":
        with pytest.raises(Unavailable, match="packed-refs cannot be read"):
            gitfiles.resolve(gitfiles.Repository(tmp_path, tmp_path, tmp_path), "refs/heads/main")


def test_links_to_plain_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("real")
    assert read_regular(tmp_path / "link", 10) == b"0123456789"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 10)


# What an ordinary user cannot do anyway, taken from root, too.
_RIGHTS = "-dac_override,-dac_read_search"
UNPRIVILEGED = ("setpriv", f"--bounding-set={_RIGHTS}", f"--inh-caps={_RIGHTS}") if os.geteuid() == 0 else ()


@pytest.mark.parametrize("what", [".git", "."])
def test_a_folder_that_may_not_be_searched_is_an_error_of_what_is_in_it(tmp_path: Path, repo: Path, what: str) -> None:
    place = repo / what
    mode = place.stat().st_mode
    if what == ".git":  # the configuration in a workspace that may not be read is refused at the start
        place.chmod(0)
    try:
        with running(repo, tmp_path / "facts", through=UNPRIVILEGED) as server, server.client() as client:
            place.chmod(0)
            client.put("/metadata/kept", json={"value": 1}).raise_for_status()
            found = client.get("/metadata?fresh=true").json()["data"]
            assert found["kept"]["value"] == 1
            for key in ("git_dirty", "pull_request_number"):
                assert "Permission denied" in found[key]["error"], found[key]
            if what == ".git":
                assert "Permission denied" in client.get("/health").json()["file_watch"]
            place.chmod(mode)
            found = client.get("/metadata?fresh=true").json()["data"]
            assert (found["git_branch"]["value"], found["git_branch"]["error"]) == ("main", None)
            assert (found["git_dirty"]["value"], found["git_dirty"]["error"]) == (False, None)
    finally:
        place.chmod(mode)


def test_a_git_folder_that_comes_and_may_not_be_searched_ends_nothing(tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    workspace.mkdir()
    with running(workspace, tmp_path / "facts", through=UNPRIVILEGED) as server, server.client() as client:
        until(client, "/metadata?keys=git_state", lambda a: a["data"]["git_state"]["value"] == "no-repository")
        until(client, "/health", lambda health: health["file_watch"] == "watching")
        (workspace / ".git").mkdir(mode=0)
        until(client, "/health", lambda health: "Permission denied" in health["file_watch"])
        found = client.get("/metadata?fresh=true").json()["data"]["git_state"]
        assert "Permission denied" in found["error"]
