"""Everything durable in one SQLite file, which is the default.

    async with SqliteStorage.open("assent.db") as storage:
        await storage.commit(Change(rows=(thread,), events=(event,)))

`storage.py` is the door. Behind it, `writer.py` owns the one connection that writes and `reader.py`
the ones that read; `log.py` numbers events inside a transaction, and `tails.py` shows them to
listeners after it. `merging.py` makes fewer of them under load, and `retention.py` removes old
ones. `tables.py` turns rows into columns, `changes.py` a change into statements, and `files.py`
opens, locks and migrates the file. Driver errors become ours in `failures.py`. With a key,
`sealing.py` seals what is stored, `seals.py` knows which keys a file has, and `distrust.py` marks a
thread of which something was tampered with. `audit.py` keeps the audit chain and its key.

    async with SqliteSaver.from_conn_string("checkpoints.db") as saver:
        graph = builder.compile(checkpointer=saver)

`saver.py` is the door for LangGraph's checkpoints, over the same writer and reader. Behind it,
`checkpoints.py` puts and reads them: `plan.py` says what is new in one, `extents.py` how lists
share what they have in common, `fingerprints.py` whether one has changed; `rows.py` makes tuples of
rows, `heads.py` remembers what was used last, and `writing.py` is what runs on the writer's thread.
`serializer.py` makes no objects but of types that were allowed, `bindings.py` says what each value
is bound to when it is sealed, and `copying.py` copies threads.
"""

from assent.storage.sqlite.saver import SqliteSaver
from assent.storage.sqlite.storage import SqliteStorage

__all__ = ["SqliteSaver", "SqliteStorage"]
