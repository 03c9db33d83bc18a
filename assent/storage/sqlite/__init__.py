"""Everything durable in one SQLite file, which is the default.

    async with SqliteStorage.open("assent.db") as storage:
        await storage.commit(Change(rows=(thread,), events=(event,)))

    async with SqliteSaver.from_conn_string("checkpoints.db") as saver:
        graph = builder.compile(checkpointer=saver)

The three entrances:

- `storage.py`: `SqliteStorage`, all of `Storage` over one file.
- `saver.py`: `SqliteSaver`, LangGraph's checkpoint saver over the same writer and reader. Its rows
  are the business of the folder `checkpoints/`.
- `store.py`: `SqliteStore`, LangGraph's store over them.

The file:

- `database.py` makes, locks, opens and migrates it; `migrations/` holds the schema.
- `writer.py` has the one connection that writes, on a thread of its own, and `reader.py` the ones
  that read; `handing_over.py` brings their results to the event loop.
- `failures.py` translates SQLite's errors.
- `retention.py` removes what is old, and gives its space back.
- `erasing.py` removes threads, in steps (`steps.py`).
- `backup.py` copies it, for `assent backup` and before a migration.
- `checkup.py` looks for damage and contradictions, for `assent doctor`.

Rows:

- `tables.py` turns rows into columns and back, and `changes.py` a change into statements.
- `queries.py` has the SQL of the longer queries, and `paging.py` the cursors of lists.
- `leases.py` checks the fencing tokens of runs.

Events:

- `log.py` numbers them inside a transaction, and `tails.py` shows them to listeners after it.
- `merging.py` merges the pieces of a message under load.

Trust:

- `file_keys.py` knows the encryption keys of a file, and `distrust.py` marks a thread that was
  tampered with.
- `audit_chain.py` keeps the audit chain and its key.
"""

from assent.storage.sqlite.saver import SqliteSaver
from assent.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteSaver", "SqliteStorage"]
