"""Streams: the transports that carry a log to clients, in any dialect."""
