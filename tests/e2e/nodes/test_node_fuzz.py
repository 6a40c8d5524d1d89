"""Well-formed nonsense against a real node agent: every answer is one that a user can act on, and it lives on."""

from __future__ import annotations

import collections
import json
import random
import secrets
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from anyio.to_thread import run_sync
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from quarterdeck.node.proto import node_pb2
from support.node_world import NodeProcess, Person
from support.podman_env import IMAGE, podman, sweep

pytestmark = [pytest.mark.podman, pytest.mark.slow, pytest.mark.anyio]
# The service that is there, as far as the nonsense leaves it.
SERVICE = f"qdfuzz{secrets.token_hex(3)}"
TEXTS = [
    "", " ", "..", ".", "/", "../..", "../../etc/passwd", "/etc/passwd", "a/../../b", SERVICE, f"{SERVICE}-web",
    "QDFUZZ", "qd fuzz", "a\nb", "a\x00b", "ü", "🚢" * 40, "-rf", "--privileged", "$(id)", "`id`", "; rm -rf /",
    "' OR 1=1 --", "x" * 300, "x" * 70_000, "%s%n", "registry-x.sqlite3", "localhost/none:v1", "0" * 64, "NaN", "{}",
    f"{SERVICE}/../x",
]  # fmt: skip
NUMBERS = [0, 1, -1, 7, 2**31 - 1, -(2**31), 2**53]
FINE = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
}  # fmt: skip


def fill(message: Message, chance: random.Random, depth: int = 0) -> None:
    """Set about half of the fields to something strange."""
    for field in message.DESCRIPTOR.fields:
        # Half of the time about the service that is there.
        if field.name == "service" and chance.random() < 0.5:
            message.service = SERVICE  # type: ignore[attr-defined]
            continue
        if chance.random() < 0.4 or field.name in ("follow", "wait_seconds"):
            continue
        repeated = field.is_repeated
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[chance.choice(TEXTS)] = chance.choice(TEXTS)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if depth < 3:
                fill(
                    getattr(message, field.name).add() if repeated else getattr(message, field.name), chance, depth + 1
                )
        else:
            value = _value(field, chance)
            if repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


def _value(field: Any, chance: random.Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return chance.choice(TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(20)
        case FieldDescriptor.TYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return chance.choice([*field.enum_type.values_by_number, 99])
        case FieldDescriptor.TYPE_DOUBLE:
            return chance.choice([0.0, -1.0, 1e300, float("inf"), float("-inf"), float("nan"), 0.5])
        case FieldDescriptor.TYPE_INT32:
            return chance.choice(NUMBERS[:-1])
        case _:
            return chance.choice(NUMBERS)


@pytest.fixture
def swept(n1: NodeProcess) -> Iterator[None]:
    """Secrets and containers are podman's: what nonsense made of them goes at the end."""
    before = set(podman("secret", "ls", "--format", "{{.Name}}").split())
    yield
    for secret in set(podman("secret", "ls", "--format", "{{.Name}}").split()) - before:
        if secret in TEXTS:
            podman("secret", "rm", secret)
    sweep(SERVICE)


async def test_strange_requests_get_answers_that_one_can_act_on(person: Person, n1: NodeProcess, swept: None) -> None:
    token = json.loads((person.folder / "state" / "credentials.json").read_text())["n1"]["token"]
    credentials = grpc.ssl_channel_credentials((n1.folder / "etc/tls/ca.pem").read_bytes())
    chance = random.Random(20261121)
    service = node_pb2.DESCRIPTOR.services_by_name["NodeService"]
    found: dict[grpc.StatusCode, int] = collections.Counter()
    fine: dict[str, int] = collections.Counter()
    person.define(SERVICE, IMAGE)
    async with grpc.aio.secure_channel(f"127.0.0.1:{n1.port}", credentials) as channel:
        for number in range(600):
            if number % 50 == 0:
                # The nonsense purges, drains and pauses, too.
                await run_sync(person.qd, "node", "resume")
                await run_sync(person.qd, "service", "deploy", SERVICE)
            method = chance.choice(service.methods)
            request: Any = getattr(node_pb2, method.input_type.name)()
            fill(request, chance)
            kind = (
                f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
            )
            call: Any = getattr(channel, kind)(
                f"/{service.full_name}/{method.name}", request_serializer=lambda each: each.SerializeToString()
            )
            given = iter([request]) if method.client_streaming else request
            answer = call(given, metadata=(("authorization", f"Bearer {token}"),), timeout=20)
            if method.server_streaming:
                try:
                    async for _ in answer:
                        pass
                except grpc.aio.AioRpcError:
                    pass
            code = await answer.code()
            found[code] += 1
            fine[method.name] += code is grpc.StatusCode.OK
            assert code in FINE, f"{number} {method.name} {code} {await answer.details()}\n{request}\n{n1.log[-3000:]}"
    assert found[grpc.StatusCode.INVALID_ARGUMENT] > 50
    assert found[grpc.StatusCode.OK] > 50
    # It reached the inside: not all was refused at the door.
    assert {"SetSecret", "Pause", "Drain", "StopService", "Logs", "GetServiceStatus"} <= {n for n in fine if fine[n]}
    person.qd("node", "resume")
    person.qd("service", "list")
    assert "Traceback" not in n1.log
