"""The hub's composition root: one process, one port, everything entered into one stack."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import anyio
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from quarterdeck import __version__, config, proctree, web
from quarterdeck.errors import InvalidInput, Unavailable
from quarterdeck.events import Bus, Event
from quarterdeck.fleet.backends.local import LocalBackend
from quarterdeck.fleet.backends.nursery import Nursery
from quarterdeck.fleet.service import Fleet
from quarterdeck.hub import logfile, place
from quarterdeck.hub.http import HubApi, document
from quarterdeck.hub.metadata_http import MetadataProxy
from quarterdeck.hub.service import Hub
from quarterdeck.serving import KEEP_ALIVE_SECONDS

log = logging.getLogger(__name__)
MAX_EVENT_FILE_BYTES = 20_000_000
_OPEN_FILES = 16_384


@dataclass(frozen=True, kw_only=True)
class HubSettings:
    """What a hub is started with; `folder` is where its quarterdeck.toml is, or would be."""

    folder: Path
    state: Path
    host: str
    port: int
    log_level: str = "info"


def settings(folder: Path, *, host: str | None = None, port: int | None = None) -> HubSettings:
    """From arguments, the environment and the configuration file, in this order. Raises `InvalidInput`."""
    file = config.load(folder)
    host = host or config.variable("QD_HOST") or file.hub.host
    if host not in ("127.0.0.1", "::1", "localhost"):
        raise InvalidInput(
            f"the hub listens on loopback only, not on {host}",
            hint="until accounts come, reach it from elsewhere through `ssh -L 7400:127.0.0.1:7400`",
        )
    return HubSettings(
        folder=folder,
        state=config.state_dir(),
        host=host,
        port=port if port is not None else config.number("QD_PORT", file.hub.port),
        log_level=config.variable("QD_LOG_LEVEL") or "info",
    )


@asynccontextmanager
async def open_hub(given: HubSettings) -> AsyncIterator[Hub]:
    """The hub's service without any front door. The state folder's lock must be held."""
    bus = Bus()
    file = config.with_environment(config.load(given.folder))
    nursery = Nursery(place.prepare(given.state) / "nursery.log")
    backend = LocalBackend(given.state / "agents", log_level=given.log_level, nursery=nursery)
    async with AsyncExitStack() as stack:
        # Not buffered: what a full disk refuses is lost, and does not stand in the way of what comes after.
        events = stack.enter_context((place.prepare(given.state) / place.EVENTS_FILE).open("ab", buffering=0))
        bus.subscribe(_write_to(events))
        bus.subscribe(lambda event: log.info("%s %s", type(event).__name__, _brief(event)))
        helpers = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(helpers.cancel_scope.cancel)
        helpers.start_soon(nursery.run, name="nursery")
        fleet = await stack.enter_async_context(Fleet.open(file, given.folder, given.state, backend, bus))
        yield Hub(fleet, given.folder, given.state)


def _write_to(file: FileIO) -> Callable[[Event], None]:
    def write(event: Event) -> None:
        if file.tell() > MAX_EVENT_FILE_BYTES:
            file.seek(0)
            file.truncate()
        file.write(msgspec.json.encode({"event": type(event).__name__, **asdict(event)}) + b"\n")

    return write


def _brief(event: Event) -> str:
    return " ".join(f"{key}={value}" for key, value in asdict(event).items() if key != "at" and value is not None)


def api_table(hub: Hub, closing: anyio.Event) -> list[web.Route]:
    """Every call below `/api`, which docs/http.md is made from as well."""
    return [*MetadataProxy(hub.fleet).routes(), *HubApi(hub, closing).routes()]


@asynccontextmanager
async def make_app(
    hub: Hub, closing: anyio.Event, *, token: str | None, extend: Callable[[Any], None] = lambda server: None
) -> AsyncIterator[ASGIApp]:
    """The web application: MCP at /mcp, the HTTP API below /api, all behind the token and the Host check.

    `extend` may add to the MCP server before it serves; the conformance run does (tests/conformance).
    """
    from quarterdeck.hub.mcp import make_server

    tools = make_server(hub)
    extend(tools)
    mcp = tools.http_app(path="/", stateless_http=True, json_response=False)
    table = api_table(hub, closing)
    described = document(table)

    async def openapi(call: web.Call) -> Any:
        return described

    async def health(call: web.Call) -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    extra = [
        web.Route("GET", "/api/openapi.json", openapi, "This document", answer=dict),
        web.Route("GET", "/health", health, "Whether the hub answers", answer=dict),
    ]
    app = Starlette(routes=[*web.build([*table, *extra]), Mount("/mcp", mcp)], exception_handlers=web.NO_ROUTE)
    async with mcp.router.lifespan_context(mcp):
        yield web.Guard(_slashless_mcp(app), token=token, open_paths=("/health",))


def _slashless_mcp(app: ASGIApp) -> ASGIApp:
    """Serve `/mcp` itself; a mount alone would answer it with a redirect, which MCP clients do not follow."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/mcp":
            scope = {**scope, "path": "/mcp/", "raw_path": b"/mcp/"}
        await app(scope, receive, send)

    return call


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `Unavailable` when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="choose another port: qd up --port 0 takes a free one",
        ) from error
    listener.listen(256)
    return listener


async def serve(given: HubSettings, ready: Callable[[str, str], None] = lambda url, token: None) -> None:
    """Run the hub until SIGTERM or SIGINT; agents live on. `ready` gets the URL and the token.

    Raises `Conflict` when another hub holds the state folder, `StorageRefused`, `Unavailable` (port taken).
    """
    with place.lock(given.state):
        token = place.token(given.state)
        listener = bind(given.host, given.port)
        port = listener.getsockname()[1]
        url = f"http://{'[::1]' if given.host == '::1' else given.host}:{port}"
        closing = anyio.Event()
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(open_hub(given))
            app = await stack.enter_async_context(make_app(hub, closing, token=token))
            server = uvicorn.Server(
                uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False,
                               timeout_graceful_shutdown=2, timeout_keep_alive=KEEP_ALIVE_SECONDS, ws="none")
            )  # fmt: skip
            group = await stack.enter_async_context(anyio.create_task_group())
            group.start_soon(_serve_http, server, listener, name="http")
            group.start_soon(logfile.keep_small, given.state / "hub" / place.LOG_FILE, name="log")
            place.announce(
                given.state,
                place.HubInfo(
                    pid=os.getpid(),
                    started_at=proctree.started_at(os.getpid()) or 0.0,
                    url=url,
                    folder=str(given.folder),
                    version=__version__,
                    identity=proctree.identity(os.getpid()) or "",
                ),
            )
            ready(url, token)
            log.info("hub %s on %s for %s", __version__, url, given.folder)
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for number in signals:
                    log.info("%s: the hub ends, the agents work on", number.name)
                    break
            closing.set()
            server.should_exit = True
            await anyio.sleep(0.1)
            group.cancel_scope.cancel()
        (given.state / "hub" / place.INFO_FILE).unlink(missing_ok=True)


async def _serve_http(server: uvicorn.Server, listener: socket.socket) -> None:
    await server._serve([listener])


def run(given: HubSettings, ready: Callable[[str, str], None] = lambda url, token: None) -> None:
    """`serve` as a whole process, on uvloop."""
    os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")
    proctree.allow_open_files(_OPEN_FILES)
    anyio.run(serve, given, ready, backend_options={"use_uvloop": True})
