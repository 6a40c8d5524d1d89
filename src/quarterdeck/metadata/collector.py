"""Collected facts: what a collector is, and the task that keeps one collector's facts known.

A collector's deadline, failures and age are its own affair: it fails alone, its last values stay with
their age and the error beside them.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import anyio

from quarterdeck.errors import InvalidInput, QuarterdeckError
from quarterdeck.metadata.model import Schema, check_key, check_text, clean_text

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 5.0
ENTRY_POINTS = "quarterdeck.metadata.collectors"
Trigger = Literal["age", "head", "files"]


@dataclass(frozen=True)
class Failed:
    """In the place of a value: this key could not be read, and why."""

    error: str


class Collector(Protocol):
    """Reads some facts of a workspace, and never changes it.

    `name` is the source that answers name; `keys` says which keys can come and what they mean (it may
    change while running). `collect` gives the keys that are there now with JSON values of at most 4 KB,
    or `Failed`; it may raise: then all its keys carry the error. A `Known` in the place of a value says
    itself how old it is. It is cancelled after `deadline` seconds, and asked again after `max_age`
    seconds, or as soon as what `trigger` names has changed: only the age, also the checked-out branch
    or commit (`head`), also any file (`files`).

    Third parties register a callable `workspace -> Collector` in the entry-point group
    `quarterdeck.metadata.collectors`.
    """

    name: str
    deadline: float
    max_age: float
    trigger: Trigger

    @property
    def keys(self) -> Mapping[str, Schema]: ...

    async def collect(self, workspace: Path) -> Mapping[str, Any]: ...


@runtime_checkable
class Peeking(Protocol):
    """A collector some of whose facts cost so little that every read looks at them anew."""

    peeked: frozenset[str]

    def peek(self, workspace: Path) -> Mapping[str, Any]: ...


@runtime_checkable
class Refreshing(Protocol):
    """A collector that remembers by itself, and so must be told when its memory is not wanted."""

    async def collect_fresh(self, workspace: Path) -> Mapping[str, Any]: ...


@runtime_checkable
class Moving(Protocol):
    """A collector whose values are of something that can change while it cannot be asked for, as a branch's request."""

    def moved(self) -> bool:
        """Whether what it told last is of something else than what it was asked for last."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A collector that holds something to be given back at the end."""

    async def aclose(self) -> None: ...


@dataclass
class Known:
    """What is known of one collected key. `observed` is when the value was read, None when it never was.

    `good_for` is the age at which the collector itself would read it anew, where that is not its `max_age`.
    """

    value: Any
    error: str | None
    observed: float | None
    good_for: float | None = None


Publish = Callable[["Runner", Mapping[str, Known | None]], None]


