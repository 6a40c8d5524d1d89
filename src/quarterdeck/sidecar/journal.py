"""Events and the log in the agent's SQLite file: what happened, in order, and the conversation."""

from __future__ import annotations

from typing import Any

import msgspec

from quarterdeck.sidecar.database import Database
from quarterdeck.sidecar.model import MAX_LOG_TEXT, Event, LogEntry, cut

KEPT_EVENTS = 50_000
KEPT_LOG = 50_000
KEPT_NOTES = 100
_SELECT_LOG = "SELECT id, at, updated_at, incarnation, task_id, kind, text, data FROM log "


class Journal(Database):
    """The part of the store that only grows, up to the numbers kept."""

    def add_event(self, kind: str, data: dict[str, Any], *, incarnation: int, task_id: str | None = None) -> int:
        """Record an event; its sequence number."""
        with self.transaction():
            row = self.db.execute(
                "INSERT INTO events (at, incarnation, task_id, kind, data) VALUES (?, ?, ?, ?, ?)",
                (self.clock(), incarnation, task_id, kind, dumps(data)),
            )
            assert row.lastrowid is not None
            if row.lastrowid % 1000 == 0:
                self.db.execute("DELETE FROM events WHERE seq <= ?", (row.lastrowid - KEPT_EVENTS,))
        return row.lastrowid

    def events_after(self, seq: int, limit: int = 500) -> list[Event]:
        """Events that came after `seq`, oldest first."""
        rows = self.db.execute(
            "SELECT seq, at, incarnation, task_id, kind, data FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
        return [
            Event(seq=r[0], at=r[1], incarnation=r[2], task_id=r[3], kind=r[4], data=msgspec.json.decode(r[5]))
            for r in rows
        ]

    def last_seq(self) -> int:
        """The newest event's number, 0 when there is none."""
        (seq,) = self.db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        return int(seq)

    def last_event_at(self) -> float | None:
        """When the newest event was, None when there is none."""
        row = self.db.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return float(row[0]) if row else None

    def log(
        self,
        kind: str,
        text: str,
        *,
        incarnation: int,
        task_id: str | None = None,
        ref: str | None = None,
        data: dict[str, Any] | None = None,
        append: bool = False,
    ) -> None:
        """Add an entry, or change the one with the same `ref` in this incarnation (`append` adds to its text)."""
        now = self.clock()
        with self.transaction():
            found = (
                ref
                and self.db.execute(
                    "SELECT id, text, data FROM log WHERE incarnation=? AND ref=? ORDER BY id DESC LIMIT 1",
                    (incarnation, ref),
                ).fetchone()
            )
            if found:
                merged = {**msgspec.json.decode(found[2]), **(data or {})}
                if append or not text:
                    text, before = found[1] + text, int(merged.get("characters", len(found[1])))
                    merged["characters"] = before + len(text) - len(found[1])
                else:
                    merged["characters"] = len(text)
                whole = cut(text, merged["characters"])
                if merged["characters"] <= MAX_LOG_TEXT:
                    del merged["characters"]
                self.db.execute(
                    "UPDATE log SET text=?, data=?, updated_at=? WHERE id=?", (whole, dumps(merged), now, found[0])
                )
                return
            if len(text) > MAX_LOG_TEXT:
                data = {**(data or {}), "characters": len(text)}
            row = self.db.execute(
                "INSERT INTO log (at, updated_at, incarnation, task_id, kind, ref, text, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (now, now, incarnation, task_id, kind, ref, cut(text, len(text)), dumps(data or {})),
            )
            assert row.lastrowid is not None
            if row.lastrowid % 1000 == 0:
                # What somebody else had noted is history, not talk.
                self.db.execute(
                    "DELETE FROM log WHERE id <= ? AND NOT (kind='note' AND ref IS NOT NULL)",
                    (row.lastrowid - KEPT_LOG,),
                )

    def log_entries(self, *, before: int | None, offset: int, limit: int) -> tuple[list[LogEntry], int]:
        """Entries, newest first (those with an id below `before`), and how many there are in all."""
        (total,) = self.db.execute("SELECT count(*) FROM log").fetchone()
        rows = self.db.execute(
            _SELECT_LOG + "WHERE :before IS NULL OR id < :before ORDER BY id DESC LIMIT :limit OFFSET :offset",
            {"before": before, "limit": limit, "offset": offset},
        )
        return list(map(_entry, rows)), int(total)

    def add_note(self, text: str, *, key: str, incarnation: int) -> tuple[LogEntry, bool]:
        """Note something that happened beside the tasks, once for each `key` of all lives; whether it is new."""
        found = self._note(key)
        if found is not None:
            return found, False
        with self.transaction():
            self.log("note", text, incarnation=incarnation, ref=_ref(key))
            self.add_event("note", {"text": text}, incarnation=incarnation)
            kept = self._note(key)
        assert kept is not None
        return kept, True

    def _note(self, key: str) -> LogEntry | None:
        row = self.db.execute(_SELECT_LOG + "WHERE kind='note' AND ref=?", (_ref(key),)).fetchone()
        return _entry(row) if row else None

    def notes(self, *, since: float, before: float | None) -> list[LogEntry]:
        """The notes of a time, newest first: all that somebody else had noted, and the newest 100 of our own."""
        found: list[LogEntry] = []
        for which, limit in (("ref IS NOT NULL", -1), ("ref IS NULL", KEPT_NOTES)):
            rows = self.db.execute(
                _SELECT_LOG + f"WHERE kind='note' AND {which} AND at >= :since AND (:before IS NULL OR at < :before)"
                " ORDER BY id DESC LIMIT :limit",
                {"since": since, "before": before, "limit": limit},
            )
            found += map(_entry, rows)
        return sorted(found, key=lambda entry: entry.id, reverse=True)


def _ref(key: str) -> str:
    return f"note:{key}"


def _entry(row: tuple[Any, ...]) -> LogEntry:
    entry, at, updated_at, incarnation, task_id, kind, text, data = row
    return LogEntry(
        id=entry, at=at, updated_at=updated_at, incarnation=incarnation, task_id=task_id, kind=kind, text=text,
        data=msgspec.json.decode(data),
    )  # fmt: skip


def dumps(value: Any) -> str:
    """As it stands in a column of JSON."""
    return msgspec.json.encode(value).decode()
