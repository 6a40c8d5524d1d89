"""The MCP server that the sidecar gives its own agent. FastMCP is imported when it is first used."""

from __future__ import annotations

import logging
from typing import Any

import anyio
from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Receive, Scope, Send

from quarterdeck import web
from quarterdeck.errors import Conflict, Unavailable
from quarterdeck.metadata.service import MetadataService
from quarterdeck.sidecar.session import Session

log = logging.getLogger(__name__)
INCARNATION_HEADER = b"qd-incarnation"


class LazyMcp:
    """An ASGI application that becomes the MCP server at the first request (FastMCP costs 45 MB and 0.3 s)."""

    def __init__(self, session: Session, metadata: MetadataService) -> None:
        self._session = session
        self._metadata = metadata
        self._app: ASGIApp | None = None
        self._lock = anyio.Lock()
        self._wanted = anyio.Event()
        self._ready = anyio.Event()

    async def run(self) -> None:
        """Hold the server's own lifespan, from the first request until cancelled."""
        await self._wanted.wait()
        try:
            app = await run_sync(self._make)
            async with app.router.lifespan_context(app):
                self._app = app
                self._ready.set()
                await anyio.sleep_forever()
        except Exception:
            # The agent works on without these tools; it must not lose its session over them.
            log.exception("the agent's MCP server could not be started")
        finally:
            self._app = None
            self._ready.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; those of an earlier incarnation are refused."""
        if scope["type"] != "http":
            return
        given = dict(scope["headers"]).get(INCARNATION_HEADER)
        if given is not None and given != str(self._session.incarnation).encode():
            stale = Conflict(
                f"this is incarnation {self._session.incarnation} of the agent, not {given.decode('latin-1')}"
            )
            await web.error_response(stale)(scope, receive, send)
            return
        self._wanted.set()
        await self._ready.wait()
        if self._app is None:
            await web.error_response(Unavailable("the agent's MCP server could not be started"))(scope, receive, send)
            return
        # The inner application has one route, "/"; the mount's prefix is not its business.
        await self._app({**scope, "path": "/", "raw_path": b"/", "root_path": ""}, receive, send)

    def _make(self) -> Any:
        from quarterdeck.sidecar.mcp_tools import make_server

        return make_server(self._session, self._metadata).http_app(path="/", stateless_http=True, json_response=True)
