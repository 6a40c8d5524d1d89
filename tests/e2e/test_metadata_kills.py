"""The server is killed under concurrent writes over HTTP: what it answered is there when it is back."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import httpx2
import pytest
from metadata_server import Server, running

WRITERS = 6


def write_until_it_dies(server: Server, worker: int, first: int, acknowledged: dict[str, int]) -> None:
    """Each write is of one number under two keys, all or nothing; remembers what was answered."""
    with server.client() as client:
        for number in range(first, first + 100_000):
            try:
                answer = client.post("/metadata", json={"data": {f"w{worker}": number, f"twin{worker}": number}})
            except httpx2.HTTPError:
                return
            assert answer.status_code == 200, answer.text
            acknowledged[f"w{worker}"] = number


@pytest.mark.parametrize(
    "kills",
    [pytest.param(12, marks=pytest.mark.slow), pytest.param(100, marks=[pytest.mark.fault, pytest.mark.timeout(900)])],
)
def test_every_write_that_was_answered_survives_kills(tmp_path: Path, repo: Path, kills: int) -> None:
    acknowledged: dict[str, int] = {}
    for killed in range(kills + 1):
        with running(repo, tmp_path / "m" / "a") as server:
            with server.client() as client:
                assert client.get("/health").json()["problems"] == []
                data = client.get("/metadata?source=stored").json()["data"]
            found = {key: entry["value"] for key, entry in data.items()}
            for key, number in acknowledged.items():
                assert found[key] >= number, "an answered write is lost"
                assert found[key] == found[f"twin{key[1:]}"], "half of a write is there"
            if killed == kills:
                break
            workers = [
                threading.Thread(target=write_until_it_dies, args=(server, n, found.get(f"w{n}", 0) + 1, acknowledged))
                for n in range(WRITERS)
            ]
            for worker in workers:
                worker.start()
            # A loaded machine needs longer until it writes at all; then it is killed at any moment.
            before, end = sum(acknowledged.values()), time.monotonic() + 30
            while sum(list(acknowledged.values())) < before + 10 and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 0.4))
            server.kill()
            for worker in workers:
                worker.join(30)
                assert not worker.is_alive()
    assert sum(acknowledged.values()) >= 10 * kills