class Runner:
    """Keeps one collector's facts known: asks it when they are old, changed, or wanted now.

    Whatever the collector is or does wrong stays here: what it says of itself is read once and checked (raises
    `InvalidInput`), and every call of it is guarded.
    """

    def __init__(self, collector: Collector, workspace: Path, publish: Publish) -> None:
        self.collector = collector
        self.name, self.deadline, self.max_age, self.trigger = _checked(collector)
        # Asked for once: every read peeks, and whether an object fits a protocol takes longer than the peek itself.
        self._peek = collector.peek if isinstance(collector, Peeking) else None
        self.peeked = frozenset(map(check_key, collector.peeked)) if isinstance(collector, Peeking) else frozenset()
        self.keys = _checked_keys(collector.keys)
        self._workspace = workspace
        self._publish = publish
        self.known: dict[str, Known] = {}
        self.error: str | None = None
        self.changed_since = True
        self.collections = 0
        self.failures = 0
        self.last_seconds = 0.0
        self._failed_in_a_row = 0
        self._ended = 0.0
        self._started = 0
        self._done = 0
        self._stopped = False
        self._wanted = anyio.Event()
        self._urgent = anyio.Event()
        self._finished = anyio.Event()

    def poke(self) -> None:
        """What it reads has probably changed: ask it soon."""
        self.changed_since = True
        self._wanted.set()

    async def fresh(self) -> None:
        """Return when a collection that began after this call has ended, or the collector was taken away."""
        ticket = self._started + 1
        self._urgent.set()
        self._wanted.set()
        while self._done < ticket and not self._stopped:
            await self._finished.wait()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                try:
                    await self._collect()
                    await self._rest()
                except Exception:
                    # A mistake of ours, not the collector's: an error from here would end the whole server.
                    log.exception("the collector %s cannot be run", self.name)
                    self.error = "it cannot be run; the log has the details"
                    self.failures += 1
                    self._answered()
                    await anyio.sleep(min(self.max_age, 5.0))
        finally:
            self._stopped = True
            self._finished.set()
            if isinstance(self.collector, Closing):
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    try:
                        await self.collector.aclose()
                    except Exception:
                        log.warning("collector %s cannot be closed", self.name, exc_info=True)

    async def _rest(self) -> None:
        with anyio.move_on_after(self._pause()):
            await self._wanted.wait()
        # A storm of changes (a build, an install) must not become a storm of collections: let as
        # much time pass as three of them take. A single change after quiet is seen at once.
        rest = min(3 * self.last_seconds, 5.0) - (time.monotonic() - self._ended)
        if rest > 0 and not self._urgent.is_set():
            with anyio.move_on_after(rest):
                await self._urgent.wait()

    def _answered(self) -> None:
        """Wake who waits for the collection that is over."""
        self._done = self._started
        self._finished.set()
        self._finished = anyio.Event()

    def peek(self) -> Mapping[str, Any]:
        """What a collector that is `Peeking` sees right now; nothing when it fails."""
        if self._peek is None:
            return {}
        try:
            found = self._peek(self._workspace)
            return found if found.keys() <= self.peeked else {key: found[key] for key in found.keys() & self.peeked}
        except Exception as problem:
            if self.error is None:
                log.warning("collector %s cannot peek", self.name, exc_info=True)
                self.error = _words(problem)
            return {}

    def _pause(self) -> float:
        """How long the facts may rest: longer after each failure in a row, and not in step with others."""
        pause = self.max_age * 2.0 ** min(self._failed_in_a_row, 3)
        return pause * random.uniform(0.9, 1.1)  # noqa: S311 - no secret

    async def _collect(self) -> None:
        self._started += 1
        urgent = self._urgent.is_set()
        self._wanted, self._urgent = anyio.Event(), anyio.Event()
        self.changed_since = False
        began = time.monotonic()
        news: dict[str, Known | None] | None = None
        error: str | None = None
        try:
            with anyio.move_on_after(self.deadline) as scope:
                if urgent and isinstance(self.collector, Refreshing):
                    values = await self.collector.collect_fresh(self._workspace)
                else:
                    values = await self.collector.collect(self._workspace)
            if scope.cancelled_caught:
                error = f"{self.name} did not answer within {self.deadline:g} s"
            else:
                self.keys = _checked_keys(self.collector.keys)
                news, error = self._merged(values)
        except (Exception, SystemExit) as problem:
            if not isinstance(_innermost(problem), QuarterdeckError):
                log.warning("collector %s failed", self.name, exc_info=True)
            error = _words(problem)
        self._ended = time.monotonic()
        self.last_seconds = self._ended - began
        self.collections += 1
        self.error = error
        if news is not None:
            self._failed_in_a_row = 0
        else:
            self.failures += 1
            self._failed_in_a_row += 1
            news = self._all_failed(error or "")
        self._publish(self, news)
        self._answered()

    def _merged(self, values: Any) -> tuple[dict[str, Known | None], str | None]:
        """What was collected, beside what was known; and what had to be left out of it, in words."""
        now = time.time()
        left_out: str | None = None
        if not isinstance(values, Mapping):
            raise TypeError(f"it gave a {type(values).__name__} where a mapping of keys to values is asked for")
        news: dict[str, Known | None] = {key: None for key in self.known if key not in values}
        for key, value in values.items():
            try:
                check_key(key)
            except (QuarterdeckError, TypeError) as unfit:
                left_out = _words(unfit)
                continue
            before = self.known.get(key)
            if isinstance(value, Known):
                news[key] = _checked_known(value)
                continue
            problem = value.error if isinstance(value, Failed) else _unfit(key, value)
            if problem is None:
                news[key] = Known(value, None, now)
            else:
                old = before.value if before else None
                news[key] = Known(old, clean_text(problem, 1000), before.observed if before else None)
        return news, left_out

    def unfinished(self, error: str) -> dict[str, Known | None]:
        """What is known until the collection that is under way ends, with this in the place of an error."""
        return self._all_failed(f"{self.name}: {error}")

    def _all_failed(self, error: str) -> dict[str, Known | None]:
        keys = self.known.keys() or self.keys.keys()
        # What is known of something else would be taken for a fact of what is there now, with its error unread.
        kept = {} if isinstance(self.collector, Moving) and self.collector.moved() else self.known
        news: dict[str, Known | None] = {
            key: Known(before.value if before else None, error, before.observed if before else None)
            for key in keys
            for before in (kept.get(key),)
        }
        # What every read looks at anew is known all the same; an error there would come and go with each read.
        now = time.time()
        return news | {key: Known(value, None, now) for key, value in self.peek().items()}


