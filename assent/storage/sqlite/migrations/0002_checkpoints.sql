-- The checkpoints of agents. What a checkpoint's channels hold is stored beside it, once, and shared by all checkpoints that refer to it.

-- A thread's checkpoints in one namespace. `generation` moves when any of them are removed, so that a write that was computed from what is
-- gone is refused, and computed anew.
CREATE TABLE checkpoint_threads (
    k INTEGER PRIMARY KEY,
    thread_id TEXT NOT NULL,
    ns TEXT NOT NULL,
    generation INTEGER NOT NULL,
    UNIQUE (thread_id, ns)
);

-- `body` is the checkpoint without its channels' values, and those that are small; `refs` says where the others are, by channel: the
-- position of a value, or the extents of a list.
CREATE TABLE checkpoints (
    number INTEGER PRIMARY KEY,
    k INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    parent_id TEXT,
    run_id TEXT,
    type TEXT NOT NULL,
    body BLOB NOT NULL,
    refs TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (k, checkpoint_id)
);

CREATE INDEX checkpoints_by_run ON checkpoints (run_id) WHERE run_id IS NOT NULL;

-- A log only ever grows at its end. Its items are at the positions from log * 16777216 on.
CREATE TABLE checkpoint_logs (
    log INTEGER PRIMARY KEY,
    k INTEGER NOT NULL
);

CREATE INDEX checkpoint_logs_by_thread ON checkpoint_logs (k);

-- A value, or some items of a list that follow each other, at the position of the first.
CREATE TABLE checkpoint_blobs (
    position INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    body BLOB NOT NULL
);

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
