-- ── threads in the order of their last use ──

-- What one person sees, and what everybody of a tenant does.
CREATE INDEX threads_by_owner_and_use ON threads (tenant, owner, updated_at, thread_id);
CREATE INDEX threads_by_tenant_and_use ON threads (tenant, updated_at, thread_id);


-- ── runs over all threads ──

-- Each is in the order in which the runs were submitted.
CREATE INDEX runs_of_agent ON runs (agent);
CREATE INDEX runs_of_agent_in_tenant ON runs (tenant, agent);

CREATE INDEX runs_by_age ON runs (created_at);


-- ── the audit chain ──

CREATE INDEX audit_by_action ON audit (action, number);


-- ── schedules ──

-- The time after which there is no other run; NULL for none.
ALTER TABLE schedules ADD ends_at TEXT;


-- ── assistants ──

-- An agent with settings of its own, as its version with the number `number` has them. The
-- `thread_id` is empty, as that of versions is. Sealed: name, description, config, context and
-- metadata, of both.
CREATE TABLE assistants (
    assistant_id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    number INTEGER NOT NULL,
    last_number INTEGER NOT NULL,
    description TEXT,
    config TEXT NOT NULL,
    context TEXT NOT NULL,
    metadata TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    tenant TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX assistants_by_age ON assistants (created_at, assistant_id);
CREATE INDEX assistants_by_owner ON assistants (tenant, owner, created_at, assistant_id);
CREATE INDEX assistants_by_tenant ON assistants (tenant, created_at, assistant_id);
CREATE INDEX assistants_by_thread ON assistants (thread_id);

CREATE TABLE assistant_versions (
    version_id TEXT PRIMARY KEY NOT NULL,
    assistant_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    description TEXT,
    config TEXT NOT NULL,
    context TEXT NOT NULL,
    metadata TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    tenant TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX assistant_versions_by_number ON assistant_versions (assistant_id, number);
CREATE INDEX assistant_versions_by_thread ON assistant_versions (thread_id);

-- Versions go with their assistant, however many they are.
CREATE TRIGGER assistant_removed AFTER DELETE ON assistants BEGIN
    DELETE FROM assistant_versions WHERE assistant_id = old.assistant_id;
END;

-- What is held of assistants are their versions: kinds 'assistants' and 'tenant_assistants'.
CREATE TRIGGER assistant_version_held AFTER INSERT ON assistant_versions BEGIN
    INSERT INTO changed_holdings VALUES (new.tenant, new.owner, 'assistants', 1);
END;

CREATE TRIGGER assistant_version_given_up AFTER DELETE ON assistant_versions BEGIN
    INSERT INTO changed_holdings VALUES (old.tenant, old.owner, 'assistants', -1);
END;

CREATE TRIGGER assistant_version_handed_over AFTER UPDATE OF tenant, owner ON assistant_versions
WHEN old.owner != new.owner OR old.tenant IS NOT new.tenant
BEGIN
    INSERT INTO changed_holdings
    VALUES (old.tenant, old.owner, 'assistants', -1), (new.tenant, new.owner, 'assistants', 1);
END;

-- The assistant that the thread's last run was begun with; NULL if it was the agent itself.
ALTER TABLE threads ADD assistant_id TEXT;
