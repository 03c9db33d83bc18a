-- ── the store ──

-- What agents remember beyond their threads. Sealed: vectors, value.
CREATE TABLE store_items (
    -- The order of the writes: an item that is written again has a new number.
    number INTEGER PRIMARY KEY,
    -- The labels of the namespace, each with a separator behind it.
    prefix TEXT NOT NULL,
    "key" TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    ttl_minutes REAL,
    expires_at TEXT,
    -- The embeddings of its texts, one behind the other, and the model that made them: a query finds
    -- only those of its own model.
    model TEXT,
    vectors BLOB,
    value BLOB NOT NULL
);

CREATE UNIQUE INDEX store_items_by_key ON store_items (prefix, "key");
CREATE INDEX store_items_by_end ON store_items (expires_at) WHERE expires_at IS NOT NULL;
