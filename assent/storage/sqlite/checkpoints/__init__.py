"""Checkpoints in the tables of a SQLite file.

- `store.py` puts, gets, lists and removes them: the door to this package.
- `reads.py` holds the queries; `tuples.py` makes LangGraph's tuples of the rows that come back.
- `writes.py` stores checkpoints and tasks' writes on the writer's thread.
- `removals.py` deletes, prunes and sweeps there; `copies.py` copies a thread to another.
"""
