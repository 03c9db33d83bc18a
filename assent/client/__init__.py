"""The client of a server: its operations and its streams, from Python."""
