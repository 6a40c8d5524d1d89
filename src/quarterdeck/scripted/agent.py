"""The scripted ACP agent: `python -m quarterdeck.scripted.agent`. It does what the lines of the prompt say.

docs/scripted.md lists the steps. It speaks raw newline JSON-RPC with the standard library alone, since it
is the agent of the demo and of the benchmarks, and must cost nothing itself. Options, all for tests:
`--die-at-start`, `--slow-start S`, `--no-resume` (neither resume nor load), `--load-only` (no resume),
`--auth` (a session needs a login it does not have).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from quarterdeck.scripted import sessions
from quarterdeck.scripted.script import parse
from quarterdeck.scripted.steps import Cancelled, Failed, Refused, Turn, deaf
from quarterdeck.scripted.wire import RpcError, Wire

Params = dict[str, Any]
AUTH_REQUIRED, NOT_FOUND, INVALID, INTERNAL = -32000, -32002, -32602, -32603


class Session:
    """One session in this process."""

    def __init__(self, session_id: str, params: Params, *, resumed: bool) -> None:
        self.id = session_id
        self.cwd = str(params.get("cwd") or ".")
        self.servers: list[Params] = [s for s in params.get("mcpServers") or [] if "command" in s]
        self.resumed = resumed
        self.cancelled = threading.Event()
        self.busy = False


class Agent:
    """Answers the client's requests; a prompt runs in a thread of its own."""

    def __init__(self, options: list[str]) -> None:
        self._wire = Wire()
        self._options = options
        self._sessions: dict[str, Session] = {}
        self._elicits = False

    def run(self) -> None:
        """Serve until the end of input."""
        self._wire.serve(self._handle)

    def _handle(self, method: str, params: Params, number: Any) -> None:
        if method == "session/cancel":
            if (session := self._sessions.get(str(params.get("sessionId")))) is not None:
                session.cancelled.set()
            return
        if number is None:
            return
        try:
            if method == "session/prompt":
                self._start_prompt(params, number)
                return
            result = self._answer(method, params)
        except RpcError as error:
            self._refuse(number, error)
        except ValueError as error:
            self._refuse(number, RpcError(NOT_FOUND, str(error)))
        else:
            self._wire.send({"id": number, "result": result})

    def _refuse(self, number: Any, error: RpcError) -> None:
        self._wire.send({"id": number, "error": {"code": error.code, "message": str(error)}})

    def _answer(self, method: str, params: Params) -> Params:
        if method == "initialize":
            return self._initialize(params)
        if method == "session/new":
            if "--auth" in self._options:
                raise RpcError(AUTH_REQUIRED, "Authentication required")
            session_id = f"qds-{os.urandom(8).hex()}"
            sessions.append(session_id, {"cwd": params.get("cwd"), "created": time.time()})
            self._sessions[session_id] = Session(session_id, params, resumed=False)
            return {"sessionId": session_id}
        if method in ("session/resume", "session/load") and self._can(method):
            return self._take_up(method, params)
        if method == "session/list":
            return {
                "sessions": [{"sessionId": name, "cwd": sessions.read(name)[0]["cwd"]} for name in sessions.known()]
            }
        if method == "session/close":
            if (session := self._sessions.pop(str(params.get("sessionId")), None)) is not None:
                session.cancelled.set()
            return {}
        raise RpcError(-32601, f"Method not found: {method}")

    def _can(self, method: str) -> bool:
        return "--no-resume" not in self._options and not (
            method == "session/resume" and "--load-only" in self._options
        )

    def _initialize(self, params: Params) -> Params:
        client = params.get("clientCapabilities") or {}
        self._elicits = (client.get("elicitation") or {}).get("form") is not None
        more: Params = {"list": {}, "close": {}}
        if self._can("session/resume"):
            more["resume"] = {}
        return {
            "protocolVersion": 1,
            "agentInfo": {"name": "quarterdeck-scripted", "title": "Scripted agent", "version": "1"},
            "agentCapabilities": {"loadSession": self._can("session/load"), "sessionCapabilities": more},
            "authMethods": [{"id": "login", "name": "Log in"}] if "--auth" in self._options else [],
        }

    def _take_up(self, method: str, params: Params) -> Params:
        session_id = str(params.get("sessionId"))
        records = sessions.read(session_id)
        self._sessions[session_id] = Session(session_id, params, resumed=True)
        if method == "session/load":
            for record in records[1:]:
                kind = "user_message_chunk" if "prompt" in record else "agent_message_chunk"
                text = record.get("prompt") or record.get("text", "")
                update = {"sessionUpdate": kind, "content": {"type": "text", "text": text}}
                self._wire.notify("session/update", {"sessionId": session_id, "update": update})
        return {}

    def _start_prompt(self, params: Params, number: Any) -> None:
        session = self._sessions.get(str(params.get("sessionId")))
        if session is None:
            raise RpcError(NOT_FOUND, f"no session {params.get('sessionId')!r}")
        if session.busy:
            raise RpcError(INVALID, "the session already works on a prompt")
        session.busy = True
        session.cancelled.clear()
        threading.Thread(target=self._prompt, args=(session, params, number), daemon=True).start()

    def _prompt(self, session: Session, params: Params, number: Any) -> None:
        blocks = [str(block.get("text", "")) for block in params.get("prompt") or []]
        text = blocks[-1] if blocks else ""
        if len(blocks) > 1:
            sessions.append(session.id, {"instructions": "\n".join(blocks[:-1])})
        sessions.append(session.id, {"prompt": text})
        turn = Turn(
            self._wire,
            session.id,
            session.cwd,
            session.servers,
            turn_id=str((params.get("_meta") or {}).get("quarterdeck/turnId") or f"{session.id}-{time.time_ns()}"),
            cancelled=session.cancelled,
            resumed=session.resumed,
            elicits=self._elicits,
        )
        # The delivery receipt: an update the moment the prompt is here, before any of its work.
        turn.update({"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": text}})
        answer: Params
        try:
            turn.run(parse(text), text)
            answer = {"result": {"stopReason": "end_turn"}}
        except Cancelled:
            answer = {"result": {"stopReason": "cancelled"}}
        except Refused:
            answer = {"result": {"stopReason": "refusal"}}
        except (Failed, RpcError, OSError, ValueError) as error:
            answer = {"error": {"code": INTERNAL, "message": str(error)}}
        finally:
            turn.close()
        if "result" in answer and turn.usage["totalTokens"]:
            answer["result"]["usage"] = turn.usage
        session.busy = False
        self._wire.send({"id": number, **answer})


def main() -> None:
    """Serve on standard input and output."""
    options = sys.argv[1:]
    if "--die-at-start" in options:
        sys.exit("the scripted agent was told to die at the start")
    if "--slow-start" in options:
        time.sleep(float(options[options.index("--slow-start") + 1]))
    # Python runs a handler in the main thread, which reads; the thread that hangs cannot hold it up.
    signal.signal(signal.SIGTERM, lambda *_: None if deaf.is_set() else os._exit(143))
    Agent(options).run()


if __name__ == "__main__":
    main()
