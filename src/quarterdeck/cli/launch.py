"""Starting and ending the hub as a process: in the background, ready when this says so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from quarterdeck import config, detached
from quarterdeck.errors import Conflict, QuarterdeckError, Unavailable, error_from_json

if TYPE_CHECKING:
    from quarterdeck.fleet.git.repository import RepoFacts
    from quarterdeck.hub.place import HubInfo

START_SECONDS = 30.0
STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_TOLD_LINES = 5


def qd_command() -> list[str]:
    """How this `qd` is called from anywhere: its name where it is on PATH, else by its whole path."""
    found = shutil.which("qd")
    own = Path(sys.executable).with_name("qd")
    if found and (not own.exists() or Path(found).resolve() == own.resolve()):
        return ["qd"]
    return [str(own)] if own.exists() else [sys.executable, "-m", "quarterdeck"]


def repository_here(folder: Path) -> RepoFacts:
    """The repository in which a folder lies. Raises `InvalidInput` when agents cannot work there."""
    import anyio

    from quarterdeck.fleet.git import repository

    async def look() -> RepoFacts:
        await repository.git_version()
        return await repository.inspect(folder)

    return anyio.run(look)


def hub_environment(folder: Path) -> dict[str, str]:
    """What a hub in the background is started with: the clean base, our own settings, the keys that the
    providers hand on, and the forges' tokens."""
    from quarterdeck.sidecar.catalog import BUILT_IN

    file = config.load(folder)
    keys = [name for table in (*BUILT_IN.values(), *file.providers.values()) for name in table.pass_env]
    keys += file.metadata.token_variables()
    return {**config.base_environment(), **config.passed([*config.VARIABLES, *keys])}


def start_detached(
    folder: Path,
    *,
    state: Path,
    host: str | None = None,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
) -> HubInfo:
    """Start the hub in the background for the repository `folder`, and wait until it answers.

    `env` is added to its environment. Raises `Conflict` (one runs already), whatever kept it from
    starting, or `Unavailable` when it did not start in time.
    """
    from quarterdeck.hub import place

    refuse_second(state)
    environment = {**hub_environment(folder), **(env or {}), "QD_STATE_DIR": str(state)}
    command = [sys.executable, "-m", "quarterdeck", "up", "--foreground", "--say-nothing", "--json"]
    command += ["--host", host] if host else []
    command += ["--port", str(port)] if port is not None else []
    log = place.prepare(state) / place.LOG_FILE
    before = log.stat().st_size if log.exists() else 0
    pid = detached.spawn(command, cwd=folder, env=environment, log=log)
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        info = place.running(state)
        if info is not None and info.pid == pid:
            return info
        if pid in detached.reap():
            raise _why_it_ended(log, before)
        time.sleep(_POLL_SECONDS)
    os.kill(pid, signal.SIGTERM)
    raise Unavailable(f"the hub did not start within {START_SECONDS:g} s and was ended", hint=f"see {log}")


def refuse_second(state: Path) -> None:
    """Raise `Conflict`, saying who it is, when a hub runs on the state folder already."""
    from quarterdeck.hub import place

    info = place.running(state)
    if info is not None:
        raise Conflict(
            f"a hub runs on {state} already: process {info.pid} at {info.url}, for {info.folder}",
            hint="use that one (`qd agents list`), end it with `qd down`, or set QD_STATE_DIR",
        )


def _why_it_ended(log: Path, offset: int) -> QuarterdeckError:
    """The error that a hub in the background left in its log as JSON, else the last lines of it."""
    with log.open("rb") as file:
        # Shorter than before: the hub has cut it (see hub/logfile.py).
        file.seek(offset if offset <= log.stat().st_size else 0)
        lines = file.read().decode(errors="replace").strip().splitlines()
    for line in reversed(lines):
        if line.startswith('{"error"'):
            return error_from_json(json.loads(line), status=500)
    told = "\n".join(lines[-_TOLD_LINES:])
    return Unavailable(f"the hub ended while it started: {told or 'it said nothing'}", hint=f"see {log}")


def end(info: HubInfo) -> None:
    """End a hub; its agents work on. Raises `Unavailable` when it does not end, and goes on running."""
    from quarterdeck import proctree

    alive = partial(proctree.is_alive, info.pid, info.identity)
    if alive():
        os.kill(info.pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while alive():
        detached.reap()
        if time.monotonic() > until:
            raise Unavailable(
                f"the hub (process {info.pid}) did not end within {STOP_SECONDS:g} s; it still runs",
                hint=f"kill -9 {info.pid} does no harm: agents work on, and the next hub finds them",
            )
        time.sleep(_POLL_SECONDS)
