"""The hub's life through `qd`: up, down, two on one state folder, no room for its state, MCP on stdio."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from e2e.conftest import make_repo
from quarterdeck import proctree
from quarterdeck.hub import place
from support.cli import QD, Qd, on_state
from support.hub import configure
from support.mounts import filled, mounted


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository that is configured for scripted agents."""
    return configure(make_repo(tmp_path / "repo"))


@pytest.fixture
def qd(repo: Path) -> Iterator[Qd]:
    """`qd` in that repository, and no hub yet."""
    with on_state(repo) as called:
        yield called


def test_up_in_the_foreground_says_how_clients_are_told(qd: Qd) -> None:
    with qd.going("up", "--port", "0") as up:
        url = up.line("The hub is up").split()[-1]
        assert str(qd.folder) in up.line("project")
        assert up.line("claude mcp add quarterdeck").endswith(" mcp")
        http = up.line("--transport http")
        assert f"{url}/mcp" in http
        assert "token)" in http
        stdio = json.loads(up.line("mcpServers"))["mcpServers"]["quarterdeck"]
        assert stdio["args"][-1] == "mcp"
        token = qd("token").out.strip()
        assert token not in http, "the token is named, not shown"
        status = qd("status", "--json").json
        assert (status["url"], status["agents"]) == (url, 0)
        assert str(qd.folder) in qd("status").out
        assert up.end(signal.SIGTERM) == 0
    assert qd("status", code=5).err


def test_what_up_prints_works_as_it_stands(qd: Qd) -> None:
    said = qd("up", "--detach", "--port", "0", "--json").json
    configured = said["clients"]["stdio"]["mcpServers"]["quarterdeck"]
    # Whoever starts it gives it nothing but what is configured.
    assert configured["env"] == {"QD_STATE_DIR": str(qd.state)}
    bare = {key: value for key, value in qd.environment().items() if key != "QD_STATE_DIR"}
    assert f" quarterdeck -e QD_STATE_DIR={qd.state} -- " in said["clients"]["claude_stdio"]
    done = subprocess.run(
        [configured["command"], *configured["args"][:-1], "status"],
        env={**bare, **configured["env"]},
        capture_output=True,
        check=True,
    )
    assert said["url"] in done.stdout.decode()
    told = said["clients"]["http"]["mcpServers"]["quarterdeck"]["headers"]["Authorization"]
    assert told == f"Bearer {qd('token').out.strip()}"
    assert (qd.state / "hub" / "token").stat().st_mode & 0o777 == 0o600
    assert qd("token").out.strip() not in (qd.state / "hub" / "hub.log").read_text()


def test_interrupted_it_ends_and_its_agents_work_on(qd: Qd) -> None:
    with qd.going("up", "--port", "0") as up:
        up.line("What happens")
        qd("agents", "create", "ada", "--wait")
        qd("agents", "task", "ada", "@sleep 1\n@write late.txt late")
        pid = qd.agent("ada")["sidecar_pid"]
        assert up.end(signal.SIGINT) == 0
        assert up.process.stderr is not None
        log = up.process.stderr.read().decode()
        assert "AgentCreated agent=ada" in log
        assert "the agents work on" in log
    assert proctree.started_at(pid) is not None
    assert "no hub runs" in qd("agents", "list", code=5).err
    qd("up", "--detach", "--port", "0")
    assert qd.agent("ada")["sidecar_pid"] == pid
    task = qd.until(lambda: (t := qd.agent("ada")["last_task"]) and t["state"] == "succeeded" and t)
    assert task["incarnation"] == 1
    ended = qd("down", "--agents", "--json").json
    assert ended["stopped_agents"] == ["ada"]
    assert proctree.started_at(pid) is None, "the process beside it is gone"


def test_the_second_hub_says_who_holds_the_state_folder(qd: Qd, tmp_path: Path) -> None:
    qd("up", "--detach", "--port", "0")
    info = place.running(qd.state)
    assert info is not None
    other = make_repo(tmp_path / "other")
    for folder in (qd.folder, other):
        for way in ("--foreground", "--detach"):
            refused = qd("up", way, "--port", "0", "--json", cwd=folder, code=4).error
            assert refused["code"] == "CONFLICT"
            for known in (str(info.pid), info.url, str(qd.folder)):
                assert known in refused["message"]
    assert place.running(qd.state) == info, "the first one was left alone"


def test_a_taken_port_and_a_foreign_address(qd: Qd) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for way in ("--foreground", "--detach"):
            assert port in qd("up", way, "--port", port, code=5).err
    assert "loopback" in qd("up", "--host", "0.0.0.0", code=2).err
    assert "QD_PORT" in qd("up", code=2, QD_PORT="many").err
    assert "QD_LOG_LEVEL" in qd("up", "--port", "0", code=2, QD_LOG_LEVEL="loud").err


def test_without_a_hub_everything_says_so(qd: Qd) -> None:
    for arguments in (("agents", "list"), ("agents", "create"), ("gc",), ("status",), ("down",)):
        refused = qd(*arguments, "--json", code=5).error
        assert refused["code"] == "UNAVAILABLE"
    assert "qd up" in qd("agents", "list", code=5).err
    assert not (qd.state / "agents").exists()


