-- ── tenants ──

-- Owners are people of a tenant; NULL is the only tenant of a server that has no others. Rows from
-- before have it, and stay bound as they are.
ALTER TABLE threads ADD tenant TEXT;
ALTER TABLE runs ADD tenant TEXT;
ALTER TABLE approvals ADD tenant TEXT;
ALTER TABLE answers ADD tenant TEXT;
ALTER TABLE schedules ADD tenant TEXT;
ALTER TABLE files ADD tenant TEXT;
ALTER TABLE grants ADD tenant TEXT;
ALTER TABLE notifications ADD tenant TEXT;
-- Signed with the rest of the record, if it is not NULL.
ALTER TABLE audit ADD tenant TEXT;

-- True if the policy asks nobody in particular. NULL in rows from before: then nobody in particular
-- is asked if `roles` and `names` are empty.
ALTER TABLE approvals ADD asks_anybody INTEGER;

-- The W3C traceparent of the request that started it.
ALTER TABLE runs ADD trace TEXT;

-- What one person sees, and what everybody of a tenant does: each in the order of its list.
CREATE INDEX threads_by_owner ON threads (tenant, owner, created_at, thread_id);
CREATE INDEX threads_by_owner_and_status
ON threads (tenant, owner, status, created_at, thread_id);
CREATE INDEX threads_by_tenant ON threads (tenant, created_at, thread_id);
CREATE INDEX threads_by_tenant_and_status ON threads (tenant, status, created_at, thread_id);

CREATE INDEX runs_by_owner ON runs (tenant, owner);
CREATE INDEX runs_by_owner_and_status ON runs (tenant, owner, status);
CREATE INDEX runs_by_tenant ON runs (tenant);
CREATE INDEX runs_by_tenant_and_status ON runs (tenant, status);

CREATE INDEX approvals_by_owner ON approvals (tenant, owner, requested_at, approval_id);
CREATE INDEX approvals_by_owner_and_status
ON approvals (tenant, owner, status, requested_at, approval_id);
CREATE INDEX approvals_by_tenant ON approvals (tenant, requested_at, approval_id);
CREATE INDEX approvals_by_tenant_and_status
ON approvals (tenant, status, requested_at, approval_id);

CREATE INDEX schedules_by_owner ON schedules (tenant, owner, created_at, schedule_id);
CREATE INDEX schedules_by_tenant ON schedules (tenant, created_at, schedule_id);
CREATE INDEX grants_by_tenant ON grants (tenant, given_at, grant_id);
CREATE INDEX notifications_by_tenant ON notifications (tenant, created_at, notification_id);
CREATE INDEX files_by_owner ON files (tenant, owner, created_at, file_id);
CREATE INDEX audit_by_tenant ON audit (tenant, number);


-- ── what lets people in ──

