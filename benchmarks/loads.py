"""Load on the metadata server and on etcd beside it: `wrk`, what it is to send, and an etcd to send it to."""

from __future__ import annotations

import base64
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2


@dataclass
class Load:
    """What wrk saw: calls per second, milliseconds, and answers that were not right."""

    rps: float
    p50: float
    p95: float
    p99: float
    total: int
    errors: int

    def __str__(self) -> str:
        return f"{self.rps:8,.0f}/s  p95 {self.p95:6.2f} ms"


_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %.3f %.3f %.3f %d\\n", summary.requests, summary.duration,
    latency:percentile(50)/1000, latency:percentile(95)/1000, latency:percentile(99)/1000,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def wrk(url: str, *, connections: int, seconds: float, script: str = "", token: str | None = None) -> Load:
    """One load from one wrk thread."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False) as file:
        file.write(script + _DONE)
    headers = ["-H", f"Authorization: Bearer {token}"] if token else []
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", file.name, *headers, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    Path(file.name).unlink()
    match = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) ([\d.]+) (\d+)", done.stdout)
    assert match, done.stdout + done.stderr
    total, micros = int(match[1]), int(match[2])
    return Load(total / micros * 1e6, float(match[3]), float(match[4]), float(match[5]), total, int(match[6]))


def put_script(size: int, keys: int = 1000) -> str:
    """PUTs of values of this many bytes to changing keys, as our API takes them."""
    return f"""
local n = 0
local body = '{{"value":"' .. string.rep("x", {size}) .. '"}}'
request = function()
  n = n + 1
  local headers = {{["Authorization"] = wrk.headers["Authorization"]}}
  return wrk.format("PUT", "/metadata/bench/k" .. (n % {keys}), headers, body)
end
"""


def etcd_put_script(size: int, keys: int = 1000) -> str:
    """The same for etcd's gateway."""
    encoded = [base64.b64encode(f"bench/k{n}".encode()).decode() for n in range(keys)]
    value = base64.b64encode(b"x" * size).decode()
    return f"""
local keys = {{{",".join(f'"{k}"' for k in encoded)}}}
local n = 0
request = function()
  n = n + 1
  return wrk.format("POST", "/v3/kv/put", nil, '{{"key":"' .. keys[n % {keys} + 1] .. '","value":"{value}"}}')
end
"""


def etcd_get_script() -> str:
    """Reads of one key from etcd's gateway."""
    key = base64.b64encode(b"bench/k1").decode()
    return f"""request = function() return wrk.format("POST", "/v3/kv/range", nil, '{{"key":"{key}"}}') end"""


@contextmanager
def etcd(folder: Path) -> Iterator[str]:
    """A single etcd on loopback; its address."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        client, peer = (f"http://127.0.0.1:{s.getsockname()[1]}" for s in (one, two))
    command = [
        "etcd", "--data-dir", str(folder), "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"default={peer}", "--log-level", "error",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                if httpx2.get(f"{client}/health", trust_env=False).status_code == 200:
                    break
            except httpx2.HTTPError:
                time.sleep(0.05)
        yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
