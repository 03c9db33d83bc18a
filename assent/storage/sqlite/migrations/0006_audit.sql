-- The audit chain. Rows are only ever added, and stay when their thread is erased.

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    authentication TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    approval_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    policy TEXT NOT NULL,
    detail TEXT NOT NULL,
    "key" TEXT NOT NULL,
    mac BLOB NOT NULL
);

CREATE INDEX audit_by_thread ON audit (thread_id, number);
CREATE INDEX audit_by_approval ON audit (approval_id, number);
CREATE INDEX audit_by_actor ON audit (actor, number);
CREATE INDEX audit_by_time ON audit (at);

-- Which keys the rows are signed with, and for each a proof that tells it from others.
CREATE TABLE audit_keys (
    key_id TEXT PRIMARY KEY NOT NULL,
    proof BLOB NOT NULL
) WITHOUT ROWID;
