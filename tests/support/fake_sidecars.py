"""Many sidecars in one process: `python -m support.fake_sidecars STATE REPO NUMBER [--changes-per-second N]`.

Writes what a hub needs to find them (`agent.json`, `sidecar.json` with this process's pid, a unix socket
each) and answers the part of the sidecar's contract that a hub uses to follow an agent: `GET /health`,
`GET /v1/agent`, `GET /v1/tasks`, `GET /v1/log`, `GET /metadata`, and `GET /v1/events?facts=true` as an
endless stream. Prints `ready` when all of them listen; ends with its standard input.

`--kinds ok,none,hangs,dead,ahead` has the first, second, ... of them (round and round) have no metadata,
hang when asked for it, drop the connection, or have a clock that is an hour ahead.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from quarterdeck import proctree
from quarterdeck.files import write_private
from quarterdeck.fleet.model import AgentRecord
from quarterdeck.fleet.records import RECORD_FILE
from quarterdeck.metadata.model import API_VERSION, iso
from quarterdeck.sidecar import place, spec
from quarterdeck.sidecar.model import LogPage, SidecarFacts, Task, TaskPage, UsageTotals
from quarterdeck.sidecar.spec import Address
from quarterdeck.sidecar.stream import HEARTBEAT_SECONDS, frame

encode = msgspec.json.Encoder().encode


class FakeSidecar:
    """One agent that is busy with a task, and tells of a change of it whenever `change` is called."""

    def __init__(self, state: Path, repo: Path, number: int, kind: str = "ok") -> None:
        self.kind = kind
        self.name = f"sim-{number:04d}"
        self.folder = state / "agents" / self.name
        now = time.time()
        self.record = AgentRecord(
            id=f"{self.name}-{os.getpid()}",
            name=self.name,
            project=repo.name,
            role="coder",
            provider="scripted",
            repo=str(repo),
            base="main",
            created_at=now,
            branch=f"qd/{self.name}",
            workspace=str(repo),
            base_sha="0" * 40,
            provisioned_at=now,
            started_at=now,
        )
        task = Task(
            id=f"task-{number}",
            description=f"Make the test number {number} pass, and say in two sentences what was wrong with it.",
            state="started",
            queued_at=now,
            sent_at=now,
            accepted_at=now,
            started_at=now,
            incarnation=1,
        )
        self.facts = SidecarFacts(
            agent=self.name,
            incarnation=1,
            revision=1,
            observed_at=now,
            session="running",
            status="busy",
            activity="working",
            needs_attention=[],
            sidecar_pid=os.getpid(),
            sidecar_started_at=proctree.started_at(os.getpid()) or 0.0,
            agent_pid=os.getpid(),
            session_id=f"session-{number}",
            provider="scripted",
            provider_version="1",
            started_at=now,
            last_event_at=now,
            current_task=task,
            usage=UsageTotals(input_tokens=1200, output_tokens=340, cost_usd=0.02),
            metadata={"git.branch": f"qd/{self.name}", "git.dirty": True, "git.ahead": 1, "git.behind": 0},
        )
        self._changed = asyncio.Event()

    async def serve(self) -> asyncio.Server:
        """Write the files and listen."""
        self.folder.mkdir(mode=0o700, parents=True)
        write_private(self.folder / RECORD_FILE, self.record)
        path = place.socket_path(self.folder)
        server = await asyncio.start_unix_server(self._connection, path, backlog=64)
        own = proctree.identity(os.getpid()) or ""
        write_private(
            self.folder / spec.ADDRESS_FILE, Address(pid=os.getpid(), started_at=0.0, socket=str(path), identity=own)
        )
        return server

    def change(self) -> None:
        """Something happened: another revision, another count of commits, which a list of agents shows."""
        revision = self.facts.revision + 1
        metadata = {**self.facts.metadata, "git.ahead": revision}
        now = time.time()
        self.facts = replace(self.facts, revision=revision, observed_at=now, last_event_at=now, metadata=metadata)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                length = 0
                while (header := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = header.decode().partition(":")
                    if name.lower() == "content-length":
                        length = int(value)
                if length:
                    await reader.readexactly(length)
                path, _, query = target.partition("?")
                if method == "GET" and path == "/v1/events":
                    await self._stream(writer, facts="facts=true" in query)
                    return
                if path == "/metadata" and self.kind == "dead":
                    return
                if path == "/metadata" and self.kind == "hangs":
                    await asyncio.sleep(3600)
                status, answer = self._answer(method, path)
                body = encode(answer)
                head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, path: str) -> tuple[str, Any]:
        answers: dict[str, Any] = {
            "/health": {"status": "ok", "agent": self.name, "incarnation": 1, "version": "0", "problems": []},
            "/v1/agent": replace(self.facts, observed_at=time.time()),
            "/v1/tasks": TaskPage(tasks=[t for t in [self.facts.current_task] if t], total_count=1),
            "/v1/log": LogPage(entries=[], total_count=0, next_cursor=None),
            "/metadata": self._metadata(),
        }
        if path == "/metadata" and self.kind == "none":
            error = {"error": {"code": "NOT_FOUND", "message": "this agent has no metadata", "hint": ""}}
            return "404 Not Found", error
        if method == "POST" and path == "/v1/stop":
            return "202 Accepted", {"status": "stopping"}
        if method == "GET" and path in answers:
            return "200 OK", answers[path]
        error = {"error": {"code": "UNAVAILABLE", "message": "a simulated sidecar does not do that", "hint": ""}}
        return "503 Service Unavailable", error

    def _metadata(self) -> dict[str, Any]:
        now = time.time()
        entries = {
            key: {
                "value": value, "error": None, "source": "git", "observed_at": iso(now), "age_seconds": 0.0,
                "stale": False, "schema": {"description": "", "include_in_list": True},
            }
            for key, value in self.facts.metadata.items()
        }  # fmt: skip
        theirs = now + (3600 if self.kind == "ahead" else 0)
        meta = {"version": API_VERSION, "agent": self.name, "revision": 1, "at": iso(theirs), "collected_in_ms": 0.0}
        return {"data": entries, "meta": meta}

    async def _stream(self, writer: asyncio.StreamWriter, *, facts: bool) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        while True:
            changed = self._changed
            if facts:
                _chunk(writer, frame("facts", self.facts))
            await writer.drain()
            while self._changed is changed:
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    _chunk(writer, b": alive\n\n")
                    await writer.drain()


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def run(
    state: Path, repo: Path, number: int, changes_per_second: float, kinds: tuple[str, ...] = ("ok",)
) -> None:
    """Serve until standard input ends."""
    # Two descriptors for each of them: the listening socket and the hub's connection.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number * 4 + 100
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    sidecars = [FakeSidecar(state, repo, n, kinds[n % len(kinds)]) for n in range(number)]
    servers = [await sidecar.serve() for sidecar in sidecars]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, ended.set)
    print("ready", flush=True)
    turn = 0
    while not ended.is_set():
        try:
            await asyncio.wait_for(ended.wait(), 1 / changes_per_second if changes_per_second else None)
        except TimeoutError:
            sidecars[turn % number].change()
            turn += 1
    for server in servers:
        server.close()
    # Hundreds of streams are open still, and nothing of this process is needed any more.
    os._exit(0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("repo", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--changes-per-second", type=float, default=0)
    parser.add_argument("--kinds", default="ok")
    given = parser.parse_args(sys.argv[1:])
    kinds = tuple(given.kinds.split(","))
    asyncio.run(run(given.state, given.repo, given.number, given.changes_per_second, kinds))


if __name__ == "__main__":
    main()
