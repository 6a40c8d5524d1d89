"""The registry's tables and how older ones become newer: numbered steps, each in one transaction.

A step never changes once it was released; the number reached is SQLite's `user_version`. Before a step a
snapshot is taken (`snapshot.py`), so that an agent that must go back can.
"""

from __future__ import annotations

_COMPONENT_KEY = "service TEXT NOT NULL, component TEXT NOT NULL, position INTEGER NOT NULL"
_OF_COMPONENT = (
    "PRIMARY KEY (service, component, position), "
    "FOREIGN KEY (service, component) REFERENCES components (service, name) ON DELETE CASCADE ON UPDATE CASCADE"
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT""",
        """CREATE TABLE services (
            name TEXT PRIMARY KEY, generation INTEGER NOT NULL, active INTEGER NOT NULL, enforce INTEGER NOT NULL,
            managed INTEGER NOT NULL, paused INTEGER NOT NULL, node TEXT NOT NULL, updated_at REAL NOT NULL
        ) STRICT""",
        """CREATE TABLE components (
            service TEXT NOT NULL REFERENCES services (name) ON DELETE CASCADE ON UPDATE CASCADE,
            name TEXT NOT NULL, position INTEGER NOT NULL, container_name TEXT NOT NULL UNIQUE,
            image TEXT NOT NULL, version TEXT NOT NULL, desired TEXT NOT NULL CHECK
                (desired IN ('running', 'stopped', 'ignore')),
            generation INTEGER NOT NULL, spec_hash TEXT NOT NULL, image_digest TEXT NOT NULL,
            restart TEXT NOT NULL, user TEXT NOT NULL, workdir TEXT NOT NULL, network TEXT NOT NULL,
            memory INTEGER, cpus REAL, pids INTEGER, stop_seconds INTEGER NOT NULL,
            entrypoint TEXT NOT NULL, env_files TEXT NOT NULL, secrets TEXT NOT NULL, depends_on TEXT NOT NULL,
            labels TEXT NOT NULL, healthcheck TEXT,
            state TEXT NOT NULL, observed_at REAL NOT NULL, container_id TEXT NOT NULL, pid INTEGER NOT NULL,
            observed_image TEXT NOT NULL, observed_digest TEXT NOT NULL, observed_spec TEXT NOT NULL,
            observed_generation INTEGER NOT NULL, started_at REAL, finished_at REAL, exit_code INTEGER,
            health TEXT NOT NULL, message TEXT NOT NULL,
            restarts INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (service, name)
        ) STRICT, WITHOUT ROWID""",
        f"""CREATE TABLE component_ports ({_COMPONENT_KEY}, host INTEGER NOT NULL, container INTEGER NOT NULL,
            protocol TEXT NOT NULL, host_ip TEXT NOT NULL, {_OF_COMPONENT}) STRICT, WITHOUT ROWID""",
        f"""CREATE TABLE component_volumes ({_COMPONENT_KEY}, source TEXT NOT NULL, target TEXT NOT NULL,
            options TEXT NOT NULL, {_OF_COMPONENT}) STRICT, WITHOUT ROWID""",
        f"""CREATE TABLE component_env ({_COMPONENT_KEY}, name TEXT NOT NULL, value TEXT NOT NULL,
            {_OF_COMPONENT}) STRICT, WITHOUT ROWID""",
        f"""CREATE TABLE component_cmd ({_COMPONENT_KEY}, argument TEXT NOT NULL,
            {_OF_COMPONENT}) STRICT, WITHOUT ROWID""",
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, service TEXT NOT NULL, component TEXT NOT NULL,
            kind TEXT NOT NULL, message TEXT NOT NULL, from_state TEXT NOT NULL, to_state TEXT NOT NULL,
            details TEXT NOT NULL
        ) STRICT""",
        """CREATE INDEX events_by_component ON events (service, component, at)""",
        """CREATE INDEX events_by_time ON events (at)""",
        """CREATE TABLE operations (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, service TEXT NOT NULL, request TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')), started_at REAL NOT NULL,
            holder TEXT NOT NULL, lease_until REAL NOT NULL, finished_at REAL, answer TEXT NOT NULL,
            steps TEXT NOT NULL, actor TEXT NOT NULL
        ) STRICT""",
        """CREATE INDEX operations_by_state ON operations (state, service)""",
        """CREATE TABLE history (
            service TEXT NOT NULL, generation INTEGER NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL,
            ok INTEGER NOT NULL, definition TEXT NOT NULL, PRIMARY KEY (service, generation)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE alerts (
            service TEXT NOT NULL, component TEXT NOT NULL, kind TEXT NOT NULL, since REAL NOT NULL,
            sent_at REAL, PRIMARY KEY (service, component, kind)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        # The images that a generation ran, by component: a tag may mean another one by now.
        """ALTER TABLE history ADD COLUMN images TEXT NOT NULL DEFAULT '{}'""",
        # What an operation is about to make of each service: recovery compares it with what is there.
        """ALTER TABLE operations ADD COLUMN plan TEXT NOT NULL DEFAULT '{}'""",
    ),
)
SCHEMA = len(MIGRATIONS)
