-- Events, and the rows of threads, runs, approvals and effects. Times are RFC 3339 in UTC with six decimals, so that text order is time order.

-- 'Asnt': tells an Assent database from any other SQLite file.
PRAGMA application_id = 1098083956;

CREATE TABLE migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL
);

CREATE TABLE events (
    thread_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    type TEXT NOT NULL,
    -- When it happened, in milliseconds since 1970.
    at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (thread_id, seq)
) WITHOUT ROWID;

-- The last number each thread has used. It outlives the thread and its events, so that no number is ever used twice. A log is only ever
-- cut at its beginning: what is above `removed` is there. `oldest` is the `at` of the first event that is, or NULL if none is, so that
-- old events are found without an index on all of them.
CREATE TABLE log_heads (
    thread_id TEXT PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0,
    oldest INTEGER
) WITHOUT ROWID;

CREATE INDEX log_heads_by_oldest ON log_heads (oldest, thread_id) WHERE oldest IS NOT NULL;

CREATE TABLE threads (
    thread_id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    agent TEXT,
    run_id TEXT,
    checkpoint_id TEXT,
    pending TEXT NOT NULL,
    metadata TEXT NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX threads_by_age ON threads (created_at, thread_id);
CREATE INDEX threads_by_status ON threads (status, created_at, thread_id);

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    input TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    started_at TEXT,
    ended_at TEXT,
    error TEXT,
    metadata TEXT NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX runs_by_thread ON runs (thread_id, created_at, run_id);
CREATE INDEX runs_by_status ON runs (status, created_at, run_id);
CREATE INDEX runs_by_end ON runs (ended_at, run_id) WHERE ended_at IS NOT NULL;

CREATE TABLE approvals (
    approval_id TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    requested_at TEXT NOT NULL,
    digest TEXT NOT NULL,
    allowed TEXT NOT NULL,
    tool TEXT NOT NULL,
    tool_call_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    args TEXT,
    preview TEXT,
    node TEXT NOT NULL,
    checkpoint_id TEXT,
    interrupt_id TEXT,
    expires_at TEXT,
    decision TEXT,
    decided_by TEXT,
    decided_at TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX approvals_by_age ON approvals (requested_at, approval_id);
CREATE INDEX approvals_by_thread ON approvals (thread_id, requested_at, approval_id);
CREATE INDEX approvals_by_run ON approvals (run_id, requested_at, approval_id);
CREATE INDEX approvals_by_status ON approvals (status, requested_at, approval_id);

CREATE TABLE effects (
    "key" TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    tool_call_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    outcome TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX effects_by_thread ON effects (thread_id);
