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
from typing import Any, Literal, Protocol, runtime_checkable

import anyio

from quarterdeck.errors import QuarterdeckError
from quarterdeck.metadata.model import Schema, check_text, clean_text

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
class Closing(Protocol):
    """A collector that holds something to be given back at the end."""

    async def aclose(self) -> None: ...


@dataclass
class Known:
    """What is known of one collected key. `observed` is when the value was read, None when it never was."""

    value: Any
    error: str | None
    observed: float | None


Publish = Callable[["Runner", Mapping[str, Known | None]], None]


class Runner:
    """Keeps one collector's facts known: asks it when they are old, changed, or wanted now."""

    def __init__(self, collector: Collector, workspace: Path, publish: Publish) -> None:
        self.collector = collector
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
                await self._collect()
                with anyio.move_on_after(self._pause()):
                    await self._wanted.wait()
                # A storm of changes (a build, an install) must not become a storm of collections: let as
                # much time pass as three of them take. A single change after quiet is seen at once.
                rest = min(3 * self.last_seconds, 5.0) - (time.monotonic() - self._ended)
                if rest > 0 and not self._urgent.is_set():
                    with anyio.move_on_after(rest):
                        await self._urgent.wait()
        finally:
            self._stopped = True
            self._finished.set()
            if isinstance(self.collector, Closing):
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    await self.collector.aclose()

    def _pause(self) -> float:
        """How long the facts may rest: longer after each failure in a row, and not in step with others."""
        pause = self.collector.max_age * min(2.0**self._failed_in_a_row, 8.0)
        return pause * random.uniform(0.9, 1.1)  # noqa: S311 - no secret

    async def _collect(self) -> None:
        self._started += 1
        urgent = self._urgent.is_set()
        self._wanted, self._urgent = anyio.Event(), anyio.Event()
        self.changed_since = False
        began = time.monotonic()
        values: Mapping[str, Any] = {}
        error: str | None = None
        try:
            with anyio.fail_after(self.collector.deadline):
                if urgent and isinstance(self.collector, Refreshing):
                    values = await self.collector.collect_fresh(self._workspace)
                else:
                    values = await self.collector.collect(self._workspace)
        except TimeoutError:
            error = f"{self.collector.name} did not answer within {self.collector.deadline:g} s"
        except QuarterdeckError as problem:
            error = problem.message + (f" ({problem.hint})" if problem.hint else "")
        except Exception as problem:
            log.warning("collector %s failed", self.collector.name, exc_info=True)
            error = f"{type(problem).__name__}: {problem}"
        self._ended = time.monotonic()
        self.last_seconds = self._ended - began
        self.collections += 1
        self.error = clean_text(error, 1000) if error is not None else None
        if error is None:
            self._failed_in_a_row = 0
            self._publish(self, self._merged(values))
        else:
            self.failures += 1
            self._failed_in_a_row += 1
            self._publish(self, self._all_failed(self.error or ""))
        self._done = self._started
        self._finished.set()
        self._finished = anyio.Event()

    def _merged(self, values: Mapping[str, Any]) -> dict[str, Known | None]:
        now = time.time()
        news: dict[str, Known | None] = {key: None for key in self.known if key not in values}
        for key, value in values.items():
            before = self.known.get(key)
            if isinstance(value, Known):
                news[key] = value
                continue
            problem = value.error if isinstance(value, Failed) else _unfit(key, value)
            if problem is None:
                news[key] = Known(value, None, now)
            else:
                old = before.value if before else None
                news[key] = Known(old, clean_text(problem, 1000), before.observed if before else None)
        return news

    def _all_failed(self, error: str) -> dict[str, Known | None]:
        keys = self.known.keys() or self.collector.keys.keys()
        return {
            key: Known(before.value if before else None, error, before.observed if before else None)
            for key in keys
            for before in (self.known.get(key),)
        }


def _unfit(key: str, value: Any) -> str | None:
    try:
        check_text(key, value)
    except QuarterdeckError as error:
        return error.message
    return None
