"""Load on etcd over gRPC, as its own clients talk to it: `python -m benchmarks.etcd_grpc HOST:PORT put 25 8 100`.

The messages are those of `etcdserverpb.KV`, written by hand: two fields of bytes need no generated code. One
process of grpc for Python is slower than etcd, so the load comes from several; `load` starts them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.loads import Load

PROCESSES = 4
CLIENT = f"The client is grpc for Python in {PROCESSES} processes, which takes more of the machine than wrk does."


def field_of_bytes(number: int, value: bytes) -> bytes:
    """One field of a message: its tag (wire type 2), its length as a varint, its bytes."""
    size, length = len(value), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def put_request(key: bytes, value: bytes) -> bytes:
    """`etcdserverpb.PutRequest`."""
    return field_of_bytes(1, key) + field_of_bytes(2, value)


def range_request(key: bytes) -> bytes:
    """`etcdserverpb.RangeRequest` of one key."""
    return field_of_bytes(1, key)


def load(address: str, operation: str, *, connections: int, seconds: float, size: int = 100) -> Load:
    """`put` or `range` with so many calls open at once; `address` is etcd's, with or without `http://`."""
    shares = [len(range(n, connections, PROCESSES)) for n in range(min(PROCESSES, connections))]
    target = address.removeprefix("http://")
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.etcd_grpc", target, operation, str(share), str(seconds), str(size)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        for share in shares
    ]
    told = [json.loads(process.communicate()[0]) for process in processes]
    taken = sorted(milliseconds for one in told for milliseconds in one["taken"])
    assert taken, "etcd answered nothing over gRPC"

    def share_of(part: float) -> float:
        return float(taken[min(len(taken) - 1, int(len(taken) * part))])

    rate = sum(len(one["taken"]) / one["seconds"] for one in told)
    errors = sum(one["errors"] for one in told)
    return Load(rate, share_of(0.5), share_of(0.95), share_of(0.99), len(taken), errors)


async def work(target: str, operation: str, at_once: int, seconds: float, size: int) -> dict[str, object]:
    """One process's part: what each call took in milliseconds, and how many failed."""
    import grpc.aio

    value, taken, errors = b"x" * size, [], 0
    method = {"put": "/etcdserverpb.KV/Put", "range": "/etcdserverpb.KV/Range"}[operation]
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        await asyncio.wait_for(channel.channel_ready(), 10)
        begun = time.perf_counter()
        end = begun + seconds

        async def repeat(worker: int) -> None:
            nonlocal errors
            turn = worker
            while (before := time.perf_counter()) < end:
                turn += at_once
                key = b"bench/k%d" % (turn % 1000)
                try:
                    await call(put_request(key, value) if operation == "put" else range_request(b"bench/k1"))
                except grpc.aio.AioRpcError:
                    errors += 1
                else:
                    taken.append(round((time.perf_counter() - before) * 1000, 3))

        await asyncio.gather(*(repeat(worker) for worker in range(at_once)))
        return {"seconds": time.perf_counter() - begun, "taken": taken, "errors": errors}


def main() -> int:
    """One client process; what it saw as JSON."""
    target, operation, at_once, seconds, size = sys.argv[1:]
    print(json.dumps(asyncio.run(work(target, operation, int(at_once), float(seconds), int(size)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
