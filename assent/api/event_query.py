"""The parameters of readers of events, the same on every route."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Header, Query
from pydantic import Field

from assent.api.dialects.positions import LAST_NUMBER
from assent.api.json_body import SHOWN
from assent.core.errors import InvalidRequest
from assent.core.events import EVENT_TYPES
from assent.core.text import visible

MOST_ON_A_PAGE = 1000
LONGEST_POLL = 60.0
"""Proxies give up on a request that takes longer."""

EventNumber = Annotated[
    int, Field(ge=0, le=LAST_NUMBER, description="The number of the last event that you have")
]


Before = Annotated[
    Annotated[int, Field(ge=1, le=LAST_NUMBER)] | Literal["end"] | None,
    Query(
        description="A JSON page of the newest events that are numbered below it; with `end`, of "
        "all. The oldest of them comes first"
    ),
]
"""Where a page that goes back begins."""


async def _after(
    after: Annotated[EventNumber, Query()] = 0,
    last_event_id: Annotated[EventNumber | None, Header()] = None,
) -> int:
    # A client that reconnects sends a newer number in the header than in its URL.
    return after if last_event_id is None else last_event_id


async def _last_event_id(
    given: Annotated[
        str,
        Query(alias="last_event_id", description="The id of the last event that you have"),
    ] = "",
    sent: Annotated[str | None, Header(alias="last-event-id")] = None,
) -> str:
    # For the same reason.
    return given if sent is None else sent


async def _types(
    types: Annotated[
        str | None, Query(description="Only events of these types, separated by commas")
    ] = None,
) -> frozenset[str] | None:
    if types is None:
        return None
    return known_types({part.strip() for part in types.split(",")} - {""})


def known_types(wanted: Collection[str]) -> frozenset[str]:
    """The types of events. Raises `InvalidRequest` for one that there is not."""
    if unknown := sorted(set(wanted) - set(EVENT_TYPES)):
        known = ", ".join(sorted(EVENT_TYPES))
        raise InvalidRequest(
            f"There is no event type '{visible(unknown[0][:SHOWN])}'. The types are: {known}."
        )
    return frozenset(wanted)


After = Annotated[int, Depends(_after)]
LastEventId = Annotated[str, Depends(_last_event_id)]
Types = Annotated[frozenset[str] | None, Depends(_types)]
Named = Annotated[bool, Query(description="Add an `event:` line with the type")]
OnAPage = Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE, description="The size of a JSON page")]
Timeout = Annotated[
    float | None,
    Query(
        ge=0,
        le=LONGEST_POLL,
        allow_inf_nan=False,
        description="The seconds for which an empty JSON page waits for an event",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The part of a log that a client asks for, and the form: with `named` events, or as a page of
    at most `limit`, for which it waits until the `timeout`. With `before` the page goes back."""

    after: int
    before: int | Literal["end"] | None
    types: frozenset[str] | None
    named: bool
    limit: int
    timeout: float | None


async def _reading(
    after: After,
    types: Types,
    before: Before = None,
    named: Named = False,
    limit: OnAPage = MOST_ON_A_PAGE,
    timeout: Timeout = None,
) -> Reading:
    check_one_way(after, before)
    if before is not None and timeout is not None:
        raise InvalidRequest("timeout waits for events that come, and before asks for older ones.")
    return Reading(
        after=after, before=before, types=types, named=named, limit=limit, timeout=timeout
    )


def check_one_way(after: int, before: int | Literal["end"] | None) -> None:
    """Raise `InvalidRequest` if a page is asked for behind a number and before one."""
    if after and before is not None:
        raise InvalidRequest("Ask for the events after a number, or before one, and not for both.")


TheReading = Annotated[Reading, Depends(_reading)]
"""The parameters of every route that serves a log."""
