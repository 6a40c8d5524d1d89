"""The metadata server beside etcd and `git status`, in one run on one disk.

    python benchmarks/metadata.py [--quick] [--json FILE] [--only store,git,gather,memory] [--soak SECONDS]

Needs `etcd` (Debian: etcd-server) and `wrk`; makes its load with authentication, validation and logging
on. Figures differ from machine to machine: compare the columns of one run.
"""
# ruff: noqa: E501 - tables of figures

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e")]
from metadata_server import Server, running  # noqa: E402

from benchmarks import etcd_grpc  # noqa: E402
from benchmarks.loads import Load, etcd, etcd_get_script, etcd_put_script, put_script, wrk  # noqa: E402

TOKEN = "benchmark-token-0123456789"
GIT_ENV = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
IDENTITY = ["-c", "user.name=b", "-c", "user.email=b@example.invalid"]


@dataclass
class Row:
    """One figure of ours, the peer's, the aim, and whether it is met (None: nothing was aimed at)."""

    name: str
    ours: str
    peer: str = ""
    aim: str = ""
    met: bool | None = None
    raw: dict[str, Any] = field(default_factory=dict)


ROWS: list[Row] = []


def row(name: str, ours: str, peer: str = "", aim: str = "", met: bool | None = None, **raw: Any) -> None:
    """Remember and show a figure."""
    found = Row(name, ours, peer, aim, met, raw)
    ROWS.append(found)
    mark = {True: "yes", False: "NO", None: ""}[met]
    print(f"{name:44} {ours:34} {peer:34} {aim:40} {mark}", flush=True)


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def both(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run calls at the same time."""
    results: list[Any] = [None] * len(calls)

    def work(index: int) -> None:
        results[index] = calls[index]()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def memory_mb(process: int) -> float:
    """Resident memory."""
    return psutil.Process(process).memory_info().rss / 1e6


def bench_store(folder: Path, seconds: float) -> None:
    """Reads, durable writes, the mixed load, health under load; etcd right after each of ours."""
    workspace = make_repository(folder / "small", 10)
    with running(workspace, folder / "store" / "a", token=TOKEN) as ours, etcd(folder / "etcd") as theirs:
        with ours.client() as client:
            for n in range(20):
                client.put(f"/metadata/bench/k{n}", json={"value": "x" * 100}).raise_for_status()
        subprocess.run(
            ["curl", "-s", "-o", "/dev/null", f"{theirs}/v3/kv/put", "-d",
             json.dumps({"key": base64.b64encode(b"bench/k1").decode(), "value": base64.b64encode(b"x" * 100).decode()})],
            check=True,
        )  # fmt: skip

        def load(path: str, connections: int, script: str = "", time_seconds: float = seconds) -> Load:
            return wrk(ours.url + path, connections=connections, seconds=time_seconds, script=script, token=TOKEN)

        def peer(connections: int, script: str, time_seconds: float = seconds) -> Load:
            return wrk(theirs, connections=connections, seconds=time_seconds, script=script)

        reading = load("/metadata/bench/k1", 100)
        while reading.total < 100_000:
            reading = load("/metadata/bench/k1", 100, time_seconds=seconds * 110_000 / reading.total)
        got = peer(100, etcd_get_script())
        aim = "p95 < 10 ms, no errors in 100,000"
        row(
            "read one, c=100",
            str(reading),
            str(got),
            aim,
            reading.p95 < 10 and reading.errors == 0,
            mine=asdict(reading),
            etcd=asdict(got),
        )
        direct = etcd_grpc.load(theirs, "range", connections=100, seconds=seconds)
        row("read one over gRPC, c=100", "", str(direct), grpc=asdict(direct))
        whole = load("/metadata", 100)
        row("read all (40 facts), c=100", str(whole), "", "p95 < 100 ms", whole.p95 < 100, mine=asdict(whole))
        for size, aim in ((100, "more than etcd's gateway"), (4000, "more than etcd's gateway")):
            for connections in (1, 100):
                mine = load("/metadata", connections, put_script(size, 1000 if size == 100 else 200))
                its = peer(connections, etcd_put_script(size, 1000 if size == 100 else 200))
                met = mine.rps > its.rps and mine.errors == 0 if connections == 100 else None
                row(f"durable writes of {size} B, c={connections}", str(mine), str(its), aim if connections == 100 else "", met,
                    mine=asdict(mine), etcd=asdict(its))  # fmt: skip
            direct = etcd_grpc.load(theirs, "put", connections=100, seconds=seconds, size=size)
            row(f"durable writes of {size} B over gRPC, c=100", "", str(direct), grpc=asdict(direct))
        healths: list[float] = []
        failed: list[int] = []
        stop = threading.Event()

        def probe() -> None:
            with ours.client() as client:
                while not stop.is_set():
                    began = time.perf_counter()
                    failed.append(client.get("/health/ready").status_code != 200)
                    healths.append((time.perf_counter() - began) * 1000)
                    time.sleep(0.02)

        prober = threading.Thread(target=probe)
        prober.start()
        mine_read, mine_write = both(
            [lambda: load("/metadata/bench/k1", 90), lambda: load("/metadata", 10, put_script(100))]
        )
        stop.set()
        prober.join()
        its_read, its_write = both([lambda: peer(90, etcd_get_script()), lambda: peer(10, etcd_put_script(100))])
        row("mixed: 90 readers", str(mine_read), str(its_read), "p95 better than etcd's gateway", mine_read.p95 < its_read.p95,
            mine=asdict(mine_read), etcd=asdict(its_read))  # fmt: skip
        row("mixed: 10 writers", str(mine_write), str(its_write), "more than etcd's gateway", mine_write.rps > its_write.rps,
            mine=asdict(mine_write), etcd=asdict(its_write))  # fmt: skip
        p95 = percentile(healths, 0.95)
        row(
            "health during the mixed load",
            f"p95 {p95:.2f} ms of {len(healths)}",
            "",
            "p95 < 20 ms",
            p95 < 20 and not any(failed),
            p95=p95,
        )
        used = memory_mb(ours.process.pid)
        row("memory after all this", f"{used:.1f} MB", "", "", None, mb=used)


def make_repository(path: Path, files: int) -> Path:
    """A repository with this many committed files."""
    path.mkdir(parents=True)
    for n in range(files):
        folder = path / f"d{n // 100}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{n}.txt").write_text(f"{n}\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], [*IDENTITY, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=path, env=GIT_ENV, check=True, capture_output=True)
    return path


def timed(call: Callable[[], Any], times: int) -> list[float]:
    """Milliseconds of each call."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append((time.perf_counter() - began) * 1000)
    return found


def bench_git(folder: Path, files: int, times: int) -> None:
    """The warm read, the fresh one beside `git status`, and a change seen on watch."""
    workspace = make_repository(folder / f"files{files}", files)

    def status() -> None:
        subprocess.run(["git", "status", "--porcelain=v2", "--branch"], cwd=workspace,
                       env={**GIT_ENV, "GIT_OPTIONAL_LOCKS": "0"}, check=True, capture_output=True)  # fmt: skip

    status()
    with (
        running(
            workspace, folder / f"meta{files}" / "a", token=TOKEN, env={"GIT_CONFIG_GLOBAL": "/dev/null"}
        ) as server,
        server.client() as client,
    ):
        wait_for(client, lambda data: data.get("git_dirty", {}).get("value") is False)
        warm = timed(lambda: client.get("/metadata").raise_for_status(), 200)
        p95 = percentile(warm, 0.95)
        row(f"read all, warm, {files:,} files", f"p95 {p95:.2f} ms", "", "p95 < 5 ms", p95 < 5, p95=p95)
        fresh: list[float] = []
        plain: list[float] = []
        for _ in range(times):  # in turn, so that both meet the same machine
            plain += timed(status, 1)
            fresh += timed(lambda: client.get("/metadata?fresh=true").raise_for_status(), 1)
        ratio = statistics.median(fresh) / statistics.median(plain)
        row(f"read fresh, {files:,} files", f"p50 {statistics.median(fresh):.1f} ms",
            f"git status p50 {statistics.median(plain):.1f} ms", "at most 1.3 times git status", ratio <= 1.3,
            ratio=ratio, mine=fresh, git=plain)  # fmt: skip
        bench_watch(server, workspace, files)


def wait_for(client: httpx2.Client, condition: Callable[[dict[str, Any]], bool], seconds: float = 30) -> None:
    """Until the facts are so."""
    end = time.monotonic() + seconds
    while not condition(client.get("/metadata").json()["data"]):
        assert time.monotonic() < end, "never came true"
        time.sleep(0.05)


def bench_watch(server: Server, workspace: Path, files: int) -> None:
    """From a changed file to the event on watch."""
    delays: list[float] = []
    with server.client() as client, client.stream("GET", "/metadata/watch") as stream:
        lines = stream.iter_lines()
        next(line for line in lines if line.startswith("data:"))
        time.sleep(1.5)
        for n in range(10):
            began = time.perf_counter()
            (workspace / f"new{n}.txt").write_text("x")
            for line in lines:
                if line.startswith("data:") and "git_untracked" in line:
                    break
            delays.append((time.perf_counter() - began) * 1000)
            time.sleep(0.6 if files < 50_000 else 1.5)
    p95 = percentile(delays, 0.95)
    aim = "within 200 ms" if files <= 10_000 else ""
    met = p95 < 200 if aim else None
    row(
        f"change on disk seen on watch, {files:,} files",
        f"p50 {statistics.median(delays):.0f}, most {max(delays):.0f} ms",
        "",
        aim,
        met,
        delays=delays,
    )


def bench_gather(folder: Path, agents: int) -> None:
    """The hub's gathering: real servers in one process, then a thousand simulated ones."""
    script = ROOT / "benchmarks" / "metadata_gather.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder / "gather"), str(agents)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    row(
        f"{agents} agents over HTTP gathered",
        f"p50 {found['real_ms']:.0f} ms",
        "",
        "< 300 ms for 100",
        found["real_ms"] < 300,
        real_ms=found["real_ms"],
    )
    row(
        "1,000 simulated, 5% hang, 5% dead",
        f"{found['simulated_ms']:.0f} ms",
        "",
        "< 2,000 ms",
        found["simulated_ms"] < 2000,
        simulated_ms=found["simulated_ms"],
    )


