"""What the scripted agent can do in a turn: one method `do_NAME` for each step `@NAME` (`-` becomes `_`).

Standard library only, heavy parts imported where they are first needed.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from quarterdeck.scripted import sessions
from quarterdeck.scripted.script import Step, parse, unescape
from quarterdeck.scripted.wire import Wire

Params = dict[str, Any]
_IDENTITY = ("-c", "user.name=Scripted agent", "-c", "user.email=scripted@quarterdeck.invalid")
_OUTPUT = 20_000


class Cancelled(Exception):
    """The client cancelled the turn."""


class Refused(Exception):
    """The turn ends with the stop reason `refusal`."""


class Failed(Exception):
    """The turn ends with an error."""


class Turn:
    """One prompt at work."""

    def __init__(
        self,
        wire: Wire,
        session: str,
        cwd: str,
        servers: list[Params],
        *,
        turn_id: str,
        cancelled: threading.Event,
        resumed: bool,
        elicits: bool,
    ) -> None:
        self._wire = wire
        self._session = session
        self._cwd = cwd
        self._servers = servers
        self._turn_id = turn_id
        self._cancelled = cancelled
        self._resumed = resumed
        self._elicits = elicits
        self._skip = False
        self._last_code = 0
        self._mcp: Any = None
        self.usage = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}

    def run(self, steps: list[Step], text: str) -> None:
        """Do the steps in order; a text without any is answered in a sentence."""
        if not steps:
            self.do_say(f"I read {len(text.split())} words and there was nothing to do in them.")
        for step in steps:
            if self._cancelled.is_set():
                raise Cancelled
            if self._skip:
                self._skip = False
                continue
            self.do(step)

    def do(self, step: Step) -> None:
        """Do one step. Raises `Failed` for an unknown one."""
        method: Callable[[str], None] | None = getattr(self, "do_" + step.name.replace("-", "_"), None)
        if method is None:
            raise Failed(f"unknown step @{step.name}")
        method(step.rest)

    def close(self) -> None:
        """End what the turn started for itself."""
        if self._mcp is not None:
            self._mcp.close()

    def update(self, update: Params) -> None:
        """Send one session/update."""
        self._wire.notify("session/update", {"sessionId": self._session, "update": update})

    # --- words -------------------------------------------------------------------------------------

    def do_say(self, text: str) -> None:
        text = unescape(text)
        sessions.append(self._session, {"text": text})
        self.update({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text + "\n"}})

    def do_think(self, text: str) -> None:
        self.update({"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": unescape(text)}})

    def do_plan(self, text: str) -> None:
        entries = [{"content": part, "priority": "medium", "status": "pending"} for part in text.split("|")]
        self.update({"sessionUpdate": "plan", "entries": entries})

    def do_usage(self, text: str) -> None:
        parts = text.split()
        given, out, cost = int(parts[0]), int(parts[1]), float(parts[2]) if len(parts) > 2 else 0.0
        self.usage["inputTokens"] += given
        self.usage["outputTokens"] += out
        self.usage["totalTokens"] += given + out
        total = _add_cost(cost)
        self.update(
            {
                "sessionUpdate": "usage_update",
                "used": given + out,
                "size": 200_000,
                "cost": {"amount": total, "currency": "USD"},
            }
        )

    def do_answers(self, _: str) -> None:
        """What was answered was said already; the scripted model has this step."""

    def do_instructions(self, _: str) -> None:
        found = [record["instructions"] for record in sessions.read(self._session) if "instructions" in record]
        self.do_say("instructions: " + (found[-1] if found else "none"))

    def do_if_resumed(self, rest: str) -> None:
        if self._resumed:
            for step in parse(rest):
                self.do(step)

    # --- work --------------------------------------------------------------------------------------

    def do_write(self, rest: str) -> None:
        self._write(rest, "w")

    def do_append(self, rest: str) -> None:
        self._write(rest, "a")

    def _write(self, rest: str, mode: str) -> None:
        path, text = Step("", rest).split()
        full = os.path.join(self._cwd, path)
        call = self._open_call(f"Write {path}", "edit", {"path": full}, [full])
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, mode, encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else text + "\n")
        self._close_call(call, "completed", f"wrote {path}")

    def do_run(self, rest: str) -> None:
        import shlex

        code, output = self._run(shlex.split(rest), rest)
        self._last_code = code
        sessions.append(self._session, {"text": f"{rest}: exit {code}\n{output}"})

    def do_check(self, _: str) -> None:
        """Fail the turn when the last command failed."""
        if self._last_code:
            raise Failed(f"the last command ended with {self._last_code}")

    def do_commit(self, message: str) -> None:
        import subprocess

        configured = subprocess.run(["git", "config", "user.email"], cwd=self._cwd, capture_output=True, check=False)
        identity = () if configured.returncode == 0 else _IDENTITY
        self._run(["git", "add", "-A"], "git add -A")
        code, _ = self._run(["git", *identity, "commit", "-q", "-m", message], f"git commit -m {message!r}")
        self._last_code = code

    def _run(self, command: list[str], title: str) -> tuple[int, str]:
        import signal
        import subprocess
        import tempfile

        call = self._open_call(title, "execute", {"command": command}, [])
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=self._cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                self._close_call(call, "failed", str(error))
                return 127, str(error)
            while process.poll() is None:
                if self._cancelled.wait(0.01):
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    self._close_call(call, "failed", "cancelled")
                    raise Cancelled
            output.seek(0)
            text = output.read(_OUTPUT).decode(errors="replace")
        self._close_call(call, "failed" if process.returncode else "completed", text or f"exit {process.returncode}")
        return process.returncode, text

    def do_once(self, rest: str) -> None:
        path, _, given = rest.partition(" ")
        descriptor = os.open(os.path.join(self._cwd, path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (given or self._turn_id).encode() + b"\n")
        finally:
            os.close(descriptor)

    def do_mcp(self, rest: str) -> None:
        import json

        tool, _, arguments = rest.partition(" ")
        call = self._open_call(f"mcp {tool}", "other", {"tool": tool}, [])
        if self._mcp is None:
            if not self._servers:
                raise Failed("no MCP server was given")
            from quarterdeck.scripted.mcp_stdio import McpClient

            self._mcp = McpClient(self._servers[0], self._cwd)
        answer = self._mcp.call(tool, json.loads(arguments) if arguments.strip() else {})
        self._close_call(call, "failed" if answer.startswith("error:") else "completed", answer)
        self.do_say(answer)

    # --- asking ------------------------------------------------------------------------------------

    def do_ask(self, title: str) -> None:
        self._ask(title, "execute", [])

    def do_ask_edit(self, path: str) -> None:
        full = os.path.join(self._cwd, path)
        self._ask(f"Edit {path}", "edit", [{"path": full}])

    def _ask(self, title: str, kind: str, locations: list[Params]) -> None:
        call = {"toolCallId": f"call-{next(_calls)}", "title": title, "kind": kind, "locations": locations}
        options = [
            {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
            {"optionId": "always", "name": "Always allow", "kind": "allow_always"},
            {"optionId": "no", "name": "Reject", "kind": "reject_once"},
        ]
        answer = self._request("session/request_permission", {"toolCall": call, "options": options})
        outcome = answer.get("outcome") or {}
        if outcome.get("outcome") != "selected":
            raise Cancelled
        allowed = outcome.get("optionId") in ("yes", "always")
        self._skip = not allowed
        self.do_say(f"{title}: {'allowed' if allowed else 'rejected'}")

    def do_question(self, rest: str) -> None:
        if not self._elicits:
            self.do_say("the client cannot be asked")
            return
        text, *options = rest.split("|")
        field: Params = {"type": "string", "title": "answer", **({"enum": options} if options else {})}
        schema = {"type": "object", "properties": {"answer": field}, "required": ["answer"]}
        answer = self._request("elicitation/create", {"mode": "form", "message": text, "requestedSchema": schema})
        if answer.get("action") == "accept":
            self.do_say(f"answer: {(answer.get('content') or {}).get('answer')}")
        else:
            self.do_say(f"answer: {answer.get('action')}")

    def do_form(self, rest: str) -> None:
        """The message, `|`, and the properties of the form as JSON; whatever else can be asked in a form."""
        text, _, properties = rest.partition("|")
        schema = {"type": "object", "properties": json.loads(properties)}
        answer = self._request("elicitation/create", {"mode": "form", "message": text, "requestedSchema": schema})
        self.do_say(f"form: {answer.get('action')} {json.dumps(answer.get('content'), sort_keys=True)}")

    def do_fsread(self, path: str) -> None:
        answer = self._request("fs/read_text_file", {"path": os.path.join(self._cwd, path)})
        self.do_say(f"read: {answer.get('content')}")

    def do_fswrite(self, rest: str) -> None:
        path, text = Step("", rest).split()
        self._request("fs/write_text_file", {"path": os.path.join(self._cwd, path), "content": text})

    def _request(self, method: str, params: Params) -> Params:
        given_up = self._cancelled.is_set
        answer = self._wire.request(method, {"sessionId": self._session, **params}, given_up)
        if answer is None:
            raise Cancelled
        return answer

    # --- misbehaviour --------------------------------------------------------------------------------

    def do_sleep(self, seconds: str) -> None:
        if self._cancelled.wait(float(seconds)):
            raise Cancelled

    def do_hang(self, how: str) -> None:
        if how == "hard":
            deaf.set()
            while True:
                time.sleep(3600)
        self._cancelled.wait()
        raise Cancelled

    def do_fail(self, text: str) -> None:
        raise Failed(text or "told to fail")

    def do_refuse(self, _: str) -> None:
        raise Refused

    def do_exit(self, code: str) -> None:
        os.write(2, b"told to exit\n")
        os._exit(int(code or "1"))

    def do_die(self, _: str) -> None:
        os.kill(os.getpid(), 9)

    def do_garbage(self, size: str) -> None:
        self._wire.raw(b"x" * int(size or "20") + b"\n")

    def do_raw(self, line: str) -> None:
        self._wire.raw(line.encode() + b"\n")

    def do_partial(self, _: str) -> None:
        self._wire.raw(b'{"jsonrpc":"2.0","method":"session/upd\n')

    def do_unknown(self, _: str) -> None:
        self.update({"sessionUpdate": "of_the_future", "content": 1})
        self._wire.notify("of/the/future", {})

    def do_longline(self, size: str) -> None:
        self.update({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x" * int(size)}})

    def do_child(self, seconds: str) -> None:
        import subprocess

        # It keeps our standard output open, as a shell child of a real agent may do.
        child = subprocess.Popen(["sleep", seconds], start_new_session=True, stdin=subprocess.DEVNULL)
        self.do_say(f"child {child.pid}")

    # --- tool calls ----------------------------------------------------------------------------------

    def _open_call(self, title: str, kind: str, given: Params, paths: list[str]) -> str:
        call = f"call-{next(_calls)}"
        locations = [{"path": path} for path in paths]
        self.update(
            {
                "sessionUpdate": "tool_call",
                "toolCallId": call,
                "title": title,
                "kind": kind,
                "status": "in_progress",
                "rawInput": given,
                "locations": locations,
            }
        )
        return call

    def _close_call(self, call: str, status: str, output: str) -> None:
        content = [{"type": "content", "content": {"type": "text", "text": output}}]
        self.update({"sessionUpdate": "tool_call_update", "toolCallId": call, "status": status, "content": content})


_cost = 0.0
_calls = itertools.count(1)
# Set for good by `@hang hard`: from then on the process is deaf to SIGTERM (the handler in agent.py asks).
deaf = threading.Event()


def _add_cost(amount: float) -> float:
    """The cost of this process so far, as real agents count it."""
    global _cost
    _cost = round(_cost + amount, 6)
    return _cost
