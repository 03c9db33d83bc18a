-- Runs that wait for their turn, have an owner, and are bounded; and what is to be done at a time.

ALTER TABLE runs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN due_at TEXT;
ALTER TABLE runs ADD COLUMN worker TEXT;
ALTER TABLE runs ADD COLUMN cancel TEXT;
ALTER TABLE runs ADD COLUMN at_checkpoint TEXT;
ALTER TABLE runs ADD COLUMN stuck INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN budget TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN usage TEXT NOT NULL DEFAULT '{}';
ALTER TABLE runs ADD COLUMN schedule_id TEXT;

-- Which run comes next is asked all the time: the index has only those that wait, and all that the question needs.
CREATE INDEX runs_waiting ON runs (coalesce(due_at, ''), thread_id, created_at, run_id, priority, due_at, status)
WHERE status = 'pending';
CREATE INDEX runs_by_agent ON runs (agent, created_at);

-- Who runs anything, and until when he is thought to live. It is empty after a start, since nobody outlives the file's lock.
CREATE TABLE workers (
    worker TEXT PRIMARY KEY NOT NULL,
    expires_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE timers (
    timer_id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    due_at TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX timers_by_time ON timers (due_at, timer_id);
CREATE INDEX timers_by_thread ON timers (thread_id);

CREATE TABLE schedules (
    schedule_id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    input TEXT NOT NULL,
    created_at TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    on_busy TEXT NOT NULL,
    if_missed TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    next_at TEXT,
    last_at TEXT,
    last_run_id TEXT,
    metadata TEXT NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX schedules_by_age ON schedules (created_at, schedule_id);
CREATE INDEX schedules_by_thread ON schedules (thread_id);

-- What became of one call of a model is asked before each, and takes the place of the index by thread.
CREATE INDEX effects_by_call ON effects (thread_id, tool_call_id, started_at, "key");
DROP INDEX effects_by_thread;
