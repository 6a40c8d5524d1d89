"""The agent's SQLite file as such: opened, checked, written in transactions."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quarterdeck.errors import InternalError, StorageRefused
from quarterdeck.sidecar.schema import SCHEMA_VERSION, STEPS, TABLES


class Database:
    """One connection. Raises `StorageRefused` from every write when the disk is full or read-only."""

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.time, read_only: bool = False) -> None:
        """Open or make the file.

        Raises `InternalError` when it is damaged or of a newer version, `StorageRefused` when the disk is full.
        """
        self.clock = clock
        if read_only:
            self.db = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, isolation_level=None)
            return
        try:
            self.db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            self._set_up()
        except BaseException as error:
            if hasattr(self, "db"):
                self.db.close()
            if isinstance(error, sqlite3.OperationalError):
                raise StorageRefused(
                    f"{file} cannot be opened: {error}", hint="is there room on its disk, and may it be written?"
                ) from error
            if isinstance(error, sqlite3.DatabaseError):
                raise InternalError(
                    f"{file} cannot be opened: {error}", hint="move it away to start without history"
                ) from error
            raise
        file.chmod(0o600)

    def _set_up(self) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            self.db.execute(f"PRAGMA {pragma}")
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise InternalError(
                f"the agent's database has version {version}, this Quarterdeck knows {SCHEMA_VERSION}",
                hint="use the newer Quarterdeck; nothing was changed",
            )
        if version == SCHEMA_VERSION:
            return
        with self.transaction():
            for number in range(version + 1, SCHEMA_VERSION + 1) if version else ():
                self.db.execute(STEPS.get(number, ""))
            for statement in TABLES.split(";\n"):
                self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def is_made(self) -> bool:
        """Whether the tables are there; for a reader that comes while the file is being made."""
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        return bool(version)

    def close(self) -> None:
        """Fold the journal and close."""
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several changes, all or none; nested use joins the outer one."""
        if self.db.in_transaction:
            yield
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._rollback()
            raise StorageRefused(f"the agent's database cannot be written: {error}; nothing was changed") from error
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")
