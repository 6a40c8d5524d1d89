"""The registry: what should run on this node and what was last seen of it, in one SQLite file.

`Registry` is plain SQL, called inside a transaction; `store.Store` opens the file, runs the transactions in
one thread and migrates. STRICT tables, WAL, synchronous=FULL, one writer.
"""

# ruff: noqa: S608 - the texts are put together from names of this package alone, values are bound
from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from quarterdeck.errors import NotFound
from quarterdeck.node import rows
from quarterdeck.node.model import (
    ComponentRecord,
    Desired,
    Event,
    Observed,
    Operation,
    OperationState,
    Planned,
    ServiceDef,
    ServiceRecord,
)
from quarterdeck.node.results import HistoryEntry


class Registry:
    """The statements; every method runs inside the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self.events_added = 0

    # Services

    def services(self, names: Sequence[str] = ()) -> tuple[ServiceRecord, ...]:
        """Every service, or those of these names that there are, by name."""
        where, values = _any("name", names)
        found = self._db.execute(f"SELECT * FROM services{where} ORDER BY name", values).fetchall()
        below = self._components(names)
        return tuple(
            ServiceRecord(
                name=row["name"],
                generation=row["generation"],
                components=tuple(below.get(row["name"], ())),
                active=bool(row["active"]),
                enforce=bool(row["enforce"]),
                managed=bool(row["managed"]),
                paused=bool(row["paused"]),
                node=row["node"],
                updated_at=row["updated_at"],
            )
            for row in found
        )

    def _components(self, services: Sequence[str]) -> dict[str, list[ComponentRecord]]:
        where, values = _any("service", services)
        children = {
            table: rows.grouped(
                self._db.execute(
                    f"SELECT service, component, {columns} FROM {table}{where} ORDER BY service, component, position",
                    values,
                )
            )
            for table, columns in rows.CHILD_COLUMNS.items()
        }
        found: dict[str, list[ComponentRecord]] = {}
        columns = ", ".join(rows.COMPONENT_COLUMNS)
        for row in self._db.execute(f"SELECT {columns} FROM components{where} ORDER BY service, position", values):
            found.setdefault(row[0], []).append(rows.component(row, children))
        return found

    def service(self, name: str) -> ServiceRecord:
        """One service. Raises `NotFound`."""
        found = self.find(name)
        if found is None:
            known = [
                row[0] for row in self._db.execute("SELECT name FROM services WHERE managed ORDER BY name LIMIT 20")
            ]
            raise NotFound(
                f"the node has no service {name!r}",
                hint=f"it has {', '.join(known)}" if known else "it has none yet: qd service deploy",
            )
        return found

    def find(self, name: str) -> ServiceRecord | None:
        """One service, None when there is none."""
        found = self.services([name])
        return found[0] if found else None

    def put_service(self, record: ServiceRecord) -> None:
        """Insert or change the service's own row; its components are left alone."""
        self._db.execute(
            "INSERT INTO services (name, generation, active, enforce, managed, paused, node, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET generation = excluded.generation,"
            " active = excluded.active, enforce = excluded.enforce, managed = excluded.managed,"
            " paused = excluded.paused, node = excluded.node, updated_at = excluded.updated_at",
            (record.name, record.generation, record.active, record.enforce, record.managed, record.paused, record.node,
             record.updated_at),
        )  # fmt: skip

    def remove_service(self, name: str) -> None:
        """Forget a service with its components, alerts and history; its events stay."""
        self._db.execute("DELETE FROM services WHERE name = ?", (name,))
        self._db.execute("DELETE FROM alerts WHERE service = ?", (name,))
        self._db.execute("DELETE FROM history WHERE service = ?", (name,))

    # Components

    def put_component(self, record: ComponentRecord) -> None:
        """Insert or replace a component: definition, desired and observed state."""
        row = self._db.execute(
            "SELECT position FROM components WHERE service = ? AND name = ?", (record.service, record.name)
        ).fetchone()
        position = row[0] if row else self._next_position(record.service)
        columns = rows.component_columns(record, position) | rows.observed_columns(record.observed)
        names = ", ".join(columns)
        marks = ", ".join("?" * len(columns))
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in ("service", "name"))
        self._db.execute(
            f"INSERT INTO components ({names}) VALUES ({marks}) ON CONFLICT (service, name) DO UPDATE SET {changes}",
            tuple(columns.values()),
        )
        for table, children in rows.child_rows(record.spec).items():
            self._db.execute(f"DELETE FROM {table} WHERE service = ? AND component = ?", (record.service, record.name))
            for index, child in enumerate(children):
                values = {"service": record.service, "component": record.name, "position": index, **child}
                self._db.execute(
                    f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
                    tuple(values.values()),
                )

    def _next_position(self, service: str) -> int:
        row = self._db.execute("SELECT max(position) FROM components WHERE service = ?", (service,)).fetchone()
        return 0 if row[0] is None else int(row[0]) + 1

    def remove_component(self, service: str, name: str) -> None:
        """Forget a component."""
        self._db.execute("DELETE FROM components WHERE service = ? AND name = ?", (service, name))
        self._db.execute("DELETE FROM alerts WHERE service = ? AND component = ?", (service, name))

    def order_components(self, service: str, names: Sequence[str]) -> None:
        """Keep the order of the definition."""
        for position, name in enumerate(names):
            self._db.execute(
                "UPDATE components SET position = ? WHERE service = ? AND name = ?", (position, service, name)
            )

    def set_desired(self, service: str, components: Iterable[str], desired: Desired) -> None:
        """What these components should do; their restart attempts begin anew."""
        self._db.executemany(
            "UPDATE components SET desired = ?, attempts = 0 WHERE service = ? AND name = ?",
            [(desired, service, name) for name in components],
        )

    def observe(self, service: str, component: str, observed: Observed) -> None:
        """What was seen of a component."""
        columns = rows.observed_columns(observed)
        changes = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(
            f"UPDATE components SET {changes} WHERE service = ? AND name = ?", (*columns.values(), service, component)
        )

    def count_restart(self, service: str, component: str, attempts: int) -> None:
        """One more restart by the agent; `attempts` since it last ran for a while."""
        self._db.execute(
            "UPDATE components SET restarts = restarts + 1, attempts = ? WHERE service = ? AND name = ?",
            (attempts, service, component),
        )

    def attempts(self) -> dict[tuple[str, str], int]:
        """Restart attempts so far, by (service, component), where there are any."""
        found = self._db.execute("SELECT service, name, attempts FROM components WHERE attempts > 0")
        return {(row[0], row[1]): int(row[2]) for row in found}

    def reset_attempts(self, service: str, component: str) -> None:
        """It ran for a while: the next failure is the first again."""
        self._db.execute("UPDATE components SET attempts = 0 WHERE service = ? AND name = ?", (service, component))

    def checkable(self) -> list[tuple[str, str]]:
        """The running (service, component)s that have a healthcheck."""
        found = self._db.execute(
            "SELECT service, name FROM components WHERE healthcheck IS NOT NULL AND state = 'running'"
            " AND desired != 'ignore'"
        )
        return [(row[0], row[1]) for row in found]

    def by_container(self, name: str) -> tuple[str, str] | None:
        """Which (service, component) has a container of this name."""
        row = self._db.execute("SELECT service, name FROM components WHERE container_name = ?", (name,)).fetchone()
        return (row[0], row[1]) if row else None

    # Events

    def add_event(self, event: Event) -> Event:
        """Record what happened; the event with its id."""
        cursor = self._db.execute(
            "INSERT INTO events (at, service, component, kind, message, from_state, to_state, details)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (event.at, event.service, event.component, event.kind, event.message, event.from_state, event.to_state,
             rows.text(event.details)),
        )  # fmt: skip
        self.events_added += 1
        return Event(
            int(cursor.lastrowid or 0), event.at, event.service, event.component, event.kind, event.message,
            event.from_state, event.to_state, event.details,
        )  # fmt: skip

    def events(
        self,
        *,
        service: str = "",
        component: str = "",
        since: float = 0,
        until: float | None = None,
        after_id: int = 0,
        limit: int = 100,
    ) -> tuple[Event, ...]:
        """The latest `limit` events of a component (or service, or all) in a time range, oldest first."""
        terms = ["at >= ?", "id > ?"]
        values: list[Any] = [since, after_id]
        for column, value in (("service", service), ("component", component)):
            if value:
                terms.append(f"{column} = ?")
                values.append(value)
        if until is not None:
            terms.append("at < ?")
            values.append(until)
        query = f"SELECT * FROM events WHERE {' AND '.join(terms)} ORDER BY id DESC LIMIT ?"
        return tuple(rows.event(row) for row in reversed(self._db.execute(query, (*values, limit)).fetchall()))

    def count_events(self, *, service: str, component: str, kind: str, since: float) -> int:
        """How many events of a kind a component had since then."""
        row = self._db.execute(
            "SELECT count(*) FROM events WHERE service = ? AND component = ? AND at >= ? AND kind = ?",
            (service, component, since, kind),
        ).fetchone()
        return int(row[0])

    def count_transitions(self, service: str, component: str, since: float) -> int:
        """How often a component changed its state by itself since then: what an operation did is left out, and a
        runtime that did not answer is no change."""
        row = self._db.execute(
            "SELECT count(*) FROM events WHERE service = ? AND component = ? AND at >= ? AND kind = 'state'"
            " AND from_state != 'unknown' AND to_state != 'unknown'"
            " AND json_extract(details, '$.operation') IS NULL",
            (service, component, since),
        ).fetchone()
        return int(row[0])

    def prune_events(self, *, before: float, keep: int) -> int:
        """Remove events older than `before` and all but the latest `keep`; how many went."""
        gone = self._db.execute("DELETE FROM events WHERE at < ?", (before,)).rowcount
        gone += self._db.execute(
            "DELETE FROM events WHERE id <= (SELECT id FROM events ORDER BY id DESC LIMIT 1 OFFSET ?)", (keep,)
        ).rowcount
        return gone

    # Operations

    def operation(self, identity: str) -> Operation | None:
        """An operation by its id."""
        row = self._db.execute("SELECT * FROM operations WHERE id = ?", (identity,)).fetchone()
        return rows.operation(row) if row else None

    def running_operations(self) -> tuple[Operation, ...]:
        """Those that have no answer yet, oldest first."""
        found = self._db.execute("SELECT * FROM operations WHERE state = 'running' ORDER BY started_at")
        return tuple(rows.operation(row) for row in found)

    def begin_operation(self, operation: Operation, actor: str) -> None:
        """Write the intent, before anything is done."""
        self._db.execute(
            "INSERT INTO operations (id, kind, service, request, state, started_at, holder, lease_until, answer,"
            " steps, actor) VALUES (?, ?, ?, ?, 'running', ?, ?, ?, '', ?, ?)",
            (operation.id, operation.kind, operation.service, operation.request, operation.started_at, operation.holder,
             operation.lease_until, operation.steps, actor),
        )  # fmt: skip

    def plan_operation(self, identity: str, service: str, planned: Mapping[str, Planned]) -> None:
        """Add to the intent what it is about to make of a service's components."""
        row = self._db.execute("SELECT plan FROM operations WHERE id = ?", (identity,)).fetchone()
        if row is not None:
            plan = {**msgspec.json.decode(row["plan"]), service: planned}
            self._db.execute("UPDATE operations SET plan = ? WHERE id = ?", (rows.text(plan), identity))

    def extend_leases(self, holder: str, until: float) -> None:
        """The holder lives: its operations keep their services."""
        self._db.execute(
            "UPDATE operations SET lease_until = ? WHERE state = 'running' AND holder = ?", (until, holder)
        )

    def end_operation(self, identity: str, state: OperationState, answer: str, at: float) -> None:
        """Record the answer that every retry gets."""
        self._db.execute(
            "UPDATE operations SET state = ?, answer = ?, finished_at = ? WHERE id = ?", (state, answer, at, identity)
        )

    def forget_operation(self, identity: str) -> None:
        """It left nothing: a retry with its id does it."""
        self._db.execute("DELETE FROM operations WHERE id = ?", (identity,))

    def abandon_operations(self, at: float) -> None:
        """None of a restored registry's operations is in progress."""
        self._db.execute(
            "UPDATE operations SET state = 'failed', finished_at = ?, answer = ? WHERE state = 'running'",
            (at, '{"error":{"code":"UNAVAILABLE","message":"the registry was restored"},"status":503}'),
        )

    def prune_operations(self, before: float) -> None:
        """Forget answers older than this."""
        self._db.execute("DELETE FROM operations WHERE state != 'running' AND finished_at < ?", (before,))

    # History

    def add_history(
        self,
        definition: ServiceDef,
        generation: int,
        at: float,
        actor: str,
        *,
        ok: bool,
        images: Mapping[str, str] | None = None,
    ) -> None:
        """Remember a definition that was deployed, and the image id that each component ran."""
        self._db.execute(
            "INSERT OR REPLACE INTO history (service, generation, at, actor, ok, definition, images)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (definition.name, generation, at, actor, ok, rows.text(definition), rows.text(images or {})),
        )

    def history(self, service: str) -> tuple[HistoryEntry, ...]:
        """What was deployed, newest first."""
        current = self._db.execute("SELECT generation FROM services WHERE name = ?", (service,)).fetchone()
        found = self._db.execute("SELECT * FROM history WHERE service = ? ORDER BY generation DESC", (service,))
        return tuple(
            HistoryEntry(
                service=service,
                generation=row["generation"],
                at=row["at"],
                actor=row["actor"],
                ok=bool(row["ok"]),
                current=current is not None and row["generation"] == current[0],
                definition=msgspec.json.decode(row["definition"], type=ServiceDef),
                images=msgspec.json.decode(row["images"], type=dict[str, str]),
            )
            for row in found
        )

    def prune_history(self, service: str, keep: int) -> None:
        """Keep the newest generations only, and the newest that went well."""
        self._db.execute(
            "DELETE FROM history WHERE service = :service AND generation NOT IN"
            " (SELECT generation FROM history WHERE service = :service ORDER BY generation DESC LIMIT :keep)"
            " AND generation != (SELECT coalesce(max(generation), 0) FROM history WHERE service = :service AND ok)",
            {"service": service, "keep": keep},
        )

    # Alerts

    def alerts(self) -> dict[tuple[str, str, str], tuple[float, float | None]]:
        """Open conditions by (service, component, kind): since when, and when an alert was last sent."""
        found = self._db.execute("SELECT service, component, kind, since, sent_at FROM alerts")
        return {(row[0], row[1], row[2]): (row[3], row[4]) for row in found}

    def put_alert(self, service: str, component: str, kind: str, since: float, sent_at: float | None) -> None:
        """Remember a condition and when it was told."""
        self._db.execute(
            "INSERT OR REPLACE INTO alerts (service, component, kind, since, sent_at) VALUES (?, ?, ?, ?, ?)",
            (service, component, kind, since, sent_at),
        )

    def remove_alert(self, service: str, component: str, kind: str) -> None:
        """The condition is over."""
        self._db.execute(
            "DELETE FROM alerts WHERE service = ? AND component = ? AND kind = ?", (service, component, kind)
        )

    # Facts about the node

    def meta(self, key: str, default: str = "") -> str:
        """A fact about the node itself."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else default

    def set_meta(self, key: str, value: str) -> None:
        """Remember a fact about the node itself."""
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _any(column: str, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    if not names:
        return "", ()
    return f" WHERE {column} IN ({', '.join('?' * len(names))})", tuple(names)
