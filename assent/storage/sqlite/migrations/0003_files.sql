-- ── uploads ──

-- The files themselves are in a folder beside the database. Sealed: name. `thread_id` is empty: a
-- file belongs to whoever sent it.
CREATE TABLE files (
    file_id TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_at TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX files_by_age ON files (thread_id, created_at, file_id);

-- The threads that refer to a file. They go with their threads, and the file when there are none.
-- Sealed: purpose, which binds the rest.
CREATE TABLE file_uses (
    use_id TEXT PRIMARY KEY NOT NULL,
    file_id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    purpose TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX file_uses_by_file ON file_uses (file_id);
CREATE INDEX file_uses_by_thread ON file_uses (thread_id);
