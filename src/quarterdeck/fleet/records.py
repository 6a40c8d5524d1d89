"""The agents' records on disk: `agents/NAME/agent.json`, and of the deleted ones `deleted/ID/`."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from quarterdeck.errors import Conflict, InternalError, StorageRefused
from quarterdeck.files import read_json, write_private
from quarterdeck.fleet.model import RECORD_SCHEMA, AgentRecord
from quarterdeck.sidecar.spec import DATABASE_FILE

log = logging.getLogger(__name__)
RECORD_FILE = "agent.json"


class Records:
    """All agents under one state folder. Writes are whole or not at all; the files are the truth."""

    def __init__(self, state: Path) -> None:
        self._agents = state / "agents"
        self._deleted = state / "deleted"
        self._known: dict[str, AgentRecord] = {}
        self._unwritten: set[str] = set()
        self.unreadable: dict[str, str] = {}

    def load(self) -> list[AgentRecord]:
        """Read all of them again. Those that cannot be read are told in `unreadable` and left alone."""
        self._known.clear()
        self.unreadable.clear()
        if not self._agents.is_dir():
            return []
        for folder in sorted(self._agents.iterdir()):
            try:
                record = read_json(folder / RECORD_FILE, AgentRecord)
                if record is not None and record.schema > RECORD_SCHEMA:
                    raise InternalError(f"{folder / RECORD_FILE} is of a newer Quarterdeck (schema {record.schema})")
            except InternalError as error:
                self.unreadable[folder.name] = error.message
                log.error("%s", error.message)
                continue
            if record is not None:
                self._known[record.name] = record
        return list(self._known.values())

    def folder(self, name: str) -> Path:
        """The folder of a living agent."""
        return self._agents / name

    def all(self) -> list[AgentRecord]:
        """The living agents, oldest first."""
        return sorted(self._known.values(), key=lambda r: (r.created_at, r.name))

    def get(self, name: str) -> AgentRecord | None:
        """One agent, None when there is none."""
        return self._known.get(name)

    def create(self, record: AgentRecord) -> None:
        """Write a new one. Raises `Conflict` when the name is taken, `StorageRefused` when it cannot be written."""
        folder = self.folder(record.name)
        try:
            self._agents.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if record.name in self._known or record.name in self.unreadable:
                raise Conflict(
                    f"there is an agent {record.name!r} already", hint="choose another name, or leave it out"
                ) from None
            # A folder without a record: a crash between the two, before anything else was done.
            if any(folder.iterdir()):
                raise Conflict(
                    f"{folder} holds something that is no agent", hint="look at it, then run `qd gc`"
                ) from None
        except OSError as error:
            raise StorageRefused(f"{folder} cannot be made: {error.strerror}; nothing was changed") from error
        self.save(record)

    def save(self, record: AgentRecord) -> None:
        """Write one that was changed. Raises `StorageRefused` when it cannot be written."""
        try:
            write_private(self.folder(record.name) / RECORD_FILE, record)
        except OSError as error:
            raise StorageRefused(f"the record of agent {record.name} cannot be written: {error.strerror}") from error
        self._known[record.name] = record
        self._unwritten.discard(record.name)

    def change(self, name: str, **changes: Any) -> AgentRecord:
        """Change some facts of one agent, durably. Raises `KeyError` when it is not there any more."""
        record = replace(self._known[name], **changes)
        self.save(record)
        return record

    def note(self, name: str, **changes: Any) -> AgentRecord:
        """Change facts that hold whatever the disk says: known at once, written as soon as they can be.

        Until then the file tells less; a hub that starts meanwhile finds such facts out again.
        """
        try:
            return self.change(name, **changes)
        except StorageRefused as error:
            log.error("%s; it is tried again", error.message)
            self._known[name] = replace(self._known[name], **changes)
            self._unwritten.add(name)
            return self._known[name]

    def write_noted(self) -> None:
        """Write what `note` could not, as far as it can be written now."""
        for name in tuple(self._unwritten):
            record = self._known.get(name)
            try:
                if record is not None:
                    self.save(record)
                self._unwritten.discard(name)
            except StorageRefused:
                return

    def bury(self, record: AgentRecord) -> None:
        """Keep the record and the history of a deleted agent, and remove its folder; the name is free then.

        Raises `StorageRefused` when they cannot be kept; nothing was removed then.
        """
        grave = self.grave(record)
        folder = self.folder(record.name)
        try:
            grave.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(grave / RECORD_FILE, record)
            for suffix in ("", "-wal", "-shm"):
                file = folder / f"{DATABASE_FILE}{suffix}"
                if file.exists():
                    file.replace(grave / file.name)
        except OSError as error:
            raise StorageRefused(
                f"the history of agent {record.name} cannot be kept: {error.strerror}",
                hint="make room, delete it again",
            ) from error
        shutil.rmtree(folder, ignore_errors=True)
        self._known.pop(record.name, None)

    def grave(self, record: AgentRecord) -> Path:
        """Where the record and the history of a deleted agent lie."""
        return self._deleted / record.id

    def deleted(self) -> list[AgentRecord]:
        """The deleted ones, newest first."""
        found: list[AgentRecord] = []
        if self._deleted.is_dir():
            for grave in self._deleted.iterdir():
                try:
                    record = read_json(grave / RECORD_FILE, AgentRecord)
                except InternalError:
                    continue
                if record is not None:
                    found.append(record)
        return sorted(found, key=lambda r: r.deleted_at or 0, reverse=True)

    def forget(self, record: AgentRecord) -> None:
        """Remove the record and the history of a deleted agent. Raises `StorageRefused` when it cannot be."""
        try:
            shutil.rmtree(self.grave(record))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageRefused(f"{self.grave(record)} cannot be removed: {error.strerror}") from error
