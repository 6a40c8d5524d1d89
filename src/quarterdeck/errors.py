"""The errors that Quarterdeck tells its users, each with one code for every wire.

An error says what happened (`message`), what to do next (`hint`) and, where it helps a program,
`details`. Adapters translate foreign exceptions into these; the front doors map `code` to HTTP
statuses, MCP errors, gRPC statuses and exit codes through the tables below and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class QuarterdeckError(Exception):
    """Base of everything that is told to a user rather than shown as a traceback.

    `message` says what happened and what state remains, `hint` the next step (a command where there
    is one), `details` holds JSON-ready facts such as limits and figures.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    grpc_status: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})

    def to_json(self) -> dict[str, Any]:
        """The body of an error answer: `{"error": {"code", "message", "hint", "details"}}`."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint:
            body["hint"] = self.hint
        if self.details:
            body["details"] = self.details
        return {"error": body}


class InternalError(QuarterdeckError):
    """Our own fault: a bug, or a file of ours that cannot be read."""


class InvalidInput(QuarterdeckError):
    """What was asked for cannot be right, whatever the state; nothing was changed."""

    code = "INVALID_INPUT"
    http_status = 400
    exit_code = 2
    grpc_status = "INVALID_ARGUMENT"


class Unprocessable(InvalidInput):
    """Well-formed, but a value breaks a rule (HTTP 422)."""

    http_status = 422


class TooLarge(InvalidInput):
    """A limit on size is exceeded; the message carries both figures (HTTP 413)."""

    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"


class NotFound(QuarterdeckError):
    """No such thing; the hint lists what there is where the list is short."""

    code = "NOT_FOUND"
    http_status = 404
    exit_code = 3
    grpc_status = "NOT_FOUND"


class Conflict(QuarterdeckError):
    """The state does not allow it now: busy, taken, stale incarnation, dirty, already deleted."""

    code = "CONFLICT"
    http_status = 409
    exit_code = 4
    grpc_status = "ABORTED"


class PreconditionFailed(Conflict):
    """A compare-and-set (`If-Match`, expected generation) met another value (HTTP 412)."""

    http_status = 412
    grpc_status = "FAILED_PRECONDITION"


class Unavailable(QuarterdeckError):
    """Somebody needed for it does not answer, is missing, or has no room; trying later may help."""

    code = "UNAVAILABLE"
    http_status = 503
    exit_code = 5
    grpc_status = "UNAVAILABLE"


class StorageRefused(Unavailable):
    """The disk is full or read-only: nothing was written, reads go on (HTTP 507)."""

    http_status = 507
    grpc_status = "RESOURCE_EXHAUSTED"


class Unauthenticated(QuarterdeckError):
    """No token, or one that is not known."""

    code = "UNAUTHENTICATED"
    http_status = 401
    exit_code = 1
    grpc_status = "UNAUTHENTICATED"


class PermissionDenied(QuarterdeckError):
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"
    http_status = 403
    exit_code = 1
    grpc_status = "PERMISSION_DENIED"


_BY_CODE: dict[str, type[QuarterdeckError]] = {
    kind.code: kind
    for kind in (
        InternalError,
        InvalidInput,
        NotFound,
        Conflict,
        Unavailable,
        Unauthenticated,
        PermissionDenied,
    )
}


def error_from_json(body: Any, *, status: int) -> QuarterdeckError:
    """The error that a peer of ours answered with, as the same class here.

    `body` is what `to_json` made; anything else becomes an `Unavailable` (5xx) or `InternalError`.
    """
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        unknown: type[QuarterdeckError] = Unavailable if status >= 500 else InternalError
        return unknown(f"the peer answered HTTP {status} without an error we know")
    kind = _BY_CODE.get(str(error.get("code")), InternalError)
    details = error.get("details")
    return kind(
        str(error.get("message", f"HTTP {status}")),
        hint=str(error.get("hint", "")),
        details=details if isinstance(details, Mapping) else None,
    )
