"""kill -9 of the AI, of the sidecar and of the hub at random moments, while tasks run and agents come and go.

Every task writes down that it ran (`@once`), so that a second run would show. Afterwards the recorded end
of every task is compared with what its files say, and nothing may be left over or have vanished.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest

from quarterdeck import proctree
from quarterdeck.files import read_json
from quarterdeck.fleet.backends.local import LocalBackend
from quarterdeck.fleet.model import AgentRecord
from quarterdeck.fleet.records import Records
from quarterdeck.sidecar.model import FINAL
from quarterdeck.sidecar.spec import ADDRESS_FILE, Address
from support.hub import CONFIG, HubClient, HubProcess, whole_process

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.timeout(420)]
KILLS = int(os.environ.get("QD_TEST_KILLS", "60"))
NAMES = ["anna", "bert", "cleo"]
LIMIT_SECONDS = 330


class Storm:
    """The workers, the killer, and what they saw."""

    def __init__(self, hub: HubProcess, rng: random.Random) -> None:
        self.hub = hub
        self.rng = rng
        self.over = False
        self.kills: Counter[str] = Counter()
        self.ends: dict[str, tuple[str, str]] = {}
        self.given: dict[str, dict[str, str]] = {}
        self.deleted: set[str] = set()
        self.noticed: list[float] = []
        self.restarts = 0
        self.numbers = iter(range(1, 10_000))

    # -- talking to a hub that may be killed at any moment ------------------------------------------------

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """(status, body) of a request, repeated until a hub answers it."""
        while True:
            client = self.hub.client
            if client is not None:
                with suppress(httpx2.HTTPError, RuntimeError):
                    answer = await client.http.request(method, path, json=body, headers=headers or {})
                    return answer.status_code, answer.json()
            await anyio.sleep(0.05)

    async def history(self, name: str) -> list[Any]:
        """All tasks of an agent that the hub tells now; none when it cannot."""
        found: list[Any] = []
        page = 1
        while True:
            status, body = await self.ask("GET", f"/api/agents/{name}/tasks?page={page}&page_size=100")
            if status != 200:
                return []
            found += body["tasks"]
            if not body["has_next_page"]:
                return found
            page += 1

    def seen(self, name: str, tasks: list[Any]) -> None:
        """An end that was told once must stay what it was."""
        for task in tasks:
            if task["state"] in FINAL:
                before = self.ends.setdefault(task["id"], (name, task["state"]))
                assert before == (name, task["state"]), f"task {task['id']} was {before}, now {task['state']}"

    # -- workers -----------------------------------------------------------------------------------------

    def script(self, number: int) -> str:
        """A task that proves with files what of it ran; every third also reports."""
        steps = [f"task {number}", f"@once ran-{number}", f"@sleep {self.rng.uniform(0.05, 0.9):.2f}"]
        if number % 3 == 0:
            steps += [f'@mcp report_task {{"summary": "report {number}"}}', f"@once reported-{number}"]
        if number % 4 == 0:
            steps += [f"@write work-{number}.txt {number}", f"@commit work {number}"]
        return "\n".join([*steps, f"@once done-{number}"])

    async def work(self, name: str) -> None:
        """Give one task after the other, bringing the agent back whenever it is down."""
        while not self.over:
            number = next(self.numbers)
            key = f"key-{number}"
            await self.up(name)
            text = self.script(number)
            while True:
                status, task = await self.ask(
                    "POST", f"/api/agents/{name}/tasks", {"description": text}, {"Idempotency-Key": key}
                )
                if status in (200, 201):
                    self.given.setdefault(name, {})[task["id"]] = text
                    break
                assert status in (409, 503), (status, task)
                await anyio.sleep(0.1)
                await self.up(name)
            while not self.over:
                tasks = await self.history(name)
                self.seen(name, tasks)
                if any(t["id"] == task["id"] and t["state"] in FINAL for t in tasks):
                    break
                await self.up(name)
                await anyio.sleep(0.05)

    async def up(self, name: str) -> None:
        """Bring the agent back where it is down."""
        while True:
            status, shown = await self.ask("GET", f"/api/agents/{name}")
            assert status == 200, f"agent {name} vanished: {shown}"
            if shown["status"] in ("idle", "busy", "canceling"):
                return
            if shown["status"] in ("failed", "stopped", "canceled"):
                assert shown["failure"], shown
                status, body = await self.ask("POST", f"/api/agents/{name}/restart")
                assert status in (202, 409, 503), body
                self.restarts += 1
            await anyio.sleep(0.1)

    async def churn(self) -> None:
        """Create an agent with a first task, see its end, delete it; again and again."""
        while not self.over:
            number = next(self.numbers)
            name = f"tmp-{number}"
            body = {"name": name, "task": f"task {number}\n@once ran-{number}\n@once done-{number}\n@commit x"}
            status, made = await self.ask("POST", "/api/agents", body)
            assert status in (202, 409), made  # 409: the hub was killed after it had recorded it
            end = time.monotonic() + 60
            while time.monotonic() < end:
                await self.up(name)
                tasks = await self.history(name)
                self.seen(name, tasks)
                if tasks and tasks[-1]["state"] in FINAL:
                    break
                await anyio.sleep(0.05)
            else:
                raise AssertionError(f"the first task of {name} was never over: {await self.history(name)}")
            if tasks[-1]["state"] == "succeeded":
                file = Path((await self.ask("GET", f"/api/agents/{name}"))[1]["workspace"]) / f"ran-{number}"
                assert len(file.read_text().splitlines()) == 1
            while (await self.ask("GET", f"/api/agents/{name}"))[0] != 404:
                status, gone = await self.ask("DELETE", f"/api/agents/{name}")
                assert status in (200, 404, 503), gone
            self.deleted.add(name)

    # -- the killer --------------------------------------------------------------------------------------

    def records(self) -> list[AgentRecord]:
        """The living agents, read past the hub."""
        return [r for r in Records(self.hub.state).load() if r.deleting_at is None]

    async def kill_all_along(self) -> None:
        """Kill until it is enough."""
        end = time.monotonic() + LIMIT_SECONDS
        while self.kills.total() < KILLS and time.monotonic() < end:
            await anyio.sleep(self.rng.uniform(0.05, 1.0))
            kind = self.rng.choices(["ai", "sidecar", "hub"], [4, 3, 2])[0]
            if kind == "hub":
                await self.hub.end(signal.SIGKILL)
                self.kills["hub"] += 1
                await self.hub.start()
                continue
            records = self.records()
            if records and self.kill_one(kind, self.rng.choice(records)):
                self.kills[kind] += 1
        self.over = True

    def kill_one(self, kind: str, record: AgentRecord) -> bool:
        """Kill the AI or the sidecar of an agent; False when there is none just now."""
        if kind == "sidecar":
            address = read_json(self.hub.state / "agents" / record.name / ADDRESS_FILE, Address)
            if address is None or not proctree.is_alive(address.pid, address.identity):
                return False
            os.kill(address.pid, signal.SIGKILL)
            return True
        for process in proctree.marked(record.id):
            with suppress(psutil.Error):
                if any("quarterdeck.scripted.agent" in part for part in process.cmdline()):
                    process.kill()
                    return True
        return False

    def running(self, record: AgentRecord) -> tuple[int, int]:
        """How many sidecars and how many AI programs there are of an agent."""
        sidecars = proctree.working_in(self.hub.state / "agents" / record.name, "quarterdeck.sidecar")
        programs = 0
        for process in proctree.marked(record.id):
            with suppress(psutil.Error):
                programs += any("quarterdeck.scripted.agent" in part for part in process.cmdline())
        return len(sidecars), programs

    # -- afterwards --------------------------------------------------------------------------------------

    async def settle(self) -> dict[str, list[Any]]:
        """Bring everything up again and wait until no task is open; the whole history."""
        found: dict[str, list[Any]] = {}
        with anyio.fail_after(60):
            for name in NAMES:
                while True:
                    await self.up(name)
                    found[name] = await self.history(name)
                    self.seen(name, found[name])
                    if found[name] and all(t["state"] in FINAL for t in found[name]):
                        break
                    await anyio.sleep(0.1)
        # What is left of an earlier life would be found beside what runs now.
        with anyio.move_on_after(30):
            while any(self.running(r) != (1, 1) for r in self.records()):
                await anyio.sleep(0.1)
        there = {r.name: self.running(r) for r in self.records()}
        assert set(there.values()) == {(1, 1)}, f"sidecars and AI programs: {there}"
        return found


def lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


async def reports_of(client: HubClient, name: str) -> set[str]:
    """The text of every report in an agent's log."""
    found: set[str] = set()
    page = 1
    while True:
        answer = await client.get(f"/api/agents/{name}/log", page=page, page_size=100)
        found |= {e["text"] for e in answer["entries"] if e["kind"] == "report"}
        if not answer["has_next_page"]:
            return found
        page += 1


