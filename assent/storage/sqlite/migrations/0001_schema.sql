-- The whole schema. A later change to it is a file of its own, with the next number. Sealed values
-- are bound to every clear column of their row that is not NULL: a new clear column begins as NULL,
-- and a new sealed one needs its rows sealed anew.
--
-- Times are RFC 3339 texts in UTC with six decimals, so that text order is time order.
-- In each table the values that may be large stand last, so that the others are read without them.
-- In a file that is encrypted at rest, the columns named under "sealed" are ciphertexts.

-- 'Asnt': tells an Assent database from any other SQLite file.
PRAGMA application_id = 1098083956;

CREATE TABLE migrations (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL
);


-- ── events ──

-- Sealed: body.
CREATE TABLE events (
    thread_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    type TEXT NOT NULL,
    -- The time at which it happened, in milliseconds since 1970.
    at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (thread_id, seq)
) WITHOUT ROWID;

-- For reads of some types, or of one run. The pieces of messages are most of a log, and written
-- while somebody waits for them, so they are left out.
CREATE INDEX events_by_type ON events (thread_id, type, seq)
WHERE type NOT IN ('token', 'reasoning', 'tool_call_delta');
CREATE INDEX events_by_run ON events (thread_id, run_id, type, seq)
WHERE type NOT IN ('token', 'reasoning', 'tool_call_delta');

-- The last event number of each thread. The row outlives the thread and its events, so no number is
-- ever used twice.
CREATE TABLE log_heads (
    thread_id TEXT PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    -- A log is only ever cut at its beginning: every event above this number is there, and nobody
    -- sees one that is not above it.
    removed INTEGER NOT NULL DEFAULT 0,
    -- The `at` of the first event that is left, NULL if none is. Retention finds old events with it,
    -- and needs no index on all of them.
    oldest INTEGER
) WITHOUT ROWID;

CREATE INDEX log_heads_by_oldest ON log_heads (oldest, thread_id) WHERE oldest IS NOT NULL;

