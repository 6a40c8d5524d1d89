"""The stand-alone metadata server, for a workspace that is started by others.

`qd metadata serve --workspace DIR --port N`: loopback only unless told otherwise, and then only with a
token. It answers `/health/live` from its first moment; everything else waits until what is stored is loaded.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import msgspec
from anyio.to_thread import run_sync

from quarterdeck import config, web
from quarterdeck.errors import InvalidInput, QuarterdeckError, Unavailable
from quarterdeck.files import read_regular
from quarterdeck.metadata.metrics import MEDIA as METRICS_MEDIA
from quarterdeck.metadata.metrics import text as metrics_text
from quarterdeck.metadata.service import MetadataService, readiness
from quarterdeck.openapi import openapi_of
from quarterdeck.serving import Running, run_uvicorn

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)
DEFAULT_PORT = 7411
MAX_TOKEN_BYTES = 64 * 1024
_OPEN = ("/health", "/health/live", "/health/ready")
_JSON = (b"content-type", b"application/json")
_encode = msgspec.json.Encoder().encode


class MetadataServer:
    """The ASGI application: `/metadata`, `/health`, `/metrics`, `/openapi.json`, and MCP under `/mcp`."""

    def __init__(self) -> None:
        self._service: MetadataService | None = None
        self._metadata: ASGIApp | None = None
        self._mcp: ASGIApp | None = None
        self._mcp_lock = anyio.Lock()
        self._group: anyio.abc.TaskGroup | None = None
        self._openapi: bytes | None = None
        self.failure: str | None = None

    def attach(self, service: MetadataService, group: anyio.abc.TaskGroup) -> None:
        """What is stored is loaded: answer from now on. `group` is cancelled before the service ends."""
        self._service, self._group = service, group
        self._metadata = service.asgi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path == "/metadata" or path.startswith("/metadata/"):
            if self._metadata is None:
                await web.error_response(self._not_ready())(scope, receive, send)
            else:
                await self._metadata(scope, receive, send)
        elif path == "/mcp":
            await self._call_mcp(scope, receive, send)
        else:
            status, body, media = self._plain(scope["method"], path, web.may_see_all(scope))
            headers = [(b"content-type", media), (b"content-length", b"%d" % len(body))]
            if status == 503:
                headers.append((b"retry-after", b"1"))
            if status == 405:
                headers.append((b"allow", _PLAIN_METHODS.encode()))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    def _not_ready(self) -> QuarterdeckError:
        return Unavailable(self.failure or "what is stored is still being loaded", hint="try again in a second")

    def _plain(self, method: str, path: str, sees_all: bool) -> tuple[int, bytes, bytes]:
        json = b"application/json"
        if path not in _PLAIN:
            error = {"error": {"code": "NOT_FOUND", "message": f"there is no {path[:200]}", "hint": _HINT}}
            return 404, _encode(error), json
        if method not in ("GET", "HEAD"):
            refusal = web.MethodNotAllowed(f"there is no {method} here", hint=f"allowed: {_PLAIN_METHODS}")
            return 405, _encode(refusal.to_json()), json
        if path == "/health/live":
            return 200, b'{"live":true}', json
        if path == "/openapi.json":
            self._openapi = self._openapi or _encode(openapi(self._service))
            return 200, self._openapi, json
        if self._service is None:
            starting = {"ready": False, "status": "starting"}
            return 503, _encode(starting | ({"problems": [self._not_ready().message]} if sees_all else {})), json
        if path == "/metrics":
            return 200, metrics_text(self._service), METRICS_MEDIA.encode()
        return 200, _encode(readiness(self._service, sees_all)), json

    async def _call_mcp(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._service is None or self._group is None:
            await web.error_response(self._not_ready())(scope, receive, send)
            return
        async with self._mcp_lock:
            if self._mcp is None:
                # A second and 50 MB, spent only where an MCP client comes.
                from quarterdeck.metadata.mcp import standalone

                self._mcp = await standalone(self._service, self._group)
        await self._mcp(scope, receive, send)


_PLAIN = frozenset({*_OPEN, "/metrics", "/openapi.json"})
_PLAIN_METHODS = "GET, HEAD"
_HINT = "/metadata, /health, /metrics, /openapi.json and /mcp are here"


def openapi(service: MetadataService | None) -> dict[str, Any]:
    """The OpenAPI document of the stand-alone server."""
    from quarterdeck.metadata.api import routes

    async def described(call: web.Call) -> Any:
        raise AssertionError("only described here")

    own = [
        web.Route("GET", "/health", described, "State in figures (without the token: none); 503 until ready",
                  answer=dict[str, Any]),
        web.Route("GET", "/health/live", described, "200 as soon as the process answers", answer=dict[str, Any]),
        web.Route(
            "GET", "/health/ready", described, "200 when stored data is loaded", answer=dict[str, Any],
            errors=(Unavailable,),
        ),
        web.Route("GET", "/metrics", described, "Figures for Prometheus", media_type="text/plain"),
    ]  # fmt: skip
    description = "Facts about one agent's workspace: stored and collected"
    # The table only describes here; its handlers are never called without a service.
    table = routes(service)  # type: ignore[arg-type]
    return openapi_of("Quarterdeck metadata", "1.0", description, [*table, *own])


async def serve(
    workspace: Path,
    *,
    port: int = DEFAULT_PORT,
    host: str = "127.0.0.1",
    token_file: Path | None = None,
    folder: Path | None = None,
    agent: str | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve one workspace until SIGTERM or SIGINT; a clean stop folds the journal.

    `folder` is where facts are stored (default: one per workspace under the state folder), `token_file`
    holds the bearer token that callers must show. `announce` is told the address once it answers; with
    port 0 the system chooses. Raises `InvalidInput` for a missing workspace, an empty token or an
    address that others can reach without a token; `Conflict` when the folder is taken; `Unavailable`
    when the port is.
    """
    if not await anyio.Path(workspace).is_dir():
        raise InvalidInput(f"the workspace {workspace} is not a folder")
    workspace = Path(await anyio.Path(workspace).resolve())
    token = await read_token(token_file) if token_file is not None else None
    if token is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise InvalidInput(
            f"{host} can be reached by others, so a token is needed", hint="--token-file FILE, or leave --host out"
        )
    # Our own threads must get the interpreter back soon after their system call, also under load.
    sys.setswitchinterval(0.0005)
    gc.freeze()
    bound = _bind(host, port)
    app = MetadataServer()
    guarded = web.Guard(app, token=token, hosts={host}, open_paths=_OPEN)
    try:
        async with anyio.create_task_group() as group:
            running: Running = await group.start(run_uvicorn, guarded, bound)
            opened = MetadataService.open(
                folder or default_folder(workspace),
                workspace,
                agent=agent or workspace.name,
                config=config.load(workspace).metadata,
                config_folder=workspace,
                takes_reports=True,
            )
            async with opened as service, anyio.create_task_group() as helpers:
                app.attach(service, helpers)
                # Not before the folder is ours: who reads the address and comes would find another's server, or none.
                if announce is not None:
                    announce(_url(host, bound))
                log.info("serving %s at %s", workspace, _url(host, bound))
                await _until_stopped()
                # First the server, so that no answer is cut off; then the service, which folds.
                service.close_streams()
                await running.stop()
                helpers.cancel_scope.cancel()
    except BaseExceptionGroup as problems:
        raise _only(problems) from None
    finally:
        bound.close()


async def _until_stopped() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.setblocking(False)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="another --port, or 0 to have one chosen"
        ) from error
    return bound


def _url(host: str, bound: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{bound.getsockname()[1]}"


async def read_token(path: Path) -> str:
    """The token in a file. Raises `InvalidInput` when it cannot be read, is empty, or others may read it."""
    file = anyio.Path(path)
    try:
        mode = (await file.stat()).st_mode
        token = (await run_sync(read_regular, path, MAX_TOKEN_BYTES)).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the token file {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise InvalidInput(f"others may read the token file {path}", hint=f"chmod 600 {path}")
    if len(token) < 16:
        raise InvalidInput(f"the token in {path} is shorter than 16 characters")
    return token


def default_folder(workspace: Path) -> Path:
    """Where the facts of a workspace lie when nobody says: a folder of its own under the state folder."""
    mark = hashlib.sha256(str(workspace).encode()).hexdigest()[:12]
    return config.state_dir() / "metadata" / f"{workspace.name}-{mark}"


def _only(problems: BaseExceptionGroup[BaseException]) -> BaseException:
    first = problems.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _only(first)
    return first if len(problems.exceptions) == 1 else problems