def test_a_hub_elsewhere_is_named_by_variables(qd: Qd) -> None:
    qd("up", "--detach", "--port", "0")
    url = qd("status", "--json").json["url"]
    elsewhere = {"QD_STATE_DIR": str(qd.state / "none"), "QD_HUB_URL": url}
    assert "QD_TOKEN" in qd("agents", "list", code=2, **elsewhere).err
    assert qd("agents", "list", "--json", QD_TOKEN=qd("token").out.strip(), **elsewhere).json["agents"] == []
    assert qd("agents", "list", "--json", code=1, QD_TOKEN="wrong", **elsewhere).error["code"] == "UNAUTHENTICATED"
    qd("agents", "list", code=2, QD_HUB_URL="nonsense")
    assert "does not answer" in qd("agents", "list", code=5, QD_HUB_URL="http://127.0.0.1:9", QD_TOKEN="t").err


def test_a_state_folder_that_cannot_be_one(qd: Qd, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for way in ("--foreground", "--detach"):
        refused = qd("up", way, "--port", "0", code=5, QD_STATE_DIR=str(tmp_path / "file" / "state"))
        assert "cannot be written" in refused.err
        assert "QD_STATE_DIR" in refused.err


def test_a_read_only_state_folder(qd: Qd, tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "ro,size=1m") as folder:
        refused = qd("up", "--detach", "--port", "0", code=5, QD_STATE_DIR=str(folder))
        assert "Read-only" in refused.err
        findings = qd("doctor", "--json", code=1, QD_STATE_DIR=str(folder)).json["findings"]
        assert next(f for f in findings if f["name"] == "state folder")["state"] == "problem"


def test_a_full_disk(qd: Qd, tmp_path: Path) -> None:
    with mounted(tmp_path / "full", "size=64k") as folder, filled(folder):
        refused = qd("up", "--detach", "--port", "0", code=5, QD_STATE_DIR=str(folder))
        assert "No space left" in refused.err
        assert "make room" in refused.err


def stdio(qd: Qd, *, port: int = 0) -> Client[Any]:
    """An MCP client over `qd mcp`."""
    environment = qd.environment(QD_PORT=str(port))
    return Client(StdioTransport(QD[0], [*QD[1:], "mcp"], env=environment, cwd=str(qd.folder), keep_alive=False))


@pytest.mark.anyio
async def test_mcp_on_stdio_takes_another_port_when_somebody_has_the_usual_one(qd: Qd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with stdio(qd, port=taken.getsockname()[1]) as client:
            assert "create_agent" in {tool.name for tool in await client.list_tools()}


@pytest.mark.anyio
async def test_mcp_on_stdio_starts_a_hub_and_finds_the_next_one(qd: Qd) -> None:
    async with stdio(qd) as client:
        names = {tool.name for tool in await client.list_tools()}
        assert {"create_agent", "wait_for_agents", "merge_agent_work"} <= names
        made = await client.call_tool("create_agent", {"name": "ada", "task": "@write a.txt a\n@commit a"})
        assert made.structured_content is not None
        assert made.structured_content["status"] == "starting"
        first = place.running(qd.state)
        assert first is not None
        qd("down")
        qd("up", "--detach", "--port", "0")
        shown = await client.call_tool("show_agent", {"agent_name": "ada"})
        assert shown.structured_content is not None
        assert shown.structured_content["name"] == "ada"
        refused = await client.call_tool("show_agent", {"agent_name": "nobody"}, raise_on_error=False)
        assert refused.is_error
        assert "NOT_FOUND" in str(refused.content)
    second = place.running(qd.state)
    assert second is not None
    assert second.pid != first.pid, "the hub lives on when its client has gone"


@pytest.mark.anyio
async def test_two_mcp_clients_at_once_share_one_hub(qd: Qd) -> None:
    async with stdio(qd) as one, stdio(qd) as other:
        await one.call_tool("create_agent", {"name": "ada"})
        listed = await other.call_tool("list_agents", {})
        assert listed.structured_content is not None
        assert [agent["name"] for agent in listed.structured_content["agents"]] == ["ada"]


def test_standard_output_of_mcp_carries_nothing_else(qd: Qd) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    messages = [
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}),
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        "not json",
        json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"}),
        json.dumps({"jsonrpc": "2.0", "id": "x", "method": "no/such"}),
    ]
    said = qd("mcp", text="\n".join(messages) + "\n", QD_PORT="0")
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert {answer["id"] for answer in answers} == {1, 2, "x", None}
    assert answers[0]["result"]["serverInfo"]["name"] == "quarterdeck"


def test_a_call_that_waits_is_called_off(qd: Qd) -> None:
    qd("up", "--detach", "--port", "0")
    process = subprocess.Popen(
        [*QD, "mcp"], cwd=qd.folder, env=qd.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None

        def send(message: dict[str, Any]) -> None:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            process.stdin.flush()

        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        send({"id": 1, "method": "initialize", "params": hello})
        assert json.loads(process.stdout.readline())["id"] == 1
        send(
            {
                "id": 2,
                "method": "tools/call",
                "params": {"name": "wait_for_agents", "arguments": {"timeout_seconds": 25}},
            }
        )
        cursor = json.loads(process.stdout.readline())["result"]["structuredContent"]["cursor"]
        waits = {"name": "wait_for_agents", "arguments": {"timeout_seconds": 25, "cursor": cursor}}
        send({"id": 3, "method": "tools/call", "params": waits})
        send({"method": "notifications/cancelled", "params": {"requestId": 3}})
        send({"id": 4, "method": "ping"})
        assert json.loads(process.stdout.readline())["id"] == 4
        process.stdin.close()
        assert process.wait(8) == 0, "it did not wait for what was called off"
