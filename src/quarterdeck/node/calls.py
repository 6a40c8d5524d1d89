"""The ground of `NodeClient`: the connection to a node, and the ways to call it.

A change goes on at the node whatever becomes of its call. Every change carries an operation id, so a call that was
cut off is made again with the same one, and joins what goes on there or gets its answer.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Self

import anyio

from quarterdeck.config import quiet_grpc

quiet_grpc()

import grpc  # noqa: E402
import grpc.aio  # noqa: E402

from quarterdeck.errors import InternalError, InvalidInput, QuarterdeckError  # noqa: E402
from quarterdeck.node.convert import from_wire  # noqa: E402
from quarterdeck.node.proto import account_pb2_grpc, node_pb2, node_pb2_grpc  # noqa: E402
from quarterdeck.node.results import DeployProgress  # noqa: E402
from quarterdeck.node.wire_errors import Overdue, Unreachable, error_from_rpc  # noqa: E402

MESSAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """A node to call. `address` is `HOST:PORT`, `ca` the PEM text of the pinned CA, `server_name` the name in its
    certificate where that is not the host; times in seconds."""

    name: str
    address: str
    ca: bytes
    token: str = ""
    server_name: str = ""
    timeout_seconds: float = 30
    connect_seconds: float = 5


@dataclass(frozen=True)
class Change:
    """What accompanies a change: an operation id (empty: one is made), the expected generation (None: any) and how
    long to wait for another change of the same service (None: as long as the node would)."""

    operation_id: str = ""
    expected_generation: int | None = None
    wait_seconds: float | None = None

    def message(self) -> node_pb2.Mutation:
        """The same for the wire, always with an id, so that a call that was cut off can be made again."""
        return node_pb2.Mutation(
            operation_id=self.operation_id or uuid.uuid4().hex,
            expected_generation=self.expected_generation,
            wait_seconds=self.wait_seconds,
        )


ANY = Change()


class Calls:
    """Calls one node. An async context manager; made by `to`."""

    def __init__(self, target: Target, channel: grpc.aio.Channel) -> None:
        self._target = target
        self._channel = channel
        self._node: Any = node_pb2_grpc.NodeServiceStub(channel)  # type: ignore[no-untyped-call]
        self._accounts: Any = account_pb2_grpc.AccountServiceStub(channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {target.token}"),) if target.token else ()
        # How long one call for a change waits; then it is asked whether the node is there, and the call made again.
        self._patience = max(target.timeout_seconds, 60.0)

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, target: Target) -> AsyncIterator[Self]:
        """A client for the time of the block; nothing is sent yet. Raises `InvalidInput` for a CA that is none."""
        if b"-----BEGIN CERTIFICATE-----" not in target.ca:
            raise InvalidInput(
                f"the CA of node {target.name} is no PEM certificate", hint="`qd node join` pins it anew"
            )
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            # Both are the time that one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", int(target.connect_seconds * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 500),
            # A node that was cut off is noticed in the middle of a stream too.
            ("grpc.keepalive_time_ms", 12_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.enable_http_proxy", 0),
        ]
        if target.server_name:
            options.append(("grpc.ssl_target_name_override", target.server_name))
        credentials = grpc.ssl_channel_credentials(target.ca)
        async with grpc.aio.secure_channel(target.address, credentials, options=options) as channel:
            yield cls(target, channel)

    async def _call(self, method: Callable[..., Any], request: Any, *, timeout_seconds: float | None = None) -> Any:
        try:
            return await method(
                request, metadata=self._metadata, timeout=timeout_seconds or self._target.timeout_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, who=self._who) from None

    async def _change(self, method: Callable[..., Any], request: Any, *, lost_seconds: float = 30) -> Any:
        """Call for a change and wait for its end, however long the node works on it.

        Raises `Unreachable` when the node cannot be reached, or not again within `lost_seconds`.
        """
        began, lost_at = False, 0.0
        while True:
            try:
                return await self._call(method, request, timeout_seconds=self._patience)
            except Overdue:
                began, lost_at = True, 0.0
                await self._is_there()
            except Unreachable as error:
                lost_at = lost_at or time.monotonic()
                if not began:
                    raise
                if time.monotonic() - lost_at > lost_seconds:
                    raise _goes_on(error) from error
                await anyio.sleep(1)

    async def _is_there(self) -> None:
        """Slow is not dead: whether the node answers another question while it works. Raises `Overdue`."""
        try:
            await self._call(self._node.NodeInfo, node_pb2.NodeInfoRequest())
        except Unreachable:
            # The next call finds out for how long.
            return
        except Overdue:
            raise
        except QuarterdeckError:
            # An answer it is, whatever it says.
            return

    async def _stream(self, method: Callable[..., Any], request: Any) -> AsyncGenerator[Any, None]:
        call = method(request, metadata=self._metadata)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, who=self._who) from None
        finally:
            call.cancel()

    @property
    def name(self) -> str:
        """The node's name, as cli.toml has it."""
        return self._target.name

    @property
    def _who(self) -> str:
        return f"node {self._target.name} ({self._target.address})"

    async def _resumed(
        self, method: Callable[..., Any], request: Any, *, patience_seconds: float = 30
    ) -> AsyncIterator[DeployProgress]:
        # The node goes on by itself; asking again with the same operation id joins what goes on there.
        began, done, lost_at = False, False, 0.0
        while True:
            try:
                async with contextlib.aclosing(self._stream(method, request)) as messages:
                    async for message in messages:
                        began, lost_at = True, 0.0
                        step = from_wire(message.progress, DeployProgress)
                        done = step.step == "done"
                        yield step
                if done:
                    return
                raise InternalError(f"{self._who} ended the stream without a result", hint="`qd service status` tells")
            except Unreachable as error:
                if done:
                    return
                lost_at = lost_at or time.monotonic()
                if not began or time.monotonic() - lost_at > patience_seconds:
                    if began:
                        raise _goes_on(error) from error
                    raise
                await anyio.sleep(1)


def _goes_on(error: Unreachable) -> Unreachable:
    return Unreachable(f"{error.message}; what was begun goes on there", hint="`qd service status` tells how it ended")
