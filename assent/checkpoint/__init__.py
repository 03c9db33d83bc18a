"""The stored form of a checkpoint, and how little it grows, apart from any one database. No I/O.

- `plan.py` decides what a new checkpoint stores, and what it takes over from its parent.
- `extents.py` describes a list as stretches of append-only logs, which other lists share.
- `fingerprints.py` finds out whether a list has changed, also in place and in old items.
- `heads.py` remembers the keys, checkpoints and lists that were used last.
- `serializer.py` reads back only the types that were allowed.
- `codec.py` serializes and seals values; `bindings.py` names the place that each is sealed for.
- `values.py` holds the types that the others share.
"""
