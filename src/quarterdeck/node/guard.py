"""The interceptor on every call: who calls, may they, what became of it, and errors in one form."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from quarterdeck.auth.audit import AuditRecord, AuditSink
from quarterdeck.auth.model import Identity, Role, bearer_token
from quarterdeck.auth.ports import TokenVerifier
from quarterdeck.errors import InvalidInput, QuarterdeckError, Unauthenticated
from quarterdeck.node.wire_errors import metadata_of, shortened, status_of

log = logging.getLogger(__name__)

ACCOUNTS = "/quarterdeck.node.v1.AccountService/"
# What needs less than the role admin; None needs no token at all.
NEEDED: dict[str, Role | None] = {
    f"{ACCOUNTS}Login": None,
    f"{ACCOUNTS}Logout": Role.NOBODY,
    f"{ACCOUNTS}WhoAmI": Role.NOBODY,
}

_caller: ContextVar[Identity] = ContextVar("quarterdeck_caller")
_record: ContextVar[_Record] = ContextVar("quarterdeck_record")
_token: ContextVar[str] = ContextVar("quarterdeck_token")


def caller() -> Identity:
    """Who makes the call that is being served."""
    return _caller.get()


def token() -> str:
    """The token of the call that is being served; for `Logout` alone."""
    return _token.get()


def note_operation(operation_id: str) -> None:
    """Put the operation's id into the audit record of the call that is being served."""
    _record.get().operation_id = operation_id


def note_caller(subject: str) -> None:
    """Put who just logged in into the audit record of the call that is being served."""
    _record.get().caller = subject


class Guard(grpc.aio.ServerInterceptor):
    """Asks the verifier about every call, then serves it, then writes the audit record.

    The token itself never leaves this class. Errors of ours become their status with the JSON beside it;
    anything else is INTERNAL and tells nothing of the inside.
    """

    def __init__(self, verifier: TokenVerifier, audit: AuditSink) -> None:
        self._verifier = verifier
        self._audit = audit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler with the checks around it; also for methods that do not exist."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            handler = grpc.unary_unary_rpc_method_handler(_no_such_method)
        metadata = handler_call_details.invocation_metadata
        header = next((_text(v) for k, v in metadata or () if k == "authorization"), None)
        return self._guarded(handler, method, header)

    def _guarded(self, handler: Any, method: str, header: str | None) -> Any:
        inner = (
            handler.stream_stream
            or handler.stream_unary
            or handler.unary_stream
            or handler.unary_unary
        )  # fmt: skip

        parsed = _Parser(handler.request_deserializer)
        read = parsed.each if handler.request_streaming else parsed.one

        async def single(request: Any, context: Any) -> Any:
            with self._recorded(method, context) as record:
                try:
                    await self._admit(method, header, record)
                    return await inner(read(request), context)
                except Exception as error:  # noqa: BLE001  # told to the caller, all of them
                    await self._refuse(error, method, context, record)

        async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._recorded(method, context) as record:
                try:
                    await self._admit(method, header, record)
                    async with contextlib.aclosing(inner(read(request), context)) as answers:
                        async for answer in answers:
                            yield answer
                except Exception as error:  # noqa: BLE001  # told to the caller, all of them
                    await self._refuse(error, method, context, record)

        kinds = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        make = kinds[handler.request_streaming, handler.response_streaming]
        behaviour = streamed if handler.response_streaming else single
        # Without a deserializer gRPC hands on the bytes: parsed before the checks, a request that is none would
        # pass by them and by the audit.
        return make(behaviour, request_deserializer=None, response_serializer=handler.response_serializer)

    async def _admit(self, method: str, header: str | None, record: _Record) -> None:
        needed = NEEDED.get(method, Role.ADMIN)
        if needed is None:
            return
        given = bearer_token(header)
        identity = await self._verifier.verify(given)
        record.caller = identity.subject
        identity.must_be(needed)
        _caller.set(identity)
        if method == f"{ACCOUNTS}Logout":
            _token.set(given)

    @contextlib.contextmanager
    def _recorded(self, method: str, context: Any) -> Iterator[_Record]:
        record = _Record(self._audit, method, unquote(context.peer()))
        _record.set(record)
        try:
            yield record
            record.write("OK")
        except (asyncio.CancelledError, GeneratorExit):
            record.write("CANCELLED")
            raise

    async def _refuse(self, error: Exception, method: str, context: Any, record: _Record) -> None:
        if isinstance(error, grpc.aio.AbortError):
            record.write(context.code().name if context.code() else "ABORTED")
            raise error
        if isinstance(error, QuarterdeckError):
            ours = error
            if isinstance(error, Unauthenticated):
                log.info("%s from %s refused: %s", method, unquote(context.peer()), error.message)
        else:
            log.error("%s failed", method, exc_info=error)
            ours = QuarterdeckError("something went wrong inside; the node's log has the details")
        status = status_of(ours)
        # Before the answer: who was answered finds the record.
        record.write(status.name, ours.message)
        await context.abort(status, shortened(ours.message), metadata_of(ours))


class _Record:
    """The audit record of a call while it is made; written once."""

    def __init__(self, sink: AuditSink, method: str, peer: str) -> None:
        self.caller = ""
        self.operation_id = ""
        self._sink = sink
        self._method = method
        self._peer = peer
        self._at = time.time()
        self._began = time.monotonic()
        self._written = False

    def write(self, outcome: str, detail: str = "") -> None:
        """Say how it ended."""
        if self._written:
            return
        self._written = True
        self._sink.write(
            AuditRecord(
                at=round(self._at, 3),
                method=self._method,
                caller=self.caller,
                peer=self._peer,
                outcome=outcome,
                duration_ms=round((time.monotonic() - self._began) * 1000, 2),
                operation_id=self.operation_id,
                detail=detail[:500],
            )
        )


class _Parser:
    """Makes messages of bytes, once it is known that they are to be read at all."""

    def __init__(self, deserialize: Callable[[bytes], Any] | None) -> None:
        self._deserialize = deserialize

    def one(self, data: bytes) -> Any:
        """The message. Raises `InvalidInput` when it is none."""
        if self._deserialize is None:
            return data
        try:
            return self._deserialize(data)
        except DecodeError as error:
            raise InvalidInput(f"the request is no message of this call: {error}") from error

    async def each(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """The messages of a stream."""
        async for data in stream:
            yield self.one(data)


async def _no_such_method(request: Any, context: Any) -> Any:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
