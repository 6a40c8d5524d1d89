"""The tables of an agent's SQLite file, `agent.db`. Times are seconds since the epoch."""

SCHEMA_VERSION = 3

TABLES = """
CREATE TABLE IF NOT EXISTS incarnations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at REAL NOT NULL,
    ended_at REAL,
    session_id TEXT,
    provider TEXT NOT NULL,
    version TEXT NOT NULL DEFAULT '',
    resumed INTEGER NOT NULL DEFAULT 0,
    pid INTEGER,
    exit_code INTEGER,
    end_reason TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE IF NOT EXISTS tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    idempotency_key TEXT UNIQUE,
    description TEXT NOT NULL,
    origin TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    queued_at REAL NOT NULL,
    sent_at REAL,
    accepted_at REAL,
    started_at REAL,
    ended_at REAL,
    cancel_requested_at REAL,
    incarnation INTEGER,
    detail TEXT NOT NULL DEFAULT '',
    exit_code INTEGER,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cost_usd REAL
) STRICT;
CREATE INDEX IF NOT EXISTS open_tasks ON tasks (state) WHERE state IN ('queued', 'accepted', 'started');

CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    incarnation INTEGER NOT NULL,
    task_id TEXT,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    updated_at REAL NOT NULL,
    incarnation INTEGER NOT NULL,
    task_id TEXT,
    kind TEXT NOT NULL,
    ref TEXT,
    text TEXT NOT NULL,
    data TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX IF NOT EXISTS log_refs ON log (incarnation, ref) WHERE ref IS NOT NULL;
CREATE INDEX IF NOT EXISTS log_notes ON log (at) WHERE kind = 'note';

CREATE TABLE IF NOT EXISTS attention (
    id TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    task_id TEXT,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    asked_at REAL NOT NULL,
    closed_at REAL,
    answer TEXT,
    closed_because TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS facts (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
"""

# From the version before to each, for files that an earlier Quarterdeck made; what is new as a whole comes with TABLES.
STEPS = {2: "ALTER TABLE attention ADD COLUMN closed_because TEXT"}
