"""Is a started container well? Its healthcheck says, else its published port, else that it goes on running."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

import anyio

from quarterdeck.node.lease import step
from quarterdeck.node.model import ComponentSpec, Healthcheck, Port
from quarterdeck.node.runtime import Container, Runtime

SETTLE_SECONDS = 0.1
_STEP_SECONDS = 0.05
_ENDED = "it ended"


class Alive:
    """Whether a process still runs, without asking podman: by its pidfd, which no other process can take over."""

    def __init__(self, pid: int) -> None:
        self.descriptor = -1
        with suppress(OSError):
            self.descriptor = os.pidfd_open(pid) if pid > 0 else -1

    def __bool__(self) -> bool:
        if self.descriptor < 0:
            return False
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return not poll.poll(0)

    async def ended(self) -> None:
        """Wait for its end."""
        if self.descriptor >= 0:
            await anyio.wait_readable(self.descriptor)

    def close(self) -> None:
        """Let go."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


async def trouble(runtime: Runtime, name: str, spec: ComponentSpec, *, seconds: float) -> tuple[str, Container]:
    """Wait until a started container is well, at most `seconds`; what is wrong (empty: nothing) and the container."""
    container = (await runtime.inspect(name)).container
    alive = Alive(container.pid)
    try:
        with step(seconds):
            reason = await _trouble(runtime, name, spec, alive, seconds)
    finally:
        alive.close()
    if reason is None:
        # Well, and nothing could have changed since it was looked at.
        return "", container
    end = time.monotonic() + 1
    while True:
        container = (await runtime.inspect(name)).container
        # Podman writes an end down some milliseconds after the process is gone.
        if container.state != "running" or reason != _ENDED or time.monotonic() > end:
            break
        await anyio.sleep(0.01)
    if container.state != "running":
        reason = _ended(spec, container)
    return reason, container


async def _trouble(runtime: Runtime, name: str, spec: ComponentSpec, alive: Alive, seconds: float) -> str | None:
    if spec.healthcheck is not None:
        reason = await _checked(runtime, name, spec.healthcheck, alive, seconds)
        # Its health is worth another look.
        return reason or ""
    if port := next((each for each in spec.ports if each.protocol == "tcp"), None):
        return await _answers(port, alive, seconds)
    with anyio.move_on_after(SETTLE_SECONDS):
        if alive:
            await alive.ended()
    return None if alive else _ENDED


def _ended(spec: ComponentSpec, container: Container) -> str:
    if container.state == "exited" and container.exit_code == 0 and spec.restart != "always":
        return ""
    code = "" if container.exit_code is None else f" with exit code {container.exit_code}"
    return f"it is {container.state}{code}"


async def _checked(runtime: Runtime, name: str, check: Healthcheck, alive: Alive, seconds: float) -> str | None:
    end = time.monotonic() + min(seconds, check.start_period + check.interval * check.retries + check.timeout)
    wait = _STEP_SECONDS
    while alive:
        # One that hangs has failed: podman itself says so only when it has come to its end.
        with anyio.move_on_after(min(check.timeout, max(0.1, end - time.monotonic()))):
            if await runtime.healthcheck(name) == "healthy":
                return None
        if time.monotonic() + wait > end:
            return f"its healthcheck still fails: {' '.join(check.command)[:200]}"
        with anyio.move_on_after(wait):
            await alive.ended()
        wait = min(wait * 2, check.interval, 2)
    return _ENDED


async def _answers(port: Port, alive: Alive, seconds: float) -> str | None:
    address = port.host_ip if port.host_ip not in ("", "0.0.0.0", "::") else "127.0.0.1"  # noqa: S104
    end = time.monotonic() + seconds
    wait = 0.01
    while alive:
        with suppress(OSError, TimeoutError), anyio.fail_after(2):
            async with await anyio.connect_tcp(address, port.host):
                return None
        if time.monotonic() + wait > end:
            return f"nothing answers on port {port.host} after {seconds:g} s"
        with anyio.move_on_after(wait):
            await alive.ended()
        wait = min(wait * 2, 0.5)
    return _ENDED
