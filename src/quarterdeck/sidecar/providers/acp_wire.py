"""The wire of the ACP provider: the SDK's connection over our own lines.

The only file that knows the SDK. Our side: lines with a limit, what the agent sends handled in the very
order it came. The SDK's side: the schema of what we send, and which answer belongs to which request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anyio.to_thread import run_sync

from quarterdeck.errors import QuarterdeckError, Unavailable
from quarterdeck.sidecar.ports import McpServer, Noise
from quarterdeck.sidecar.providers.jsonline import parse_object
from quarterdeck.sidecar.providers.program import SHOWN_NOISE, Program

if TYPE_CHECKING:
    from acp.connection import Connection

Message = dict[str, Any]
AUTH_REQUIRED, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32000, -32601, -32602, -32603
CLIENT_NAME = "quarterdeck"


class RequestRefused(Exception):
    """The agent answered a request of ours with an error."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = error_text({"message": message, "data": data})


class AgentGone(Exception):
    """The agent ended before it answered."""


class _Transport:
    """The SDK's seam for messages: answers to our requests in, our messages out."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._answers: asyncio.Queue[Message | None] = asyncio.Queue()

    async def send(self, message: Message) -> None:
        try:
            await self._program.send(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        except Unavailable as error:
            raise ConnectionError(error.message) from error

    async def receive(self) -> Message | None:
        return await self._answers.get()

    async def close(self) -> None:
        self._answers.put_nowait(None)

    def push(self, message: Message | None) -> None:
        self._answers.put_nowait(message)


class Wire:
    """One agent's connection. `on_message` gets every message that is no answer to `request`."""

    def __init__(
        self, program: Program, on_message: Callable[[Message], None], on_noise: Callable[[Noise], None]
    ) -> None:
        self._transport = _Transport(program)
        self._on_message = on_message
        self._on_noise = on_noise
        self._connection: Connection | None = None

    async def connect(self) -> None:
        """Load the SDK (some tenths of a second of CPU, in a thread) while the agent starts up."""
        await run_sync(import_module, "acp")
        from acp.connection import Connection

        async def refuse(method: str, params: Any, is_notification: bool) -> Any:
            raise AssertionError(f"{method} is handled before the SDK sees it")

        self._connection = Connection(refuse, self._transport)

    def line(self, line: bytes) -> None:
        """One line of the agent."""
        message = parse_object(line)
        if message is None or not ("method" in message or "id" in message):
            self._on_noise(Noise(line[:SHOWN_NOISE].decode(errors="replace")))
        elif "method" not in message and isinstance(message["id"], int):
            if not isinstance(message.get("error", {}), dict):
                message["error"] = {"code": INTERNAL, "message": str(message["error"])[:SHOWN_NOISE]}
            self._transport.push(message)
        else:
            self._on_message(message)

    def end(self) -> None:
        """The agent is gone: whoever waits for an answer is told."""
        self._transport.push(None)

    async def request(self, method: str, params: Message) -> Message:
        """Ask the agent. Raises `RequestRefused` and `AgentGone`."""
        from acp.exceptions import RequestError

        assert self._connection is not None
        try:
            result = await self._connection.send_request(method, params)
        except RequestError as error:
            raise RequestRefused(error.code, str(error), error.data) from error
        except ConnectionError as error:
            raise AgentGone from error
        return result if isinstance(result, dict) else {}

    async def send(self, message: Message) -> None:
        """Send any message as it is. Raises `Unavailable` when the agent is gone."""
        try:
            await self._transport.send({"jsonrpc": "2.0", **message})
        except ConnectionError as error:
            raise Unavailable(str(error), hint="qd agents restart NAME") from error

    async def close(self) -> None:
        """Let go of everybody who waits."""
        if self._connection is not None:
            await self._connection.close()


def initialize_params(version: str) -> Message:
    """What we are and what we can: files of the workspace, forms; no terminals (the agent has its own)."""
    from acp.schema import (
        ClientCapabilities,
        ElicitationCapabilities,
        ElicitationFormCapabilities,
        FileSystemCapabilities,
        Implementation,
        InitializeRequest,
    )

    request = InitializeRequest(
        protocol_version=1,
        client_capabilities=ClientCapabilities(
            fs=FileSystemCapabilities(read_text_file=True, write_text_file=True),
            terminal=False,
            elicitation=ElicitationCapabilities(form=ElicitationFormCapabilities()),
        ),
        client_info=Implementation(name=CLIENT_NAME, title="Quarterdeck", version=version),
    )
    return _dump(request)


def session_params(cwd: str, mcp: McpServer | None, session_id: str | None = None) -> Message:
    """Parameters of session/new, and with an id of session/resume and session/load."""
    from acp.schema import EnvVariable, McpServerStdio, NewSessionRequest, ResumeSessionRequest

    servers: list[Any] = []
    if mcp is not None:
        env = [EnvVariable(name=name, value=value) for name, value in mcp.env.items()]
        servers = [McpServerStdio(name=mcp.name, command=mcp.command[0], args=list(mcp.command[1:]), env=env)]
    if session_id is None:
        return {"mcpServers": [], **_dump(NewSessionRequest(cwd=cwd, mcp_servers=servers))}
    return {"mcpServers": [], **_dump(ResumeSessionRequest(session_id=session_id, cwd=cwd, mcp_servers=servers))}


def prompt_params(session_id: str, blocks: list[str], turn_id: str) -> Message:
    """Parameters of session/prompt; the turn's id rides along in `_meta`, for those who look."""
    from acp.schema import PromptRequest, TextContentBlock

    texts: list[Any] = [TextContentBlock(type="text", text=block) for block in blocks]
    request = PromptRequest(session_id=session_id, prompt=texts, field_meta={"quarterdeck/turnId": turn_id})
    return _dump(request)


def _dump(model: Any) -> Message:
    return dict(model.model_dump(mode="json", by_alias=True, exclude_none=True))


def error_answer(error: Exception) -> Message:
    """An error of ours as JSON-RPC tells it."""
    if isinstance(error, QuarterdeckError):
        code = INTERNAL if error.http_status >= 500 else INVALID_PARAMS
        return {"code": code, "message": error.message}
    return {"code": INTERNAL, "message": str(error) or type(error).__name__}


def error_text(error: Mapping[str, Any]) -> str:
    """A JSON-RPC error in words, with the details that agents put into `data`."""
    message, data = str(error.get("message") or "error"), error.get("data")
    details = data.get("details") or data.get("message") if isinstance(data, Mapping) else data
    return f"{message}: {details}"[:2000] if details else message[:2000]
