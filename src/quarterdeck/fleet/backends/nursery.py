"""The hub's side of the nursery: a process that forks ready sidecars (see sidecar/nursery.py)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from quarterdeck import detached, process
from quarterdeck.config import base_environment
from quarterdeck.errors import QuarterdeckError

log = logging.getLogger(__name__)
_ANSWER_SECONDS = 5.0
_MAX_LINE = 64 * 1024


class Nursery:
    """Forks sidecars. `run` holds the process; while it is not ready, or gone, `fork` gives None."""

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._child: process.Child | None = None
        self._out: BufferedByteReceiveStream | None = None
        self._lock = anyio.Lock()

    async def run(self) -> None:
        """Start the process and keep it until cancelled."""
        if not detached.can_fork():
            return
        command = [sys.executable, "-m", "quarterdeck.sidecar.nursery"]
        child = await process.Child.start(
            command, cwd=self._log_file.parent, env=base_environment(), stderr=self._log_file
        )
        try:
            out = BufferedByteReceiveStream(child.stdout)
            await out.receive_until(b"\n", _MAX_LINE)
            self._child, self._out = child, out
            await child.wait()
            log.warning("the nursery ended (%s); sidecars are started one by one from now on", child.returncode)
        except (anyio.IncompleteRead, anyio.ClosedResourceError):
            log.warning("the nursery did not come up, see %s", self._log_file)
        finally:
            self._child = self._out = None
            await child.stop_alone()

    async def fork(self, folder: Path, env: Mapping[str, str], log_level: str) -> int | None:
        """Fork a sidecar for a folder; its pid, or None where the nursery cannot (start it the slow way then)."""
        async with self._lock:
            child, out = self._child, self._out
            if child is None or out is None:
                return None
            request = json.dumps({"folder": str(folder), "env": dict(env), "log_level": log_level})
            try:
                # Not to be cut off half-way by anybody else: the answer belongs to this request.
                with anyio.fail_after(_ANSWER_SECONDS, shield=True):
                    await child.stdin.send(request.encode() + b"\n")
                    answer = json.loads(await out.receive_until(b"\n", _MAX_LINE))
            except (TimeoutError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError,
                    anyio.ClosedResourceError, QuarterdeckError, ValueError) as error:  # fmt: skip
                log.warning("the nursery did not answer: %r", error)
                self._child = None
                # Else it might fork a second sidecar for this folder when it comes to itself.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
                return None
        if "pid" not in answer:
            log.warning("the nursery could not fork: %s", answer.get("error"))
            return None
        return int(answer["pid"])
