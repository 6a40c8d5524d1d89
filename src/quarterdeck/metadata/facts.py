"""The facts as answers show them: stored and collected side by side, kept half encoded.

All of a fact but its age is turned into JSON when it changes, so that an answer is put together from
ready pieces. What `Fact.entry` gives and what `Fact.json` writes is the same; a test holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from quarterdeck.metadata.model import Entry, Schema, iso

_encode = msgspec.json.Encoder().encode
Stale = Callable[[float], bool]


class Fact:
    """One fact. `observed` is in seconds since the epoch, None when it was never read."""

    __slots__ = ("_head", "_stale", "_tail", "error", "key", "observed", "raw", "revision", "schema", "source")

    def __init__(
        self,
        key: str,
        raw: bytes,
        *,
        source: str,
        observed: float | None,
        revision: int,
        schema: Schema,
        error: str | None = None,
        stale: Stale | None = None,
    ) -> None:
        self.key = key
        self.raw = raw
        self.source = source
        self.observed = observed
        self.revision = revision
        self.schema = schema
        self.error = error
        self._stale = stale
        self._tail = b',"schema":' + _encode(schema) + b"}"
        self._build()

    def _build(self) -> None:
        observed = b"null" if self.observed is None else b'"%s"' % iso(self.observed).encode()
        self._head = b'"value":%s,"error":%s,"source":%s,"observed_at":%s,"age_seconds":' % (
            self.raw,
            _encode(self.error),
            _encode(self.source),
            observed,
        )

    @property
    def value(self) -> Any:
        """The value, decoded."""
        return msgspec.json.decode(self.raw)

    def seen(self, moment: float, stale: Stale | None = None) -> None:
        """The same value was read again at this moment, and is stale from now on when that says so."""
        self.observed = moment
        self._stale = stale or self._stale
        self._build()

    def is_stale(self, age: float | None) -> bool:
        """Whether it may no longer be true: an error stands, something changed since, or it is too old."""
        if self._stale is None:
            return False
        return self.error is not None or age is None or self._stale(age)

    def age(self, now: float) -> float | None:
        """Seconds since it was observed, never negative."""
        return None if self.observed is None else max(0.0, now - self.observed)

    def entry(self, now: float) -> Entry:
        """The fact as an answer's entry."""
        age = self.age(now)
        observed = None if self.observed is None else iso(self.observed)
        shown = None if age is None else round(age, 3)
        return Entry(self.value, self.error, self.source, observed, shown, self.is_stale(age), self.schema)

    def json(self, now: float) -> bytes:
        """The entry as JSON without its opening brace, for one that knows what comes before."""
        age = self.age(now)
        return b"%s%s%s%s" % (
            self._head,
            b"null" if age is None else b"%.3f" % age,
            b',"stale":true' if self.is_stale(age) else b',"stale":false',
            self._tail,
        )


class Facts:
    """All facts by key; a collected one hides a stored one of the same key."""

    def __init__(self) -> None:
        self._stored: dict[str, Fact] = {}
        self._collected: dict[str, Fact] = {}
        self._sorted: list[Fact] | None = None

    def get(self, key: str) -> Fact | None:
        """The fact of this key."""
        return self._collected.get(key) or self._stored.get(key)

    def collected(self, key: str) -> Fact | None:
        """The collected fact of this key."""
        return self._collected.get(key)

    def set_stored(self, key: str, fact: Fact | None) -> None:
        """Take over a stored fact, None: it is gone."""
        self._set(self._stored, key, fact)

    def set_collected(self, key: str, fact: Fact | None) -> None:
        """Take over a collected fact, None: it is gone."""
        self._set(self._collected, key, fact)

    def _set(self, table: dict[str, Fact], key: str, fact: Fact | None) -> None:
        self._sorted = None
        if fact is None:
            table.pop(key, None)
        else:
            table[key] = fact

    def hidden(self) -> list[str]:
        """The keys of stored facts that a collected one hides."""
        return sorted(self._stored.keys() & self._collected.keys())

    def __iter__(self) -> Iterator[Fact]:
        if self._sorted is None:
            self._sorted = [fact for _, fact in sorted({**self._stored, **self._collected}.items())]
        return iter(self._sorted)

    def select(
        self, source: str | None = None, prefix: str | None = None, keys: Iterable[str] | None = None
    ) -> list[Fact]:
        """Those that pass all given filters, in the order of their keys."""
        if keys is not None:
            found: Iterable[Fact] = (fact for key in sorted(set(keys)) if (fact := self.get(key)) is not None)
        else:
            found = self
        return [
            fact
            for fact in found
            if (source is None or fact.source == source) and (prefix is None or fact.key.startswith(prefix))
        ]


def entries_json(facts: Iterable[Fact], now: float) -> bytes:
    """`{KEY: entry, ...}`."""
    return b"{" + b",".join([b'"%s":{%s' % (f.key.encode(), f.json(now)) for f in facts]) + b"}"


def changes_json(facts: Mapping[str, Fact | None], now: float) -> bytes:
    """`{KEY: entry or null, ...}`."""
    pieces = [
        b'"%s":null' % key.encode() if fact is None else b'"%s":{%s' % (key.encode(), fact.json(now))
        for key, fact in facts.items()
    ]
    return b"{" + b",".join(pieces) + b"}"
