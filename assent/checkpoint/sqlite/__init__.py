"""Everything durable in one SQLite file, which is the default.

    async with SqliteStorage.open("assent.db") as storage:
        await storage.commit(Change(rows=(thread,), events=(event,)))

`storage.py` is the door. Behind it, `writer.py` owns the one connection that writes and `reader.py` the ones that read; `log.py` numbers
events inside a transaction, and `tails.py` shows them to listeners after it. `merging.py` makes fewer of them under load, and
`retention.py` removes old ones. `tables.py` turns rows into columns, `changes.py` a change into statements, and `files.py` opens, locks
and migrates the file. Driver errors become ours in `failures.py`.
"""

from assent.checkpoint.sqlite.storage import SqliteStorage

__all__ = ["SqliteStorage"]
