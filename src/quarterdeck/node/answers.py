"""How an operation ended, as its row keeps it for every retry. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from quarterdeck.errors import InternalError, QuarterdeckError
from quarterdeck.node.model import Operation


def result_answer(result: Any) -> str:
    """A result as it is stored."""
    return msgspec.json.encode({"result": result}).decode()


def error_answer(error: QuarterdeckError) -> str:
    """An error as it is stored."""
    return msgspec.json.encode({**error.to_json(), "status": error.http_status}).decode()


def decoded_answer(operation: Operation) -> Mapping[str, Any]:
    """The stored answer of an operation as JSON. Raises `InternalError` when it cannot be read."""
    try:
        answer = msgspec.json.decode(operation.answer)
    except msgspec.DecodeError as error:
        raise InternalError(f"the answer of operation {operation.id} cannot be read: {error}") from error
    if not isinstance(answer, dict):
        raise InternalError(f"the answer of operation {operation.id} is no object")
    return answer
