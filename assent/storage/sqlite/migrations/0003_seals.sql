-- Encryption at rest: the keys that values of this file are sealed with, and what of a thread cannot be trusted.

-- A file has a row for each key that it was ever opened with as the first; without one it is not encrypted. `proof` is a known value, sealed:
-- who can open it has the key.
CREATE TABLE seals (
    key_id TEXT PRIMARY KEY NOT NULL,
    salt BLOB NOT NULL,
    proof BLOB NOT NULL
) WITHOUT ROWID;

-- A sentence that says what was found to be tampered with. Nothing of such a thread is run.
ALTER TABLE threads ADD COLUMN tampered TEXT;
