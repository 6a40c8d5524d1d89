"""What a fact is: keys, values, limits, and the answers that carry them. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from quarterdeck.errors import InvalidInput, TooLarge, Unprocessable

T = TypeVar("T")

API_VERSION = "1.0"
MAX_KEY_CHARACTERS = 256
MAX_VALUE_BYTES = 4096
MAX_TOTAL_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_DESCRIPTION_BYTES = 1024
# `GET /metadata/watch` is a call of its own, so no fact can have that name.
RESERVED_KEYS = frozenset({"watch"})
STORED = "stored"

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*\Z")
# Everything a terminal could obey (C0 without tab and newline, DEL, C1), and halves of surrogate pairs.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_encode = msgspec.json.Encoder().encode


class Schema(msgspec.Struct, frozen=True):
    """What a key means, and whether a list of agents shows it."""

    description: str = ""
    include_in_list: bool = False


class Entry(msgspec.Struct, frozen=True):
    """One fact in an answer. `error` is set when it could not be read; `value` is then the last known one."""

    value: Any
    error: str | None
    source: str
    observed_at: str | None
    age_seconds: float | None
    stale: bool
    schema: Schema


class Meta(msgspec.Struct, frozen=True):
    """About an answer: `at` is this server's clock, `collected_in_ms` what collecting for it took."""

    version: str
    agent: str
    revision: int
    at: str
    collected_in_ms: float


class MetadataAnswer(msgspec.Struct, frozen=True):
    """The answer of `GET /metadata`."""

    data: dict[str, Entry]
    meta: Meta


class KeyAnswer(msgspec.Struct, frozen=True):
    """The answer of `GET` and `PUT /metadata/{key}`: the entry, its key, and the revision of its last change."""

    key: str
    revision: int
    value: Any
    error: str | None
    source: str
    observed_at: str | None
    age_seconds: float | None
    stale: bool
    schema: Schema


class WriteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /metadata/{key}`; what is left out of the schema stays as it was."""

    value: Any
    description: str | None = None
    include_in_list: bool | None = None


class WriteManyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /metadata`: all of it is stored, or nothing."""

    data: dict[str, Any]


class Written(msgspec.Struct, frozen=True):
    """What a write did: the keys that are new, those that had a value, and the revision after it."""

    created: list[str]
    updated: list[str]
    revision: int


class Change(msgspec.Struct, frozen=True):
    """One step of the history: the new entry by key, None for a key that is gone. With `whole` it is all that
    there is, and a key that it does not name is gone too.
    """

    revision: int
    data: dict[str, Entry | None]
    whole: bool = False


def check_key(key: str) -> str:
    """The key itself. Raises `TooLarge` or `Unprocessable` when it cannot be one."""
    if len(key) > MAX_KEY_CHARACTERS:
        raise TooLarge(
            f"a key of {len(key)} characters is too long, at most {MAX_KEY_CHARACTERS} are taken",
            details={"characters": len(key), "limit": MAX_KEY_CHARACTERS},
        )
    if not _KEY.match(key):
        raise Unprocessable(
            f"{key!r} cannot be a key", hint="keys match [A-Za-z0-9][A-Za-z0-9._/-]*", details={"key": ascii(key)}
        )
    if key in RESERVED_KEYS:
        raise Unprocessable(f"{key!r} is the name of a call and cannot be a key")
    return key


def encode_value(key: str, value: Any) -> bytes:
    """The value as compact JSON.

    Raises `Unprocessable` for what JSON or a terminal cannot bear, `TooLarge` over the limit.
    """
    check_text(key, value)
    try:
        encoded = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unprocessable(f"the value of {key!r} is not JSON: {error}") from None
    # A string is measured by itself, without the quotes and escapes that JSON needs.
    size = len(value.encode()) if isinstance(value, str) else len(encoded)
    if size > MAX_VALUE_BYTES:
        raise TooLarge(
            f"the value of {key!r} has {size} bytes, at most {MAX_VALUE_BYTES} are taken",
            hint="store the text in a file of the workspace and its path here",
            details={"key": key, "bytes": size, "limit": MAX_VALUE_BYTES},
        )
    return encoded


def check_text(key: str, value: Any, depth: int = 0) -> None:
    """Refuse control characters and half surrogates in every string of a value. Raises `Unprocessable`."""
    if isinstance(value, str):
        found = _FORBIDDEN.search(value)
        if found:
            raise Unprocessable(
                f"the value of {key!r} has the character U+{ord(found[0]):04X}, which is refused",
                hint="control characters (but tab and newline), ANSI escapes and half surrogates are not stored",
                details={"key": key, "position": found.start()},
            )
    elif isinstance(value, Mapping):
        _deeper(key, depth)
        for name, item in value.items():
            check_text(key, name, depth + 1)
            check_text(key, item, depth + 1)
    elif isinstance(value, (list, tuple)):
        _deeper(key, depth)
        for item in value:
            check_text(key, item, depth + 1)
    elif isinstance(value, float) and value - value != 0:
        raise Unprocessable(f"the value of {key!r} has a number that JSON does not know")


def _deeper(key: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise Unprocessable(f"the value of {key!r} is nested deeper than {MAX_DEPTH}", details={"limit": MAX_DEPTH})


def check_description(key: str, text: str) -> None:
    """Refuse a description that is too long or has control characters. Raises as `encode_value` does."""
    check_text(key, text)
    if len(text.encode()) > MAX_DESCRIPTION_BYTES:
        raise TooLarge(
            f"the description of {key!r} is longer than the {MAX_DESCRIPTION_BYTES} bytes that are taken",
            details={"limit": MAX_DESCRIPTION_BYTES},
        )


def clean_text(text: str, limit: int = MAX_VALUE_BYTES) -> str:
    """Text from outside made fit to be a value: forbidden characters replaced, cut to `limit` bytes."""
    text = _FORBIDDEN.sub("\ufffd", text)
    if len(text.encode()) <= limit:
        return text
    return text.encode()[: limit - 3].decode(errors="ignore") + "…"


def parse_body(data: bytes) -> Any:
    """Strict JSON: valid UTF-8, no duplicate keys, no NaN. Raises `InvalidInput`."""
    try:
        return _strict.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Unprocessable(f"the body is nested deeper than {MAX_DEPTH}", details={"limit": MAX_DEPTH}) from None
    except ValueError as error:  # an integer with more digits than Python reads
        raise Unprocessable(f"the body has a number that is not taken: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        shown = ", ".join(sorted(ascii(name[:100]) for name in twice[:5])) + (" and others" if len(twice) > 5 else "")
        raise Unprocessable(f"the body has the key {shown} more than once")
    return result


def _no_constant(name: str) -> Any:
    raise Unprocessable(f"{name} is not JSON")


_strict = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def read_write_body(data: bytes) -> WriteBody:
    """Check the body of a `PUT`. Raises `InvalidInput` and its kinds."""
    return _convert(parse_body(data), WriteBody)


def read_many_body(data: bytes) -> WriteManyBody:
    """Check the body of a `POST`. Raises `InvalidInput` and its kinds."""
    body = _convert(parse_body(data), WriteManyBody)
    if not body.data:
        raise Unprocessable("no value was given", hint='{"data": {"KEY": VALUE}}')
    return body


def _convert(value: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        # It may name an unknown field, which may be as long as the body.
        raise Unprocessable(f"the body is not right: {str(error)[:500]}") from None
    except UnicodeEncodeError:
        raise Unprocessable("a name in the body has half a surrogate pair in it, which is no character") from None


def iso(moment: float) -> str:
    """A moment (seconds since the epoch) as RFC 3339 in UTC with milliseconds."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def etag(revision: int) -> str:
    """The entity tag of an entry that last changed at this revision."""
    return f'"{revision}"'
