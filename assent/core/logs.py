"""The names of logs that are no thread's: their first letter is in no thread's id."""

from __future__ import annotations

from urllib.parse import quote

FEEDS = "~"
"""The first letter of their names. In the order of names they come behind all threads."""

APPROVALS = "~approvals"
"""The log of what happens to all approvals."""

BROADCASTS = "~broadcasts"
"""The log of what operators told everybody."""

QUERIES = "~query"
"""The log that query sockets are on while nothing is asked. It never has an event."""


def feed_of_agent(name: str) -> str:
    """The log of what happens to the runs of an agent."""
    return f"~agent/{quote(name, safe='')}"


def feed_of_user(name: str) -> str:
    """The log of what happens to the runs that a person started."""
    return f"~user/{quote(name, safe='')}"


def named(log_id: str) -> str:
    """The log, as a sentence names it."""
    if log_id.startswith(FEEDS):
        return f"feed '{log_id.removeprefix(FEEDS)}'"
    return f"thread '{log_id}'"