async def test_kills_at_random_moments(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("QD_TEST_SEED") or time.time_ns() % 1_000_000)
    began = time.monotonic()
    with capsys.disabled():
        print(f"\nseed {seed} (QD_TEST_SEED)")
    async with whole_process(repo, CONFIG) as hub:
        storm = Storm(hub, random.Random(seed))
        for name in NAMES:
            restart = "always" if name == "cleo" else "never"
            assert (await storm.ask("POST", "/api/agents", {"name": name, "restart": restart}))[0] == 202
        async with anyio.create_task_group() as group:
            for name in NAMES:
                group.start_soon(storm.work, name)
            group.start_soon(storm.churn)
            group.start_soon(storm.kill_all_along)
        history = await storm.settle()
        assert hub.client is not None
        table: Counter[str] = Counter()
        lost_but_done = 0
        for name, tasks in history.items():
            shown = await hub.client.show(name)
            workspace = Path(shown["workspace"])
            told = await reports_of(hub.client, name)
            recorded = {t["id"]: t for t in tasks}
            given = storm.given.get(name, {})
            assert set(given) == set(recorded), "a task vanished, or was made twice"
            for task_id, text in given.items():
                number, task = int(text.split()[1]), recorded[task_id]
                ran, done = lines(workspace / f"ran-{number}"), lines(workspace / f"done-{number}")
                assert ran <= 1, f"task {number} ran {ran} times"
                assert done <= 1, f"task {number} ended {done} times"
                if task["state"] == "succeeded":
                    assert ran == 1, f"task {number} is told as done, but its files say otherwise"
                    assert done == 1, f"task {number} is told as done, but its files say otherwise"
                    assert task["queued_at"] <= task["accepted_at"] <= task["started_at"] <= task["ended_at"]
                else:
                    assert task["state"] == "lost", task
                    assert task["detail"], task
                    lost_but_done += done
                if (workspace / f"reported-{number}").exists():
                    assert f"report {number}" in told, f"the report of task {number} was lost"
                table[task["state"]] += 1
        listed = await hub.client.get("/api/agents", limit=1000)
        assert {a["name"] for a in listed["agents"]} >= set(NAMES)
        graves = await hub.client.get("/api/agents", status="deleted", limit=1000)
        assert {a["name"] for a in graves["agents"]} >= storm.deleted
        with capsys.disabled():
            print(f"kills   {dict(storm.kills)}, in all {storm.kills.total()}")
            print(f"tasks   {dict(table)}, {lost_but_done} of the lost had ended just before")
            print(f"agents  {len(storm.deleted)} created and deleted meanwhile, {storm.restarts} restarts asked for")
            print(f"time    {time.monotonic() - began:.0f} s")
        assert storm.kills.total() >= min(50, KILLS)
        assert table["succeeded"] > 0
        backend = LocalBackend(hub.state / "agents")
        await hub.end()
        for record in storm.records():
            await backend.stop(record, grace_seconds=5)
            assert proctree.marked(record.id) == []
