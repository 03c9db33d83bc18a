"""The rules of routes: each says which right its request takes, and of what it is.

A route's rule stands beside it, and is what is enforced (`authorizing.py`). A route that has none
cannot be imported (`api/routing.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from assent.api.streams.transport import Transport
from assent.core.access import Right

F = TypeVar("F", bound=Callable[..., Any])

RULE = "rule"
"""The attribute of an endpoint that is its rule: so a route that is made anew, under a prefix, has
it too."""


class Thing(StrEnum):
    """The kinds of things that requests are about: what their path names, the `BODY` of something
    new, a `LIST` of what the sender may see, their `ITEMS` in
    the store, or the `SERVER` itself."""

    THREAD = "thread"
    RUN = "run"
    EXECUTION = "execution"
    TASK = "task"
    APPROVAL = "approval"
    FILE = "file"
    SCHEDULE = "schedule"
    ASSISTANT = "assistant"
    ITEMS = "items"
    GRANT = "grant"
    NOTIFICATION = "notification"
    CONNECTION = "connection"
    AGENT_FEED = "agent_feed"
    USER_FEED = "user_feed"
    APPROVALS = "approvals"
    KEY = "key"
    SESSION = "session"
    LIST = "list"
    BODY = "body"
    SERVER = "server"


class Rule(NamedTuple):
    """The `right` that a request takes, and the thing that it is about; without a right it is open
    to everybody, and says why.

    `langgraph` are the resource and the action that a project's own `Auth` knows the request by.
    With `token` a key may be in the URL, where the server allows that; with `ticket` a ticket for a
    stream of that transport may. What is about the `whole` server is for nobody of a tenant: it
    tells of the others. With `deciding` the body may be a decision: then the request takes the
    right to decide instead, and the endpoint says which of them it is (`authorizing.take`).
    """

    right: Right | None
    thing: Thing
    why_open: str = ""
    langgraph: tuple[str, str] | None = None
    token: bool = False
    ticket: Transport | None = None
    whole: bool = False
    deciding: bool = False

    @property
    def rights(self) -> tuple[Right, ...]:
        """The rights of which a request takes one."""
        if self.right is None:
            return ()
        return (self.right, Right.DECIDE) if self.deciding else (self.right,)


def may(
    right: Right,
    thing: Thing,
    *,
    langgraph: tuple[str, str] | None = None,
    token: bool = False,
    ticket: Transport | None = None,
    whole: bool = False,
    deciding: bool = False,
) -> Callable[[F], F]:
    """The endpoint may be asked by whoever has the right, and finds what that right lets them
    see."""
    return _with(
        Rule(
            right,
            thing,
            langgraph=langgraph,
            token=token,
            ticket=ticket,
            whole=whole,
            deciding=deciding,
        )
    )


def open_to_all(why: str, thing: Thing = Thing.SERVER) -> Callable[[F], F]:
    """The endpoint may be asked by anybody, who need not be known."""
    return _with(Rule(None, thing, why_open=why))


def _with(rule: Rule) -> Callable[[F], F]:
    def put(endpoint: F) -> F:
        vars(endpoint)[RULE] = rule
        return endpoint

    return put


def rule_of(endpoint: Callable[..., Any], route: str) -> Rule:
    """The rule of the endpoint. Raises `TypeError`, which names the `route`, if it has none."""
    rule: Rule | None = getattr(endpoint, RULE, None)
    if rule is None:
        raise TypeError(f"{route} has no rule: put @may or @open_to_all on it.")
    return rule