def _checked(collector: Collector) -> tuple[str, float, float, Trigger]:
    """Name, deadline, age and trigger. Raises `InvalidInput` for what no collector can have."""
    name: Any = getattr(collector, "name", None)
    trigger: Any = getattr(collector, "trigger", None)
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"a collector has the name {name!r}")
    if trigger not in get_args(Trigger):
        raise InvalidInput(f"{name} has the trigger {trigger!r}, known are {', '.join(get_args(Trigger))}")
    seconds = []
    for what in ("deadline", "max_age"):
        value = getattr(collector, what, None)
        if not isinstance(value, int | float) or not value > 0:
            raise InvalidInput(f"{name} has {value!r} as {what}, seconds above 0 are asked for")
        seconds.append(float(value))
    if not callable(getattr(collector, "collect", None)):
        raise InvalidInput(f"{name} has no `collect`")
    return clean_text(name, 100), seconds[0], seconds[1], trigger


def _checked_keys(keys: Mapping[str, Schema]) -> Mapping[str, Schema]:
    """Its keys as they are now. Raises `InvalidInput` when they cannot be answered with."""
    if not isinstance(keys, Mapping) or not all(isinstance(schema, Schema) for schema in keys.values()):
        raise InvalidInput("its `keys` are not a mapping of keys to schemas")
    return {check_key(key): schema for key, schema in keys.items()}


def _checked_known(known: Known) -> Known:
    error = None if known.error is None else clean_text(str(known.error), 1000)
    observed = known.observed if isinstance(known.observed, int | float) and 0 <= known.observed < 1e11 else None
    good_for = known.good_for if isinstance(known.good_for, int | float) and 0 <= known.good_for < 1e11 else None
    return Known(known.value, error, observed, good_for)


def _innermost(problem: BaseException) -> BaseException:
    """What went wrong, out of the groups that task groups wrap it in; our own errors before others."""
    if not isinstance(problem, BaseExceptionGroup):
        return problem
    inner: tuple[BaseException, ...] = problem.exceptions
    return _innermost(next((e for e in inner if isinstance(e, QuarterdeckError)), inner[0]))


def _words(problem: BaseException) -> str:
    inner = _innermost(problem)
    if isinstance(inner, QuarterdeckError):
        text = inner.message + (f" ({inner.hint})" if inner.hint else "")
    else:
        text = f"{type(inner).__name__}: {inner}"
    return clean_text(text, 1000)


def _unfit(key: str, value: Any) -> str | None:
    try:
        check_text(key, value)
    except QuarterdeckError as error:
        return error.message
    return None
