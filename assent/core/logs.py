"""The names of logs that are no thread's: their first letter is in no thread's id."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import quote, unquote

FEEDS = "~"
"""The first letter of their names. In the order of names they come behind all threads."""

APPROVALS = "~approvals"
"""The log of what happens to all approvals of those who have no tenant."""

BROADCASTS = "~broadcasts"
"""The log of what operators told everybody."""

QUERIES = "~query"
"""The log that query sockets are on while nothing is asked. It never has an event."""

UNBEGUN = "~unbegun"
"""The log that a socket for a thread is on while it is told nothing: there may be no such thread
yet. It never has an event."""


def feed_of_approvals(tenant: str | None) -> str:
    """The log of what happens to all approvals of a tenant."""
    return _feed(APPROVALS, tenant)


def feed_of_agent(name: str, tenant: str | None = None) -> str:
    """The log of what happens to the runs of an agent that people of a tenant have started."""
    return f"{_feed('~agent', tenant)}/{quote(name, safe='')}"


def feed_of_user(name: str, tenant: str | None = None) -> str:
    """The log of what happens to the runs that a person started."""
    return f"{_feed('~user', tenant)}/{quote(name, safe='')}"


def _feed(kind: str, tenant: str | None) -> str:
    return kind if tenant is None else f"{kind}/{quote(tenant, safe='')}"


class Feed(NamedTuple):
    """The meaning of a feed's name. `name` is the agent's or the person's, if it has one."""

    kind: Literal["approvals", "agent", "user"]
    tenant: str | None
    name: str = ""


def feed_named(log_id: str) -> Feed | None:
    """The feed of this name; None for any other log."""
    kind, *parts = log_id.split("/")
    match kind, [unquote(part) for part in parts]:
        case "~approvals", []:
            return Feed("approvals", None)
        case "~approvals", [tenant]:
            return Feed("approvals", tenant)
        case "~agent" | "~user", [name]:
            return Feed("agent" if kind == "~agent" else "user", None, name)
        case "~agent" | "~user", [tenant, name]:
            return Feed("agent" if kind == "~agent" else "user", tenant, name)
    return None


def named(log_id: str) -> str:
    """The log, as a sentence names it."""
    if log_id.startswith(FEEDS):
        return f"feed '{log_id.removeprefix(FEEDS)}'"
    return f"thread '{log_id}'"
