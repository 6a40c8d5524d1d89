"""An ASGI app served on a socket from within a task group: no signal handlers, no log of every request."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# Far longer than our clients keep an idle connection (5 s, which is uvicorn's own limit too): the client must be the
# one who closes it, since a call may be on its way to a server that has just done so, and its end is then unknown.
KEEP_ALIVE_SECONDS = 75


class Running:
    """A server that runs in a task: `stop` lets answers end and returns when it is down."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.ended = anyio.Event()

    async def stop(self) -> None:
        """Take no more calls, let those under way end, at most some seconds."""
        self._server.should_exit = True
        await self.ended.wait()


async def run_uvicorn(
    app: ASGIApp, bound: socket.socket, *, task_status: anyio.abc.TaskStatus[Any] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve an app on a bound socket until cancelled or `should_exit` is set; reports the server when ready."""
    import uvicorn

    from quarterdeck.cork import CorkedProtocol

    settings = uvicorn.Config(
        app,
        loop="none",
        http=CorkedProtocol,
        proxy_headers=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=1024,
    )
    server = uvicorn.Server(settings)
    settings.load()
    server.lifespan = settings.lifespan_class(settings)
    await server.startup(sockets=[bound])
    running = Running(server)
    task_status.started(running)
    try:
        await server.main_loop()
    finally:
        with anyio.CancelScope(shield=True):
            await server.shutdown(sockets=[bound])
            running.ended.set()