-- Threads that were erased, whose rows or events are still in the file. They are removed in steps.
-- Nobody sees them any more: all rows with the id of a thread in the first table, and the events up
-- to `log_heads.removed` of a thread in the second.
CREATE TABLE erased_rows (thread_id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;
CREATE TABLE erased_events (thread_id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID;


-- ── threads and runs ──

-- Sealed: metadata.
CREATE TABLE threads (
    thread_id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    agent TEXT,
    run_id TEXT,
    checkpoint_id TEXT,
    -- The ids of the approvals that the thread waits for, as a JSON list.
    pending TEXT NOT NULL,
    -- The names, as a JSON list, of those who wrote to it and whom nobody has agreed with since.
    requested_by TEXT NOT NULL,
    -- A sentence: what was found to be tampered with. Nothing of such a thread is run.
    tampered TEXT,
    version INTEGER NOT NULL,
    metadata TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX threads_by_age ON threads (created_at, thread_id);
CREATE INDEX threads_by_status ON threads (status, created_at, thread_id);
CREATE INDEX threads_by_use ON threads (updated_at, thread_id);

-- Sealed: input, error, metadata.
CREATE TABLE runs (
    -- The order in which the runs were submitted, and in which they wait their turn. Their times
    -- are those of a clock, which may have been moved.
    number INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    thread_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    due_at TEXT,
    started_at TEXT,
    ended_at TEXT,
    priority INTEGER NOT NULL,
    worker TEXT,
    attempt INTEGER NOT NULL,
    cancel TEXT,
    at_checkpoint TEXT,
    stuck INTEGER NOT NULL,
    -- The names of those whose words it acts on, as a JSON list.
    requested_by TEXT NOT NULL,
    schedule_id TEXT,
    next_run TEXT,
    version INTEGER NOT NULL,
    budget TEXT NOT NULL,
    usage TEXT NOT NULL,
    input TEXT NOT NULL,
    error TEXT,
    metadata TEXT NOT NULL
);

-- Every index ends with the number.
CREATE INDEX runs_by_thread ON runs (thread_id);
CREATE INDEX runs_by_thread_and_status ON runs (thread_id, status);
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_agent ON runs (agent, created_at);
CREATE INDEX runs_by_end ON runs (ended_at, run_id) WHERE ended_at IS NOT NULL;

-- The queue of each thread: first those that may start at once, whose `due_at` is NULL.
CREATE INDEX runs_pending ON runs (thread_id, due_at) WHERE status = 'pending';
CREATE INDEX runs_due ON runs (due_at) WHERE status = 'pending' AND due_at IS NOT NULL;


-- ── queues ──

-- The next run to start is asked for all the time, and no index can have it: it depends on the rows
-- of runs and of threads. So triggers keep what has to be known, in the transaction of whoever
-- writes those.

-- The pending runs of each thread that has any, of each agent, and of all: the kinds are 'thread',
-- 'agent' and 'all'.
CREATE TABLE queue_lengths (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    length INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- The pending runs that wait for no other of their thread, nor for a person: the run that has the
-- thread; or else, if it is free, the first that may start at once, and the one to start at the
-- earliest time, if it was submitted before that.
CREATE TABLE ready_runs (
    number INTEGER PRIMARY KEY,
    thread_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    priority INTEGER NOT NULL,
    -- NULL if it may start now.
    due_at TEXT
);

CREATE INDEX ready_runs_by_thread ON ready_runs (thread_id, due_at);
CREATE INDEX ready_runs_now ON ready_runs (agent, priority DESC, number) WHERE due_at IS NULL;
CREATE INDEX ready_runs_later ON ready_runs (agent, due_at) WHERE due_at IS NOT NULL;

-- To insert a thread here is to look anew for its runs that are ready.
CREATE VIEW changed_queues AS SELECT thread_id FROM threads;

CREATE TRIGGER queue_changed INSTEAD OF INSERT ON changed_queues BEGIN
    DELETE FROM ready_runs WHERE thread_id = new.thread_id;

    -- It was due when it took the thread, whatever the clock shows now.
    INSERT INTO ready_runs
    SELECT number, runs.thread_id, runs.agent, priority, NULL
    FROM threads JOIN runs ON runs.run_id = threads.run_id
    WHERE threads.thread_id = new.thread_id AND tampered IS NULL
    AND runs.thread_id = new.thread_id AND runs.status = 'pending';

    INSERT INTO ready_runs
    SELECT number, thread_id, agent, priority, due_at FROM runs
    WHERE number IN (
        SELECT * FROM (
            SELECT number FROM runs INDEXED BY runs_pending
            WHERE thread_id = new.thread_id AND status = 'pending' AND due_at IS NULL
            ORDER BY number LIMIT 1
        )
        UNION ALL SELECT * FROM (
            SELECT number FROM runs INDEXED BY runs_pending
            WHERE thread_id = new.thread_id AND status = 'pending' AND due_at IS NOT NULL
            ORDER BY due_at, number LIMIT 1
        )
    )
    AND EXISTS (
        SELECT 1 FROM threads
        WHERE thread_id = new.thread_id AND status IN ('idle', 'error') AND tampered IS NULL
    )
    AND NOT EXISTS (SELECT 1 FROM ready_runs WHERE thread_id = new.thread_id);

    DELETE FROM ready_runs
    WHERE thread_id = new.thread_id AND due_at IS NOT NULL AND number > (
        SELECT number FROM ready_runs WHERE thread_id = new.thread_id AND due_at IS NULL
    );
END;

CREATE TRIGGER thread_made AFTER INSERT ON threads BEGIN
    INSERT INTO changed_queues VALUES (new.thread_id);
END;

CREATE TRIGGER thread_moved AFTER UPDATE ON threads
WHEN old.status != new.status OR old.run_id IS NOT new.run_id OR old.tampered IS NOT new.tampered
BEGIN
    INSERT INTO changed_queues VALUES (new.thread_id);
END;

CREATE TRIGGER thread_removed AFTER DELETE ON threads BEGIN
    DELETE FROM ready_runs WHERE thread_id = old.thread_id;
END;

CREATE TRIGGER run_queued AFTER INSERT ON runs WHEN new.status = 'pending' BEGIN
    INSERT INTO queue_lengths
    VALUES ('thread', new.thread_id, 1), ('agent', new.agent, 1), ('all', '', 1)
    ON CONFLICT (kind, name) DO UPDATE SET length = length + 1;
    INSERT INTO changed_queues VALUES (new.thread_id);
END;

CREATE TRIGGER run_queued_again AFTER UPDATE OF status ON runs
WHEN old.status != 'pending' AND new.status = 'pending'
BEGIN
    INSERT INTO queue_lengths
    VALUES ('thread', new.thread_id, 1), ('agent', new.agent, 1), ('all', '', 1)
    ON CONFLICT (kind, name) DO UPDATE SET length = length + 1;
    INSERT INTO changed_queues VALUES (new.thread_id);
END;

CREATE TRIGGER run_left_queue AFTER UPDATE OF status ON runs
WHEN old.status = 'pending' AND new.status != 'pending'
BEGIN
    UPDATE queue_lengths SET length = length - 1
    WHERE kind = 'thread' AND name = old.thread_id OR kind = 'agent' AND name = old.agent
    OR kind = 'all' AND name = '';
    DELETE FROM queue_lengths WHERE kind = 'thread' AND name = old.thread_id AND length = 0;
    INSERT INTO changed_queues VALUES (old.thread_id);
END;

CREATE TRIGGER queued_run_removed AFTER DELETE ON runs WHEN old.status = 'pending' BEGIN
    UPDATE queue_lengths SET length = length - 1
    WHERE kind = 'thread' AND name = old.thread_id OR kind = 'agent' AND name = old.agent
    OR kind = 'all' AND name = '';
    DELETE FROM queue_lengths WHERE kind = 'thread' AND name = old.thread_id AND length = 0;
    INSERT INTO changed_queues VALUES (old.thread_id);
END;

-- ── the usage of removed runs ──

-- What runs had used that are not in the file any more: budgets count it all the same. A trigger
-- adds to it. An erased thread's is under the empty thread.
CREATE TABLE past_usage (
    thread_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    -- The ten minutes in which the runs were created, as the beginning of a time; empty where they
    -- are so long ago that no budget's window has them.
    created TEXT NOT NULL,
    name TEXT NOT NULL,
    amount REAL NOT NULL,
    PRIMARY KEY (thread_id, agent, created, name)
) WITHOUT ROWID;

CREATE INDEX past_usage_by_agent ON past_usage (agent, created);

CREATE TRIGGER run_removed AFTER DELETE ON runs WHEN old.usage != '{}' BEGIN
    INSERT INTO past_usage
    SELECT
        iif(old.thread_id IN (SELECT thread_id FROM erased_rows), '', old.thread_id),
        old.agent, substr(old.created_at, 1, 15), each.key, each.value
    FROM json_each(iif(json_valid(old.usage), old.usage, '{}')) AS each
    WHERE each.type IN ('integer', 'real')
    ON CONFLICT DO UPDATE SET amount = amount + excluded.amount;
END;


-- ── workers ──

-- The workers, the agents that each runs, as a JSON list, and a count that grows while it lives.
-- Emptied at a start, since no worker outlives the lock on the file.
CREATE TABLE workers (
    worker TEXT PRIMARY KEY NOT NULL,
    agents TEXT NOT NULL,
    heartbeats INTEGER NOT NULL
) WITHOUT ROWID;


-- ── approvals ──

-- Sealed: args, schema, preview, decision, policy, edit, votes, delegations, comments,
-- conversation.
CREATE TABLE approvals (
    approval_id TEXT PRIMARY KEY NOT NULL,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    requested_at TEXT NOT NULL,
    -- A JSON list of names, as in the other tables.
    requested_by TEXT NOT NULL,
    digest TEXT NOT NULL,
    allowed TEXT NOT NULL,
    tool TEXT NOT NULL,
    tool_call_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    node TEXT NOT NULL,
    -- The subgraph it waits in, and its place among the questions of one interrupt.
    namespace TEXT NOT NULL,
    position INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    interrupt_id TEXT,
    expires_at TEXT,
    risk TEXT NOT NULL,
    -- Who may decide now, each a JSON list of strings.
    roles TEXT NOT NULL,
    names TEXT NOT NULL,
    assignees TEXT NOT NULL,
    step INTEGER NOT NULL,
    step_at TEXT,
    reminded_at TEXT,
    policy_digest TEXT NOT NULL,
    decided_by TEXT,
    decided_at TEXT,
    version INTEGER NOT NULL,
    args TEXT,
    schema TEXT,
    preview TEXT,
    decision TEXT,
    policy TEXT NOT NULL,
    edit TEXT,
    votes TEXT NOT NULL,
    delegations TEXT NOT NULL,
    comments TEXT NOT NULL,
    conversation TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX approvals_by_age ON approvals (requested_at, approval_id);
CREATE INDEX approvals_by_thread ON approvals (thread_id, requested_at, approval_id);
CREATE INDEX approvals_by_run ON approvals (run_id, requested_at, approval_id);
CREATE INDEX approvals_by_status ON approvals (status, requested_at, approval_id);
CREATE INDEX approvals_by_tool ON approvals (tool, requested_at, approval_id);
CREATE INDEX approvals_by_tool_and_status
ON approvals (tool, status, requested_at, approval_id);
CREATE INDEX approvals_by_agent ON approvals (agent, requested_at, approval_id);
CREATE INDEX approvals_by_agent_and_status
ON approvals (agent, status, requested_at, approval_id);

-- Standing grants. Sealed: bounds. `until` and the counts are clear, because each pause asks which
-- grants could be used.
CREATE TABLE grants (
    grant_id TEXT PRIMARY KEY NOT NULL,
    agent TEXT NOT NULL,
    tool TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    "user" TEXT NOT NULL,
    given_by TEXT NOT NULL,
    roles TEXT NOT NULL,
    given_at TEXT NOT NULL,
    "until" TEXT NOT NULL,
    uses INTEGER NOT NULL,
    used INTEGER NOT NULL,
    revoked_by TEXT,
    revoked_at TEXT,
    version INTEGER NOT NULL,
    bounds TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX grants_by_tool ON grants (agent, tool, given_at, grant_id) WHERE revoked_at IS NULL;
CREATE INDEX grants_by_age ON grants (given_at, grant_id);
CREATE INDEX grants_by_thread ON grants (thread_id);
CREATE INDEX grants_by_end ON grants ("until");

-- The answers that clients were given under idempotency keys of their own. Sealed: outcome.
CREATE TABLE answers (
    answer_id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    created_at TEXT NOT NULL,
    version INTEGER NOT NULL,
    outcome TEXT
) WITHOUT ROWID;

CREATE INDEX answers_by_age ON answers (created_at);
CREATE INDEX answers_by_thread ON answers (thread_id);

-- Tool calls in the world: the intent, then the outcome. Sealed: outcome.
CREATE TABLE effects (
    -- The order in which the calls started.
    number INTEGER PRIMARY KEY,
    "key" TEXT NOT NULL UNIQUE,
    thread_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    tool_call_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    version INTEGER NOT NULL,
    outcome TEXT
);

CREATE INDEX effects_by_call ON effects (thread_id, tool_call_id);


-- ── notifications and links ──

-- The outbox: notifications to endpoints. Sealed: payload.
CREATE TABLE notifications (
    notification_id TEXT PRIMARY KEY NOT NULL,
    endpoint TEXT NOT NULL,
    event TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    approval_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    -- NULL unless it is pending.
    next_at TEXT,
    attempts INTEGER NOT NULL,
    last_error TEXT,
    delivered_at TEXT,
    version INTEGER NOT NULL,
    payload TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX notifications_by_age ON notifications (created_at, notification_id);
CREATE INDEX notifications_by_status ON notifications (status, created_at, notification_id);
CREATE INDEX notifications_by_thread ON notifications (thread_id);
CREATE INDEX notifications_by_approval ON notifications (approval_id, created_at, notification_id);
CREATE INDEX notifications_waiting ON notifications (endpoint, next_at, notification_id)
WHERE status = 'pending';

-- Links by which people decide. Sealed: decisions.
CREATE TABLE links (
    link_id TEXT PRIMARY KEY NOT NULL,
    approval_id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    recipient TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    created_by TEXT NOT NULL,
    used_at TEXT,
    version INTEGER NOT NULL,
    decisions TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX links_by_thread ON links (thread_id);
CREATE INDEX links_by_end ON links (expires_at);


-- ── timers and schedules ──

-- Sealed: payload.
CREATE TABLE timers (
    timer_id TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    due_at TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    payload TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX timers_by_time ON timers (due_at, timer_id);
CREATE INDEX timers_by_thread ON timers (thread_id);

-- Sealed: input, metadata.
CREATE TABLE schedules (
    schedule_id TEXT PRIMARY KEY NOT NULL,
    owner TEXT NOT NULL,
    agent TEXT NOT NULL,
    cron TEXT NOT NULL,
    timezone TEXT NOT NULL,
    created_at TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    on_busy TEXT NOT NULL,
    if_missed TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    next_at TEXT,
    last_at TEXT,
    last_run_id TEXT,
    last_error TEXT,
    version INTEGER NOT NULL,
    budget TEXT NOT NULL,
    input TEXT NOT NULL,
    metadata TEXT NOT NULL
) WITHOUT ROWID;

CREATE INDEX schedules_by_age ON schedules (created_at, schedule_id);
CREATE INDEX schedules_by_thread ON schedules (thread_id);


-- ── checkpoints ──

-- The values of a checkpoint's channels are stored beside it, once, and shared by all checkpoints
-- that refer to them.

-- A thread's checkpoints in one namespace. `generation` moves when any of them are removed: a write
-- that was computed from removed rows is refused, and computed anew.
CREATE TABLE checkpoint_threads (
    k INTEGER PRIMARY KEY,
    -- NULL once its thread was erased: nobody sees its checkpoints, and they are removed in steps.
    thread_id TEXT,
    ns TEXT NOT NULL,
    generation INTEGER NOT NULL,
    UNIQUE (thread_id, ns)
);

-- Sealed: body, metadata. `body` is the checkpoint with only its small channel values; `refs` says
-- where the others are, by channel: the position of a value, or the extents of a list.
CREATE TABLE checkpoints (
    -- The order of the writes, which is the order of the history. The ids are made of the time, and
    -- a clock may have been moved between two processes.
    number INTEGER PRIMARY KEY,
    k INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    parent_id TEXT,
    -- Of a subgraph's checkpoint: those of the graphs around it in whose step it was made, as JSON
    -- by namespace.
    outer_ids TEXT,
    run_id TEXT,
    type TEXT NOT NULL,
    body BLOB NOT NULL,
    refs TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (k, checkpoint_id)
);

-- With the number, which every index ends with.
CREATE INDEX checkpoints_by_number ON checkpoints (k);
CREATE INDEX checkpoints_by_run ON checkpoints (run_id) WHERE run_id IS NOT NULL;

-- A log only ever grows at its end. Its items are at the positions from log * 16777216 on.
CREATE TABLE checkpoint_logs (
    log INTEGER PRIMARY KEY,
    k INTEGER NOT NULL
);

CREATE INDEX checkpoint_logs_by_thread ON checkpoint_logs (k);

-- A value, or some consecutive items of a list at the position of the first. Sealed: body.
CREATE TABLE checkpoint_blobs (
    position INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    body BLOB NOT NULL
);

-- Sealed: body.
CREATE TABLE checkpoint_writes (
    number INTEGER PRIMARY KEY,
    k INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    task_path TEXT NOT NULL,
    channel TEXT NOT NULL,
    type TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (k, checkpoint_id, task_id, idx)
);


-- ── keys ──

-- The keys that values of this file are sealed with; without one, the file is not encrypted.
-- `proof` is a known value, sealed: whoever can open it has the key.
CREATE TABLE seals (
    key_id TEXT PRIMARY KEY NOT NULL,
    salt BLOB NOT NULL,
    proof BLOB NOT NULL
) WITHOUT ROWID;

-- The keys that the audit chain is signed with, each with a proof that tells it from others.
CREATE TABLE audit_keys (
    key_id TEXT PRIMARY KEY NOT NULL,
    proof BLOB NOT NULL
) WITHOUT ROWID;


-- ── the audit chain ──

-- Rows are only ever added, and stay when their thread is erased. Sealed: detail.
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
