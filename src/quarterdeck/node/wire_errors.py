"""Errors over gRPC: the status from `errors.py`'s table, and the whole error as JSON beside it."""

from __future__ import annotations

from typing import Any

import grpc
import msgspec

from quarterdeck.errors import (
    Conflict,
    InternalError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuarterdeckError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    error_from_json,
)

ERROR_KEY = "qd-error-bin"
# gRPC allows 8 KB of metadata in all.
_MOST_BYTES = 4000
_MOST_TEXT = 1500

_BY_STATUS: dict[grpc.StatusCode, type[QuarterdeckError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


class Unreachable(Unavailable):
    """The connection failed: unlike any other `Unavailable`, this is no answer of the node."""


class Overdue(Unavailable):
    """No answer came within the time of the call; the node may be at work on it still."""


def status_of(error: QuarterdeckError) -> grpc.StatusCode:
    """The status of an error."""
    return grpc.StatusCode[error.grpc_status]


def shortened(text: str) -> str:
    """A text that fits into gRPC's metadata."""
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ..."


def metadata_of(error: QuarterdeckError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries an error; without its details when they are too large."""
    body = msgspec.json.encode(error.to_json())
    if len(body) > _MOST_BYTES:
        lean = type(error)(shortened(error.message), hint=error.hint[:500])
        body = msgspec.json.encode(lean.to_json())
    return ((ERROR_KEY, body),)


def error_from_rpc(error: grpc.aio.AioRpcError, *, who: str) -> QuarterdeckError:
    """Ours again, from what a call ended with; `who` names the peer for errors of the connection."""
    status = error.code()
    for key, value in error.trailing_metadata() or ():
        if key == ERROR_KEY:
            found = _decoded(value)
            if status is grpc.StatusCode.FAILED_PRECONDITION:
                return PreconditionFailed(found.message, hint=found.hint, details=found.details)
            return found
    text = error.details() or status.name
    if status is grpc.StatusCode.UNAVAILABLE:
        return _unreachable(text, who)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Overdue(
            f"{who} did not answer in time; what was asked for may have been done",
            hint="`qd service status` tells; a longer `timeout_seconds` in cli.toml waits longer",
        )
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return InvalidInput(f"{who} does not know this call: {text}", hint="compare `qd --version` with `qd node info`")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # A full disk is told by the node itself; this is gRPC's own word about a message.
        return TooLarge(f"{who} takes no message of that size: {text}", hint="leave something out, or do it in parts")
    kind = _BY_STATUS.get(status, InternalError)
    return kind(f"{who}: {text}")


def _unreachable(text: str, who: str) -> Unreachable:
    reason = text
    hint = "`qd node info` shows the address; is `qd node serve` up?"
    # gRPC tells the reason of a failed handshake in words only.
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text.lower():
        reason = "its certificate is not one of the CA that was pinned, or has expired"
        hint = "`qd node join` pins a new CA; docs/nodes.md, 'Expired certificate'"
    elif "Hostname Verification" in text or "Peer name" in text:
        reason = "its certificate is for another host name"
        hint = "`qd node init --renew --host NAME` on the node, or `server_name` in cli.toml"
    elif "Connection refused" in text:
        reason = "the connection is refused"
    elif "timed out" in text.lower() or "timeout" in text.lower():
        reason = "the connection timed out"
    return Unreachable(f"{who} is unreachable: {reason[:300]}", hint=hint)


def _decoded(value: Any) -> QuarterdeckError:
    try:
        body = msgspec.json.decode(value)
    except msgspec.DecodeError:
        body = None
    return error_from_json(body, status=500)
