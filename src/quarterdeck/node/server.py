"""The gRPC server of a node agent: TLS always, the guard on every call, health and reflection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from quarterdeck.auth.audit import AuditFile, AuditLog, AuditSink
from quarterdeck.auth.settings import Door, open_door
from quarterdeck.errors import Unavailable
from quarterdeck.node.agent import NodeAgent
from quarterdeck.node.guard import Guard
from quarterdeck.node.pki import ReloadingPair
from quarterdeck.node.proto import account_pb2, account_pb2_grpc, node_pb2, node_pb2_grpc
from quarterdeck.node.service import AccountServicer, NodeServicer
from quarterdeck.node.settings import NodeSettings

log = logging.getLogger(__name__)
MESSAGE_BYTES = 16 * 1024 * 1024
NODE_SERVICE = node_pb2.DESCRIPTOR.services_by_name["NodeService"].full_name
ACCOUNT_SERVICE = account_pb2.DESCRIPTOR.services_by_name["AccountService"].full_name


@dataclass(frozen=True)
class Listening:
    """A server that takes calls. `port` is the real one where 0 was asked for."""

    host: str
    port: int


@contextlib.asynccontextmanager
async def listening(
    agent: NodeAgent,
    door: Door,
    audit: AuditSink,
    *,
    host: str,
    port: int,
    cert: Path,
    key: Path,
    drain_seconds: float = 30,
) -> AsyncIterator[Listening]:
    """Serve an agent until the end of the block; then no new calls are taken and those under way get
    `drain_seconds` to end.

    Raises `InvalidInput` for a certificate that cannot be used, `Unavailable` when the address is taken.
    """
    stopping = asyncio.Event()
    server = grpc.aio.server(
        interceptors=[Guard(door.verifier, audit)],
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            # Two agents on one port would take turns; the second must fail instead.
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    node_pb2_grpc.add_NodeServiceServicer_to_server(NodeServicer(agent, stopping), server)  # type: ignore[no-untyped-call]
    account_pb2_grpc.add_AccountServiceServicer_to_server(AccountServicer(door), server)  # type: ignore[no-untyped-call]
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (NODE_SERVICE, ACCOUNT_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    bound = _bind(server, host, port, ReloadingPair(cert, key))
    await server.start()
    try:
        for name in ("", NODE_SERVICE, ACCOUNT_SERVICE):
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        yield Listening(host, bound)
    finally:
        stopping.set()
        with anyio.CancelScope(shield=True):
            await checks.enter_graceful_shutdown()
            await server.stop(drain_seconds)


def _bind(server: grpc.aio.Server, host: str, port: int, pair: ReloadingPair) -> int:
    def fresh() -> Any:
        # None means: nothing new.
        return grpc.ssl_server_certificate_configuration([pair.pair]) if pair.changed() else None

    # gRPC asks before each handshake, in a thread of its own.
    credentials = grpc.dynamic_ssl_server_credentials(grpc.ssl_server_certificate_configuration([pair.pair]), fresh)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unavailable(
            f"cannot listen on {address}: the address is taken or not ours", hint="[listen] in node.toml says where"
        ) from error


async def serve(settings: NodeSettings) -> None:
    """Run a node agent until SIGTERM or SIGINT: calls are drained, the registry is closed, containers live on.

    Raises what `NodeAgent.open` and `listening` raise.
    """
    table = settings.auth
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with contextlib.AsyncExitStack() as stack:
            audit: AuditSink = AuditFile(Path(table.audit_file)) if table.audit_file else AuditLog()
            stack.callback(audit.close)
            door = open_door(table, state_dir=settings.state_dir, name=settings.file.name, origin=settings.origin)
            stack.push_async_callback(door.verifier.aclose)
            agent = await stack.enter_async_context(NodeAgent.open(settings.agent_options()))
            bound = await stack.enter_async_context(
                listening(
                    agent,
                    door,
                    audit,
                    host=settings.file.listen.host,
                    port=settings.file.listen.port,
                    cert=settings.cert,
                    key=settings.key,
                    drain_seconds=settings.file.listen.drain_seconds,
                )
            )
            log.info("node %s serves on %s:%d", settings.file.name, bound.host, bound.port)
            async for number in signals:
                log.info("%s: draining calls; containers go on", signal.Signals(number).name)
                break
    log.info("node %s has stopped", settings.file.name)
