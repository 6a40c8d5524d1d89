"""All collectors of one workspace: started, told of changes, reloaded, and their facts taken over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import anyio
import anyio.abc

from quarterdeck.config import MetadataTable
from quarterdeck.errors import Conflict, QuarterdeckError
from quarterdeck.metadata import model
from quarterdeck.metadata.changes import Changes
from quarterdeck.metadata.collector import ENTRY_POINTS, Collector, Known, Runner
from quarterdeck.metadata.collectors.command import CommandCollector
from quarterdeck.metadata.declared import Declared
from quarterdeck.metadata.facts import Fact, Facts
from quarterdeck.metadata.model import Schema
from quarterdeck.metadata.watching import Watcher

log = logging.getLogger(__name__)
RELOAD_SECONDS = 1.0
# What a caller waits for with `?fresh=true`: a declared field may take any time, and its readers do not wait so long.
FRESH_SECONDS = 30.0
_NO_SCHEMA = Schema()


def _refuse_ours(keys: Iterable[str]) -> None:
    """Whoever is in the workspace may declare fields there: none may take the place of what we find out ourselves."""
    from quarterdeck.metadata.collectors import builtin_keys

    ours = builtin_keys()
    for key in keys:
        if key in ours:
            raise Conflict(f"{key!r} is a fact of {ours[key]}, which no declared field may replace")


class Gathering:
    """Runs the collectors of one workspace and puts what they find into the facts."""

    def __init__(
        self,
        facts: Facts,
        changes: Changes,
        in_order: Callable[[Callable[[], None]], None],
        workspace: Path,
        folder: Path,
    ) -> None:
        self._facts = facts
        self._changes = changes
        self._in_order = in_order
        self._workspace = workspace
        self._runners: dict[str, tuple[Runner, anyio.CancelScope]] = {}
        self._watcher = Watcher(workspace, folder, self._files_changed, self._head_changed)
        self._owners: dict[str, Runner] = {}
        self._peeking: list[Runner] = []
        self._group: anyio.abc.TaskGroup
        self._declared: Declared
        self._load_problems: list[str] = []
        self._unfit: dict[str, str] = {}
        self.peeked: frozenset[str] = frozenset()

    async def start(
        self,
        group: anyio.abc.TaskGroup,
        config: MetadataTable,
        config_folder: Path | None,
        task: Callable[[], Mapping[str, Any] | None] | None,
        base: str | None,
    ) -> None:
        """Start every collector; returns at once, before any has answered."""
        from quarterdeck.metadata.collectors import builtin

        self._group = group
        self._declared = Declared(self._workspace, config, config_folder, task)
        for name, collector in builtin(base).items():
            self.add(name, collector)
        await self._reload()
        self._add_third_parties()
        group.start_soon(self._watcher.run, name="metadata-watch")
        group.start_soon(self._reload_forever, name="metadata-reload")

    # ---------------------------------------------------------------- the set of collectors

    def add(self, name: str, collector: Collector) -> None:
        """Start one collector under a name of its own. Raises `InvalidInput` when it cannot be one, `Conflict` for a
        declared field with a key of ours."""
        runner = Runner(collector, self._workspace, self._publish)
        if isinstance(collector, CommandCollector):
            _refuse_ours(runner.keys)
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await runner.run()

        self._runners[name] = (runner, scope)
        if runner.peeked:
            self._peeking.append(runner)
            self.peeked |= runner.peeked
        self._group.start_soon(run, name=f"metadata-{name}")

    def remove(self, name: str) -> None:
        """Stop one collector; its facts go."""
        runner, scope = self._runners[name]
        scope.cancel()
        self._publish(runner, dict.fromkeys(runner.known))
        del self._runners[name]

    def _add_third_parties(self) -> None:
        for point in entry_points(group=ENTRY_POINTS):
            try:
                self.add(f"plugin:{point.name}", point.load()(self._workspace))
            except Exception as error:
                log.warning("collector %s cannot be loaded", point.name, exc_info=True)
                self._load_problems.append(f"collector {point.name} cannot be loaded: {error}")

    async def _reload_forever(self) -> None:
        while True:
            await anyio.sleep(RELOAD_SECONDS)
            await self._reload()

    async def _reload(self) -> None:
        try:
            change = await self._declared.reload()
        except Exception:
            # Whatever is in the files: it must not end the service, nor the agent beside it.
            log.exception("what is declared cannot be taken over; what was declared before goes on")
            return
        for name in change.gone:
            self._unfit.pop(name, None)
            if name in self._runners:
                self.remove(name)
        for name, collector in change.new.items():
            try:
                self.add(name, collector)
            except QuarterdeckError as error:
                self._unfit[name] = f"{name} is not collected: {error.message}"

    def owner(self, key: str) -> str | None:
        """The collectors that declare this key, in words; None when it is free."""
        names = {r.name for r, _ in self._runners.values() if key in r.keys or key in r.known}
        return " or ".join(sorted(names)) or None

    # ---------------------------------------------------------------- what they find

    def _publish(self, runner: Runner, news: Mapping[str, Known | None]) -> None:
        if all(running is not runner for running, _ in self._runners.values()):
            return  # it was removed while it collected
        changed = []
        for key, known in news.items():
            if not self._owns(runner, key, known):
                continue
            if known is None:
                del self._owners[key]
                if runner.known.pop(key, None) is not None:
                    self._facts.set_collected(key, None)
                    changed.append(key)
            else:
                runner.known[key] = known
                if self._replace(runner, key, known, self._facts.collected(key)):
                    changed.append(key)
        if changed:
            revision = self._changes.next()
            for key in changed:
                fact = self._facts.collected(key)
                if fact is not None:
                    fact.revision = revision
            # Reads show it at once; the history tells it after the writes of a flush that is on its way.
            self._in_order(lambda: self._changes.record(revision, tuple(changed)))

    def _owns(self, runner: Runner, key: str, known: Known | None) -> bool:
        """Whether the key is this collector's: of two that found it the first one keeps it, unless all that it has
        of it is an error.
        """
        owner = self._owners.setdefault(key, runner)
        if owner is runner or known is None or known.error is not None:
            return owner is runner
        had = owner.known.get(key)
        if had is None or had.error is None or had.value is not None:
            return False
        del owner.known[key]
        self._owners[key] = runner
        return True

    def _replace(self, runner: Runner, key: str, known: Known, before: Fact | None) -> bool:
        """Take over what is known of a key; whether it differs from before."""
        schema = runner.keys.get(key, _NO_SCHEMA)
        try:
            raw = model.encode_value(key, known.value)
        except QuarterdeckError as error:
            raw, known = b"null", Known(None, error.message, known.observed)
        except Exception as error:  # noqa: BLE001 - a value of a third party's own making: told as that key's error
            raw, known = b"null", Known(None, model.clean_text(f"it is not JSON: {error}", 1000), known.observed)
        # It is asked for anew in the round after it became too old, and that round takes its time too.
        limit = max(runner.max_age, known.good_for or 0.0) + runner.max_age + runner.deadline
        peeked = key in self.peeked
        stale = (lambda age: age > limit) if peeked else (lambda age: runner.changed_since or age > limit)
        if before is not None and (before.raw, before.error, before.schema) == (raw, known.error, schema):
            if known.observed is not None:
                before.seen(known.observed, stale)
            return False
        fact = Fact(
            key,
            raw,
            source=runner.name,
            observed=known.observed,
            revision=0,
            schema=schema,
            error=known.error,
            stale=stale,
        )
        self._facts.set_collected(key, fact)
        return True

    # ---------------------------------------------------------------- when they are asked

    def peek(self) -> None:
        """Look again at what costs next to nothing; a difference has the rest collected anew."""
        for runner in self._peeking:
            if not runner.known:
                continue
            now = time.time()
            news: dict[str, Known | None] = {}
            moved = False
            for key, value in runner.peek().items():
                if self._owners.get(key, runner) is not runner:
                    continue
                known = runner.known.get(key)
                if known is None or known.value != value or known.error is not None:
                    news[key] = Known(value, None, now)
                    # An error that went away is no change of the workspace: nothing is to be collected anew.
                    moved = moved or known is None or known.value != value
                elif (fact := self._facts.collected(key)) is not None:
                    fact.seen(now)
                    known.observed = now
            if news:
                self._publish(runner, news)
            if moved:
                self._head_changed()

    async def fresh(self, source: str | None, prefix: str | None, keys: frozenset[str] | None) -> None:
        """Have every collector that can tell what is asked for collect now; each within its deadline, all within
        `FRESH_SECONDS`. Whose facts are not there by then goes on, and they say so.
        """
        late: set[Runner] = set()

        async def one(runner: Runner) -> None:
            late.add(runner)
            await runner.fresh()
            late.discard(runner)

        with anyio.move_on_after(FRESH_SECONDS) as scope:
            async with anyio.create_task_group() as group:
                for runner in self._telling(source, prefix, keys):
                    group.start_soon(one, runner)
        if scope.cancelled_caught:
            for runner in late & {runner for runner, _ in self._runners.values()}:
                self._publish(runner, runner.unfinished(f"not collected anew within {FRESH_SECONDS:g} s; it goes on"))

    def _telling(self, source: str | None, prefix: str | None, keys: frozenset[str] | None) -> Iterator[Runner]:
        """Those that can tell what is asked for."""
        for runner, _ in list(self._runners.values()):
            names = runner.keys.keys() | runner.known.keys()
            if source is not None and runner.name != source:
                continue
            if keys is not None and not keys & names:
                continue
            if prefix is not None and not any(name.startswith(prefix) for name in names):
                continue
            yield runner

    def poke(self) -> None:
        """The workspace has probably changed."""
        self._files_changed()

    def _files_changed(self) -> None:
        self._poke("files")

    def _head_changed(self) -> None:
        self._poke("files", "head")

    def _poke(self, *triggers: str) -> None:
        for runner, _ in self._runners.values():
            if runner.trigger in triggers:
                runner.poke()

    # ---------------------------------------------------------------- about itself

    @property
    def problems(self) -> list[str]:
        """What keeps collecting from working as declared, in words."""
        return [*self._load_problems, *self._unfit.values(), *self._declared.problems]

    def health(self) -> dict[str, Any]:
        """Figures of the collectors and the file watcher."""
        return {
            "file_watch": self._watcher.state,
            "collectors": {
                name: {
                    "collections": runner.collections,
                    "failures": runner.failures,
                    "last_seconds": round(runner.last_seconds, 4),
                    "error": runner.error,
                }
                for name, (runner, _) in sorted(self._runners.items())
            },
        }
