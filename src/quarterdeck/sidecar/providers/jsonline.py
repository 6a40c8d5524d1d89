"""Reading a program's JSON without trusting it: what comes out can be stored, counted and sent on. Pure."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# Half of a surrogate pair: JavaScript programs send it when they cut a text within a character.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MOST = 2**53


def parse_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None when there is none. Text in it is valid Unicode."""
    try:
        data = json.loads(line)
        if isinstance(data, dict) and _SURROGATE.search(line):
            text = json.dumps(data, ensure_ascii=False)
            data = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return int(value) if isinstance(value, int | float) and 0 < value < _MOST else 0


def amount(value: Any) -> float | None:
    """An amount of money; None for what is none."""
    return float(value) if isinstance(value, int | float) and 0 <= value < _MOST and math.isfinite(value) else None