def bench_memory(folder: Path) -> None:
    """Memory of the stand-alone server at rest."""
    workspace = make_repository(folder / "rest", 100)
    with running(workspace, folder / "memory" / "a", token=TOKEN) as server:
        with server.client() as client:
            client.get("/metadata?fresh=true").raise_for_status()
        time.sleep(2)
        used = memory_mb(server.process.pid)
        before = sum(psutil.Process(server.process.pid).cpu_times()[:2])
        time.sleep(5)
        cpu = (sum(psutil.Process(server.process.pid).cpu_times()[:2]) - before) / 5 * 100
        row("memory at rest", f"{used:.1f} MB", "", "< 45 MB", used < 45, mb=used)
        row("processor at rest", f"{cpu:.2f} % of one core", raw_cpu=cpu)


def soak(folder: Path, seconds: float) -> None:
    """A mixed load with changing files for a long time: neither memory nor open files may grow."""
    workspace = make_repository(folder / "soaked", 1000)
    with running(workspace, folder / "soak" / "a", token=TOKEN) as server:
        process = psutil.Process(server.process.pid)
        samples: list[tuple[float, float, int]] = []
        end = time.monotonic() + seconds
        errors = 0
        with server.client() as client:
            while time.monotonic() < end:
                read, write = both([
                    lambda: wrk(server.url + "/metadata", connections=20, seconds=4, token=TOKEN),
                    lambda: wrk(server.url + "/metadata", connections=5, seconds=4, script=put_script(100, 500), token=TOKEN),
                ])  # fmt: skip
                errors += read.errors + write.errors
                (workspace / "churn.txt").write_text(str(time.time()))
                client.get("/metadata?fresh=true").raise_for_status()
                with client.stream("GET", "/metadata/watch") as stream:
                    next(stream.iter_lines())
                time.sleep(0.5)
                samples.append((time.monotonic(), process.memory_info().rss / 1e6, process.num_fds()))
        half = len(samples) // 2
        early = statistics.median(s[1] for s in samples[max(1, half // 2) : half] or samples[:1])
        late = statistics.median(s[1] for s in samples[-max(1, half // 2) :])
        files = samples[-1][2] - samples[min(1, len(samples) - 1)][2]
        ok = late - early < 2.0 and files <= 2 and errors == 0
        row(f"soak of {seconds:.0f} s", f"{early:.1f} -> {late:.1f} MB, {files:+d} files, {errors} errors", "", "no growth", ok,
            early=early, late=late, samples=samples)  # fmt: skip


def main() -> int:
    """Run what was asked for; 1 when an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short loads, no repository of 100,000 files")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--only", default="memory,store,git,gather", help="parts, separated by commas")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="and a soak this long (300 in CI)")
    parser.add_argument("--strict", action="store_true", help="end with 1 when an aim is missed")
    options = parser.parse_args()
    parts = options.only.split(",")
    for program in ("etcd", "wrk") if "store" in parts else ("wrk",):
        if shutil.which(program) is None:
            print(f"{program} is missing (Debian: apt-get install etcd-server wrk)")
            return 2
    folder = Path(tempfile.mkdtemp(prefix="qd-bench-"))
    print(f"{'':44} {'ours':34} {'peer':34} {'aim':40} met")
    try:
        if "memory" in parts:
            bench_memory(folder)
        if "store" in parts:
            bench_store(folder, 3 if options.quick else 8)
        if "git" in parts:
            bench_git(folder, 10_000, 20)
            if not options.quick:
                bench_git(folder, 100_000, 10)
        if "gather" in parts:
            bench_gather(folder, 100)
        if options.soak:
            soak(folder, options.soak)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in ROWS], indent=1))
    missed = [r.name for r in ROWS if r.met is False]
    print(f"\n{sum(r.met is True for r in ROWS)} aims met" + (f", missed: {'; '.join(missed)}" if missed else ""))
    return 1 if missed and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
