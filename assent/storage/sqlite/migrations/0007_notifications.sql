-- What is to be told to endpoints of approvals, and links by which people decide.

CREATE TABLE notifications (
    notification_id TEXT PRIMARY KEY NOT NULL,
    endpoint TEXT NOT NULL,
    event TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    approval_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    -- NULL unless it is pending.
    next_at TEXT,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    delivered_at TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX notifications_by_age ON notifications (created_at, notification_id);
CREATE INDEX notifications_by_status ON notifications (status, created_at, notification_id);
CREATE INDEX notifications_by_thread ON notifications (thread_id);
CREATE INDEX notifications_by_approval ON notifications (approval_id, created_at, notification_id);
CREATE INDEX notifications_waiting ON notifications (endpoint, next_at, notification_id) WHERE status = 'pending';

CREATE TABLE links (
    link_id TEXT PRIMARY KEY NOT NULL,
    approval_id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    recipient TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    decisions TEXT NOT NULL,
    created_by TEXT NOT NULL,
    used_at TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX links_by_thread ON links (thread_id);