-- `mac` and `proof` are made with a secret that is not in this file: nobody who can only write to it
-- can make a key, or raise what one is worth. The same holds for sessions and tickets. Each has an
-- empty `thread_id`. Sealed: note.
CREATE TABLE api_keys (
    key_id TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    tenant TEXT,
    person TEXT NOT NULL,
    -- A JSON list of names, as in the other tables.
    roles TEXT NOT NULL,
    mac TEXT NOT NULL,
    proof TEXT NOT NULL,
    made_by TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    revoked_at TEXT,
    last_used_at TEXT,
    version INTEGER NOT NULL,
    note TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX api_keys_by_thread ON api_keys (thread_id);
CREATE INDEX api_keys_by_age ON api_keys (created_at, key_id);
CREATE INDEX api_keys_by_tenant ON api_keys (tenant, created_at, key_id);
CREATE INDEX api_keys_by_person ON api_keys (tenant, person, created_at, key_id);

-- Sealed: known_to.
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    tenant TEXT,
    person TEXT NOT NULL,
    roles TEXT NOT NULL,
    proof TEXT NOT NULL,
    credential TEXT NOT NULL,
    created_at TEXT NOT NULL,
    seen_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    version INTEGER NOT NULL,
    known_to TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX sessions_by_thread ON sessions (thread_id);
CREATE INDEX sessions_by_age ON sessions (created_at, session_id);
CREATE INDEX sessions_by_tenant ON sessions (tenant, created_at, session_id);
CREATE INDEX sessions_by_person ON sessions (tenant, person, created_at, session_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Sealed: known_to.
CREATE TABLE tickets (
    ticket_id TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    tenant TEXT,
    person TEXT NOT NULL,
    roles TEXT NOT NULL,
    proof TEXT NOT NULL,
    path TEXT NOT NULL,
    transport TEXT NOT NULL,
    credential TEXT NOT NULL,
    credential_ends TEXT,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    version INTEGER NOT NULL,
    known_to TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX tickets_by_thread ON tickets (thread_id);
CREATE INDEX tickets_by_end ON tickets (expires_at);


-- ── holdings ──

-- What a person has, and what all of a tenant have together (their `owner` is empty): counted by
-- triggers, in the transaction of whoever writes the rows, so that a limit costs one look. The kinds
-- are 'threads', 'pending' (runs) and 'file_bytes', and 'tenant_threads', 'tenant_pending' and
-- 'tenant_file_bytes'. Here the only tenant is the empty text.
CREATE TABLE holdings (
    tenant TEXT NOT NULL,
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (tenant, owner, kind)
) WITHOUT ROWID;

INSERT INTO holdings SELECT '', owner, 'threads', count(*) FROM threads GROUP BY owner;
INSERT INTO holdings
SELECT '', owner, 'pending', count(*) FROM runs WHERE status = 'pending' GROUP BY owner;
INSERT INTO holdings SELECT '', owner, 'file_bytes', sum(size) FROM files GROUP BY owner;
INSERT INTO holdings
SELECT '', '', 'tenant_' || kind, sum(amount) FROM holdings GROUP BY kind;

-- To insert here is to add the amount to what the owner has, and to what the tenant has.
CREATE VIEW changed_holdings AS SELECT tenant, owner, kind, amount FROM holdings;

CREATE TRIGGER holding_changed INSTEAD OF INSERT ON changed_holdings BEGIN
    INSERT INTO holdings
    VALUES
        (ifnull(new.tenant, ''), new.owner, new.kind, new.amount),
        (ifnull(new.tenant, ''), '', 'tenant_' || new.kind, new.amount)
    ON CONFLICT (tenant, owner, kind) DO UPDATE SET amount = amount + excluded.amount;
    DELETE FROM holdings
    WHERE tenant = ifnull(new.tenant, '') AND owner = new.owner AND kind = new.kind AND amount = 0;
END;

CREATE TRIGGER thread_held AFTER INSERT ON threads BEGIN
    INSERT INTO changed_holdings VALUES (new.tenant, new.owner, 'threads', 1);
END;

CREATE TRIGGER thread_given_up AFTER DELETE ON threads BEGIN
    INSERT INTO changed_holdings VALUES (old.tenant, old.owner, 'threads', -1);
END;

CREATE TRIGGER thread_handed_over AFTER UPDATE OF tenant, owner ON threads
WHEN old.owner != new.owner OR old.tenant IS NOT new.tenant
BEGIN
    INSERT INTO changed_holdings
    VALUES (old.tenant, old.owner, 'threads', -1), (new.tenant, new.owner, 'threads', 1);
END;

CREATE TRIGGER pending_run_held AFTER INSERT ON runs WHEN new.status = 'pending' BEGIN
    INSERT INTO changed_holdings VALUES (new.tenant, new.owner, 'pending', 1);
END;

CREATE TRIGGER pending_run_held_again AFTER UPDATE OF status ON runs
WHEN old.status != 'pending' AND new.status = 'pending'
BEGIN
    INSERT INTO changed_holdings VALUES (new.tenant, new.owner, 'pending', 1);
END;

CREATE TRIGGER pending_run_left AFTER UPDATE OF status ON runs
WHEN old.status = 'pending' AND new.status != 'pending'
BEGIN
    INSERT INTO changed_holdings VALUES (old.tenant, old.owner, 'pending', -1);
END;

CREATE TRIGGER pending_run_handed_over AFTER UPDATE OF tenant, owner ON runs
WHEN old.status = 'pending' AND new.status = 'pending'
AND (old.owner != new.owner OR old.tenant IS NOT new.tenant)
BEGIN
    INSERT INTO changed_holdings
    VALUES (old.tenant, old.owner, 'pending', -1), (new.tenant, new.owner, 'pending', 1);
END;

CREATE TRIGGER pending_run_given_up AFTER DELETE ON runs WHEN old.status = 'pending' BEGIN
    INSERT INTO changed_holdings VALUES (old.tenant, old.owner, 'pending', -1);
END;

CREATE TRIGGER file_held AFTER INSERT ON files BEGIN
    INSERT INTO changed_holdings VALUES (new.tenant, new.owner, 'file_bytes', new.size);
END;

CREATE TRIGGER file_given_up AFTER DELETE ON files BEGIN
    INSERT INTO changed_holdings VALUES (old.tenant, old.owner, 'file_bytes', -old.size);
END;

CREATE TRIGGER file_changed AFTER UPDATE OF tenant, owner, size ON files
WHEN old.owner != new.owner OR old.tenant IS NOT new.tenant OR old.size != new.size
BEGIN
    INSERT INTO changed_holdings
    VALUES
        (old.tenant, old.owner, 'file_bytes', -old.size),
        (new.tenant, new.owner, 'file_bytes', new.size);
END;
