"""`python -m conformance.server`: a hub for the official runner, without a token, with the runner's fixtures.

Serves a repository and a state folder of its own on a free port of loopback; prints the URL of its MCP
server and ends with its standard input.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import uvicorn
from anyio.to_thread import run_sync

from conformance import fixtures
from quarterdeck.hub import place
from quarterdeck.hub.app import HubSettings, bind, make_app, open_hub

IDENTITY = ["-c", "user.name=Conformance", "-c", "user.email=conformance@example.invalid"]


async def serve(folder: Path) -> None:
    """Serve until standard input ends."""
    repo, state = folder / "repo", folder / "state"
    repo.mkdir()
    for command in (["init", "-q", "-b", "main"], [*IDENTITY, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *command], cwd=repo, check=True)
    closing = anyio.Event()
    given = HubSettings(folder=repo, state=state, host="127.0.0.1", port=0)
    async with AsyncExitStack() as stack:
        stack.enter_context(place.lock(state))
        hub = await stack.enter_async_context(open_hub(given))
        app = await stack.enter_async_context(make_app(hub, closing, token=None, extend=fixtures.add))
        listener = stack.enter_context(bind("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1, ws="none")
        )
        group = await stack.enter_async_context(anyio.create_task_group())
        group.start_soon(server._serve, [listener])
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        await run_sync(sys.stdin.read)
        closing.set()
        server.should_exit = True
        await anyio.sleep(0.2)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="qd-c-") as made:
        anyio.run(serve, Path(made))
