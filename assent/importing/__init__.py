"""Takes over the threads of a program that used LangGraph's own SQLite saver.

- `foreign.py` reads the old database, and changes nothing of it.
- `importer.py` imports its threads one by one, each whole or not at all.
"""
