-- Who decides and until when, what people have said so far, what they approve in advance, and what clients were answered.

ALTER TABLE approvals ADD COLUMN requested_by TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN risk TEXT NOT NULL DEFAULT 'medium';
ALTER TABLE approvals ADD COLUMN roles TEXT NOT NULL DEFAULT '[]';
ALTER TABLE approvals ADD COLUMN names TEXT NOT NULL DEFAULT '[]';
ALTER TABLE approvals ADD COLUMN assignees TEXT NOT NULL DEFAULT '[]';
ALTER TABLE approvals ADD COLUMN step INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN step_at TEXT;
ALTER TABLE approvals ADD COLUMN reminded_at TEXT;
ALTER TABLE approvals ADD COLUMN policy_digest TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
ALTER TABLE approvals ADD COLUMN edit TEXT;
ALTER TABLE approvals ADD COLUMN votes TEXT NOT NULL DEFAULT '[]';
ALTER TABLE approvals ADD COLUMN delegations TEXT NOT NULL DEFAULT '[]';
ALTER TABLE approvals ADD COLUMN comments TEXT NOT NULL DEFAULT '[]';
ALTER TABLE approvals ADD COLUMN shown TEXT NOT NULL DEFAULT '{}';

CREATE INDEX approvals_by_tool ON approvals (tool, status, requested_at, approval_id);
CREATE INDEX approvals_by_agent ON approvals (agent, status, requested_at, approval_id);

-- `until` and the counts are clear, for each pause asks which could be used.
CREATE TABLE grants (
    grant_id TEXT PRIMARY KEY NOT NULL,
    agent TEXT NOT NULL,
    tool TEXT NOT NULL,
    bounds TEXT NOT NULL,
    given_by TEXT NOT NULL,
    roles TEXT NOT NULL,
    given_at TEXT NOT NULL,
    "until" TEXT NOT NULL,
    uses INTEGER NOT NULL,
    thread_id TEXT NOT NULL,
    "user" TEXT NOT NULL,
    used INTEGER NOT NULL,
    revoked_by TEXT,
    revoked_at TEXT,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX grants_by_tool ON grants (agent, tool, given_at, grant_id) WHERE revoked_at IS NULL;
CREATE INDEX grants_by_age ON grants (given_at, grant_id);
CREATE INDEX grants_by_thread ON grants (thread_id);

CREATE TABLE answers (
    answer_id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    asked TEXT NOT NULL,
    created_at TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    body TEXT NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX answers_by_age ON answers (created_at);
CREATE INDEX answers_by_thread ON answers (thread_id);
