"""`qd sidecar`: the process itself. Lock, socket, session, metadata, and an orderly end."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import anyio
import uvicorn

from quarterdeck import proctree, web
from quarterdeck.errors import NotFound
from quarterdeck.files import read_json, write_private
from quarterdeck.metadata.service import MetadataService
from quarterdeck.serving import KEEP_ALIVE_SECONDS
from quarterdeck.sidecar import facts, place
from quarterdeck.sidecar import spec as files
from quarterdeck.sidecar.app import OPEN_PATHS, SidecarApi, make_app
from quarterdeck.sidecar.mcp import LazyMcp
from quarterdeck.sidecar.mcp_bridge import INCARNATION_VARIABLE, SOCKET_VARIABLE
from quarterdeck.sidecar.ports import McpServer
from quarterdeck.sidecar.providers import make_provider
from quarterdeck.sidecar.session import Session
from quarterdeck.sidecar.store import Store

log = logging.getLogger(__name__)


def run(folder: Path, *, tcp: str | None = None) -> None:
    """Serve the agent whose folder this is until it is stopped.

    `tcp` is `HOST:PORT` for a second way in, guarded by the bearer token in `sidecar.token`.
    Raises `NotFound` without a `launch.json`, `Conflict` when another sidecar holds the folder.
    """
    spec = read_json(folder / files.LAUNCH_FILE, files.LaunchSpec)
    if spec is None:
        raise NotFound(f"{folder} is no agent's folder: it has no {files.LAUNCH_FILE}")
    with place.lock(folder / files.LOCK_FILE):
        proctree.become_subreaper()
        anyio.run(_serve, folder, spec, tcp)


async def _serve(folder: Path, spec: files.LaunchSpec, tcp: str | None) -> None:
    store = Store(folder / files.DATABASE_FILE)
    path = place.socket_path(folder)
    sockets = [place.listen(path)]
    token = None
    if tcp is not None:
        token = place.token(folder)
        sockets.append(place.listen_tcp(tcp))

    def bridge(incarnation: int) -> McpServer:
        return McpServer(
            name="quarterdeck",
            command=(sys.executable, "-m", "quarterdeck.sidecar.mcp_bridge"),
            env={SOCKET_VARIABLE: str(path), INCARNATION_VARIABLE: str(incarnation)},
        )

    closing, served = anyio.Event(), anyio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(store.close)
        session = Session(spec, folder, store, make_provider, make_mcp=bridge)
        # Nobody may be told of, or do anything with, what the last process left until that is put in order.
        await session.recover()
        metadata = await stack.enter_async_context(
            MetadataService.open(
                folder,
                Path(spec.workspace),
                agent=spec.name,
                config=spec.metadata,
                config_folder=Path(spec.config_folder) if spec.config_folder else None,
                task=lambda: facts.current_task(session),
                base=spec.base,
            )
        )
        session.workspace_changed = metadata.poke
        mcp = LazyMcp(session, metadata)
        api = SidecarApi(session, metadata, closing)
        host = sockets[1].getsockname()[0] if tcp is not None else None
        app = web.Guard(make_app(api, metadata, mcp), token=token, hosts=[host] if host else (), open_paths=OPEN_PATHS)
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", server_header=False,
                timeout_graceful_shutdown=1, timeout_keep_alive=KEEP_ALIVE_SECONDS, ws="none",
            )
        )  # fmt: skip
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_on_signal, session, name="signals")
            group.start_soon(mcp.run, name="mcp")
            group.start_soon(_tell_metadata, metadata, session, name="metadata-pulse")
            group.start_soon(_serve_http, server, sockets, served, name="http")
            own_start = proctree.started_at(os.getpid()) or 0.0
            url = None
            if tcp is not None:
                host, port = sockets[1].getsockname()[:2]
                url = f"http://{host}:{port}"
            address = files.Address(
                pid=os.getpid(),
                started_at=own_start,
                socket=str(path),
                url=url,
                identity=proctree.identity(os.getpid()) or "",
            )
            write_private(folder / files.ADDRESS_FILE, address)
            log.info("serving agent %s on %s", spec.name, path)
            await session.run()
            closing.set()
            metadata.close_streams()
            session.pulse.beat()
            await anyio.sleep(0.05)  # the streams send their last facts
            server.should_exit = True
            with anyio.move_on_after(2):
                await served.wait()
            group.cancel_scope.cancel()
        (folder / files.ADDRESS_FILE).unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    log.info("agent %s is stopped", spec.name)


async def _serve_http(server: uvicorn.Server, sockets: list[socket.socket], served: anyio.Event) -> None:
    await server._serve(sockets)
    served.set()


async def _stop_on_signal(session: Session) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for number in received:
            session.stop(f"signal {number.name}")


async def _tell_metadata(metadata: MetadataService, session: Session) -> None:
    """A change of the metadata is a change of the agent's facts."""
    async for _ in metadata.follow(metadata.revision):
        session.pulse.beat()
