"""`python -m conformance.inspector NODE_MODULES`: the MCP Inspector's command line against a real hub.

The hub is `qd up` on a repository and a state folder of its own; the Inspector talks to it over HTTP and,
through `qd mcp`, over stdio. Every answer is checked. Nothing is left running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOOLS = {
    "answer_agent", "cancel_agent_task", "create_agent", "delete_agent", "list_agent_projects", "list_agent_roles",
    "list_agents", "merge_agent_work", "restart_agent", "show_agent", "show_agent_diff", "show_agent_log",
    "show_agent_task_history", "start_agent_task", "wait_for_agents",
}  # fmt: skip
QD = [str(Path(sys.executable).with_name("qd"))]
TASK = "@write made.txt by an agent that the Inspector created\n@commit Made"
DEADLINE_SECONDS = 60
Call = Callable[..., Any]


class Inspector:
    """The Inspector's command line, aimed at one server."""

    def __init__(
        self, modules: Path, folder: Path, target: list[str], environment: dict[str, str], handed_on: list[str]
    ) -> None:
        self._program = [str(modules / "node" / "bin" / "node"), str(modules / ".bin" / "mcp-inspector"), "--cli"]
        self._target = target
        self._folder = folder
        self._environment = environment
        self._handed_on = [word for pair in handed_on for word in ("-e", pair)]

    def run(self, *arguments: str, code: int | None = 0) -> Any:
        """One call; its JSON."""
        options = [*arguments, "--format", "json"]
        if self._target[0].startswith("http"):
            command = [*self._program, *self._target, *options]
        else:
            # It gives a program that it starts a clean environment, and what it is told to.
            command = [*self._program, *self._handed_on, *options, "--", *self._target]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DEADLINE_SECONDS,
        )  # fmt: skip
        assert code is None or done.returncode == code, f"{command}\n{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def call(self, tool: str, *, code: int | None = 0, **arguments: Any) -> Any:
        """Call a tool; its result."""
        result = self.run(
            "--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments), code=code
        )
        return result.get("result", result)


def check(inspector: Inspector, agent: str) -> None:
    """List the tools, and take an agent from its creation to its end."""
    listed = inspector.run("--method", "tools/list")
    tools = {tool["name"]: tool for tool in listed.get("result", listed)["tools"]}
    assert tools.keys() >= TOOLS, TOOLS - tools.keys()
    for name, tool in tools.items():
        assert tool["description"], name
        assert {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} <= tool["annotations"].keys(), (
            name
        )
        assert tool["outputSchema"]["type"] == "object", name
        for parameter, schema in tool["inputSchema"].get("properties", {}).items():
            assert schema.get("description"), f"{name}.{parameter}"

    made = content(inspector.call("create_agent", name=agent, provider="scripted", task=TASK))
    assert (made["name"], made["status"]) == (agent, "starting"), made
    cursor, line = None, None
    end = time.monotonic() + DEADLINE_SECONDS
    while not (line and line["status"] == "idle" and line["task"]):
        assert time.monotonic() < end, line
        given = {"agent_names": [agent], "timeout_seconds": 5, **({"cursor": cursor} if cursor else {})}
        answer = content(inspector.call("wait_for_agents", **given))
        cursor, line = answer["cursor"], next(iter(answer["changed"]), line)
    assert line["task"]["state"] == "succeeded", line
    assert agent in [a["name"] for a in content(inspector.call("list_agents"))["agents"]]
    assert "made.txt" in json.dumps(content(inspector.call("show_agent_diff", agent_name=agent)))

    refused = inspector.call("show_agent", agent_name="nobody", code=None)
    assert refused["isError"] is True, refused
    assert refused["content"][0]["text"].startswith("NOT_FOUND: "), refused
    assert content(inspector.call("delete_agent", agent_name=agent))["name"] == agent


def content(result: Any) -> Any:
    """The structured content of a result that is no error, which the text repeats."""
    assert not result.get("isError"), result
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    return result["structuredContent"]


def main(modules: Path) -> None:
    """Both transports against one hub."""
    with tempfile.TemporaryDirectory(prefix="qd-i-") as made:
        folder = Path(made)
        repo, state = folder / "repo", folder / "state"
        repo.mkdir()
        environment = {
            **os.environ, "QD_STATE_DIR": str(state), "HOME": made, "NO_COLOR": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null", "QD_FREE_MEMORY_MB": "0", "QD_FREE_DISK_MB": "0",
        }  # fmt: skip
        identity = ["-c", "user.name=Inspector", "-c", "user.email=inspector@example.invalid"]
        for command in (["init", "-q", "-b", "main"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
            subprocess.run(["git", *command], cwd=repo, env=environment, check=True)

        def qd(*arguments: str) -> str:
            done = subprocess.run([*QD, *arguments], cwd=repo, env=environment, check=True, capture_output=True)
            return done.stdout.decode()

        up = json.loads(qd("up", "--detach", "--port", "0", "--json"))
        try:
            bearer = f"Authorization: Bearer {qd('token').strip()}"
            targets = {
                "http": [f"{up['url']}/mcp", "--transport", "http", "--header", bearer],
                "stdio": [*QD, "mcp"],
            }
            for name, target in targets.items():
                began = time.monotonic()
                check(Inspector(modules, repo, target, environment, [f"QD_STATE_DIR={state}"]), f"by-{name}")
                print(f"inspector over {name}: all tools listed, an agent created, followed, looked at and deleted "
                      f"({time.monotonic() - began:.0f} s)")  # fmt: skip
            # Both ways led to the one hub: none was started beside it.
            assert [file.name for file in folder.rglob("hub.json")] == ["hub.json"], list(folder.rglob("hub.json"))
            assert content(Inspector(modules, repo, targets["stdio"], environment, [f"QD_STATE_DIR={state}"]).call(
                "list_agents"))["total_count"] == 0  # fmt: skip
        finally:
            qd("down", "--agents")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
